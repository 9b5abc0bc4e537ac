"""A convolution whose weights are zero or powers of two, so that each product is a shift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair  # pyright: ignore[reportPrivateUsage]

from ....torch._learned import power_of_two

Pair = int | tuple[int, int]


class _ToShifts(torch.autograd.Function):
    """sign(w) 2^round(log2 |w|), and 0 where |w| is below the threshold; the gradient passes."""

    @staticmethod
    def forward(context: Any, w: Tensor, threshold: float) -> Tensor:
        magnitudes = w.abs()
        exponents = torch.round(torch.log2(magnitudes)).clamp(-126.0, 126.0)
        shifts = torch.copysign(power_of_two(exponents).to(w.dtype), w)
        return shifts.masked_fill((magnitudes < threshold) | (w == 0.0), 0.0)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class SEConv2d(nn.Module):
    """The convolution with weights sign(w) 2^round(log2 |w|), and 0 where |w| < threshold, whose gradient passes (as of
    DeepShift-Q, arXiv 1905.13298).

    size_splits, sign_threshold, distribution: kept for programs that name them; nothing depends on them.
    """

    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = False,
        size_splits: int = 64,
        threshold: float = 5e-3,
        sign_threshold: float = 0.5,
        distribution: str = "uniform",
    ) -> None:
        super().__init__()
        if in_channels % groups != 0:
            raise ValueError(f"in_channels is {in_channels}, expected a multiple of groups, {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.size_splits, self.threshold, self.sign_threshold = size_splits, threshold, sign_threshold
        self.distribution = distribution
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels // groups, *self.kernel_size))

    def forward(self, input: Tensor) -> Tensor:
        weight = _ToShifts.apply(self.weight, self.threshold)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


if __name__ == "__main__":
    print(SEConv2d(3, 4, 3)(torch.rand(10, 3, 10, 10)).shape)
