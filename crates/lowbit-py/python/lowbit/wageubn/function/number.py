"""The quantizers of WAGEUBN (Yang et al., arXiv 1909.02384, section III.C), with d(k) = 2^(1 - k),
Q(x, k) = round(x / d(k)) d(k), ties to even, and R(x) = 2^round(log2 max |x|), which is 1 for zeros. Gradients pass,
unless they are what is quantized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...torch._learned import power_of_two


class _Straight(torch.autograd.Function):
    """A function of a tensor, whose gradient passes."""

    @staticmethod
    def forward(context: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _OfGradient(torch.autograd.Function):
    """The tensor; its gradient goes through a function."""

    @staticmethod
    def forward(context: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        context.function = function
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return context.function(gradient), None


def _steps(k: int, name: str = "k") -> float:
    """2^(k - 1), the steps in 1."""
    if not 1 <= k <= 32:
        raise ValueError(f"{name} is {k}, expected 1 to 32")
    return 2.0 ** (k - 1)


def _magnitude(x: Tensor) -> Tensor:
    """R(x)."""
    if x.numel() == 0:
        return torch.ones((), dtype=x.dtype, device=x.device)
    largest = x.detach().abs().max()
    exponent = torch.round(torch.log2(largest.double())).clamp(-126.0, 126.0)
    return torch.where(largest == 0.0, 1.0, power_of_two(exponent.float())).to(x.dtype)


def _stochastic(x: Tensor) -> Tensor:
    low = torch.floor(x)
    draws = torch.rand(x.shape, device=x.device)
    return low + (draws < (x - low).float()).to(x.dtype)


def _direct(x: Tensor, k: int) -> Tensor:
    steps = _steps(k)
    return torch.round(x * steps) / steps


def _clipped_direct(x: Tensor, k: int) -> Tensor:
    end = 1.0 - 1.0 / _steps(k)
    return _direct(x, k).clamp(-end, end)


def _constant(x: Tensor, k_dr: int, k: int) -> Tensor:
    range_steps = _steps(k_dr, "k_dr")
    scaled = _stochastic(range_steps * (x / _magnitude(x)))
    return scaled.clamp(1.0 - range_steps, range_steps - 1.0) / _steps(k)


def sround(x: Tensor) -> Tensor:
    """The integer below or above at random, so that the expected value is x. Random numbers are those of
    `torch.manual_seed`."""
    return _Straight.apply(x, _stochastic)


def directquant(x: Tensor, k: int, k_: int = 0) -> Tensor:
    """Q(x, k), of any magnitude. k_ is there for the signature of `alldirectquant`."""
    return _Straight.apply(x, lambda x: _direct(x, k))


def alldirectquant(x: Tensor, kdec: int, kall: int) -> Tensor:
    """round(x 2^(kdec-1)), held to +-(2^(kall-1) - 1), over 2^(kdec-1): words of `kall` bits."""
    greatest, steps = _steps(kall, "kall") - 1.0, _steps(kdec, "kdec")
    return _Straight.apply(x, lambda x: torch.round(x * steps).clamp(-greatest, greatest) / steps)


def constquant(x: Tensor, k_dr: int, k: int) -> Tensor:
    """Constant quantization: clip(round at random(dr x / R), -dr + 1, dr - 1) / 2^(k-1), dr = 2^(k_dr-1)."""
    return _Straight.apply(x, lambda x: _constant(x, k_dr, k))


def shiftquant(x: Tensor, k: int, k_: int = 0) -> Tensor:
    """Shift quantization: R clip(Q(x / R, k), -1 + d(k), 1 - d(k))."""
    return _Straight.apply(x, lambda x: _magnitude(x) * _clipped_direct(x / _magnitude(x), k))


def weightquant(x: Tensor, k: int, k_: int = 0) -> Tensor:
    """Weights: clip(Q(x, k), -1 + d(k), 1 - d(k))."""
    return _Straight.apply(x, lambda x: _clipped_direct(x, k))


def errquant(x: Tensor, k: int, k_: int = 0) -> Tensor:
    """Flag quantization, with Sc = R / 2^(k-1): Sc clip(round(x / Sc), +-(2^(k-1) - 1)) where |x / Sc| >= 1, and
    Sc Q(x / Sc, k) below, which takes k bits and one that says which."""

    def flag(x: Tensor) -> Tensor:
        steps = _steps(k)
        scale = _magnitude(x) / steps
        scaled = x / scale
        large = torch.round(scaled).clamp(1.0 - steps, steps - 1.0)
        return scale * torch.where(scaled.abs() >= 1.0, large, _direct(scaled, k))

    return _Straight.apply(x, flag)


def gwquant(x: Tensor, kgw: int, kdr: int) -> Tensor:
    """x; its gradient becomes constquant(gradient, kdr, kgw)."""
    return _OfGradient.apply(x, lambda gradient: _constant(gradient, kdr, kgw))


def gbnquant(x: Tensor, k: int, k_: int = 0) -> Tensor:
    """x; its gradient becomes directquant(gradient, k)."""
    return _OfGradient.apply(x, lambda gradient: _direct(gradient, k))


# What the package's README calls them.
errorquant = errquant
gradquant = gwquant
