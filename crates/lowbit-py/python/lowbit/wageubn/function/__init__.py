"""Layers on words of a few bits, used as `import wageubn.function as nn`, and the quantizers; what is not here is that
of `torch.nn`."""

from typing import Any

from torch import nn as _nn
from torch.nn import (
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Module,
    ModuleDict,
    ModuleList,
    Parameter,
    Sequential,
)

from . import extra
from .activation import ReLU, ReLU6
from .adder import Adder2d
from .batchnorm import BatchNorm2d
from .conv import Conv2d
from .linear import Linear
from .number import (
    alldirectquant,
    constquant,
    directquant,
    errorquant,
    errquant,
    gbnquant,
    gradquant,
    gwquant,
    shiftquant,
    sround,
    weightquant,
)

__all__ = [
    "Adder2d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm2d",
    "Conv2d",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Module",
    "ModuleDict",
    "ModuleList",
    "Parameter",
    "ReLU",
    "ReLU6",
    "Sequential",
    "alldirectquant",
    "constquant",
    "directquant",
    "errorquant",
    "errquant",
    "extra",
    "gbnquant",
    "gradquant",
    "gwquant",
    "shiftquant",
    "sround",
    "weightquant",
]


def __getattr__(name: str) -> Any:
    """Layers and functions of `torch.nn`, which a model that changes its import alone uses, too."""
    if name.startswith("__") or not hasattr(_nn, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has torch.nn")
    return getattr(_nn, name)
