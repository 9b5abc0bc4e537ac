"""Modules that quantize."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._lowbit import Format, Rounding
from ._functions import Hook, hooked, quantize_both, read, read_rounding
from ._ops import rounding_of


class Quantizer(nn.Module):
    """Rounds what passes, and the gradient on its way back: y = Q_f(x), dx = Q_b(h_n(..h_1(dy))).

    forward, backward: formats; None leaves numbers as they are.
    forward_rounding, backward_rounding: modes; stochastic ones draw call n from stream 2 n forward and 2 n + 1
    backward, of `seed` or the one that the mode names. `calls` counts; it is in the state dict if any rounding is
    stochastic, so that a resumed run goes on with the numbers that follow.
    zero_clamped: the gradient is 0 where rounding left the forward format's range: fixed point is rounded first,
    without its bounds, as QPyTorch does.
    hooks: functions of the gradient, applied in order before it is rounded.
    """

    calls: Tensor

    def __init__(
        self,
        forward: str | Format | None = None,
        backward: str | Format | None = None,
        forward_rounding: str | Rounding = "nearest-even",
        backward_rounding: str | Rounding = "nearest-even",
        *,
        zero_clamped: bool = False,
        hooks: Sequence[Hook] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        # Texts, which compiled programs can hold, and empty ones for none.
        self.formats = tuple("" if format is None else str(read(format)) for format in (forward, backward))
        self.roundings = read_rounding(forward_rounding, seed), read_rounding(backward_rounding, seed)
        if zero_clamped and forward is None:
            raise ValueError("zero_clamped goes with a forward format, which has a range to leave")
        self.zero_clamped, self.hooks = zero_clamped, tuple(hooks)
        self.is_stochastic = any(rounding_of(text).is_stochastic for text in self.roundings)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64), persistent=self.is_stochastic)

    def forward(self, x: Tensor) -> Tensor:
        stream = None
        if self.is_stochastic:
            stream = self.calls * 2
            self.calls.add_(1)
        return hooked(quantize_both(x, self.formats, self.roundings, self.zero_clamped, stream), self.hooks)

    def extra_repr(self) -> str:
        ways = zip(("forward", "backward"), self.formats, self.roundings)
        parts = [f"{name}={format}, {rounding}" for name, format, rounding in ways if format]
        return "; ".join(parts + ["zero_clamped"] * self.zero_clamped)


class QuantizeOutput:
    """A forward hook that quantizes a layer's output: a tensor, or the tensors of a tuple."""

    def __init__(self, quantizer: nn.Module) -> None:
        self.quantizer = quantizer

    def __call__(self, _module: nn.Module, _inputs: object, output: object) -> object:
        if isinstance(output, Tensor):
            return self.quantizer(output) if output.is_floating_point() else output
        if isinstance(output, tuple):
            return tuple(self(_module, _inputs, part) for part in output)
        return output


# Layers by the names that `lower` takes.
KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (
        nn.modules.conv._ConvNd,  # pyright: ignore[reportPrivateUsage]
        nn.Unfold,
        nn.Fold,
    ),
    "linear": (nn.Linear, nn.Bilinear),
    "embedding": (nn.Embedding, nn.EmbeddingBag),
    "pool": tuple(kind for name, kind in vars(nn).items() if "Pool" in name or "MaxUnpool" in name),
    "pad": tuple(kind for name, kind in vars(nn).items() if "Pad" in name),
    "activation": tuple(
        kind for name, kind in vars(nn.modules.activation).items() if name in nn.modules.activation.__all__ and name != "MultiheadAttention"
    ),
    "normalization": (
        nn.modules.batchnorm._NormBase,  # pyright: ignore[reportPrivateUsage]
        nn.GroupNorm,
        nn.LayerNorm,
        nn.LocalResponseNorm,
    ),
    "dropout": (nn.modules.dropout._DropoutNd,),  # pyright: ignore[reportPrivateUsage]
    "loss": (nn.modules.loss._Loss,),  # pyright: ignore[reportPrivateUsage]
    "attention": (nn.MultiheadAttention,),
    "recurrent": (nn.RNNBase, nn.RNNCellBase),
}


def lower(
    model: nn.Module,
    layers: Sequence[str | type[nn.Module]],
    forward: str | Format | None = None,
    backward: str | Format | None = None,
    forward_rounding: str | Rounding = "nearest-even",
    backward_rounding: str | Rounding = "nearest-even",
    *,
    seed: int = 0,
) -> dict[str, Quantizer]:
    """Quantizes the output of layers, and the gradient that comes back to it, in place.

    layers: kinds ("conv", "linear", "embedding", "pool", "pad", "activation", "normalization", "dropout", "loss",
    "attention", "recurrent"), classes, whose subclasses count, or paths such as "encoder.0.fc".
    seed: layer i draws from seed + i.

    Gives the quantizers by the layers' paths. Parameters keep their paths, and the model can be copied, pickled and
    compiled. ValueError for a kind or path that there is not.
    """
    paths = {path for path, _ in model.named_modules()}
    for layer in layers:
        if isinstance(layer, str) and layer not in KINDS and layer not in paths:
            raise ValueError(f"layer {layer!r} is not known, expected one of {', '.join(KINDS)}, a class or a path")
    classes = tuple(c for layer in layers for c in (KINDS.get(layer, ()) if isinstance(layer, str) else (layer,)))
    quantizers: dict[str, Quantizer] = {}
    for path, module in model.named_modules():
        if path in layers or isinstance(module, classes):
            quantizer = Quantizer(forward, backward, forward_rounding, backward_rounding, seed=seed + len(quantizers))
            module.register_forward_hook(QuantizeOutput(quantizer))
            quantizers[path] = quantizer
    return quantizers
