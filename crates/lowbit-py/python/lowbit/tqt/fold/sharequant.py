"""One threshold for the tensors of an addition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..function._quantized import Quantized
from ..function.number import qsigned


class ShareQuant(Quantized):
    """Rounds what passes to integers with a sign while `quant` is True. After `share` two of them have one
    threshold."""

    acti_log2_t: Tensor

    def __init__(self, acti_bit_width: int = 8, retrain: bool = True, quant: bool = False) -> None:
        super().__init__()
        self.acti_bit_width = acti_bit_width
        self.init_thresholds(("acti",), retrain, quant)

    @torch.no_grad()
    def share(self, shared_module: nn.Module) -> None:
        """Takes the other module's threshold, the very tensor, and sets it to the larger of the two."""
        theirs = getattr(shared_module, "acti_log2_t", None)
        if not isinstance(theirs, Tensor):
            raise TypeError(f"the other module is {type(shared_module).__name__}, expected one with acti_log2_t")
        theirs.copy_(torch.maximum(theirs, self.acti_log2_t))
        if isinstance(theirs, nn.Parameter) == isinstance(self.acti_log2_t, nn.Parameter):
            self.acti_log2_t = theirs
        else:
            raise ValueError("one of the two thresholds trains and one does not, expected the same retrain in both")

    def forward(self, input: Tensor) -> Tensor:
        return qsigned(input, self.acti_log2_t, self.acti_bit_width) if self.quant else input
