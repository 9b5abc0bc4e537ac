"""Rounding arrays: against ml_dtypes and the `lowbit` command, and however arrays lie in memory."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest

import lowbit
from conftest import SPECIAL, command, same


@pytest.mark.parametrize(
    "format, dtype",
    [
        ("e4m3", ml_dtypes.float8_e4m3fn),
        ("e5m2", ml_dtypes.float8_e5m2),
        ("e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
        ("e3m4", ml_dtypes.float8_e3m4),
        ("bf16", ml_dtypes.bfloat16),
        ("fp16", np.float16),
    ],
)
def test_casts_of_ml_dtypes(numbers, format, dtype):
    with np.errstate(over="ignore"):
        expected = numbers.astype(dtype).astype(np.float32)
    assert same(lowbit.quantize(numbers, format), expected)


def applied(format, rounding, path):
    """A file's arrays as the command rounds them, or its message."""
    out = path.with_name(f"{abs(hash((format, rounding)))}.npz")
    call = [command(), "formats", "apply", format, str(path), "-o", str(out), "--rounding", rounding]
    done = subprocess.run(call, capture_output=True, text=True)
    return dict(np.load(out)) if done.returncode == 0 else done.stderr


def modes(i):
    """To nearest, at random, and another mode, which is not the same for every format."""
    others = lowbit.Rounding.deterministic()[1:]
    return ["nearest-even", str(others[i % len(others)]), "stochastic(seed=3,stream=5)"]


def test_numbers_of_the_command(tmp_path, numbers):
    """Bit for bit, over all formats, of three types."""
    command()
    x = np.concatenate([numbers[:400], numbers[-368:]]).reshape(8, 96)
    # Near the end of float16, a file is given the nearest float16 and an array what rounding gives.
    half = np.clip(x, -3e4, 3e4).astype(np.float16)
    arrays = {"half": half, "single": x, "wide": x.astype(np.float64) * (1 + 2.0**-40)}
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    cases = [(format, mode) for i, format in enumerate(lowbit.formats()) for mode in modes(i)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda case: applied(*case, path), cases)
        compared = sum(agree(case, arrays, expected) for case, expected in zip(cases, found))
    assert compared > 2 * len(cases)


def agree(case, arrays, expected):
    """How many arrays were compared."""
    format, mode = case
    compared = 0
    for i, (name, x) in enumerate(arrays.items()):
        rounding = lowbit.Rounding(mode)
        if rounding.is_stochastic:
            # Each array of a file draws from a stream of its own.
            rounding = rounding.with_randomness(stream=rounding.stream + i)
        if isinstance(expected, str):
            with pytest.raises(ValueError):
                lowbit.quantize(x, format, rounding)
            continue
        try:
            assert same(lowbit.quantize(x, format, rounding), expected[name]), (case, name)
            compared += 1
        except ValueError as error:
            # A file gets the nearest float16; in memory that would be another number, unsaid.
            assert name == "half" and "do not hold" in str(error)
    return compared


def test_special_values_by_hand():
    """OCP 8-bit floating point, table 2: e4m3 ends at 448 and has no infinity; ties go to even."""
    x = np.array([448.0, 464.0, 465.0, -0.0, 2.0**-9, 2.0**-10, np.inf, 1.0625], np.float32)
    expected = np.array([448.0, 448.0, np.nan, -0.0, 2.0**-9, 0.0, np.nan, 1.0], np.float32)
    assert same(lowbit.quantize(x, "e4m3"), expected)


@pytest.mark.parametrize("format", ["e4m3", "fixed(8,6)", "mxfp4", "bfp(8)", "posit(8,1)"])
@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic(seed=1)"])
def test_strides(numbers, format, rounding):
    """Every other row, columns, reversed, transposed, repeated: as the same numbers without gaps."""
    x = numbers[: 48 * 64].reshape(48, 64)
    views = [x[::2], x[:, 1::3], x[::-1], x.T, x[::-2, ::-1], np.asfortranarray(x), x.reshape(2, 24, 64).transpose(2, 0, 1)]
    views += [np.broadcast_to(x[0], (5, 64)), x[3:4], x[:, 5]]
    for view in views:
        expected = lowbit.quantize(view.copy(order="C"), format, rounding)
        assert same(lowbit.quantize(view, format, rounding), expected)
        out = np.zeros((view.shape[0] * 2, *view.shape[1:]), np.float32)[::2]
        assert lowbit.quantize(view, format, rounding, out=out) is out
        assert same(out, expected)


def test_in_place(numbers):
    """Only the array's own numbers change."""
    expected = lowbit.quantize(numbers, "e4m3")
    x = numbers.copy()
    assert lowbit.quantize(x, "e4m3", out=x) is x and same(x, expected)
    x = numbers.copy()
    lowbit.quantize(x[::2], "e4m3", out=x[::2])
    assert same(x[::2], expected[::2]) and same(x[1::2], numbers[1::2])


