"""Thresholds from the largest magnitude: log2_t = log2(max |x| + eps)."""

from __future__ import annotations

from torch import nn

from ._set import numbers_of, set_threshold


def threshold_weight_max(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the weight of `module`, for `qmodule`."""
    set_threshold(qmodule, "weight", numbers_of(module, "weight").abs().max(), eps)


def threshold_bias_max(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the bias of `module`, for `qmodule`."""
    set_threshold(qmodule, "bias", numbers_of(module, "bias").abs().max(), eps)


def threshold_activation_max(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the result that a hook kept of `module`, for `qmodule`."""
    set_threshold(qmodule, "acti", numbers_of(module, "hook_out").abs().max(), eps)
