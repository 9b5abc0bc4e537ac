"""Writes pool3d.jsonl: PyTorch's pooling of volumes, forward and backward.

    pip install torch==2.15.0
    python pool3d.py > pool3d.jsonl

A line is a case. Its input and the gradient of its output are made of formulas, so that no two numbers
of an input are equal; `tests/suite/layers.rs` makes the same. Everything is computed in float64.
"""

import json
from itertools import product
from math import prod

import torch
import torch.nn.functional as F

SHAPES = [[1, 2, 4, 5, 2], [2, 1, 3, 4, 4]]
WINDOWS = [
    ([2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1]),
    ([2, 3, 2], [1, 2, 2], [1, 1, 0], [1, 1, 1]),
    ([3, 2, 2], [2, 3, 1], [1, 0, 1], [1, 1, 1]),
    ([2, 2, 1], [1, 1, 1], [0, 0, 0], [2, 3, 1]),
]


def filled(shape, factor, offset, modulus, divisor):
    numbers = [((i * factor + offset) % modulus) / divisor for i in range(prod(shape))]
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def plain(tensor):
    return [float(f"{value:.9g}") for value in tensor.detach().flatten().tolist()]


def case(shape, window, ceil, pool, count):
    kernel, stride, padding, dilation = window
    x = filled(shape, 37, 11, 101, 8).requires_grad_(True)
    if pool == "max":
        y = F.max_pool3d(x, kernel, stride, padding, dilation, ceil)
    else:
        y = F.avg_pool3d(x, kernel, stride, padding, ceil, count)
    y.backward(filled(y.shape, 13, 5, 31, 16))
    return {
        "pool": pool,
        "shape": shape,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "ceil": ceil,
        "count": count,
        "output_shape": list(y.shape),
        "output": plain(y),
        "d_x": plain(x.grad),
    }


for shape, window, ceil in product(SHAPES, WINDOWS, [False, True]):
    print(json.dumps(case(shape, window, ceil, "max", True), separators=(",", ":")))
    if window[3] == [1, 1, 1]:
        for count in [False, True]:
            line = case(shape, window, ceil, "avg", count)
            print(json.dumps(line, separators=(",", ":")))
