"""A convolution and its normalization, quantized as the one convolution that they make."""

from __future__ import annotations

from torch import Tensor, nn

from ..function._folding import folded
from .foldmodule import _FoldModule


class _Convolution(_FoldModule):
    """Weight w gamma / sqrt(variance + eps) and bias (b - mean) gamma / sqrt(variance + eps) + beta, each rounded while
    `quant` is True; in float the convolution and the normalization as they are."""

    weight_log2_t: Tensor
    bias_log2_t: Tensor

    def __init__(self, conv: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        if not isinstance(conv, nn.Conv2d) or not isinstance(bn, nn.BatchNorm2d):
            kinds = f"{type(conv).__name__} and {type(bn).__name__}"
            raise TypeError(f"the modules are {kinds}, expected a Conv2d and a BatchNorm2d")
        self.conv, self.bn = conv, bn
        self.weight_bit_width = getattr(conv, "weight_bit_width", 8)
        self.bias_bit_width = getattr(bn, "bias_bit_width", 16)
        self.start_threshold("weight", self.weight, conv)
        self.start_threshold("bias", self.bias, conv)

    @property
    def weight(self) -> Tensor:
        """The weight of the one convolution, by the running statistics."""
        return folded(self.conv, *self.running())[0]

    @property
    def bias(self) -> Tensor:
        """The bias of the one convolution, by the running statistics."""
        return folded(self.conv, *self.running())[1]

    def _convolution(self, input: Tensor) -> Tensor:
        conv = self.conv
        if not self.quant:
            return self.normalized(conv._conv_forward(input, conv.weight, conv.bias))
        if self.is_live():
            scale, offset = self.live(conv._conv_forward(input, conv.weight, conv.bias))
        else:
            scale, offset = self.running()
        weight, bias = folded(conv, scale, offset)
        weight = self.quantized("weight", weight)
        assert weight is not None
        return conv._conv_forward(input, weight, self.quantized("bias", bias))


class Conv2dBN(_Convolution):
    """`conv` and `bn` as one convolution."""

    def forward(self, input: Tensor) -> Tensor:
        return self._convolution(input)
