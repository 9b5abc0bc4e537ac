"""Formats, roundings, facts, codes, pictures."""

import copy
import pickle
import xml.etree.ElementTree as ElementTree

import ml_dtypes
import numpy as np
import pytest

import lowbit
from conftest import same


def test_formats_are_values():
    format = lowbit.Format("fixed(8, 6)")
    assert str(format) == "fixed(8,6)" and repr(format) == "Format('fixed(8,6)')"
    assert format == lowbit.Format(format) and hash(format) == hash(lowbit.Format("fixed(8,6)"))
    assert format != lowbit.Format("fixed(8,5)") and format != "fixed(8,6)"
    assert pickle.loads(pickle.dumps(format)) == format == copy.deepcopy(format)
    assert (format.bits, format.min, format.max, format.is_block) == (8, -2.0, 1.984375, False)


def test_every_format_comes_back_from_its_text():
    for text in lowbit.formats():
        format = lowbit.Format(text)
        assert lowbit.Format(str(format)) == format
        assert format.facts.bits == format.bits
        assert "<svg" in format._repr_html_() and "<table>" in format._repr_html_()


def test_roundings_are_values():
    rounding = lowbit.Rounding.stochastic(1, stream=2, bits=8)
    assert str(rounding) == "stochastic(seed=1,stream=2,bits=8)" and rounding.is_stochastic
    assert (rounding.seed, rounding.stream) == (1, 2)
    assert pickle.loads(pickle.dumps(rounding)) == rounding == lowbit.Rounding(str(rounding))
    assert rounding.with_randomness(stream=3) == lowbit.Rounding("stochastic(seed=1,stream=3,bits=8)")
    assert [str(mode) for mode in lowbit.Rounding.deterministic()][:2] == ["nearest-even", "nearest-away"]
    assert lowbit.Rounding("nearest") == lowbit.Rounding("nearest-even")


def test_facts_of_e4m3():
    """OCP 8-bit floating point, revision 1.0, table 2; 256 codes, two of them NaN and two zeros."""
    facts = lowbit.Format("e4m3").facts
    assert (facts.bits, facts.max, facts.min_normal, facts.min_positive) == (8, 448.0, 2.0**-6, 2.0**-9)
    assert (facts.epsilon, facts.values, facts.infinity, facts.nan, facts.minus_zero) == (0.125, 253, False, True, True)
    assert lowbit.Format("int1").facts.min_positive is None


def test_values_and_codes():
    """OCP microscaling, table 5."""
    positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    format = lowbit.Format("e2m1")
    assert format.values() == [-x for x in positive[:0:-1]] + positive
    codes = format.codes()
    assert len(codes) == 16 and (codes[-1].value, codes[-1].code, codes[-1].bits) == (6.0, 7, "0 11 1")
    assert lowbit.Format("fp16").codes() == []


def test_numbers_under_the_glass():
    """0.3 lies between 0.28125 and 0.3125 in e4m3, whose step there is 1/32."""
    found, above, beyond = lowbit.Format("e4m3").round(0.3, "1.00000000000000000000001", 1e9)
    assert (found.value, found.bits) == (0.3125, "0 0101 010") and abs(found.error_ulp - 0.4) < 1e-9
    assert above.value == 1.0 and beyond.error_ulp is None
    up = lowbit.Format("e4m3").round("1.00000000000000000000001", rounding="up")
    assert up[0].value == 1.125


def test_codes_of_ml_dtypes(numbers):
    for format, dtype in [("e4m3", ml_dtypes.float8_e4m3fn), ("e5m2", ml_dtypes.float8_e5m2)]:
        codes = lowbit.encode(numbers.reshape(256, -1), format)
        expected = numbers.reshape(256, -1).astype(dtype).view(np.uint8)
        finite = ~np.isnan(numbers.reshape(256, -1).astype(dtype).astype(np.float32))
        assert codes.dtype == np.uint8 and (codes == expected)[finite].all()
        assert same(lowbit.decode(codes, format), lowbit.quantize(numbers, format).reshape(256, -1))


def test_codes_have_the_smallest_type():
    x = np.linspace(-1, 1, 7, dtype=np.float32)
    for format, kind in [("int4", np.uint8), ("bf16", np.uint16), ("fp32", np.uint32), ("fixed(12,8)", np.uint16)]:
        codes = lowbit.encode(x[::2], format)
        assert codes.dtype == kind and same(lowbit.decode(codes, format), lowbit.quantize(x[::2].copy(), format))


@pytest.mark.parametrize("format", ["mxfp4", "nvfp4", "bfp(8)", "affine(4,dim=0)", "scaled(nf4,block=32)"])
def test_block_codes(numbers, format):
    x = numbers[-4096:].reshape(64, 64)
    codes = lowbit.encode(x, format)
    assert codes.format == str(lowbit.Format(format)) and codes.shape == [64, 64]
    assert codes.elements.nbytes == x.size * lowbit.Format(format).bits // 8
    assert "scales" in codes.scales and codes.bits >= 8 * codes.elements.nbytes
    assert same(lowbit.decode(codes), lowbit.quantize(x, format))


def test_packing():
    """Codes 1, 2, 3 of three bits are 001, 010, 011, from the lowest bit up 0b11010001 and 0b0."""
    assert lowbit.pack([1, 2, 3], 3).tolist() == [0b11010001, 0]
    random = np.random.default_rng(1)
    for bits in range(1, 33):
        codes = random.integers(0, 1 << bits, 1001)
        packed = lowbit.pack(codes, bits)
        assert packed.nbytes == -(-1001 * bits // 8)
        assert (lowbit.unpack(packed, bits, 1001) == codes).all()
        assert (lowbit.unpack(packed.tobytes(), bits, 1001) == codes).all()


def test_comparison():
    """A uniform number on a range of n steps has 20 log10(n) dB: 2 sqrt(3) / 2^-6 steps are 46.92 dB."""
    table = lowbit.compare(["fixed(8,6)", lowbit.Format("e4m3")])
    assert table.formats == ["fixed(8,6)", "e4m3"]
    uniform = next(fit for fit in table.fits[0] if fit.sample == "uniform")
    assert abs(uniform.plain.sqnr_db - 46.92) < 0.1 and uniform.plain.saturated == 0
    assert "<table>" in table._repr_html_() and "uniform dB" in str(table)
    x = np.full((2, 3), 0.3)
    named = lowbit.compare("e4m3", {"weights": x, "biases": x[0]})
    assert [fit.sample for fit in named.fits[0]] == ["weights", "biases"]
    assert abs(named.fits[0][0].plain.max_error - 0.0125) < 1e-7


def test_pictures(tmp_path):
    picture = lowbit.plot(["e4m3", "int8"], limit=4.0)
    assert ElementTree.fromstring(picture.svg).tag.endswith("svg") and picture._repr_svg_() == picture.svg
    picture.save(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text() == picture.svg
    assert lowbit.Format("e4m3").plot().svg == lowbit.plot("e4m3").svg
    with pytest.raises(OSError, match="no-such-folder"):
        picture.save(tmp_path / "no-such-folder" / "picture.svg")
