"""Models in low precision, layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from ...torch._modules import KINDS, QuantizeOutput
from ..quant import Quantizer

__all__ = ["lower", "sequential_lower"]

# The kinds of layers that QPyTorch knows.
TYPES = ("conv", "linear", "pool", "pad", "activation", "normalization", "dropout", "loss")


def _classes(layer_types: Sequence[str]) -> tuple[type[nn.Module], ...]:
    for layer_type in layer_types:
        assert layer_type in TYPES, f"layer type is {layer_type}, expected one of {', '.join(TYPES)}"
    return tuple(kind for layer_type in layer_types for kind in KINDS[layer_type])


def lower(
    model: nn.Module,
    layer_types: Sequence[str] = (),
    forward_number: Any = None,
    backward_number: Any = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
) -> None:
    """Quantizes the output of every layer of some types, and its gradient, in place. Subclasses count."""
    quantizer = Quantizer(forward_number, backward_number, forward_rounding, backward_rounding)
    classes = _classes(layer_types)
    for module in model.modules():
        if isinstance(module, classes):
            module.register_forward_hook(QuantizeOutput(quantizer))


def sequential_lower(
    model: nn.Module,
    layer_types: Sequence[str] = (),
    forward_number: Any = None,
    backward_number: Any = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
) -> nn.Module:
    """A copy of the model in which every layer of some types is `Sequential(layer, Quantizer)`, all of them with one
    quantizer."""
    quantizer = Quantizer(forward_number, backward_number, forward_rounding, backward_rounding)
    classes = _classes(layer_types)
    lowered = copy.deepcopy(model)
    if isinstance(lowered, classes):
        return nn.Sequential(lowered, quantizer)
    for parent in list(lowered.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, classes):
                setattr(parent, name, nn.Sequential(child, quantizer))
    return lowered
