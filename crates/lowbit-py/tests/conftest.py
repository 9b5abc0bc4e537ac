"""What tests share."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

# Signed zeros, infinities, NaN, subnormals, ties of the common formats, and numbers of every magnitude.
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 2.0**-126, 448.0, 464.0, 480.0, -1e9, 3.4e38, 0.5, 2.5, 1.0625],
    np.float32,
)


@pytest.fixture
def numbers():
    """65,536 numbers whose magnitudes spread over all exponents of float32, and the special ones."""
    random = np.random.default_rng(0)
    spread = random.standard_normal(1 << 15) * 2.0 ** random.integers(-60, 60, 1 << 15)
    near = random.standard_normal((1 << 15) - SPECIAL.size)
    return np.concatenate([SPECIAL, spread, near]).astype(np.float32)


def same(a, b):
    """Whether two arrays have the same bits, any NaN being like another."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    word = {2: np.uint16, 4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    nan = np.isnan(a.astype(np.float64)) & np.isnan(b.astype(np.float64))
    return bool(((a.view(word) == b.view(word)) | nan).all())


def command():
    """The Rust command, if it has been built."""
    built = Path(__file__).parents[3] / "target" / "release" / "lowbit"
    found = os.environ.get("LOWBIT_COMMAND") or (built if built.exists() else shutil.which("lowbit"))
    if not found:
        pytest.skip("the command `lowbit` is not built (cargo build --release)")
    return found
