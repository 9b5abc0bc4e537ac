"""A shift convolution, an adder, their normalization and their rectifier."""

from __future__ import annotations

from torch import Tensor, nn

from .sabn import _ShiftAdder


class SA2dBNReLU(_ShiftAdder):
    """`shift`, `adder`, `bn` and `relu`; the result is rounded to integers without a sign while `quant` is True."""

    def __init__(self, shiftadder: nn.Module, bn: nn.Module, relu: nn.Module) -> None:
        super().__init__(shiftadder, bn)
        self.set_relu(relu)

    def forward(self, input: Tensor) -> Tensor:
        return self.rectified(self._sums(input))
