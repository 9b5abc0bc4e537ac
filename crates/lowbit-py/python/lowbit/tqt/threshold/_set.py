"""Setting thresholds."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def set_threshold(qmodule: nn.Module, name: str, threshold: Tensor | float, eps: float) -> None:
    """Sets `<name>_log2_t` to log2(threshold + eps), in the tensor that is there, which an optimizer may have."""
    log2_t = getattr(qmodule, f"{name}_log2_t")
    log2_t.copy_(torch.as_tensor(threshold).detach().to(log2_t).add(eps).log2())


def numbers_of(module: nn.Module, name: str) -> Tensor:
    """A parameter, or what a module handed on last (`hook_out`); ValueError where there is none."""
    numbers = getattr(module, name, None)
    if not isinstance(numbers, Tensor):
        hint = "add_hook and a forward pass before" if name == "hook_out" else "a layer with one"
        raise ValueError(f"{type(module).__name__} has no {name}, expected {hint}")
    return numbers.detach()
