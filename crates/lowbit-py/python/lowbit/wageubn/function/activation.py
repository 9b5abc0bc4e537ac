"""`torch.nn.ReLU` and `torch.nn.ReLU6` on words of a few bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ._words import Words


class _Rectifier(Words):
    """What both have in common: they come before a rectifier of `torch.nn`, whose result they round."""

    def __init__(
        self,
        inplace: bool = False,
        input_dec_bit_width: int = 8,
        acti_dec_bit_width: int = 8,
        input_all_bit_width: int = 8,
        acti_all_bit_width: int = 8,
        iostrict: bool = False,
    ) -> None:
        super().__init__(inplace)
        widths = {"input": (input_dec_bit_width, input_all_bit_width), "acti": (acti_dec_bit_width, acti_all_bit_width)}
        self.set_widths(iostrict, **widths)

    def forward(self, input: Tensor) -> Tensor:
        return self.quantized("acti", super().forward(self.strict("input", input)))


class ReLU(_Rectifier, nn.ReLU):
    """The rectifier of `torch.nn` with a rounded result (`acti`), and with `iostrict` a rounded input."""


class ReLU6(_Rectifier, nn.ReLU6):
    """The rectifier that ends at 6, as `ReLU`."""


if __name__ == "__main__":
    print(ReLU()(torch.rand(3, 3)).shape)
