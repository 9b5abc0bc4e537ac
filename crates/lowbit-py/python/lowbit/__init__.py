"""Number formats of a few bits: exact rounding at memory speed, for numpy, PyTorch and anything with DLPack.

>>> import lowbit
>>> lowbit.quantize([0.3, -1.0, 1e9], "e4m3", "toward-zero")
array([ 2.8125e-01, -1.0000e+00,  4.4800e+02])
"""

from ._lowbit import (
    BlockCodes,
    Buffer,
    Code,
    Comparison,
    Facts,
    Fit,
    Format,
    Noise,
    Picture,
    Rounded,
    Rounding,
    compare,
    decode,
    encode,
    formats,
    get_num_threads,
    pack,
    plot,
    posit_activation,
    quantize,
    set_num_threads,
    unpack,
)

__all__ = [
    "BlockCodes",
    "Buffer",
    "Code",
    "Comparison",
    "Facts",
    "Fit",
    "Format",
    "Noise",
    "Picture",
    "Rounded",
    "Rounding",
    "compare",
    "decode",
    "encode",
    "formats",
    "get_num_threads",
    "pack",
    "plot",
    "posit_activation",
    "quantize",
    "set_num_threads",
    "unpack",
]
