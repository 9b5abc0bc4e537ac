"""Functions that quantize tensors, with QPyTorch's names and arguments.

Each gives a new contiguous tensor of x's type. Random numbers come from PyTorch's generator: `torch.manual_seed` repeats
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn as nn  # Programs take it from here, and F.
import torch.nn.functional as F
from torch import Tensor

from ... import _lowbit
from ..._lowbit import Format, Rounding
from ...torch._functions import hooked
from ...torch._ops import clamped, format_of, round_plain, rounding_of
from .. import _semantics
from ..number import BlockFloatingPoint, FixedPoint, FloatingPoint, Number, Posit, Positbf

__all__ = [
    "fixed_point_quantize",
    "block_quantize",
    "float_quantize",
    "quantizer",
    "posit_quantize",
    "bfloat16_posit8_quantize",
    "convert_to_posit",
    "posit_sigmoid",
    "posit_tanh",
    "posit_tanh_enhanced",
    "new_format_quantize",
    "act_format_quantize",
    "configurable_table_quantize",
    "configurable_table_quantize_rounding_hint",
    "configurable_table_quantize_geomean",
]

Hook = Callable[[Tensor], Tensor]
Rounds = Callable[[Tensor, str], Tensor]


def assert_wl_fl(wl: int, fl: int, stage: str = "") -> None:
    """Refuses a word of -1 bits, which means no rounding, with a fraction."""
    if wl == -1 and fl != -1:
        raise ValueError(f"fixed point {stage} wl {wl}, fl {fl}: expected fl -1, too")


def get_module(x: Tensor) -> ModuleType:
    """The kernels for the device of x."""
    from . import quant_cpu, quant_cuda

    return quant_cuda if x.is_cuda else quant_cpu


def _checked(x: Any, rounding: str = "nearest") -> Tensor:
    assert isinstance(x, Tensor), f"x is a {type(x).__name__}, expected a tensor"
    assert rounding in ("stochastic", "nearest"), f"rounding is {rounding}, expected stochastic or nearest"
    return x.detach().contiguous()


def drawn_seed() -> int:
    """One number of PyTorch's generator, so that its seed is ours."""
    return int(torch.empty((), dtype=torch.int64).random_())


def _round(x: Tensor, format: Format, rounding: Rounding) -> Tensor:
    if rounding.is_stochastic:
        rounding = rounding.with_randomness(drawn_seed())
    return round_plain(x, format, rounding)


def _mode(rounding: str, nearest: str = "nearest-even") -> Rounding:
    return rounding_of("stochastic" if rounding == "stochastic" else nearest)


@lru_cache(maxsize=1024)
def fixed_format(wl: int, fl: int, clamp: bool, symmetric: bool) -> Format:
    options = ",symmetric" * symmetric + ",unbounded" * (not clamp)
    return Format(f"fixed({wl},{fl}{options})")


def fixed_point_quantize(
    x: Tensor, wl: int, fl: int, clamp: bool = True, symmetric: bool = False, rounding: str = "stochastic"
) -> Tensor:
    """Fixed point of `wl` bits, `fl` of them after the point; ties go to the even number of steps. A word of -1 bits is
    no rounding."""
    x = _checked(x, rounding)
    assert_wl_fl(wl, fl)
    if wl == -1:
        return x.clone()
    return _round(x, fixed_format(wl, fl, bool(clamp), bool(symmetric)), _mode(rounding))


def block_quantize(x: Tensor, wl: int, dim: int = -1, rounding: str = "stochastic") -> Tensor:
    """Words of `wl` bits with one exponent, or one for each index of `dim`; ties go to the upper of two."""
    x = _checked(x, rounding)
    return _round(x, format_of(f"bfp({wl})" if dim == -1 else f"bfp({wl},dim={dim})"), _mode(rounding, "nearest-up"))


def float_quantize(x: Tensor, exp: int, man: int, rounding: str = "stochastic") -> Tensor:
    """A float of `exp` bits of exponent, 8 at most, and `man` of mantissa; ties go away from zero."""
    x = _checked(x, rounding)
    format, nearest = _semantics.float_format(exp, man, rounding == "stochastic")
    return _round(x, format, _mode(rounding, nearest))


@lru_cache(maxsize=1024)
def _posit(nsize: int, es: int, scale: float) -> Format:
    return Format(f"posit({nsize},{es})" if scale == 1 else f"posit({nsize},{es},scale=1/{float(scale)!r})")


