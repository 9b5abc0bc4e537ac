"""Statistics of quantized tensors, computed with NumPy in double precision.

    python3 analysis.py > analysis.jsonl

Needs numpy (2.4 made the file). Each line is a tensor `x`, the one that another network has in its place
(`float`), the integers' grid, and what `lowbit analyze` should say of it; numbers are exact `float32`.
"""
import json
import math

import numpy as np


def bins_of(x, y):
    """The counts of `y` by `|y| // width` in the bins of `x`, those below zero apart, what is outside in the
    first or the last; the width is the least power of two of which 96 span the range of `x`."""
    low, high = x.min(), x.max()
    spans = max(high - low, max(abs(low), abs(high)) / 64)
    width = 2.0 ** math.ceil(math.log2(spans / 96))

    def number(values):
        down = np.floor(np.abs(values) / width)
        return np.where(values < 0, -1 - down, down)

    first, last = int(number(low)), int(number(high))
    at = np.clip(number(y), first, last).astype(int) - first
    return width, first, np.bincount(at.ravel(), minlength=last - first + 1)


def divergence(p, q):
    p, q = (p + 1.0) / (p.sum() + len(p)), (q + 1.0) / (q.sum() + len(q))
    return float((p * np.log(p / q)).sum())


def error(x, y):
    return {
        "sqnr": float(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum())),
        "mean_square": float(((x - y) ** 2).mean()),
        "cosine": float((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())),
        "kl_divergence": divergence(bins_of(x, x)[2], bins_of(x, y)[2]),
    }


def case(rng, shape, bits, signed, log2_thresholds, scale):
    x32 = (rng.standard_normal(shape) * scale).astype(np.float32)
    x32 = x32 if signed else np.maximum(x32, 0)
    float32 = (x32 + 0.02 * scale * rng.standard_normal(shape)).astype(np.float32)
    x, other = x32.astype(np.float64), float32.astype(np.float64)
    magnitude = bits - (1 if signed else 0)
    step = np.array([2.0 ** (math.ceil(t) - magnitude) for t in log2_thresholds])
    step = step.reshape((-1,) + (1,) * (len(shape) - 1)) if len(step) > 1 else step
    low, high = (-(2**magnitude) if signed else 0), 2**magnitude - 1
    code = np.clip(np.rint(x / step), low, high)
    q = code * step
    width, first, counts = bins_of(x, x)
    return {
        "shape": list(shape), "x": x32.ravel().tolist(), "float": float32.ravel().tolist(),
        "bits": bits, "signed": signed, "log2_thresholds": log2_thresholds,
        "min": float(x.min()), "max": float(x.max()), "mean": float(x.mean()), "deviation": float(x.std()),
        "clipped": float(((x < (low - 0.5) * step) | (x > (high + 0.5) * step)).mean()),
        "rounded_to_zero": float(((x != 0) & (q == 0)).mean()),
        "used_codes": len(np.unique(code)), "codes": high - low + 1,
        "alone": error(x, q), "accumulated": error(other, q),
        "width": width, "first": first, "counts": counts.tolist(),
    }


def main():
    rng = np.random.default_rng(16)
    for arguments in [
        ((6, 5, 3, 3), 4, True, [-1.3], 0.2),
        ((6, 5, 3, 3), 3, True, [-0.5, -1.5, -2.5, 0.25, -3.0, -1.0], 0.2),
        ((4, 40), 8, False, [1.7], 1.0),
        ((50,), 2, True, [-4.0], 0.1),
        ((3, 70), 6, True, [4.0], 1.0),
    ]:
        print(json.dumps(case(rng, *arguments)))


if __name__ == "__main__":
    main()
