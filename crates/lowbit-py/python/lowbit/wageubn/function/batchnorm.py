"""`torch.nn.BatchNorm2d` on words of a few bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...tqt.function._folding import statistics
from ._words import Words


class BatchNorm2d(Words, nn.BatchNorm2d):
    """y = gamma (x - mean) / (deviation + eps) + beta with every one of them rounded, the result, too, and with
    `iostrict` the input (arXiv 1909.02384, section III.D). The deviation, sqrt(variance), has the widths `var`.

    In training mean and variance are those of the batch, in evaluation the running ones.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        weight_dec_bit_width: int = 8,
        bias_dec_bit_width: int = 8,
        mean_dec_bit_width: int = 8,
        var_dec_bit_width: int = 8,
        output_dec_bit_width: int = 8,
        input_dec_bit_width: int = 8,
        weight_all_bit_width: int = 8,
        bias_all_bit_width: int = 8,
        mean_all_bit_width: int = 8,
        var_all_bit_width: int = 8,
        output_all_bit_width: int = 8,
        input_all_bit_width: int = 8,
        iostrict: bool = False,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.set_widths(
            iostrict,
            weight=(weight_dec_bit_width, weight_all_bit_width),
            bias=(bias_dec_bit_width, bias_all_bit_width),
            mean=(mean_dec_bit_width, mean_all_bit_width),
            var=(var_dec_bit_width, var_all_bit_width),
            output=(output_dec_bit_width, output_all_bit_width),
            input=(input_dec_bit_width, input_all_bit_width),
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        x = self.strict("input", input)
        mean, variance = statistics(self, lambda: x)
        each = lambda t: t.reshape(1, -1, 1, 1)
        # The root's slope at zero is infinite.
        deviation = self.quantized("var", variance.clamp(min=torch.finfo(variance.dtype).tiny).sqrt())
        y = (x - each(self.quantized("mean", mean))) / each(deviation + self.eps)
        if self.affine:
            y = y * each(self.quantized("weight", self.weight)) + each(self.quantized("bias", self.bias))
        return self.quantized("output", y)


if __name__ == "__main__":
    print(BatchNorm2d(3)(torch.rand(3, 3, 5, 5)).shape)