def test_overlapping_arrays(numbers):
    """The input is read before the output is written over it."""
    for format in ["e4m3", "bfp(8)"]:
        x = numbers[-1000:].copy()
        expected = lowbit.quantize(x[:-1].copy(), format)
        lowbit.quantize(x[:-1], format, out=x[1:])
        assert same(x[1:], expected)
        x = numbers[-1000:].copy()
        expected = lowbit.quantize(x[::2].copy(), format)
        lowbit.quantize(x[::2], format, out=x[1::2])
        assert same(x[1::2], expected)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_halves(numbers, kind):
    with np.errstate(over="ignore"):
        x = numbers.astype(kind)
    for view in [x, x[::3], x[: 64 * 64].reshape(64, 64).T]:
        found = lowbit.quantize(view, "e4m3")
        assert found.dtype == kind
        assert same(found.astype(np.float32), lowbit.quantize(view.astype(np.float32), "e4m3"))
    lowbit.quantize(x, "e5m2", out=x)
    with pytest.raises(ValueError, match="do not hold"):
        lowbit.quantize(x, "nvfp4")


def test_float64_is_rounded_once():
    """1 + 2^-8 + 2^-30 is above the middle of two bfloat16 numbers, though its nearest float32 is not."""
    x = np.array([1 + 2.0**-8 + 2.0**-30, 1e300, -1e-300])
    assert lowbit.quantize(x, "bf16").tolist() == [1 + 2.0**-7, np.inf, -0.0]
    assert lowbit.quantize(x, "bf16", out=np.empty(3, np.float32)).dtype == np.float32
    assert lowbit.quantize(x[::2], "bf16").tolist() == [1 + 2.0**-7, -0.0]
    assert lowbit.quantize(1 + 2.0**-8 + 2.0**-30, "bf16") == 1 + 2.0**-7


@pytest.mark.parametrize("kind", "int8 int16 int32 int64 uint8 uint16 uint32 uint64".split())
def test_integers_become_float32(kind):
    x = np.arange(100).astype(kind)
    found = lowbit.quantize(x[::2], "e4m3")
    assert found.dtype == np.float32
    assert same(found, lowbit.quantize(x[::2].astype(np.float32), "e4m3"))


def test_wide_integers():
    assert lowbit.quantize(np.array([2**31 + 1, 2**53]), "fp32").tolist() == [2.0**31, 2.0**53]
    with pytest.raises(ValueError, match="9007199254740993, which is more than 2\\^53"):
        lowbit.quantize(np.array([-(2**53) - 1]), "fp32")


def test_lists_and_numbers():
    found = lowbit.quantize([[0.3, -1.0], [1e9, 0]], "e4m3", "toward-zero")
    assert found.dtype == np.float64 and found.tolist() == [[0.28125, -1.0], [448.0, 0.0]]
    assert lowbit.quantize(0.3, "e4m3") == 0.3125 and lowbit.quantize(3, "fixed(4,2)") == 1.75
    assert lowbit.quantize(np.float32(0.3), "e4m3").tolist() == 0.3125
    assert lowbit.quantize(np.empty((0, 3), np.float32), "mxfp4").shape == (0, 3)
    assert lowbit.quantize(np.array(0.3, np.float32), "e4m3").shape == ()


def test_seeds_and_streams(numbers):
    x = numbers[-4096:]
    first = lowbit.quantize(x, "e4m3", "stochastic", seed=1, stream=2)
    assert same(first, lowbit.quantize(x, "e4m3", lowbit.Rounding.stochastic(1, 2)))
    assert same(first, lowbit.quantize(x, "e4m3", "stochastic(seed=1,stream=2)"))
    for other in [{"seed": 2, "stream": 2}, {"seed": 1}]:
        assert not same(first, lowbit.quantize(x, "e4m3", "stochastic", **other))
    down, up = lowbit.quantize(x, "e4m3", "down"), lowbit.quantize(x, "e4m3", "up")
    assert ((first == down) | (first == up)).all()


def test_stochastic_rounding_is_unbiased():
    """0.3 lies 0.6 of the way from 0.28125 to 0.3125: a mean of 2^20 has a standard error of 1.5e-5."""
    found = lowbit.quantize(np.full(1 << 20, 0.3, np.float32), "e4m3", "stochastic", seed=7)
    assert abs(found.mean(dtype=np.float64) - np.float32(0.3)) < 6e-5


def test_order_of_the_output():
    """As numpy's functions do it: Fortran order stays, other strides become C order."""
    x = np.zeros((3, 4), np.float32)
    assert lowbit.quantize(np.asfortranarray(x), "e4m3").flags.f_contiguous
    assert lowbit.quantize(x[:, ::2], "e4m3").flags.c_contiguous


def test_unaligned_numbers():
    packed = np.zeros(8, np.dtype([("flag", "u1"), ("x", "<f4")]))
    packed["x"] = SPECIAL[-8:]
    assert same(lowbit.quantize(packed["x"], "e4m3"), lowbit.quantize(SPECIAL[-8:], "e4m3"))
    with pytest.raises(TypeError, match="aligned"):
        lowbit.quantize(SPECIAL[-8:], "e4m3", out=packed["x"])
