"""Thresholds from three standard deviations: log2_t = log2(|mean| + 3 sd + eps)."""

from __future__ import annotations

from torch import Tensor, nn

from ._set import numbers_of, set_threshold


def _three_deviations(x: Tensor) -> Tensor:
    """Of a single number the deviation is 0."""
    return x.mean().abs() + 3.0 * x.std(correction=min(1, x.numel() - 1))


def threshold_weight_3sd(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the weight of `module`, for `qmodule`."""
    set_threshold(qmodule, "weight", _three_deviations(numbers_of(module, "weight")), eps)


def threshold_bias_3sd(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the bias of `module`, for `qmodule`."""
    set_threshold(qmodule, "bias", _three_deviations(numbers_of(module, "bias")), eps)


def threshold_activation_3sd(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """Of the result that a hook kept of `module`, for `qmodule`."""
    set_threshold(qmodule, "acti", _three_deviations(numbers_of(module, "hook_out")), eps)
