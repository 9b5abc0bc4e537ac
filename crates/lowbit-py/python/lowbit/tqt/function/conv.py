"""`torch.nn.Conv2d` with a quantized weight and bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...torch._layers import PaddingMode
from ._quantized import Quantized


class Conv2d(Quantized, nn.Conv2d):
    """The convolution of `torch.nn`, whose weight and bias are rounded while `quant` is True.

    weight_bit_width, bias_bit_width: 1 to 32. inter_bit_width: kept for programs that name it; without the step of the
    input there is none for sums, which are in float, as in `tqt`.
    """

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
        weight_bit_width: int = 8,
        bias_bit_width: int = 16,
        inter_bit_width: int = 32,
        retrain: bool = True,
        quant: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode)
        self.weight_bit_width, self.bias_bit_width = weight_bit_width, bias_bit_width
        self.inter_bit_width = inter_bit_width
        self.init_thresholds(("weight", "bias") if bias else ("weight",), retrain, quant)

    def conv_forward(self, input: Tensor) -> Tensor:
        """The convolution as it is now, quantized or not."""
        weight = self.quantized("weight", self.weight)
        assert weight is not None
        return self._conv_forward(input, weight, self.quantized("bias", self.bias))

    def forward(self, input: Tensor) -> Tensor:
        return self.conv_forward(input)


if __name__ == "__main__":
    print(Conv2d(3, 6, 3)(torch.rand(4, 3, 5, 5)).shape)
