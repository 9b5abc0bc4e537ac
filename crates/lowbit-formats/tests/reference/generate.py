"""Writes the reference tables beside this script from packages that others wrote.

Run by hand; the Rust tests read only the tables:

    python3 -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python generate.py elements   # ml_dtypes, gfloat
    .venv/bin/python generate.py blocks     # torchao, gfloat
    .venv/bin/python generate.py qpytorch   # qtorch; needs a C++ compiler, and ninja in PATH
    .venv/bin/python generate.py integers   # torch
    .venv/bin/python generate.py extended   # QPyTorch's extended version: see qpytorch_extended.py

and, with versions of their own, in another environment:

    .venv-scales/bin/pip install -r requirements-scales.txt
    .venv-scales/bin/python generate.py scales   # bitsandbytes, torchao, safetensors

A table is plain text. Numbers are written as the hexadecimal bits of a float32 or of a code, so
that nothing is lost in printing. Each file starts with comment lines that name its columns.
"""

import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def bits(values):
    """The float32 bit patterns of `values` as hexadecimal words without leading zeros."""
    return [f"{b:x}" for b in np.asarray(values, dtype=np.float32).view(np.uint32)]


def write(name, lines):
    path = HERE / name
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


# ---------------------------------------------------------------------------------------------
# Elements: values of every code, and the rounding of every boundary and its neighbours.


def element_formats():
    """(name, ml_dtypes type or None, gfloat description or None) of every format to 8 bits."""
    import ml_dtypes as m
    from gfloat import Domain, FormatInfo, Signedness
    from gfloat import formats as g

    def fnuz(name, precision, bias):
        return FormatInfo(
            name, 8, precision, bias=bias, is_signed=True, domain=Domain.Finite, has_nz=False,
            num_high_nans=0, has_subnormals=True, is_twos_complement=False,
        )

    def ieee(name, precision, bias):
        return FormatInfo(
            name, 8, precision, bias=bias, is_signed=True, domain=Domain.Extended, has_nz=True,
            num_high_nans=2 ** (precision - 1) - 1, has_subnormals=True, is_twos_complement=False,
        )

    yield "e5m2", m.float8_e5m2, g.format_info_ocp_e5m2
    yield "e4m3fn", m.float8_e4m3fn, g.format_info_ocp_e4m3
    yield "e4m3ieee", m.float8_e4m3, ieee("e4m3", 4, 7)
    yield "e3m4", m.float8_e3m4, ieee("e3m4", 5, 3)
    yield "e5m2fnuz", m.float8_e5m2fnuz, fnuz("e5m2fnuz", 3, 16)
    yield "e4m3fnuz", m.float8_e4m3fnuz, fnuz("e4m3fnuz", 4, 8)
    yield "e4m3b11fnuz", m.float8_e4m3b11fnuz, fnuz("e4m3b11fnuz", 4, 11)
    yield "e3m2", m.float6_e3m2fn, g.format_info_ocp_e3m2
    yield "e2m3", m.float6_e2m3fn, g.format_info_ocp_e2m3
    yield "e2m1", m.float4_e2m1fn, g.format_info_ocp_e2m1
    yield "e8m0", m.float8_e8m0fnu, g.format_info_ocp_e8m0
    for k in range(3, 9):
        for signed in (Signedness.Signed, Signedness.Unsigned):
            for domain in (Domain.Extended, Domain.Finite):
                top = k - 1 if signed == Signedness.Signed else k
                for p in range(1, top + 1):
                    info = g.format_info_p3109(k, p, signed, domain)
                    yield info.name, None, info


def neighbours(x):
    """Each number, the float32 just below and the float32 just above it."""
    x = np.asarray(x, dtype=np.float32)
    return np.concatenate([np.nextafter(x, np.float32(-np.inf)), x, np.nextafter(x, np.float32(np.inf))])


def points(values, full):
    """Inputs worth asking about: around each boundary between two values, and beyond the ends.

    With `full`, also around each value, where the directed roundings change their answer.
    """
    finite = np.unique(np.asarray(values, dtype=np.float64)[np.isfinite(values)])
    middles = (finite[1:] + finite[:-1]) / 2
    spans = [middles]
    # Half and a whole step beyond each end, where nearest rounding overflows.
    if len(finite) > 1:
        up, down = finite[-1] - finite[-2], finite[1] - finite[0]
        spans += [finite[-1] + np.array([up / 2, up, 3 * up]), finite[0] - np.array([down / 2, down, 3 * down])]
    spans.append(finite if full else finite[[0, -1]])
    with np.errstate(over="ignore"):
        x = np.concatenate(spans).astype(np.float32)
    x = x[np.isfinite(x)]
    top = np.finfo(np.float32).max
    tiny = np.float32(1e-45)
    extra = np.array([0.0, -0.0, tiny, -tiny, 1.0, -1.0, top, -top], dtype=np.float32)
    x = np.concatenate([neighbours(x), extra])
    # Distinct bit patterns, so that both zeros stay; in order of the numbers.
    x = np.unique(x[np.isfinite(x)].view(np.uint32)).view(np.float32)
    return x[np.argsort(x, kind="stable")]


