"""A convolution with its normalization, as the package had it before `fold`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...torch._layers import PaddingMode
from ._folding import folded, scale_and_offset, statistics
from .conv import Conv2d


class Conv2dBN(Conv2d):
    """Convolution and normalization, `bn`: y = bn(conv(x)). While `quant` is True weight and bias are rounded, with
    `fold` those of the one convolution that the two make."""

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
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        padding_mode: PaddingMode = "zeros",
        weight_bit_width: int = 8,
        bias_bit_width: int = 16,
        inter_bit_width: int = 32,
        retrain: bool = True,
        quant: bool = False,
        fold: bool = False,
    ) -> None:
        widths: dict[str, Any] = {"weight_bit_width": weight_bit_width, "bias_bit_width": bias_bit_width}
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, **widths,
            inter_bit_width=inter_bit_width, retrain=retrain, quant=quant,
        )
        self.fold = fold
        self.bn = torch.nn.BatchNorm2d(out_channels, eps, momentum, affine, track_running_stats)
        if not bias:
            # Folded there is one.
            self.init_thresholds(("bias",), retrain, quant)

    def make_fold(self, mode: bool = True) -> None:
        """Whether the two are quantized as one convolution."""
        self.fold = mode

    def forward(self, input: Tensor) -> Tensor:
        if not (self.quant and self.fold):
            return self.bn(self.conv_forward(input))
        mean, variance = statistics(self.bn, lambda: self._conv_forward(input, self.weight, self.bias))
        weight, bias = folded(self, *scale_and_offset(self.bn, mean, variance))
        weight = self.quantized("weight", weight)
        assert weight is not None
        return self._conv_forward(input, weight, self.quantized("bias", bias))


