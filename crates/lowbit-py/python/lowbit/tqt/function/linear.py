"""`torch.nn.Linear` with a quantized weight and bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._quantized import Quantized


class Linear(Quantized, nn.Linear):
    """The linear layer of `torch.nn`, whose weight and bias are rounded while `quant` is True. The widths are those of
    `Conv2d`."""

    weight: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_bit_width: int = 8,
        bias_bit_width: int = 16,
        inter_bit_width: int = 32,
        retrain: bool = True,
        quant: bool = False,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight_bit_width, self.bias_bit_width = weight_bit_width, bias_bit_width
        self.inter_bit_width = inter_bit_width
        self.init_thresholds(("weight", "bias") if bias else ("weight",), retrain, quant)

    def forward(self, input: Tensor) -> Tensor:
        weight = self.quantized("weight", self.weight)
        assert weight is not None
        return F.linear(input, weight, self.quantized("bias", self.bias))


if __name__ == "__main__":
    print(Linear(3, 5)(torch.rand(3, 3)).shape)
