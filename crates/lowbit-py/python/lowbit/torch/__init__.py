"""Numbers of a few bits in PyTorch: tensors, their gradients, layers' outputs, and what optimizers keep.

>>> import torch, lowbit.torch
>>> weight = torch.nn.Parameter(torch.tensor([0.3, -1.0, 1e9]))
>>> lowbit.torch.quantize(weight, "e4m3(saturate)")
tensor([ 3.1250e-01, -1.0000e+00,  4.4800e+02], grad_fn=<_StraightThroughBackward>)
"""

from ._functions import quantize
from ._layers import Conv2d, Linear, quantize_layers
from ._learned import dorefa_activation, dorefa_weight, learned_clip, learned_step, trained_threshold
from ._modules import Quantizer, lower
from ._optim import LowPrecision
from ._quantizers import LSQ, PACT, TQT, DoReFaActivation, DoReFaWeight, LearnedQuantizer, calibrate

__all__ = [
    "LSQ",
    "PACT",
    "TQT",
    "Conv2d",
    "DoReFaActivation",
    "DoReFaWeight",
    "LearnedQuantizer",
    "Linear",
    "LowPrecision",
    "Quantizer",
    "calibrate",
    "dorefa_activation",
    "dorefa_weight",
    "learned_clip",
    "learned_step",
    "lower",
    "quantize",
    "quantize_layers",
    "trained_threshold",
]
