"""Functions from tensors to rounded tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._lowbit import Format, Rounding
from ._ops import clamped, format_of, round_plain, rounding_of, with_stream

Hook = Callable[[Tensor], Tensor]


def takes_operator(x: Tensor) -> bool:
    """Whether a tensor must go through the dispatcher: in a program that is being compiled, and where it is no plain
    one (of a subclass, or without memory of its own)."""
    return torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter) or x.is_meta


def randomness_of(rounding: str | Rounding, seed: int | None, stream: int | None) -> Rounding:
    """A rounding with its random numbers."""
    if isinstance(rounding, str):
        rounding = rounding_of(rounding)
    return rounding if seed is None and stream is None else rounding.with_randomness(seed, stream)


@torch.compiler.assume_constant_result
def text_of(value: str | Format | Rounding, seed: int | None = None, stream: int | None = None) -> str:
    """A format's or a rounding's text, which a compiled program has as a constant."""
    if seed is not None or stream is not None:
        value = randomness_of(str(value), seed, stream)
    return str(value)


def quantize(
    x: Tensor,
    format: str | Format,
    rounding: str | Rounding = "nearest-even",
    *,
    seed: int | None = None,
    stream: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """`x` rounded to a format; the gradient passes unchanged (the straight-through estimator).

    x: float32, float64, float16 or bfloat16, of any strides; on another device than the CPU it visits the CPU.
    seed, stream: of stochastic rounding, as in `lowbit.quantize`.
    out: where the result goes; `x` itself to round in place, which autograd allows for no tensor that needs a
    gradient.
    """
    if out is None and takes_operator(x):
        return torch.ops.lowbit.round(x, text_of(format), text_of(rounding, seed, stream))
    rounding = randomness_of(rounding, seed, stream)
    if isinstance(format, str):
        format = format_of(format)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return round_plain(x, format, rounding, out)
    if out is not None:
        raise ValueError("out takes no part in autograd, expected an x that needs no gradient, or torch.no_grad()")
    return _StraightThrough.apply(x, format, rounding)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context, x, format, rounding):
        return round_plain(x, format, rounding)

    @staticmethod
    def backward(context, gradient):
        return gradient, None, None


class RoundingBackward(torch.autograd.Function):
    """Rounds forward, and the gradient backward."""

    @staticmethod
    def forward(context, x, forward, forward_rounding, backward, backward_rounding, zero_clamped):
        context.backward_way = backward, backward_rounding
        context.outside = clamped(x, forward, forward_rounding) if zero_clamped else None
        return x.clone() if forward is None else round_plain(x, forward, forward_rounding)

    @staticmethod
    def backward(context, gradient):
        backward, rounding = context.backward_way
        if backward is not None:
            gradient = round_plain(gradient, backward, rounding)
        if context.outside is not None:
            gradient = gradient.masked_fill(context.outside, 0.0)
        return gradient, None, None, None, None, None


class _Hooked(torch.autograd.Function):
    @staticmethod
    def forward(context, x, hooks):
        context.hooks = hooks
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        for hook in context.hooks:
            gradient = hook(gradient)
        return gradient, None


def hooked(x: Tensor, hooks: Sequence[Hook]) -> Tensor:
    """`x`, whose gradient goes through functions, in order."""
    return _Hooked.apply(x, tuple(hooks)) if hooks else x


def quantize_both(
    x: Tensor,
    formats: tuple[str, str],
    roundings: tuple[str, str],
    zero_clamped: bool,
    stream: Tensor | None,
) -> Tensor:
    """`x` rounded on the way forward, its gradient on the way back, where a format is given and no empty text: `stream` counts the
    random numbers forward, the next one those backward. With `zero_clamped` the gradient is 0 where rounding left the
    format's range."""
    if takes_operator(x):
        return torch.ops.lowbit.quantize(x, formats[0], roundings[0], formats[1], roundings[1], zero_clamped, stream)
    forward, backward = (format_of(text) if text else None for text in formats)
    way = with_stream(roundings[0], stream)
    if not (torch.is_grad_enabled() and x.requires_grad):
        return x.clone() if forward is None else round_plain(x, forward, way)
    back = with_stream(roundings[1], stream, 1)
    return RoundingBackward.apply(x, forward, way, backward, back, zero_clamped)


def read(format: str | Format | None) -> Format | None:
    """A format that may be none."""
    return Format(format) if isinstance(format, str) else format


def read_rounding(rounding: str | Rounding, seed: int) -> str:
    """A rounding's text, with a seed if it takes random numbers and names none."""
    mode = rounding_of(str(rounding))
    named = isinstance(rounding, Rounding) or "seed" in rounding
    return str(mode.with_randomness(seed) if mode.is_stochastic and not named else mode)
