"""How far rounding turns parameters."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..function import qsigned


def cosine_similarity(
    net: nn.Module, qnet: nn.Module, wba: Sequence[int] = (8, 16, 8), show: bool = False
) -> list[tuple[str, float]]:
    """The cosine of each parameter of a network and of the same one of another, rounded by its threshold there to
    wba[0] bits if it is a weight and wba[1] if it is a bias. Parameters without a threshold are left out."""
    theirs = {**dict(qnet.named_parameters()), **dict(qnet.named_buffers())}
    cosines: list[tuple[str, float]] = []
    for name, parameter in net.named_parameters():
        if "log2" in name or f"{name}_log2_t" not in theirs or name not in theirs:
            continue
        bits = wba[0] if name.endswith("weight") else wba[1]
        rounded = qsigned(theirs[name].detach(), theirs[f"{name}_log2_t"].detach(), bits)
        ours, rounded = parameter.detach().double().flatten(), rounded.double().flatten()
        cosine = float(ours.dot(rounded) / (ours.norm() * rounded.norm()).clamp(min=1e-30))
        cosines.append((name, cosine))
        if show:
            print(f"layer {name} get cosine of {cosine}")
    return cosines
