"""Writes numpy.txt: files as NumPy writes them, and what they are when rounded.

    .venv/bin/python numpy_files.py        # numpy, ml_dtypes

A line has a name, the type that `V1` stands for or `-`, and in hexadecimal the file with numbers
and the file with those numbers rounded to int4 (to the nearest integer, ties to even, within -8 to
7; zero without a sign), or `refused`.
"""

import io
from pathlib import Path

import ml_dtypes
import numpy as np

BYTES = [
    "float8_e4m3fn",
    "float8_e4m3",
    "float8_e4m3fnuz",
    "float8_e4m3b11fnuz",
    "float8_e5m2fnuz",
    "float8_e3m4",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
]


def saved(array, save=np.save):
    file = io.BytesIO()
    save(file, array)
    return file.getvalue().hex()


def rounded(array):
    whole = np.rint(array.astype(np.float64))
    return (np.clip(whole, -8, 7) + 0.0).astype(array.dtype)


def dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def read():
    """Arrays of every type that is read: within the range of float6_e2m3fn, and in any order."""
    numbers = np.random.default_rng(0).uniform(-6, 6, 24)
    for name in ["float16", "float32", "float64", "bfloat16", "float8_e5m2", *BYTES]:
        array = numbers.astype(dtype(name))
        given = name if name in BYTES else "-"
        yield name, given, array
        if array.itemsize > 1:
            yield f"{name}-big", "-", array.astype(array.dtype.newbyteorder(">"))
        yield f"{name}-fortran", given, np.asfortranarray(array.reshape(4, 6))
        yield f"{name}-scalar", given, array[0].reshape(())


def refused():
    yield "bool", np.array([True])
    for name in ["int8", "uint8", "int32", "uint64", "complex64", "longdouble", "int4"]:
        yield name, np.array([1]).astype(dtype(name))
    yield "text", np.array(["1.5"])
    yield "bytes", np.array([b"12"])
    yield "date", np.array(["2020-01-01"], dtype="datetime64[D]")
    yield "records", np.array([(1.5,)], dtype=[("x", "<f4")])
    yield "untold", np.array([1.5]).astype(ml_dtypes.float8_e4m3fn)


def main():
    lines = ["# name, type of V1, file, file rounded to int4"]
    for name, given, array in read():
        lines.append(f"{name} {given} {saved(array)} {saved(rounded(array))}")
    # A file that NumPy has read and written has lost the name of its type.
    half = np.load(io.BytesIO(bytes.fromhex(saved(np.ones(3, ml_dtypes.bfloat16)))))
    lines.append(f"bfloat16-again - {saved(half)} {saved(half)}")
    for name, array in refused():
        lines.append(f"{name} - {saved(array)} refused")
    arrays = {
        "weight": np.random.default_rng(1).uniform(-9, 9, (3, 5)).astype(np.float32),
        "bias": np.random.default_rng(2).uniform(-9, 9, 7).astype(">f8"),
        "half": np.random.default_rng(3).uniform(-9, 9, 4).astype(ml_dtypes.bfloat16),
        "whole": np.arange(3),
    }
    done = {k: a if k == "whole" else rounded(a) for k, a in arrays.items()}
    for name, save in [("npz", np.savez), ("npz-compressed", np.savez_compressed)]:
        both = [saved(None, lambda f, _: save(f, **a)) for a in (arrays, done)]
        lines.append(f"{name} - {both[0]} {both[1]}")
    Path(__file__).with_name("numpy.txt").write_text("\n".join(lines) + "\n")


main()
