"""AdderNet's convolution in float, with a bias."""

from __future__ import annotations

import torch
from torch import Tensor

from ....tqt.function.extra.adder import Adder, Adder2d, Pair, adder
from ....tqt.function.extra.adder import adder2d_function as _adder2d_function


def adder2d_function(X: Tensor, W: Tensor, bias: Tensor | None, stride: Pair = 1, padding: Pair = 0) -> Tensor:
    """The layer's function, with the bias where `wageubn` has it."""
    return _adder2d_function(X, W, stride, padding, bias)


__all__ = ["Adder", "Adder2d", "adder", "adder2d_function"]

if __name__ == "__main__":
    print(Adder2d(3, 4, 3, bias=True)(torch.rand(10, 3, 10, 10)).shape)
