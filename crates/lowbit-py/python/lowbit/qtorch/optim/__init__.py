"""Low-precision optimizers."""

from .optim_low import OptimLP

__all__ = ["OptimLP"]
