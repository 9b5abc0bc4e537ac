"""A shift convolution, an adder and their normalization."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..function.adder import Adder2d
from ..function.extra import SEConv2d, adder2d_function
from .foldmodule import _FoldModule


def isShiftAdder(module: object) -> bool:
    """Whether a module is a sequence of a shift convolution and a quantized adder, and nothing else."""
    if not isinstance(module, nn.Sequential) or len(module) != 2:
        return False
    return isinstance(module[0], SEConv2d) and isinstance(module[1], Adder2d)


class _ShiftAdder(_FoldModule):
    """`shift`, `adder` and `bn`. While `quant` is True the adder's weight is rounded, and so are the scale gamma /
    sqrt(variance + eps) of the normalization and its offset beta - mean scale. The adder's threshold is its own,
    `adder.weight_log2_t`."""

    bn_weight_log2_t: Tensor
    bn_bias_log2_t: Tensor

    def __init__(self, shiftadder: nn.Module, bn: nn.Module) -> None:
        super().__init__()
        if not isShiftAdder(shiftadder) or not isinstance(bn, nn.BatchNorm2d):
            kinds = f"{type(shiftadder).__name__} and {type(bn).__name__}"
            raise TypeError(f"the modules are {kinds}, expected a Sequential of SEConv2d and Adder2d, and a BatchNorm2d")
        parts: Any = shiftadder
        self.shift: SEConv2d = parts[0]
        self.adder: Adder2d = parts[1]
        self.bn = bn
        self.adder_weight_bit_width = self.adder.weight_bit_width
        self.bn_weight_bit_width = getattr(bn, "weight_bit_width", 8)
        self.bn_bias_bit_width = getattr(bn, "bias_bit_width", 16)
        scale, offset = self.running()
        self.start_threshold("bn_weight", scale, self.adder)
        self.start_threshold("bn_bias", offset, self.adder)

    @property
    def adder_weight_log2_t(self) -> Tensor:
        """The threshold of the adder's weight."""
        return self.adder.weight_log2_t

    @property
    def weight_bit_width(self) -> int:
        """The width of the adder's weight and of the scale, which are set together."""
        return self.adder_weight_bit_width

    @weight_bit_width.setter
    def weight_bit_width(self, bits: int) -> None:
        self.adder_weight_bit_width = self.bn_weight_bit_width = bits

    @property
    def bias_bit_width(self) -> int:
        """The width of the offset."""
        return self.bn_bias_bit_width

    @bias_bit_width.setter
    def bias_bit_width(self, bits: int) -> None:
        self.bn_bias_bit_width = bits

    def quantilize(self) -> None:
        super().quantilize()
        self.adder.quantilize()

    def floatilize(self) -> None:
        super().floatilize()
        self.adder.floatilize()

    def static(self) -> None:
        super().static()
        self.adder.static()

    def _sums(self, input: Tensor) -> Tensor:
        adder = self.adder
        adder.weight_bit_width = self.adder_weight_bit_width
        weight = adder.quantized("weight", adder.weight)
        assert weight is not None
        bias = adder.quantized("bias", adder.bias)
        x = adder2d_function(self.shift(input), weight, adder.stride, adder.padding, bias)
        scale, offset = self.live(x)
        scale, offset = self.quantized("bn_weight", scale), self.quantized("bn_bias", offset)
        assert scale is not None and offset is not None
        return x * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)


class SA2dBN(_ShiftAdder):
    """`shift`, `adder` and `bn`."""

    def forward(self, input: Tensor) -> Tensor:
        return self._sums(input)
