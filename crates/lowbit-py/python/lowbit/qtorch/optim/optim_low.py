"""Low-precision optimizers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from ...torch import LowPrecision

__all__ = ["OptimLP"]

Quantize = Callable[[Tensor], Tensor] | None


class OptimLP(LowPrecision):
    """`lowbit.torch.LowPrecision` with QPyTorch's arguments: functions that round weights, gradients (times
    `grad_scaling`), moments and accumulators. Weights are rounded after the first step, not before; the state dict has
    everything. `weight_acc` has the accumulators by parameter."""

    def __init__(
        self,
        optim: Optimizer,
        weight_quant: Quantize = None,
        grad_scaling: float = 1.0,
        grad_quant: Quantize = None,
        momentum_quant: Quantize = None,
        acc_quant: Quantize = None,
    ) -> None:
        assert isinstance(optim, (SGD, Adam)), f"optim is a {type(optim).__name__}, expected SGD or Adam"
        assert grad_scaling > 0, f"grad_scaling is {grad_scaling}, expected more than 0"
        super().__init__(
            optim,
            weight=weight_quant,
            gradient=grad_quant,
            momentum=momentum_quant,
            second_moment=momentum_quant,
            accumulator=acc_quant,
            gradient_scale=grad_scaling,
            round_at_start=False,
        )

    @property
    def optim(self) -> Optimizer:
        return self.optimizer

    @property
    def weight_acc(self) -> dict[Tensor, Tensor]:
        return self.accumulators
