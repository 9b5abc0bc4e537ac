"""What is wrong is said in one line, with what was allowed."""

import numpy as np
import pytest

import lowbit

X = np.zeros(4, np.float32)


def refused(kind, pattern, call):
    with pytest.raises(kind, match=pattern) as found:
        call()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "kind, pattern, call",
    [
        (ValueError, "unknown format `e4m3x`.*did you mean `e4m3", lambda: lowbit.Format("e4m3x")),
        (ValueError, "fixed", lambda: lowbit.Format("fixed(99,3)")),
        (TypeError, "format is a int, expected a str", lambda: lowbit.quantize(X, 8)),
        (ValueError, "unknown rounding `near`.*did you mean", lambda: lowbit.quantize(X, "e4m3", "near")),
        (TypeError, "rounding is a int, expected a str", lambda: lowbit.quantize(X, "e4m3", 1)),
        (ValueError, "seed and stream go with stochastic", lambda: lowbit.quantize(X, "e4m3", seed=1)),
        (ValueError, "bits is 33, expected 1 to 32", lambda: lowbit.Rounding.stochastic(bits=33)),
        (TypeError, "complex64 cannot be rounded, expected float32", lambda: lowbit.quantize(X.astype("c8"), "e4m3")),
        (TypeError, "bool cannot be rounded", lambda: lowbit.quantize(X > 0, "e4m3")),
        (TypeError, "byte order", lambda: lowbit.quantize(X.astype(">f4"), "e4m3")),
        (TypeError, "cannot be rounded", lambda: lowbit.quantize(["a"], "e4m3")),
        (TypeError, "cannot be rounded", lambda: lowbit.quantize(object(), "e4m3")),
        (ValueError, r"out has the shape \[3\], expected \[4\]", lambda: lowbit.quantize(X, "e4m3", out=X[:3].copy())),
        (TypeError, "out is of float64, expected float32", lambda: lowbit.quantize(X, "e4m3", out=np.zeros(4))),
        (TypeError, "out is a list, expected an array", lambda: lowbit.quantize(X, "e4m3", out=[0] * 4)),
        (ValueError, "out is read-only", lambda: lowbit.quantize(X, "e4m3", out=np.broadcast_to(X[:1], 4))),
        (ValueError, "shape .* does not fit", lambda: lowbit.quantize(X, "bfp(8,dim=2)")),
        (ValueError, "a list of values", lambda: lowbit.Format("fp32").values()),
        (ValueError, "`x` is no number", lambda: lowbit.Format("e4m3").round("x")),
        (ValueError, "bits is 0, expected 1 to 32", lambda: lowbit.pack([1], 0)),
        (ValueError, "count is 99, expected at most", lambda: lowbit.unpack(b"ab", 4, 99)),
        (TypeError, "codes are float32, expected integers", lambda: lowbit.decode(X, "e4m3")),
        (TypeError, "takes a format unless", lambda: lowbit.decode([1])),
        (ValueError, "threads is 0, expected 1 to 1024", lambda: lowbit.set_num_threads(0)),
        (ValueError, "formats is 0, expected", lambda: lowbit.plot([])),
    ],
)
def test_refused(kind, pattern, call):
    refused(kind, pattern, call)


def test_an_output_that_repeats_itself():
    repeated = np.lib.stride_tricks.as_strided(np.zeros(3, np.float32), (4,), (0,), writeable=True)
    refused(ValueError, "place of its own", lambda: lowbit.quantize(X, "e4m3", out=repeated))
