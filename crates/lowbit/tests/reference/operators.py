"""Writes operators.jsonl: outputs and gradients of PyTorch's operators over random small shapes.

    pip install torch==2.15.0 numpy==2.4.6
    python operators.py > operators.jsonl

One line is one case. Its numbers are small integers that `numbers` below makes from a seed, so that
the file holds results alone; `tests/suite/operators_pytorch.rs` makes the same. Everything is computed in
float64; sums of products are then exact, and means are written with nine digits.
"""

import json
import random
from math import prod

import torch
import torch.nn.functional as F

CASES = 30
LARGEST = 320  # numbers of one case that the file holds


def numbers(shape, seed):
    """Integers from -4 to 4: a linear congruential generator (Numerical Recipes' constants)."""
    state, values = (seed * 2654435761 + 12345) % 2**32, []
    for _ in range(prod(shape)):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 24) % 9 - 4)
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def plain(tensor):
    def number(value):
        return int(value) if value == int(value) else float(f"{value:.9g}")

    return [number(value) for value in tensor.detach().flatten().tolist()]


def result(seed, shapes, run):
    """The output and the gradients of tensors of the given shapes, with numbers as the output's
    gradient; none where PyTorch refuses the shape or the output is empty."""
    tensors = {name: numbers(shape, seed + i) for i, (name, shape) in enumerate(shapes.items())}
    for tensor in tensors.values():
        tensor.requires_grad_(True)
    try:
        output = run(**tensors)
    except RuntimeError:
        return None
    if output.numel() == 0 or not torch.isfinite(output).all():
        return None
    output.backward(numbers(output.shape, seed + 9))
    made = {"output": plain(output)}
    made |= {f"d_{name}": plain(tensor.grad) for name, tensor in tensors.items()}
    if sum(map(len, made.values())) > LARGEST:
        return None
    return {"shapes": shapes, "output_shape": list(output.shape)} | made


def several(low, high, count):
    return [random.randint(low, high) for _ in range(count)]


def pad(x, padding):
    """Zeros before and after each spatial dimension; F.pad begins with the last."""
    return F.pad(x, [n for pair in reversed(padding) for n in pair])


def convolution(d):
    groups = random.choice([1, 1, 2, 3])
    inputs, outputs = (groups * random.randint(1, 3) for _ in range(2))
    size, kernel = several(1, 9 if d == 1 else 6 if d == 2 else 4, d), several(1, 3, d)
    stride, dilation = several(1, 3, d), several(1, 2, d)
    padding = [several(0, 2, 2) for _ in range(d)]
    shapes = {"x": [random.randint(1, 2), inputs, *size], "weight": [outputs, inputs // groups, *kernel]}
    shapes["bias"] = [outputs]
    conv = [F.conv1d, F.conv2d, F.conv3d][d - 1]

    def run(x, weight, bias):
        return conv(pad(x, padding), weight, bias, stride, 0, dilation, groups)

    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return options, shapes, run


def transposed(d):
    groups = random.choice([1, 1, 2, 3])
    inputs, outputs = (groups * random.randint(1, 3) for _ in range(2))
    size, kernel = several(1, 5 if d == 1 else 3, d), several(1, 3, d)
    stride, dilation, padding = several(1, 3, d), several(1, 2, d), several(0, 2, d)
    out = [random.randint(0, max(s, k) - 1) for s, k in zip(stride, dilation)]
    shapes = {"x": [random.randint(1, 2), inputs, *size], "weight": [inputs, outputs // groups, *kernel]}
    shapes["bias"] = [outputs]
    conv = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][d - 1]

    def run(x, weight, bias):
        return conv(x, weight, bias, stride, padding, out, groups, dilation)

    options = dict(stride=stride, padding=padding, padding_out=out, dilation=dilation, groups=groups)
    return options, shapes, run


def image(d):
    return [random.randint(1, 2), random.randint(1, 3), *several(1, 10 if d == 1 else 6 if d == 2 else 4, d)]


def max_pool(d):
    kernel, stride, dilation = several(1, 3, d), several(1, 3, d), several(1, 2, d)
    padding, ceil = [random.randint(0, k // 2) for k in kernel], random.random() < 0.3
    pool = [F.max_pool1d, F.max_pool2d][d - 1]
    options = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil)
    return options, {"x": image(d)}, lambda x: pool(x, kernel, stride, padding, dilation, ceil)


def avg_pool(d):
    kernel, stride = several(1, 3, d), several(1, 3, d)
    padding, ceil = [random.randint(0, k // 2) for k in kernel], random.random() < 0.3
    count = random.random() < 0.5
    pool = [F.avg_pool1d, F.avg_pool2d][d - 1]
    options = dict(kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil, count_include_pad=count)
    return options, {"x": image(d)}, lambda x: pool(x, kernel, stride, padding, ceil, count)


def adaptive_avg_pool(d):
    size = several(1, 5, d)
    pool = [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d][d - 1]
    return dict(output_size=size), {"x": image(d)}, lambda x: pool(x, size)


def embedding(_):
    rows, indices = random.randint(1, 9), [random.randint(1, 3), random.randint(1, 5)]
    chosen = several(0, rows - 1, prod(indices))
    at = torch.tensor(chosen).reshape(indices)
    return dict(indices=chosen, indices_shape=indices), {"weight": [rows, random.randint(1, 6)]}, (
        lambda weight: F.embedding(at, weight)
    )


def batch_norm(d):
    """With the statistics of the batch, and with given ones."""
    shape, epsilon, trains = image(d), random.choice([1e-5, 1e-3, 0.5]), random.random() < 0.6
    channels = [shape[1]]
    mean, variance = numbers(channels, 77), numbers(channels, 78).abs() + 1
    activation = random.choice(["identity", "relu", "relu6"])
    after = dict(identity=lambda y: y, relu=F.relu, relu6=F.relu6)[activation]

    def run(x, gamma, beta):
        given = (None, None) if trains else (mean, variance)
        if trains and prod(shape) // shape[1] < 3:
            raise RuntimeError("too few for statistics")
        return after(F.batch_norm(x, *given, gamma, beta, trains, 0.0, epsilon))

    options = dict(epsilon=epsilon, trains=trains, activation=activation)
    return options, {"x": shape, "gamma": channels, "beta": channels}, run


def main():
    random.seed(16)
    operators = [(convolution, d) for d in (1, 2, 3)] + [(transposed, d) for d in (1, 2, 3)]
    operators += [(pool, d) for pool in (max_pool, avg_pool) for d in (1, 2)]
    operators += [(adaptive_avg_pool, d) for d in (1, 2, 3)] + [(embedding, 1)]
    operators += [(batch_norm, d) for d in (1, 2, 3)]
    seed = 0
    for operator, dimensions in operators:
        cases = 0
        while cases < CASES:
            options, shapes, run = operator(dimensions)
            seed += 10
            made = result(seed, shapes, run)
            if made is None:
                continue
            case = {"operator": f"{operator.__name__}{dimensions}d", "seed": seed} | options | made
            print(json.dumps(case, separators=(",", ":")))
            cases += 1


main()
