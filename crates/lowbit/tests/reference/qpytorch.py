"""Writes qpytorch.txt: QPyTorch's `quantizer`, forward and backward, on random tensors.

    git clone https://github.com/minhhn2910/QPyTorch qpytorch && cd qpytorch && git checkout 7cbe80b
    sed -i s/-std=c++17/-std=c++20/ qtorch/quant/quant_function.py
    pip install torch==2.15.0 numpy==2.4.6 ninja
    PYTHONPATH=. python .../qpytorch.py

Numbers are the bits of a float32. Of the tensor `x` and the gradient `dy` that reaches the result,

- `FORWARD | BACKWARD | OPTIONS` is followed by `y` and `dx`, both rounded to nearest. `-` is no
  format, `clamped` stands for clamping_grad_zero=True, and `times 4` for a hook that multiplies by 4.
  (QPyTorch neither runs hooks without clamping_grad_zero, nor sets gradients to zero without a
  backward format; no case here depends on it.)
- `stochastic FORWARD | BACKWARD` is followed by a line for each number of a tensor: the number, its
  gradient, how often of 4,096 times the gradient came back as what, float32 bits and times. Roundings
  are stochastic, gradients of clamped numbers zero.
"""

from pathlib import Path

import numpy as np
import torch
from qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint, Posit
from qtorch.quant import quantizer

COUNT = 64
TRIALS = 4096

FORMATS = {
    "-": None,
    "fixed(8,6)": FixedPoint(8, 6),
    "fixed(4,2)": FixedPoint(4, 2),
    "fixed(4,2,symmetric)": FixedPoint(4, 2, symmetric=True),
    "fixed(8,6,unbounded)": FixedPoint(8, 6, clamp=False),
    "bfp(8)": BlockFloatingPoint(8),
    "qpytorch(5,2)": FloatingPoint(5, 2),
    "qpytorch(6,9)": FloatingPoint(6, 9),
    "posit(8,1)": Posit(8, 1),
    "posit(16,2,scale=1/32)": Posit(16, 2, 32.0),
}
CASES = [
    ("fixed(8,6)", "-", ""),
    ("-", "fixed(8,6)", ""),
    ("fixed(4,2)", "qpytorch(5,2)", ""),
    ("qpytorch(6,9)", "bfp(8)", ""),
    ("bfp(8)", "posit(8,1)", ""),
    ("posit(8,1)", "posit(16,2,scale=1/32)", ""),
    ("posit(16,2,scale=1/32)", "fixed(8,6,unbounded)", ""),
    ("fixed(4,2)", "fixed(8,6)", "clamped"),
    ("fixed(4,2,symmetric)", "fixed(8,6)", "clamped"),
    ("fixed(8,6)", "qpytorch(5,2)", "clamped"),
    ("fixed(4,2)", "bfp(8)", "clamped"),
    ("fixed(8,6)", "posit(8,1)", "clamped, times 4"),
    ("-", "qpytorch(5,2)", "clamped, times 4"),
]


def words(tensor):
    return " ".join(f"{b:x}" for b in tensor.detach().numpy().view(np.uint32))


LINES = ["# QPyTorch, minhhn2910/QPyTorch at 7cbe80b, torch 2.15.0; see qpytorch.py"]


def line(*words):
    LINES.append(" ".join(words))


def both_ways(x, dy, quantize):
    x = x.clone().requires_grad_()
    y = quantize(x)
    y.backward(dy)
    return y.detach(), x.grad


def main():
    rng = np.random.default_rng(2019)
    # Multiples of 1/16 among them, which have ties and lie within half a step beyond the limits.
    x = np.concatenate([rng.standard_normal(COUNT // 2) * 1.5, rng.integers(-40, 40, COUNT // 2) / 16])
    dy = rng.standard_normal(COUNT)
    # Blocks by the largest number, which has to be that of the largest magnitude.
    x, dy = [t.astype(np.float32) for t in (x, dy)]
    for t in (x, dy):
        t[np.abs(t).argmax()] = np.abs(t).max()
    x, dy = torch.from_numpy(x), torch.from_numpy(dy)
    line("x", words(x))
    line("dy", words(dy))
    for forward, backward, options in CASES:
        hooks = [lambda g: 4 * g] if "times" in options else []
        quantize = quantizer(
            FORMATS[forward], FORMATS[backward], "nearest", "nearest", "clamped" in options, hooks
        )
        y, dx = both_ways(x, dy, quantize)
        line(f"{forward} | {backward} | {options}".rstrip())
        line("y", words(y))
        line("dx", words(dx))
    torch.manual_seed(2019)
    for forward, backward in (("fixed(4,2)", "qpytorch(5,2)"), ("fixed(8,6)", "fixed(4,2)")):
        step = 0.25 if forward == "fixed(4,2)" else 1 / 64
        parts = [-1.6, -1.3, -1, -0.4, -0.1, 0, 0.2, 0.5, 0.9, 1, 1.25, 1.75, 2.5]
        # From the lowest and from the highest value of the format.
        x = torch.tensor([-2 + p * step for p in parts] + [2 - step + p * step for p in parts])
        dy = torch.from_numpy(rng.uniform(-1.5, 1.5, len(x)).astype(np.float32))
        quantize = quantizer(FORMATS[forward], FORMATS[backward], "stochastic", "stochastic", True)
        results = np.stack([both_ways(x, dy, quantize)[1].numpy() + 0 for _ in range(TRIALS)])
        line(f"stochastic {forward} | {backward}")
        for number, gradient, column in zip(words(x).split(), words(dy).split(), results.T):
            values, times = np.unique(column, return_counts=True)
            counts = [f"{words(torch.tensor([v]))}*{n}" for v, n in zip(values, times)]
            line(number, gradient, *counts)
    Path(__file__).with_name("qpytorch.txt").write_text("\n".join(LINES) + "\n")


main()
