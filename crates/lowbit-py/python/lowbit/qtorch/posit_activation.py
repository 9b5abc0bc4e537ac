"""Hyperbolic tangents by the bits of posits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PositTanhModule", "PositTanhModuleEnhanced", "RefTanhModule"]


def _tanh(enhanced: bool) -> type[torch.autograd.Function]:
    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            from .quant.quant_function import posit_tanh, posit_tanh_enhanced

            y = (posit_tanh_enhanced if enhanced else posit_tanh)(x, nsize=16)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (y,) = ctx.saved_tensors
            return gradient * (1 - y * y)

    return Tanh


PositTanhFunction = _tanh(enhanced=False)
PositTanhFunctionEnhanced = _tanh(enhanced=True)


class PositTanhModule(nn.Module):
    """About tanh(x), by posits of 16 bits; the gradient is g (1 - y^2)."""

    def forward(self, x: Tensor) -> Tensor:
        return PositTanhFunction.apply(x)


class PositTanhModuleEnhanced(nn.Module):
    """As `PositTanhModule`, nearer to the true function at its ends."""

    def forward(self, x: Tensor) -> Tensor:
        return PositTanhFunctionEnhanced.apply(x)


class RefTanhModule(nn.Module):
    """tanh(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x)
