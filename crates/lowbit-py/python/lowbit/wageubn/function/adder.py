"""AdderNet's layer on words of a few bits."""

from __future__ import annotations

import torch
from torch import Tensor

from . import extra
from ._words import Words
from .extra.adder import Pair


class Adder2d(Words, extra.Adder2d):
    """`extra.Adder2d` with rounded weight and bias, and with `iostrict` rounded input and output."""

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        bias: bool = False,
        weight_dec_bit_width: int = 8,
        bias_dec_bit_width: int = 16,
        input_dec_bit_width: int = 8,
        output_dec_bit_width: int = 12,
        weight_all_bit_width: int = 8,
        bias_all_bit_width: int = 16,
        input_all_bit_width: int = 8,
        output_all_bit_width: int = 12,
        iostrict: bool = False,
    ) -> None:
        super().__init__(input_channel, output_channel, kernel_size, stride, padding, bias)
        self.set_widths(
            iostrict,
            weight=(weight_dec_bit_width, weight_all_bit_width),
            bias=(bias_dec_bit_width, bias_all_bit_width),
            input=(input_dec_bit_width, input_all_bit_width),
            output=(output_dec_bit_width, output_all_bit_width),
        )

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.quantized("weight", self.weight), self.quantized_bias(self.bias)
        output = extra.adder2d_function(self.strict("input", x), weight, bias, self.stride, self.padding)
        return self.strict("output", output)


if __name__ == "__main__":
    print(Adder2d(3, 4, 3, bias=True)(torch.rand(10, 3, 10, 10)).shape)
