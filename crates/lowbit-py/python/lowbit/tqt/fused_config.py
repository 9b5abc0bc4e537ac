"""Widths layer by layer, of folded modules, too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from .fold import isfoldmodule


class Fconfig(NamedTuple):
    """Widths in bits of a layer's weight, bias and result."""

    weight: int = 8
    bias: int = 8
    acti: int = 8


def list_to_fconfig(lst: Sequence[Sequence[int]], default: Sequence[int] = (8, 8, 8)) -> list[Fconfig]:
    """Triples as `Fconfig`; an empty one is the default. ValueError for another length."""
    for entry in lst:
        if len(entry) not in (0, 3):
            raise ValueError(f"an entry is {list(entry)}, expected [weight, bias, acti] or []")
    return [Fconfig(*(entry or default)) for entry in lst]


def get_all_layers(net: nn.Module, al: list[nn.Module] | None = None) -> list[nn.Module]:
    """Appends the layers inside to a list, a new one unless given: modules without others inside, but for `Identity`,
    and folded modules."""
    layers = [] if al is None else al
    for child in net.children():
        if isfoldmodule(child):
            layers.append(child)
        elif any(True for _ in child.children()):
            get_all_layers(child, layers)
        elif not isinstance(child, nn.Identity):
            layers.append(child)
    return layers


def layers_config(net: nn.Module, lst: Sequence[Fconfig]) -> None:
    """Sets the widths of all layers, in the order of `get_all_layers`; ValueError if there are not as many triples."""
    layers = get_all_layers(net)
    if len(lst) != len(layers):
        raise ValueError(f"lst has {len(lst)} entries, expected one for each of the {len(layers)} layers")
    for layer, config in zip(layers, lst):
        for name, width in config._asdict().items():
            if hasattr(layer, f"{name}_bit_width"):
                setattr(layer, f"{name}_bit_width", width)
