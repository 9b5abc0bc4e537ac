"""AdderNet's convolution: the negative distance of windows and filters (Chen et al., arXiv 1912.13200)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair  # pyright: ignore[reportPrivateUsage]

Pair = int | tuple[int, int]


class Adder(torch.autograd.Function):
    """The negative L1 distance of each filter, a row of `W_col` `[filters, terms]`, and each window, a column of
    `X_col` `[terms, windows]`.

    The gradient of W is the full-precision one, the sum of (X - W) dy, brought to the norm 0.2 sqrt(elements of W)
    (section 3.3); that of X is clip(W - X, -1, 1) dy, summed (section 3.2).
    """

    @staticmethod
    def forward(context: Any, W_col: Tensor, X_col: Tensor) -> Tensor:
        context.save_for_backward(W_col, X_col)
        return -torch.cdist(W_col, X_col.t(), p=1.0)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        W_col, X_col = context.saved_tensors
        to_w = gradient @ X_col.t() - W_col * gradient.sum(1, keepdim=True)
        to_w = to_w * (0.2 * math.sqrt(W_col.numel()) / to_w.norm().clamp(min=1e-12))
        to_x = torch.zeros_like(X_col)
        for weights, from_filter in zip(W_col, gradient):
            to_x += (weights[:, None] - X_col).clamp_(-1.0, 1.0) * from_filter
        return to_w, to_x


adder = Adder.apply


def adder2d_function(X: Tensor, W: Tensor, stride: Pair = 1, padding: Pair = 0, bias: Tensor | None = None) -> Tensor:
    """The layer's function: X is `[batch, channels, height, width]`, W `[filters, channels, height, width]`."""
    filters, _, *kernel = W.shape
    (pad_h, pad_w), (stride_h, stride_w) = _pair(padding), _pair(stride)
    height = (X.shape[2] - kernel[0] + 2 * pad_h) // stride_h + 1
    width = (X.shape[3] - kernel[1] + 2 * pad_w) // stride_w + 1
    windows = F.unfold(X, (kernel[0], kernel[1]), padding=(pad_h, pad_w), stride=(stride_h, stride_w))
    columns = windows.transpose(0, 1).reshape(windows.shape[1], -1)
    output = adder(W.reshape(filters, -1), columns).reshape(filters, X.shape[0], height, width).transpose(0, 1)
    return output if bias is None else output + bias.reshape(1, -1, 1, 1)


class Adder2d(nn.Module):
    """The layer, in float.

    bias: whether a bias is added, which AdderNet has none of.
    """

    bias: Tensor | None

    def __init__(
        self,
        input_channel: int,
        output_channel: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(bias, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"bias is {bias!r}, expected True or False")
        self.input_channel, self.output_channel = input_channel, output_channel
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.weight = nn.Parameter(torch.randn(output_channel, input_channel, *_pair(kernel_size)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(output_channel)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        return adder2d_function(x, self.weight, self.stride, self.padding, self.bias)


if __name__ == "__main__":
    print(Adder2d(3, 4, 3)(torch.rand(10, 3, 10, 10)).shape)
