"""`torch.nn.BatchNorm2d` with quantized scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._quantized import Quantized


def uses_batch(norm: nn.BatchNorm2d) -> bool:
    """Whether a normalization takes the statistics of the batch now, and not the running ones."""
    return norm.training or norm.running_mean is None


def batch_norm(norm: nn.BatchNorm2d, input: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """The normalization with another scale and shift; in training it takes the statistics of the batch and updates the
    running ones, with the momentum and the epsilon that it has."""
    momentum, mean, variance = 0.0, None, None
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    if not norm.training or norm.track_running_stats:
        mean, variance = norm.running_mean, norm.running_var
    return F.batch_norm(input, mean, variance, weight, bias, uses_batch(norm), momentum, norm.eps)


class BatchNorm2d(Quantized, nn.BatchNorm2d):
    """The normalization of `torch.nn`, whose scale (`weight`) and shift (`bias`) are rounded while `quant` is True."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        weight_bit_width: int = 8,
        bias_bit_width: int = 16,
        retrain: bool = True,
        quant: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.weight_bit_width, self.bias_bit_width = weight_bit_width, bias_bit_width
        self.init_thresholds(("weight", "bias") if affine else ("weight",), retrain, quant)

    @torch.no_grad()
    def fold(self, pre: nn.Module) -> None:
        """Takes the thresholds of the layer before."""
        for name in ("weight_log2_t", "bias_log2_t"):
            if hasattr(pre, name) and hasattr(self, name):
                getattr(self, name).copy_(getattr(pre, name))

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        return batch_norm(self, input, self.quantized("weight", self.weight), self.quantized("bias", self.bias))


if __name__ == "__main__":
    print(BatchNorm2d(3)(torch.rand(3, 3, 5, 5)).shape)
