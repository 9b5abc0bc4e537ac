"""Thresholds that ignore the numbers: log2_t is 0 of weights, half the width of biases, the width less one of
activations."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def _fill(qmodule: nn.Module, name: str, log2_t: float) -> None:
    getattr(qmodule, f"{name}_log2_t").fill_(log2_t)


def threshold_weight_ig(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """log2_t = 0."""
    _fill(qmodule, "weight", 0.0)


def threshold_bias_ig(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """log2_t = bias_bit_width / 2."""
    _fill(qmodule, "bias", qmodule.bias_bit_width / 2.0)  # pyright: ignore


def threshold_activation_ig(module: nn.Module, qmodule: nn.Module, eps: float = 1e-8) -> None:
    """log2_t = acti_bit_width - 1."""
    _fill(qmodule, "acti", qmodule.acti_bit_width - 1.0)  # pyright: ignore
