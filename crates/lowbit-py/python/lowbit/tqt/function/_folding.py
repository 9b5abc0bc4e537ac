"""A convolution and the normalization behind it as one convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .batchnorm import uses_batch


def statistics(norm: nn.BatchNorm2d, result: Callable[[], Tensor], frozen: bool = False) -> tuple[Tensor, Tensor]:
    """The mean and the variance, `[channels]` each, that a normalization takes now: the running ones, or those of the
    batch that `result` gives, of which it keeps account."""
    if norm.running_mean is not None and (frozen or not uses_batch(norm)):
        assert norm.running_var is not None
        return norm.running_mean, norm.running_var
    x = result()
    variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    if norm.training and norm.running_mean is not None and norm.running_var is not None:
        count = x.numel() // x.shape[1]
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked or 1) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach().to(norm.running_mean), momentum)
        unbiased = variance.detach() * (count / max(count - 1, 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var), momentum)
    return mean, variance


def scale_and_offset(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """What a normalization does to each channel: x scale + offset, with scale = gamma / sqrt(variance + eps) and
    offset = beta - mean scale."""
    scale = torch.rsqrt(variance + norm.eps)
    if norm.affine:
        scale = norm.weight * scale
    offset = -mean * scale
    return scale, norm.bias + offset if norm.affine else offset


def folded(conv: nn.Conv2d, scale: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one convolution: w scale, and b scale + offset."""
    bias = offset if conv.bias is None else conv.bias * scale + offset
    return conv.weight * scale.reshape(-1, 1, 1, 1), bias
