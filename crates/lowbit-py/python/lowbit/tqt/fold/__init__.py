"""Modules that are quantized as one."""

from .convbn import Conv2dBN
from .convbnact import Conv2dBNReLU
from .fold_op import fold_CB, fold_CBR, fold_SAB, fold_SABR, fold_the_network, make_the_shortcut_share
from .foldmodule import isfoldmodule
from .sabn import SA2dBN
from .sabnact import SA2dBNReLU
from .sharequant import ShareQuant

__all__ = [
    "Conv2dBN",
    "Conv2dBNReLU",
    "SA2dBN",
    "SA2dBNReLU",
    "ShareQuant",
    "fold_CB",
    "fold_CBR",
    "fold_SAB",
    "fold_SABR",
    "fold_the_network",
    "isfoldmodule",
    "make_the_shortcut_share",
]
