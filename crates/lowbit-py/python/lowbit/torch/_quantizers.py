"""Quantizers as modules, for the weights and inputs of layers: TQT, LSQ, PACT and DoReFa-Net.

What they learn has the names that `lowbit train --from FILE.pt` reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from ._learned import (
    check_bits,
    check_choice,
    dorefa_activation,
    dorefa_weight,
    learned_clip,
    learned_step,
    trained_threshold,
)

# Slots of a layer whose tensors are parameters.
PARAMETERS = ("weight", "bias")


class Observed:
    """What a quantizer saw in `calibrate`: by channel, the largest magnitude and the sum of all; the least number."""

    def __init__(self) -> None:
        self.largest: Tensor | None = None
        self.total: Tensor | None = None
        self.count = 0
        self.least = math.inf

    def add(self, x: Tensor, channels: int) -> None:
        """Takes the numbers of a tensor, by the indices of its first axis if there are several channels."""
        if x.numel() == 0:
            return
        numbers = x.detach().reshape(channels, -1).abs().float()
        largest, total = numbers.amax(1), numbers.sum(1, dtype=torch.float64)
        self.largest = largest if self.largest is None else torch.maximum(self.largest, largest)
        self.total = total if self.total is None else self.total + total
        self.count += numbers.shape[1]
        self.least = min(self.least, float(x.detach().min()))

    def largest_of_each(self) -> Tensor:
        """The largest magnitudes; a channel of zeros has that of the tensor, and a tensor of zeros 1."""
        assert self.largest is not None
        whole = self.largest.max()
        return torch.where(self.largest > 0.0, self.largest, torch.where(whole > 0.0, whole, 1.0))

    def means(self) -> Tensor:
        """The mean magnitudes."""
        assert self.total is not None
        return (self.total / self.count).float()

    def refused(self) -> str | None:
        """Why a quantizer cannot start from this."""
        if self.largest is None:
            return "saw no number, expected a forward pass of its layer"
        return None if bool(self.largest.isfinite().all()) else "saw a NaN or an infinity, expected finite numbers"


class LearnedQuantizer(nn.Module):
    """What quantizers have in common.

    enabled: whether it quantizes; otherwise it hands on what comes.
    """

    # What records call it: `conv1.quantizers.weight.TrainedThreshold.log2_threshold`.
    kind: ClassVar[str]
    # The slots of a layer that it is for.
    slots: ClassVar[tuple[str, ...]] = ("weight", "bias", "input", "output")
    # The widths that it takes.
    widths: ClassVar[range]

    def __init__(self, bits: int) -> None:
        super().__init__()
        check_bits(bits, self.widths)
        self.bits = bits
        self.enabled = True
        self.is_parameter = False
        self.observed: Observed | None = None

    def attach(self, slot: str, channels: int | None = None) -> None:
        """Makes it the quantizer of a layer's slot, whose tensor has so many channels, if it is a weight.

        ValueError for a slot that the method is not for.
        """
        if slot not in self.slots:
            expected = ", ".join(self.slots)
            raise ValueError(f"{type(self).__name__} is no quantizer of {slot}, expected one of {expected}")
        self.is_parameter = slot in PARAMETERS

    def forward(self, x: Tensor) -> Tensor:
        if self.observed is not None:
            self.observed.add(x, self.channels)
            return x
        return self.quantized(x) if self.enabled else x

    def quantized(self, x: Tensor) -> Tensor:
        """`x` rounded."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """How many thresholds, steps or clips there are."""
        return 1

    @property
    def learns(self) -> bool:
        """Whether there is something that calibration sets."""
        return any(True for _ in self.parameters())

    def start_from(self, *tensors: Tensor) -> None:
        """Sets what is learned from numbers, as calibration does; ValueError if none of them or not all are finite."""
        seen = Observed()
        for tensor in tensors:
            seen.add(tensor, self.channels)
        refused = seen.refused()
        if refused is not None:
            raise ValueError(f"{type(self).__name__} {refused}")
        self.start(seen)

    @torch.no_grad()
    def start(self, seen: Observed) -> None:
        """Sets what is learned from what was seen."""

    def _is_signed(self, seen: Observed) -> bool:
        return self.is_parameter or seen.least < 0.0

    def extra_repr(self) -> str:
        return f"bits={self.bits}" + (", enabled=False" if not self.enabled else "")


class _Uniform(LearnedQuantizer):
    """Integers of a width, signed or not, times a step for the tensor or for each channel of a weight."""

    signed: Tensor

    def __init__(self, bits: int, learned: str, start: float, per_channel: bool, retrain: bool) -> None:
        super().__init__(bits)
        self.per_channel, self._learned = per_channel, learned
        self.register_parameter(learned, nn.Parameter(torch.full((1,), start), requires_grad=retrain))
        self.register_buffer("signed", torch.ones(1))

    def attach(self, slot: str, channels: int | None = None) -> None:
        super().attach(slot, channels)
        if not self.per_channel:
            return
        if slot != "weight" or channels is None:
            raise ValueError(f"per_channel is for a weight, not for {slot}")
        learned = self.get_parameter(self._learned)
        if learned.numel() != channels:
            spread = learned.detach().max().repeat(channels)
            setattr(self, self._learned, nn.Parameter(spread, requires_grad=learned.requires_grad))

    @property
    def channels(self) -> int:
        return self.get_parameter(self._learned).numel()


class TQT(_Uniform):
    """A step that is a power of two, of a threshold whose logarithm is trained; see `trained_threshold` for the
    formulas.

    Calibration starts the threshold from the largest magnitude. A weight's integers are signed, an activation's where
    calibration saw a negative number; until then all are.

    bits: 2 to 24. per_channel: a threshold for each output channel of a weight. retrain: whether it trains.
    """

    kind = "TrainedThreshold"
    widths = range(2, 25)
    log2_threshold: Tensor

    def __init__(self, bits: int, *, per_channel: bool = False, retrain: bool = True) -> None:
        super().__init__(bits, "log2_threshold", 0.0, per_channel, retrain)

    def quantized(self, x: Tensor) -> Tensor:
        return trained_threshold(x, self.log2_threshold, self.bits, self.signed)

    @torch.no_grad()
    def start(self, seen: Observed) -> None:
        self.log2_threshold.copy_(seen.largest_of_each().log2())
        self.signed.fill_(float(self._is_signed(seen)))


class LSQ(_Uniform):
    """A step that is learned; see `learned_step` for the formulas. Its gradient is scaled by 1 / sqrt(N Q_p), with N
    the numbers of a weight, of its channel, or of one sample of an activation.

    Calibration starts the step from 2 mean |x| / sqrt(Q_p) (arXiv 1902.08153, section 2.1). Signs are as of `TQT`.

    bits: 2 to 16. per_channel: a step for each output channel of a weight. retrain: whether it trains.
    """

    kind = "Lsq"
    widths = range(2, 17)
    step: Tensor

    def __init__(self, bits: int, *, per_channel: bool = False, retrain: bool = True) -> None:
        super().__init__(bits, "step", 1.0, per_channel, retrain)

    def quantized(self, x: Tensor) -> Tensor:
        numbers = x.numel() if self.is_parameter or x.dim() == 0 else x[:1].numel()
        scale = (numbers / self.step.numel() * self._greatest()).rsqrt()
        return learned_step(x, self.step, self.bits, self.signed, scale)

    def _greatest(self) -> Tensor:
        """Q_p."""
        return 2.0**self.bits - 1.0 - 2.0 ** (self.bits - 1) * self.signed

    @torch.no_grad()
    def start(self, seen: Observed) -> None:
        self.signed.fill_(float(self._is_signed(seen)))
        steps = 2.0 * seen.means() / self._greatest().sqrt()
        self.step.copy_(torch.where(steps > 0.0, steps, 1.0))


class PACT(LearnedQuantizer):
    """Activations between 0 and a value that is learned; see `learned_clip` for the formulas.

    Calibration starts the clip from the largest magnitude; until then it is 1. The paper starts it from a value such as
    10, and lets weight decay bring it down.

    bits: 1 to 16. retrain: whether the clip trains.
    """

    kind = "Pact"
    slots = ("input", "output")
    widths = range(1, 17)

    def __init__(self, bits: int, *, clip: float = 1.0, retrain: bool = True) -> None:
        super().__init__(bits)
        self.clip = nn.Parameter(torch.full((1,), float(clip)), requires_grad=retrain)

    def quantized(self, x: Tensor) -> Tensor:
        return learned_clip(x, self.clip, self.bits)

    @torch.no_grad()
    def start(self, seen: Observed) -> None:
        self.clip.copy_(seen.largest_of_each())


class DoReFaWeight(LearnedQuantizer):
    """Weights through a hyperbolic tangent; see `dorefa_weight` for the formulas and the options. Learns nothing.

    bits: 1 to 24.
    """

    kind = "DorefaWeight"
    slots = ("weight",)
    widths = range(1, 25)

    def __init__(self, bits: int, *, scale: str = "one", maximum: str = "differentiated") -> None:
        super().__init__(bits)
        check_choice("scale", scale, ("one", "maximum"))
        check_choice("maximum", maximum, ("differentiated", "constant"))
        self.scale, self.maximum = scale, maximum

    def quantized(self, x: Tensor) -> Tensor:
        return dorefa_weight(x, self.bits, self.scale, self.maximum)


class DoReFaActivation(LearnedQuantizer):
    """Activations clipped to the unit interval; see `dorefa_activation`. Learns nothing.

    bits: 1 to 16.
    """

    kind = "DorefaActivation"
    slots = ("input", "output")
    widths = range(1, 17)

    def quantized(self, x: Tensor) -> Tensor:
        return dorefa_activation(x, self.bits)


@contextmanager
def calibrate(model: nn.Module) -> Iterator[None]:
    """In this context forward passes are those of the float network, and quantizers look on; in the end they start what
    they learn from what they saw.

        with lt.calibrate(model):
            model(images)

    Inside, the model is in evaluation and nothing is recorded for gradients. ValueError in the end if a quantizer saw
    no number, or one that is not finite, with its path; then nothing has been set.
    """
    quantizers = {path: module for path, module in model.named_modules() if isinstance(module, LearnedQuantizer)}
    trains = {module: module.training for module in model.modules()}
    for quantizer in quantizers.values():
        quantizer.observed = Observed()
    model.eval()
    try:
        with torch.no_grad():
            yield
        seen = {path: quantizer.observed for path, quantizer in quantizers.items()}
    finally:
        for quantizer in quantizers.values():
            quantizer.observed = None
        for module, training in trains.items():
            module.training = training
    chosen = {path: what for path, what in seen.items() if what is not None and quantizers[path].learns}
    for path, what in chosen.items():
        refused = what.refused()
        if refused is not None:
            raise ValueError(f"{path} {refused}")
    for path, what in chosen.items():
        quantizers[path].start(what)
