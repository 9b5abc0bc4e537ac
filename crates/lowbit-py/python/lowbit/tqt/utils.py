"""Walks over the modules of a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn


def _getattr(obj: Any, key: str) -> Any:  # pyright: ignore[reportUnusedFunction]
    """What a path such as "layer1.0.conv1" names: attributes, and indices where a step begins with a digit."""
    for step in key.split("."):
        obj = obj[int(step)] if step[:1].isdigit() else getattr(obj, step)
    return obj


def _isinstance(obj: object, cls_list: Iterable[type]) -> bool:
    """Whether an object is of one of the classes."""
    return isinstance(obj, tuple(cls_list))


def walk(net: nn.Module, name: str) -> Iterator[tuple[str, Any]]:
    """A module and all inside, with paths that begin with a name; TypeError for a name that is no text."""
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"name is {name!r}, expected a text such as 'net'")
    return net.named_modules(prefix=name)


def make_net_quant_or_not(
    net_proc: nn.Module,
    name: str = "net",
    quant: bool = True,
    exclude: Iterable[type[nn.Module]] = (),
    show: bool = False,
) -> None:
    """Switches quantization on or off in a module and all inside; modules of the excluded classes compute in float."""
    excluded = tuple(exclude)
    for path, module in walk(net_proc, name):
        if not (hasattr(module, "quant") and hasattr(module, "quantilize") and hasattr(module, "floatilize")):
            continue
        on = quant and not isinstance(module, excluded)
        switch: Any = module.quantilize if on else module.floatilize
        switch()
        if show and isinstance(module, excluded):
            print(path, "is excluded")
        elif show:
            print(path, " is quanted" if on else " is float")


def make_bn_fold_with_previous(
    net_proc: nn.Module,
    name: str = "net",
    pre_proc: nn.Module | None = None,
    pre_name: str = "",
    show: bool = False,
) -> tuple[nn.Module | None, str]:
    """Gives normalizations the thresholds of the layer before them, in the order of definition; returns the last layer
    with thresholds of a weight."""
    for path, module in walk(net_proc, name):
        if isinstance(module, nn.BatchNorm2d):
            fold: Any = getattr(module, "fold", None)
            if pre_proc is not None and fold is not None:
                fold(pre_proc)
                if show:
                    print(f"{path} is folded with {pre_name}")
        elif hasattr(module, "weight_log2_t"):
            pre_proc, pre_name = module, path
    return pre_proc, pre_name


def make_bn_freeze(net_proc: nn.Module, name: str = "net", mode: bool = True, show: bool = False) -> None:
    """Makes folded modules use the running statistics (`mode` True), or those of the batch in training."""
    for path, module in walk(net_proc, name):
        if hasattr(module, "bn_freeze"):
            module.bn_freeze(mode)
            if show:
                print(path, "is frozen" if mode else "is not frozen")
