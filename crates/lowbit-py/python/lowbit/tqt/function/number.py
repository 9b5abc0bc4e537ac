"""Rounding to a threshold's grid, and the two straight-through functions that it is made of in `tqt`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...torch._learned import check, check_float, to_threshold_grid

# Integers of more than 24 bits are those that float32 holds.
WIDTHS = range(1, 33)


def number_to_tensor(x: Any, t: Tensor) -> Tensor:
    """A number as a tensor of the type and device of `t`."""
    return torch.as_tensor(x).to(t)


class Ceil(torch.autograd.Function):
    """The next integer above; the gradient passes."""

    @staticmethod
    def forward(context: Any, input: Tensor) -> Tensor:
        return torch.ceil(input)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class RoundToEven(torch.autograd.Function):
    """The nearest integer, of two the even one; the gradient passes."""

    @staticmethod
    def forward(context: Any, input: Tensor) -> Tensor:
        return torch.round(input)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


ceil = Ceil.apply
round = RoundToEven.apply


def _to_grid(x: Tensor, log2_t: Tensor | float, bit_width: int, signed: bool) -> Tensor:
    check_float(x)
    threshold = torch.as_tensor(log2_t, dtype=None if isinstance(log2_t, Tensor) else x.dtype, device=x.device)
    bits = int(bit_width)
    check("log2_t", threshold, x, bits, WIDTHS, 0)
    return to_threshold_grid(x, threshold, bits, signed)


def qsigned(x: Tensor, log2_t: Tensor | float, bit_width: int) -> Tensor:
    """q = clip(round(x / s), -2^(b-1), 2^(b-1) - 1) s with s = 2^ceil(log2_t) / 2^(b-1), and the gradients of
    equations 6 to 8 of arXiv 1903.08066; see `lowbit.torch.trained_threshold`.

    log2_t: one number, or one for each index of the first axis. bit_width: 1 to 32.
    """
    return _to_grid(x, log2_t, bit_width, True)


def qunsigned(x: Tensor, log2_t: Tensor | float, bit_width: int) -> Tensor:
    """q = clip(round(x / s), 0, 2^b - 1) s with s = 2^ceil(log2_t) / 2^b, with gradients as of `qsigned`."""
    return _to_grid(x, log2_t, bit_width, False)


class qSigned:
    """`qSigned.apply` is `qsigned`."""

    apply = staticmethod(qsigned)


class qUnsigned:
    """`qUnsigned.apply` is `qunsigned`."""

    apply = staticmethod(qunsigned)
