"""Rounding tensors: the plain function, and the operators `lowbit::round` and `lowbit::quantize`.

The operators are defined for PyTorch's dispatcher from Python, so that nothing is linked with it: they take part in
`torch.compile`, `torch.export` and autograd. Outside of a compiled program tensors take the shorter way,
`quantize_at` on their memory, which has the same numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .._lowbit import Format, Rounding, quantize_at

KINDS = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}

format_of = lru_cache(maxsize=1024)(Format)
rounding_of = lru_cache(maxsize=1024)(Rounding)


def round_plain(x: Tensor, format: Format, rounding: Rounding, out: Tensor | None = None) -> Tensor:
    """`x` rounded, with no gradient; into `out`, if it is given. Tensors of other devices visit the CPU."""
    kind = KINDS.get(x.dtype)
    if kind is None:
        raise TypeError(f"a tensor of {x.dtype} cannot be rounded, expected float32, float64, float16 or bfloat16")
    if x.layout is not torch.strided:
        raise TypeError(f"a tensor of the layout {x.layout} cannot be rounded, expected torch.strided")
    if not x.is_cpu:
        rounded = round_plain(x.cpu(), format, rounding).to(x.device)
        return rounded if out is None else out.copy_(rounded)
    if x.is_neg():
        x = x.resolve_neg()
    target = torch.empty_like(x) if out is None else _checked(out, x)
    if x.is_contiguous() and target.is_contiguous():
        quantize_at(format, rounding, kind, x.data_ptr(), target.data_ptr(), x.shape)
    else:
        quantize_at(format, rounding, kind, x.data_ptr(), target.data_ptr(), x.shape, x.stride(), target.stride())
    return target


def _checked(out: Tensor, x: Tensor) -> Tensor:
    if out.shape != x.shape:
        raise ValueError(f"out has the shape {list(out.shape)}, expected {list(x.shape)}")
    if out.dtype != x.dtype or out.device != x.device:
        raise TypeError(f"out is of {out.dtype} on {out.device}, expected {x.dtype} on {x.device}")
    if out.layout is not torch.strided or out.is_neg():
        raise TypeError("out is a sparse tensor or a negative view, expected a plain one")
    return out


def clamped(x: Tensor, format: Format, rounding: Rounding) -> Tensor:
    """Where rounding `x` left the format's range: fixed point is rounded first, without its bounds, as QPyTorch has
    it; in other formats `x` itself lies outside."""
    unbounded = format.unbounded
    if unbounded is not None:
        x = round_plain(x, unbounded, rounding)
    return (x < format.min) | (x > format.max)


def with_stream(rounding: str, stream: Tensor | None, after: int = 0) -> Rounding:
    """The rounding that a text names, with the random numbers of a stream, or of one after it."""
    mode = rounding_of(rounding)
    if stream is None or not mode.is_stochastic:
        return mode
    return mode.with_randomness(stream=int(stream) + after)


_library = torch.library.Library("lowbit", "DEF")
# Without a gradient, which is what compiled programs are left with.
_library.define("rounded(Tensor x, str format, str rounding, Tensor? stream=None) -> Tensor")
_library.define("round(Tensor x, str format, str rounding, Tensor? stream=None) -> Tensor")
_library.define(
    "quantize(Tensor x, str forward, str forward_rounding, str backward, str backward_rounding, "
    "bool zero_clamped=False, Tensor? stream=None) -> Tensor"
)
_library.define("clamped(Tensor x, str format, str rounding, Tensor? stream=None) -> Tensor")


def _round(x: Tensor, format: str, rounding: str, stream: Tensor | None = None) -> Tensor:
    return round_plain(x, format_of(format), with_stream(rounding, stream))


def _quantize(
    x: Tensor,
    forward: str,
    forward_rounding: str,
    backward: str,
    backward_rounding: str,
    zero_clamped: bool = False,
    stream: Tensor | None = None,
) -> Tensor:
    return _round(x, forward, forward_rounding, stream) if forward else x.clone()


def _fake(x: Tensor, *_arguments: object, **_options: object) -> Tensor:
    return torch.empty_like(x)


class _Rounding(torch.autograd.Function):
    """Rounds both ways by `lowbit::rounded`, the operator that programs are compiled to."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ways: tuple[str, str, str, str], zero_clamped: bool, stream: Tensor | None) -> Tensor:
        ctx.ways, ctx.zero_clamped = ways, zero_clamped
        ctx.save_for_backward(x if zero_clamped else None, stream)
        return _forward(x, ways, stream)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        forward, forward_rounding, backward, backward_rounding = ctx.ways
        x, stream = ctx.saved_tensors
        if backward:
            following = None if stream is None else stream + 1
            gradient = torch.ops.lowbit.rounded.default(gradient, backward, backward_rounding, following)
        if ctx.zero_clamped:
            outside = torch.ops.lowbit.clamped.default(x, forward, forward_rounding, stream)
            gradient = gradient.masked_fill(outside, 0.0)
        return gradient, None, None, None


def _forward(x: Tensor, ways: tuple[str, str, str, str], stream: Tensor | None) -> Tensor:
    return torch.ops.lowbit.rounded.default(x, ways[0], ways[1], stream) if ways[0] else x.clone()


def _with_gradient(
    x: Tensor,
    forward: str,
    forward_rounding: str,
    backward: str,
    backward_rounding: str,
    zero_clamped: bool = False,
    stream: Tensor | None = None,
) -> Tensor:
    ways = forward, forward_rounding, backward, backward_rounding
    if torch.is_grad_enabled() and x.requires_grad:
        return _Rounding.apply(x, ways, zero_clamped, stream)
    return _forward(x, ways, stream)


def _round_with_gradient(x: Tensor, format: str, rounding: str, stream: Tensor | None = None) -> Tensor:
    return _with_gradient(x, format, rounding, "", "", False, stream)


def _clamped(x: Tensor, format: str, rounding: str, stream: Tensor | None = None) -> Tensor:
    return clamped(x, format_of(format), with_stream(rounding, stream))


def _fake_mask(x: Tensor, *_arguments: object, **_options: object) -> Tensor:
    return torch.empty_like(x, dtype=torch.bool)


for _name, _kernel, _shape, _gradient in [
    ("rounded", _round, _fake, None),
    ("round", _round, _fake, _round_with_gradient),
    ("quantize", _quantize, _fake, _with_gradient),
    ("clamped", _clamped, _fake_mask, None),
]:
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    if _gradient is not None:
        _library.impl(_name, _gradient, "Autograd")
    torch.library.register_fake(f"lowbit::{_name}", _shape, lib=_library)
