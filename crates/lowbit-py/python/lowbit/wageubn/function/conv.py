"""`torch.nn.Conv2d` on words of a few bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...torch._layers import PaddingMode
from ._words import Words


class Conv2d(Words, nn.Conv2d):
    """The convolution of `torch.nn` with rounded weight and bias, and with `iostrict` rounded input and output."""

    weight: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
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
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.set_widths(
            iostrict,
            weight=(weight_dec_bit_width, weight_all_bit_width),
            bias=(bias_dec_bit_width, bias_all_bit_width),
            input=(input_dec_bit_width, input_all_bit_width),
            output=(output_dec_bit_width, output_all_bit_width),
        )

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.quantized("weight", self.weight), self.quantized_bias(self.bias)
        return self.strict("output", self._conv_forward(self.strict("input", input), weight, bias))


if __name__ == "__main__":
    print(Conv2d(3, 6, 3)(torch.rand(4, 3, 5, 5)).shape)
