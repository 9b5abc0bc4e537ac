"""A layer that quantizes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .quant_function import quantizer

__all__ = ["Quantizer"]


class Quantizer(nn.Module):
    """Rounds what passes to `forward_number`, and the gradient on its way back to `backward_number`."""

    def __init__(
        self,
        forward_number: Any = None,
        backward_number: Any = None,
        forward_rounding: str = "stochastic",
        backward_rounding: str = "stochastic",
    ) -> None:
        super().__init__()
        self.quantize = quantizer(forward_number, backward_number, forward_rounding, backward_rounding)

    def forward(self, x: Tensor) -> Tensor:
        return self.quantize(x)
