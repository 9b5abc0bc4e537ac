"""`torch.nn.Linear` on words of a few bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._words import Words


class Linear(Words, nn.Linear):
    """The linear layer of `torch.nn` with rounded weight and bias, and with `iostrict` rounded input and output."""

    weight: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
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
        super().__init__(in_features, out_features, bias)
        self.set_widths(
            iostrict,
            weight=(weight_dec_bit_width, weight_all_bit_width),
            bias=(bias_dec_bit_width, bias_all_bit_width),
            input=(input_dec_bit_width, input_all_bit_width),
            output=(output_dec_bit_width, output_all_bit_width),
        )

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.quantized("weight", self.weight), self.quantized_bias(self.bias)
        return self.strict("output", F.linear(self.strict("input", input), weight, bias))


if __name__ == "__main__":
    print(Linear(3, 5)(torch.rand(3, 3)).shape)
