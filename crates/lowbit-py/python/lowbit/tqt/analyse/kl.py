"""How far apart the results of the modules of two networks are distributed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..threshold.hook import END_LIST, add_hook, get_hook, hook_handler, remove_hook, remove_hookout
from ..threshold.kl import kl_divergence

BINS = 2048


def _distributions(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Histograms over the range of both, which sum to 1."""
    a, b = a.detach().flatten().float(), b.detach().flatten().float()
    low, high = float(torch.minimum(a.min(), b.min())), float(torch.maximum(a.max(), b.max()))
    if low == high:
        high = low + 1.0
    counts = [torch.histc(x, BINS, low, high) for x in (a, b)]
    return counts[0] / counts[0].sum(), counts[1] / counts[1].sum()


def kl_similarity(
    net: nn.Module,
    qnet: nn.Module,
    cali_batch: Any,
    end_list: Iterable[type[nn.Module]] = END_LIST,
    show: bool = True,
) -> list[tuple[str, float]]:
    """The divergence of the results of each module of `qnet` from those of the same module of `net`, for a batch: of
    histograms of 2048 bins. Both networks are left without hooks of this function."""
    classes = tuple(end_list)
    kept: list[dict[str, Any]] = []
    for network in (net, qnet):
        handles = add_hook(network, "", hook_handler, classes)
        with torch.no_grad():
            network(cali_batch)
        kept.append(dict(get_hook(network, "")))
        remove_hook(handles)
        remove_hookout(network, "")
    divergences: list[tuple[str, float]] = []
    for name in kept[0]:
        if name in kept[1]:
            divergence = float(kl_divergence(*_distributions(kept[0][name], kept[1][name])))
            divergences.append((name, divergence))
            if show:
                print(f"kl at {name} is {divergence}")
    return divergences
