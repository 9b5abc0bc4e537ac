"""Layers by name, in float (`OFUNCTION`) and quantized (`QFUNCTION`), made with the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from . import function

# Arguments that only quantized layers have.
OWN = ("weight_bit_width", "bias_bit_width", "inter_bit_width", "acti_bit_width", "retrain", "quant")


def _without(layer: Callable[..., nn.Module], like: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Makes a layer with the arguments of another one, those of quantization left out."""
    signature = inspect.signature(like)

    def make(*arguments: Any, **named: Any) -> nn.Module:
        unknown = {name: value for name, value in named.items() if name in OWN and name not in signature.parameters}
        bound = signature.bind(*arguments, **{name: value for name, value in named.items() if name not in unknown})
        return layer(**{name: value for name, value in bound.arguments.items() if name not in OWN})

    return make


QFUNCTION: dict[str, Callable[..., nn.Module]] = {
    "ReLU": function.ReLU,
    "ReLU6": function.ReLU6,
    "BatchNorm2d": function.BatchNorm2d,
    "Conv2d": function.Conv2d,
    "Linear": function.Linear,
    "MaxPool2d": _without(nn.MaxPool2d, nn.MaxPool2d),
    "Adder2d": function.Adder2d,
}

OFUNCTION: dict[str, Callable[..., nn.Module]] = {
    "ReLU": _without(nn.ReLU, function.ReLU),
    "ReLU6": _without(nn.ReLU6, function.ReLU6),
    "BatchNorm2d": _without(nn.BatchNorm2d, function.BatchNorm2d),
    "Conv2d": _without(nn.Conv2d, function.Conv2d),
    "Linear": _without(nn.Linear, function.Linear),
    "MaxPool2d": _without(nn.MaxPool2d, nn.MaxPool2d),
    "Adder2d": _without(function.extra.Adder2d, function.Adder2d),
}
