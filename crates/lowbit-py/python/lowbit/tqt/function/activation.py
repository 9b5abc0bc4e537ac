"""`torch.nn.ReLU` and `torch.nn.ReLU6` with a quantized result."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._quantized import Quantized
from .number import qunsigned


class _Rectifier(Quantized):
    """What both have in common: they come before a rectifier of `torch.nn`, whose result they round."""

    acti_log2_t: Tensor

    def __init__(
        self, inplace: bool = False, acti_bit_width: int = 8, retrain: bool = True, quant: bool = False
    ) -> None:
        super().__init__(inplace)
        self.acti_bit_width = acti_bit_width
        self.init_thresholds(("acti",), retrain, quant)

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        return qunsigned(output, self.acti_log2_t, self.acti_bit_width) if self.quant else output


class ReLU(_Rectifier, nn.ReLU):
    """The rectifier of `torch.nn`, whose result is rounded to integers without a sign while `quant` is True."""


class ReLU6(_Rectifier, nn.ReLU6):
    """The rectifier that ends at 6, as `ReLU`."""


if __name__ == "__main__":
    print(ReLU()(torch.rand(3, 3)).shape)