def code_of(value, values):
    """The code of a value that the format holds, in hexadecimal; `-` if it holds no such value."""
    if np.isnan(value):
        hits = np.flatnonzero(np.isnan(values))
    else:
        hits = np.flatnonzero((values == value) & (np.signbit(values) == np.signbit(value)))
    return f"{hits[0]:x}" if len(hits) else "-"


def element_tables():
    from gfloat import RoundMode, decode_ndarray, round_ndarray

    modes = [
        RoundMode.TiesToEven, RoundMode.TiesToAway, RoundMode.TowardZero,
        RoundMode.TowardNegative, RoundMode.TowardPositive,
    ]
    from importlib.metadata import version

    versions = "# " + ", ".join(f"{p} {version(p)}" for p in ("numpy", "ml_dtypes", "gfloat"))
    named = [versions, "# format BITS name", "# values: float32 bits of every code, in order of code",
             "# at INPUT: codes by nearest-even, nearest-away, toward zero, down, up;",
             "# near INPUT: codes by nearest-even of the float32 below, the input, the float32 above;",
             "#   then, where saturating instead of overflowing differs, the same again, saturating;",
             "#   `-` where the reference has no answer (no infinity and no NaN to overflow to)"]
    p3109 = list(named)
    differences = ["# inputs (float32 bits) where ml_dtypes (first code) and gfloat (second) disagree"]
    for name, dtype, info in element_formats():
        out = named if dtype is not None else p3109
        codes = np.arange(2**info.k)
        values = decode_ndarray(info, codes)
        if dtype is not None:
            theirs = codes.astype(np.uint8).view(dtype).astype(np.float64)
            same = (theirs == values) & (np.signbit(theirs) == np.signbit(values)) | (np.isnan(theirs) & np.isnan(values))
            assert same.all(), (name, codes[~same])
        # Boundaries of the many P3109 formats only once per boundary, to keep the file small.
        x = points(values, full=dtype is not None)
        if not info.is_signed and dtype is not None:
            x = x[x > 0]
        if dtype is None and info.k > 5:
            # A megabyte less: signed P3109 formats are sign-symmetric, which narrower ones show.
            x = x[(x >= 0) | (x == -1)]
        results = {}
        for saturate in (False, True):
            for mode in modes:
                out_codes = []
                for v in x.astype(np.float64):
                    try:
                        r = round_ndarray(info, np.array([v]), mode, sat=saturate)[0]
                        out_codes.append(code_of(r, values))
                    except ValueError:
                        out_codes.append("-")
                results[saturate, mode] = out_codes
        if dtype is not None:
            # ml_dtypes rounds to nearest-even only, and is the authority for it.
            cast = x.astype(dtype).view(np.uint8)
            finite_only = info.num_nans == 0 and info.num_posinfs == 0
            key = (finite_only, RoundMode.TiesToEven)
            for i, code in enumerate(cast):
                code = f"{int(code):x}"
                if code != results[key][i]:
                    ours = results[key][i]
                    # Every NaN code is as good as another.
                    nan = ours != "-" and np.isnan([values[int(code, 16)], values[int(ours, 16)]]).all()
                    if not nan:
                        differences.append(f"{name} {bits([x[i]])[0]} {code} {results[key][i]}")
                    # ml_dtypes decides, but for the E8M0 numbers just above 2^-127, all of which
                    # it brings to 2^-126, even those nearer to 2^-127.
                    odd = name == "e8m0" and 0x400000 < int(bits([x[i]])[0], 16) < 0x600000
                    if not odd:
                        results[key][i] = code
        out.append(f"format {info.k} {name}")
        out.append("values " + " ".join(bits(values)))
        for i, v in enumerate(bits(x)):
            if dtype is None and info.k > 5:
                break
            plain = [results[False, mode][i] for mode in modes]
            saturating = [results[True, mode][i] for mode in modes]
            line = f"{v} {' '.join(plain)}"
            out.append(line if plain == saturating else f"{line} {' '.join(saturating)}")
        else:
            continue
        # The wide P3109 formats, all roundings of which would be a megabyte of text: the points
        # come in threes around a boundary.
        nearest = RoundMode.TiesToEven
        at = {b: i for i, b in enumerate(bits(x))}
        done = set()
        for i, v in enumerate(x):
            three = [at.get(b) for b in bits(neighbours([v]))]
            if i in done or None in three or done & set(three):
                continue
            done |= set(three)
            plain = [results[False, nearest][j] for j in three]
            saturating = [results[True, nearest][j] for j in three]
            line = f"near {bits([v])[0]} {' '.join(plain)}"
            out.append(line if plain == saturating else f"{line} {' '.join(saturating)}")
    write("elements.txt", named)
    write("p3109.txt", p3109)
    write("differences.txt", differences)


if __name__ == "__main__":
    what = sys.argv[1:] or ["elements", "blocks", "qpytorch", "integers"]
    if "elements" in what:
        element_tables()
    if "blocks" in what:
        from blocks import block_tables

        block_tables(write, bits)
    if "qpytorch" in what:
        from qpytorch import qpytorch_tables

        qpytorch_tables(write, bits)
    if "integers" in what:
        from integers import integer_tables

        integer_tables(write, bits)
    if "extended" in what:
        from qpytorch_extended import extended_tables

        extended_tables(write, bits)
    if "scales" in what:
        from scales import scale_tables

        scale_tables(write, bits)
