"""Numbers of a few bits in PyTorch: tensors, their gradients, layers' outputs, and what optimizers keep.

>>> import torch, lowbit.torch
>>> weight = torch.nn.Parameter(torch.tensor([0.3, -1.0, 1e9]))
>>> lowbit.torch.quantize(weight, "e4m3(saturate)")
tensor([ 3.1250e-01, -1.0000e+00,  4.4800e+02], grad_fn=<_StraightThroughBackward>)
"""

from ._functions import quantize
from ._modules import Quantizer, lower
from ._optim import LowPrecision

__all__ = ["LowPrecision", "Quantizer", "lower", "quantize"]
