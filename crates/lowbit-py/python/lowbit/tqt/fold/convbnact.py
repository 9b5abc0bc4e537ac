"""A convolution, its normalization and its rectifier."""

from __future__ import annotations

from torch import Tensor, nn

from .convbn import _Convolution


class Conv2dBNReLU(_Convolution):
    """`conv`, `bn` and `relu`; the result is rounded to integers without a sign while `quant` is True."""

    def __init__(self, conv: nn.Module, bn: nn.Module, relu: nn.Module) -> None:
        super().__init__(conv, bn)
        self.set_relu(relu)

    def forward(self, input: Tensor) -> Tensor:
        return self.rectified(self._convolution(input))
