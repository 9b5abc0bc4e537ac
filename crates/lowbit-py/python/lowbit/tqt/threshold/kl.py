"""Thresholds of the least divergence of the numbers from what integers make of them (Migacz, "8-bit Inference with
TensorRT", 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._set import numbers_of, set_threshold

SMALLEST = 1e-12

Divergence = Callable[[Tensor, Tensor], Tensor]


def kl_divergence(ha: Tensor, hb: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of two distributions, the sum of a log(a / b); a zero in `hb` counts as 1e-12."""
    return (torch.xlogy(ha, ha) - ha * hb.clamp(min=SMALLEST).log()).sum()


def j_divergence(ha: Tensor, hb: Tensor) -> Tensor:
    """The symmetric divergence, that of a from b and that of b from a."""
    return kl_divergence(ha, hb) + kl_divergence(hb, ha)


def quantize_bins_and_expand(dist: Tensor, quant_bins: int) -> Tensor:
    """What a histogram is where its bins are merged into `quant_bins`, whose counts are spread evenly over those of its
    bins that are not empty. The last one has what is left over."""
    width = dist.numel() // quant_bins
    groups = torch.arange(dist.numel(), device=dist.device).div(width, rounding_mode="floor").clamp(max=quant_bins - 1)
    full = (dist != 0).to(dist.dtype)
    zeros = torch.zeros(quant_bins, dtype=dist.dtype, device=dist.device)
    counts, bins = zeros.index_add(0, groups, dist), zeros.index_add(0, groups, full)
    return (counts / bins.clamp(min=1.0))[groups] * full


def _best_end(dist: Tensor, cali_number: int, divergence: Divergence) -> int:
    """How many bins the clipped histogram keeps that is nearest to its own `cali_number` integers."""
    beyond = dist.flip(0).cumsum(0).flip(0)
    beyond = F.pad(beyond, (0, 1))
    best, least = dist.numel(), float("inf")
    for end in range(cali_number, dist.numel() + 1):
        reference = dist[:end].clone()
        candidate = quantize_bins_and_expand(reference, cali_number)
        total = candidate.sum()
        if total == 0.0:
            continue
        reference[-1] += beyond[end]
        found = float(divergence(reference / reference.sum(), candidate / total))
        if found < least:
            best, least = end, found
    return best


def entropy_calibration(
    model: nn.Module,
    qmodel: nn.Module,
    bin_number: int = 2048,
    cali_number: int = 128,
    eps: float = 1e-12,
    divergence: Divergence = kl_divergence,
) -> None:
    """Sets the threshold of `qmodel` from the result that a hook kept of `model`: of a histogram of `bin_number` bins
    of the magnitudes, the end behind which they are clipped, at `cali_number` bins or later, with the least divergence
    of `cali_number` integers from what they stand for. Zeros, which every threshold leaves zeros, do not count.
    ValueError for fewer bins than integers."""
    if not 1 <= cali_number <= bin_number:
        raise ValueError(f"cali_number is {cali_number}, expected 1 to bin_number, {bin_number}")
    magnitudes = numbers_of(model, "hook_out").abs().flatten().float()
    if not bool(magnitudes.isfinite().all()):
        raise ValueError(f"{type(model).__name__} handed on a NaN or an infinity, expected finite numbers")
    largest = float(magnitudes.max())
    if largest == 0.0:
        return set_threshold(qmodel, "acti", 0.0, eps)
    dist = torch.histc(magnitudes[magnitudes > 0.0], bin_number, 0.0, largest)
    end = min(_best_end(dist, cali_number, divergence) + 0.5, bin_number)
    return set_threshold(qmodel, "acti", end * largest / bin_number, eps)
