"""The functions of QPyTorch's extension module for CUDA, whose tensors visit the CPU to be rounded."""

from __future__ import annotations

from torch import Tensor

from .quant_cpu import *  # noqa: F403
from .quant_cpu import block_quantize_nearest, block_quantize_stochastic, posit_quantize_nearest


def block_quantize_sim_nearest(a: Tensor, wl: int) -> Tensor:
    return block_quantize_nearest(a, wl, -1)


def block_quantize_sim_stochastic(a: Tensor, wl: int) -> Tensor:
    return block_quantize_stochastic(a, wl, -1)


posit_quantize_stochastic = posit_quantize_nearest