def posit_quantize(x: Tensor, nsize: int, es: int, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """Posits of numbers times `scale`, over it again."""
    return _round(_checked(x, rounding), _posit(nsize, es, scale), _mode(rounding))


def bfloat16_posit8_quantize(x: Tensor, nsize: int, es: int, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """Posits of at most 8 bits, of numbers rounded to bfloat16 first."""
    x = _checked(x, rounding)
    return _round(x.bfloat16().to(x.dtype), _posit(nsize, es, scale), _mode(rounding))


def convert_to_posit(x: Tensor, nsize: int, es: int, scale: float = 1.0) -> Tensor:
    """The codes of posits as int32, in the upper bits of words of 16."""
    x = _checked(x)
    codes = _lowbit.encode(x.float().cpu().numpy(), _posit(nsize, es, scale))
    return (torch.from_numpy(np.asarray(codes).astype(np.int32)) << (16 - nsize)).to(x.device)


def _activation(x: Tensor, nsize: int, function: str) -> Tensor:
    x = _checked(x)
    assert nsize in (8, 16), f"nsize is {nsize}, expected 8 or 16"
    found = torch.from_numpy(_lowbit.posit_activation(x.float().cpu().numpy(), function, nsize))
    return found.to(device=x.device, dtype=x.dtype)


def posit_sigmoid(x: Tensor, nsize: int, es: int = 0, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """The logistic function by the bit trick on posits without exponent bits."""
    return _activation(x, nsize, "sigmoid")


def posit_tanh(x: Tensor, nsize: int, es: int = 0, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """2 sigmoid(2 x) - 1."""
    return _activation(x, nsize, "tanh")


def posit_tanh_enhanced(x: Tensor, nsize: int, es: int = 0, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """`posit_tanh` with its flat ends moved nearer to the true function."""
    return _activation(x, nsize, "tanh-enhanced")


def _scaled(x: Tensor, format: Format, scale: float) -> Tensor:
    return round_plain(x * scale, format, rounding_of("nearest-even")) / scale


def new_format_quantize(x: Tensor, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """The table for weights."""
    return _scaled(_checked(x, rounding), format_of("qpytorch-weight"), scale)


def act_format_quantize(x: Tensor, scale: float = 1.0, rounding: str = "nearest") -> Tensor:
    """The table for activations."""
    return _scaled(_checked(x, rounding), format_of("qpytorch-activation"), scale)


def _magnitudes(table: Tensor | Sequence[float]) -> Tensor:
    values = torch.as_tensor(table, dtype=torch.float32).detach().cpu().reshape(-1)
    if values.numel() == 0 or not (values.isfinite() & (values >= 0)).all():
        raise ValueError("table_lookup has a number that is no magnitude, expected finite numbers from 0 on")
    return values


def _lookup(x: Tensor, values: Tensor, bounds: Tensor, scale: float) -> Tensor:
    """The last entry whose bound is below the magnitude; zero up to the first bound."""
    x = x * scale
    index = torch.bucketize(x.abs().float(), bounds.to(x.device)) - 1
    found = values.to(x.device)[index.clamp(min=0)].copysign(x.float())
    return (torch.where((index < 0) | (x == 0), 0.0, found) / scale).to(x.dtype)


def configurable_table_quantize(
    x: Tensor, table_lookup: Tensor | Sequence[float], scale: float = 1.0, rounding: str = "nearest"
) -> Tensor:
    """The nearest of a table of magnitudes, with the sign of x; of two as near the one that comes first in the table.
    Zero stays zero."""
    x, values = _checked(x, rounding), _magnitudes(table_lookup)
    ordered, order = values.sort(stable=True)
    middles = (ordered[1:].double() + ordered[:-1].double()) / 2
    bounds = middles.float()
    # A middle goes to the upper entry, if that comes first.
    upper = order[1:] < order[:-1]
    bounds = torch.where(upper & (bounds.double() == middles), bounds.nextafter(torch.tensor(0.0)), bounds)
    bounds = torch.where(bounds.double() > middles, bounds.nextafter(torch.tensor(0.0)), bounds)
    return _lookup(x, ordered, torch.cat([torch.tensor([-1.0]), bounds]), scale)


def configurable_table_quantize_rounding_hint(
    x: Tensor, table_lookup: Tensor | Sequence[float], rounding_hint: Tensor | Sequence[float], scale: float = 1.0
) -> Tensor:
    """The last entry whose hint is below the magnitude, with the sign of x."""
    x, values = _checked(x), torch.as_tensor(table_lookup, dtype=torch.float32).cpu()
    hints = torch.as_tensor(rounding_hint, dtype=torch.float32).cpu()
    if values.shape != hints.shape or (hints[1:] < hints[:-1]).any():
        raise ValueError("rounding_hint does not ascend or is not as long as table_lookup, expected one for each entry")
    return _lookup(x, values, hints, scale)


def configurable_table_quantize_geomean(
    x: Tensor, table_lookup: Tensor | Sequence[float], scale: float = 1.0
) -> Tensor:
    """The nearest in ratio of a table of magnitudes, with the sign of x; up to 1e-4 it is zero."""
    values = _magnitudes(table_lookup)
    hints = torch.cat([torch.tensor([1e-4]), (values[1:] * values[:-1]).sqrt()])
    return configurable_table_quantize_rounding_hint(x, values, hints, scale)


def _rounds(number: Number | None, rounding: str) -> Rounds | None:
    """A function that rounds to a format."""
    if number is None:
        return None
    if isinstance(number, BlockFloatingPoint):
        return lambda x, mode: block_quantize(x, number.wl, number.dim, mode)
    if isinstance(number, FixedPoint):
        return lambda x, mode: fixed_point_quantize(x, number.wl, number.fl, number.clamp, number.symmetric, mode)
    if isinstance(number, FloatingPoint):
        return lambda x, mode: float_quantize(x, number.exp, number.man, mode)
    if isinstance(number, Positbf):
        return lambda x, mode: bfloat16_posit8_quantize(x, number.nsize, number.es, number.scale, mode)
    if isinstance(number, Posit):
        return lambda x, mode: posit_quantize(x, number.nsize, number.es, number.scale, mode)
    raise TypeError(f"{number!r} is no format of qtorch that can be rounded to, expected FixedPoint, "
                    "BlockFloatingPoint, FloatingPoint, Posit or Positbf")


class Rounding_(torch.autograd.Function):
    """Rounds forward and backward; the graph calls it RoundingBackward, as QPyTorch's does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, way: "_Quantize") -> Tensor:
        ctx.way, ctx.outside = way, None
        if way.forward_rounds is None:
            return x.clone()
        if way.zero_clamped and isinstance(way.forward_number, FixedPoint):
            return way.clamp(ctx, x)
        return way.forward_rounds(x, way.forward_rounding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        way = ctx.way
        if way.backward_rounds is not None:
            gradient = way.backward_rounds(gradient, way.backward_rounding)
        if ctx.outside is not None:
            gradient = gradient.masked_fill(ctx.outside, 0.0)
        return gradient, None


Rounding_.__name__ = Rounding_.__qualname__ = "Rounding"
# The node's class has the name that the function had when it was defined; this is the one that graphs show.
Rounding_._backward_cls.__name__ = "RoundingBackward"  # type: ignore[attr-defined]


class _Quantize:
    """What `quantizer` gives: a function of tensors that can be copied and pickled."""

    def __init__(
        self,
        forward_number: Number | None,
        backward_number: Number | None,
        roundings: tuple[str, str],
        zero_clamped: bool,
        hooks: tuple[Hook, ...],
    ) -> None:
        for rounding in roundings:
            assert rounding in ("stochastic", "nearest"), f"rounding is {rounding}, expected stochastic or nearest"
        for number in (forward_number, backward_number):
            assert number is None or isinstance(number, Number), f"{number!r} is no format of qtorch"
        if zero_clamped and not (forward_number is None or isinstance(forward_number, FixedPoint)):
            raise ValueError("zeroing clamped gradients goes with FixedPoint, expected it or None")
        self.forward_number, self.backward_number = forward_number, backward_number
        self.forward_rounding, self.backward_rounding = roundings
        self.zero_clamped, self.hooks = zero_clamped, hooks
        self._prepare()

    def _prepare(self) -> None:
        self.forward_rounds = _rounds(self.forward_number, self.forward_rounding)
        self.backward_rounds = _rounds(self.backward_number, self.backward_rounding)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if not key.endswith("_rounds")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    def clamp(self, ctx: Any, x: Tensor) -> Tensor:
        """Rounds, and keeps where that left the range: with one draw for both."""
        number = self.forward_number
        assert isinstance(number, FixedPoint)
        x, rounding = _checked(x), _mode(self.forward_rounding)
        if rounding.is_stochastic:
            rounding = rounding.with_randomness(drawn_seed())
        format = fixed_format(number.wl, number.fl, number.clamp, number.symmetric)
        if number.clamp:
            ctx.outside = clamped(x, format, rounding)
        return round_plain(x, format, rounding)

    def __call__(self, x: Tensor) -> Tensor:
        return hooked(Rounding_.apply(x, self), self.hooks)


def quantizer(
    forward_number: Number | None = None,
    backward_number: Number | None = None,
    forward_rounding: str = "stochastic",
    backward_rounding: str = "stochastic",
    clamping_grad_zero: bool = False,
    backward_hooks: Sequence[Hook] = (),
) -> Callable[[Tensor], Tensor]:
    """A function that rounds tensors to `forward_number`, and their gradients to `backward_number`; None leaves them as
    they are. With `clamping_grad_zero` the gradient is zero where the rounded number was out of the range of fixed point.
    Hooks are called with the gradient, in order, before it is rounded."""
    roundings = forward_rounding, backward_rounding
    return _Quantize(forward_number, backward_number, roundings, clamping_grad_zero, tuple(backward_hooks))
