"""What the layers of `tqt` have in common: thresholds, whether they train, and whether the layer quantizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from .number import qsigned

SUFFIX = "_log2_t"


class Quantized(nn.Module):
    """A layer whose tensors are rounded while `quant` is True, each on the grid of its threshold: of the tensor
    `weight` the threshold is `weight_log2_t` (its logarithm) and the width `weight_bit_width`.

    retrain: whether thresholds are parameters that train; otherwise they are buffers, which are saved, and which a
    state dict may lack, as those of `tqt` do.
    """

    retrain: bool
    quant: bool

    def init_thresholds(self, names: tuple[str, ...], retrain: bool, quant: bool, start: Tensor | None = None) -> None:
        """Makes the thresholds of tensors, each 2^0 unless `start` is given."""
        self.retrain, self.quant = bool(retrain), bool(quant)
        for name in names:
            value = torch.zeros(1) if start is None else start.detach().clone()
            if self.retrain:
                self.register_parameter(name + SUFFIX, nn.Parameter(value))
            else:
                self.register_buffer(name + SUFFIX, value)

    def thresholds(self) -> Iterator[Tensor]:
        """The thresholds of the layer itself."""
        for tensors in (self._parameters, self._buffers):
            yield from (tensor for name, tensor in tensors.items() if name.endswith(SUFFIX) and tensor is not None)

    def _set_training(self, trains: bool) -> None:
        for threshold in self.thresholds():
            if isinstance(threshold, nn.Parameter):
                threshold.requires_grad_(trains and self.retrain)

    def static(self) -> None:
        """Thresholds keep their values from now on."""
        self.retrain = False
        self._set_training(False)

    def quantilize(self) -> None:
        """Quantizes from now on; thresholds train, unless they are static."""
        self.quant = True
        self._set_training(True)

    def floatilize(self) -> None:
        """Computes in float from now on; thresholds do not train."""
        self.quant = False
        self._set_training(False)

    def quantized(self, name: str, tensor: Tensor | None) -> Tensor | None:
        """A tensor on the grid of its threshold, while the layer quantizes."""
        if tensor is None or not self.quant:
            return tensor
        return qsigned(tensor, getattr(self, name + SUFFIX), getattr(self, name + "_bit_width"))

    @torch.no_grad()
    def quant_answer(self) -> None:
        """Replaces weight and bias by the integers that they are rounded to: w 2^(b - 1 - ceil(log2_t))."""
        for name in ("weight", "bias"):
            parameter = getattr(self, name, None)
            if parameter is None or not hasattr(self, name + SUFFIX):
                continue
            log2_t, bits = getattr(self, name + SUFFIX), getattr(self, name + "_bit_width")
            parameter.copy_(torch.ldexp(qsigned(parameter, log2_t, bits), bits - 1 - torch.ceil(log2_t)))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, metadata: Any, strict: bool, missing: Any, *rest: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *rest)
        static = {prefix + name for name in self._buffers if name.endswith(SUFFIX)}
        missing[:] = [key for key in missing if key not in static]
