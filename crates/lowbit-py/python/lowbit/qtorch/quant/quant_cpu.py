"""The functions of QPyTorch's extension module, for scripts that call it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...torch._ops import clamped, round_plain, rounding_of
from . import quant_function as functions


def fixed_point_quantize_nearest(a: Tensor, wl: int, fl: int, use_clamp: bool, symmetric: bool) -> Tensor:
    return functions.fixed_point_quantize(a, wl, fl, use_clamp, symmetric, "nearest")


def fixed_point_quantize_stochastic(a: Tensor, wl: int, fl: int, use_clamp: bool, symmetric: bool) -> Tensor:
    return functions.fixed_point_quantize(a, wl, fl, use_clamp, symmetric, "stochastic")


def _masked(a: Tensor, wl: int, fl: int, symmetric: bool, text: str) -> tuple[Tensor, Tensor]:
    format = functions.fixed_format(wl, fl, True, symmetric)
    rounding = rounding_of(text)
    if rounding.is_stochastic:
        rounding = rounding.with_randomness(functions.drawn_seed())
    a = a.detach().contiguous()
    return round_plain(a, format, rounding), clamped(a, format, rounding).to(torch.uint8)


def fixed_point_quantize_nearest_mask(a: Tensor, wl: int, fl: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    return _masked(a, wl, fl, symmetric, "nearest-even")


def fixed_point_quantize_stochastic_mask(a: Tensor, wl: int, fl: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    return _masked(a, wl, fl, symmetric, "stochastic")


def block_quantize_nearest(a: Tensor, wl: int, dim: int) -> Tensor:
    return functions.block_quantize(a, wl, dim, "nearest")


def block_quantize_stochastic(a: Tensor, wl: int, dim: int) -> Tensor:
    return functions.block_quantize(a, wl, dim, "stochastic")


def float_quantize_nearest(a: Tensor, man: int, exp: int) -> Tensor:
    return functions.float_quantize(a, exp, man, "nearest")


def float_quantize_stochastic(a: Tensor, man: int, exp: int) -> Tensor:
    return functions.float_quantize(a, exp, man, "stochastic")


def posit_quantize_nearest(a: Tensor, nsize: int, es: int, scale: float) -> Tensor:
    return functions.posit_quantize(a, nsize, es, scale)


def bfloat16_posit8_quantize_nearest(a: Tensor, nsize: int, es: int, scale: float) -> Tensor:
    return functions.bfloat16_posit8_quantize(a, nsize, es, scale)


def convert_from_float_to_posit(a: Tensor, nsize: int, es: int, scale: float) -> Tensor:
    return functions.convert_to_posit(a, nsize, es, scale)


posit_sigmoid = functions.posit_sigmoid
posit_tanh = functions.posit_tanh
posit_tanh_enhanced = functions.posit_tanh_enhanced
new_format_quantize = functions.new_format_quantize
act_format_quantize = functions.act_format_quantize
configurable_table_quantize = functions.configurable_table_quantize
configurable_table_quantize_rounding_hint = functions.configurable_table_quantize_rounding_hint
