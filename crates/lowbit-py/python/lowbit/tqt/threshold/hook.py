"""Keeping what modules hand on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..fold.sharequant import ShareQuant
from ..function.extra import Adder2d
from ..utils import walk

# The modules whose results thresholds start from, and those with weights.
END_LIST = (nn.Conv2d, nn.Linear, nn.ReLU, nn.BatchNorm2d, nn.ReLU6, Adder2d, ShareQuant)


def hook_handler(model: nn.Module, input: Any, output: Any) -> None:
    """Keeps a module's last result as its `hook_out`, without what led to it."""
    model.hook_out = output.detach() if isinstance(output, Tensor) else output


def remove_hook(handles: Iterable[RemovableHandle]) -> None:
    """Removes the hooks that `add_hook` gave."""
    for handle in handles:
        handle.remove()


def remove_hookout(layer: nn.Module, name: str = "net", show: bool = False) -> None:
    """Forgets what was kept in a module and all inside."""
    for path, module in walk(layer, name):
        if hasattr(module, "hook_out"):
            del module.hook_out
            if show:
                print(path, "has removed hookout")


def add_hook(
    layer: nn.Module,
    name: str = "net",
    hook_handler: Callable[..., Any] = hook_handler,
    end_list: Iterable[type[nn.Module]] = END_LIST,
    show: bool = False,
) -> list[RemovableHandle]:
    """Hooks every module of these classes, for `remove_hook`."""
    classes, handles = tuple(end_list), list[RemovableHandle]()
    for path, module in walk(layer, name):
        if isinstance(module, classes):
            handles.append(module.register_forward_hook(hook_handler))
            if show:
                print(path, "has added a hook")
    return handles


def add_hook_general(layer: nn.Module, hook_handler: Callable[..., Any] = hook_handler) -> list[RemovableHandle]:
    """Hooks the modules that a network names in its list `proc`, or else all of its children, down to those without
    any; for `remove_hook`."""
    names = getattr(layer, "proc", None)
    is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    children = [layer.get_submodule(name) for name in names] if is_list and names else list(layer.children())
    if not children:
        return [layer.register_forward_hook(hook_handler)]
    return [handle for child in dict.fromkeys(children) for handle in add_hook_general(child, hook_handler)]


def get_hook(layer: nn.Module, name: str = "net", show: bool = False) -> list[tuple[str, Any]]:
    """Paths and kept results of a module and all inside."""
    found: list[tuple[str, Any]] = []
    for path, module in walk(layer, name):
        if hasattr(module, "hook_out"):
            found.append((path, module.hook_out))
            if show:
                print(path, "hook has been fetched")
    return found
