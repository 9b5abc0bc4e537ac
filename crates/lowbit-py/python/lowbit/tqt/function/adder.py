"""AdderNet's layer with a quantized weight."""

from __future__ import annotations

import torch
from torch import Tensor

from . import extra
from ._quantized import Quantized


class Adder2d(Quantized, extra.Adder2d):
    """`extra.Adder2d`, whose weight and bias are rounded while `quant` is True.

    acti_bit_width, inter_bit_width: kept for programs that name them, as is the threshold `acti_log2_t`; the result is
    in float, as in `tqt`.
    """

    weight_log2_t: Tensor

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        kernel_size: extra.adder.Pair,
        stride: extra.adder.Pair = 1,
        padding: extra.adder.Pair = 0,
        bias: bool = False,
        weight_bit_width: int = 8,
        inter_bit_width: int = 32,
        acti_bit_width: int = 8,
        retrain: bool = True,
        quant: bool = False,
        bias_bit_width: int = 16,
    ) -> None:
        super().__init__(input_channel, output_channel, kernel_size, stride, padding, bias)
        self.weight_bit_width, self.bias_bit_width = weight_bit_width, bias_bit_width
        self.inter_bit_width, self.acti_bit_width = inter_bit_width, acti_bit_width
        self.init_thresholds(("weight", "bias", "acti") if bias else ("weight", "acti"), retrain, quant)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.quantized("weight", self.weight)
        assert weight is not None
        return extra.adder2d_function(x, weight, self.stride, self.padding, self.quantized("bias", self.bias))


if __name__ == "__main__":
    print(Adder2d(3, 4, 3, bias=True)(torch.rand(10, 3, 10, 10)).shape)
