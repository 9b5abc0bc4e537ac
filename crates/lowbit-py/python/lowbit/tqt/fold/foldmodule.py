"""What folded modules have in common."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..function._folding import scale_and_offset, statistics
from ..function._quantized import Quantized
from ..function.number import qunsigned

SMALLEST = 1e-8


class _FoldModule(Quantized):
    """Layers that are quantized as one.

    Normalizations take the statistics of the batch in training, and the running ones in evaluation, or after
    `bn_freeze()`. Scale and shift train in any case.
    """

    bn: nn.BatchNorm2d

    def __init__(self) -> None:
        super().__init__()
        self.bn_freezing = False

    def bn_freeze(self, mode: bool = True) -> None:
        """Whether normalizations take the running statistics in training, too, and leave them."""
        self.bn_freezing = mode

    def start_threshold(self, name: str, tensor: Tensor, product: nn.Module) -> None:
        """Makes the threshold of a tensor, log2 max |x|, without dimensions; it quantizes if the product does."""
        start = tensor.detach().abs().max().clamp(min=SMALLEST).log2()
        self.init_thresholds((name,), True, getattr(product, "quant", False), start)

    def quant_answer(self) -> None:
        """TypeError: there is no tensor to be replaced."""
        raise TypeError(f"{type(self).__name__} has no weight of its own, expected quant_answer before folding")

    def set_relu(self, relu: nn.Module) -> None:
        """Takes the rectifier at the end, with the threshold of its result."""
        if not isinstance(relu, (nn.ReLU, nn.ReLU6)) or not hasattr(relu, "acti_log2_t"):
            raise TypeError(f"relu is {type(relu).__name__}, expected ReLU or ReLU6 of tqt.function")
        self.relu = nn.ReLU6() if isinstance(relu, nn.ReLU6) else nn.ReLU()
        end: Any = relu
        self.acti_bit_width: int = end.acti_bit_width
        threshold: Tensor = end.acti_log2_t
        if isinstance(threshold, nn.Parameter):
            self.acti_log2_t = threshold
        else:
            self.register_buffer("acti_log2_t", threshold)

    def rectified(self, x: Tensor) -> Tensor:
        """What the rectifier makes of a result, quantized or not."""
        x = self.relu(x)
        return qunsigned(x, self.acti_log2_t, self.acti_bit_width) if self.quant else x

    def running(self) -> tuple[Tensor, Tensor]:
        """Scale and offset of the normalization by its running statistics, of ones where it keeps none."""
        mean, variance = self.bn.running_mean, self.bn.running_var
        if mean is None or variance is None:
            like = next(self.parameters())
            mean, variance = like.new_zeros(self.bn.num_features), like.new_ones(self.bn.num_features)
        return scale_and_offset(self.bn, mean, variance)

    def live(self, result: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and offset of the normalization for what comes before it."""
        return scale_and_offset(self.bn, *statistics(self.bn, lambda: result, self.bn_freezing))

    def is_live(self) -> bool:
        """Whether the statistics are those of the batch."""
        return self.bn.running_mean is None or self.bn.training and not self.bn_freezing

    def normalized(self, x: Tensor) -> Tensor:
        """What the normalization makes of a tensor, in float."""
        scale, offset = self.live(x)
        return x * scale.reshape(1, -1, 1, 1) + offset.reshape(1, -1, 1, 1)


def isfoldmodule(x: object) -> bool:
    """Whether a module is a folded one."""
    return isinstance(x, _FoldModule)
