"""Thresholds by divergence, from the definitions of KL-J and entropy calibration.

    python calibration.py > calibration.txt

Written with NumPy and the papers alone. A histogram of magnitudes other than zero has bins that
divide [0, 2^k) evenly, 2^k being the least power of two above the largest magnitude; the bins up to
the largest magnitude are at least `bins` (so there are 2 `bins` to 2^k), and at most 8192 to 2^k.
For a threshold on an upper edge of a bin, with the bins below it:

- p: the counts, those above the threshold added to the last bin, over the number of all values;
- q: the counts below the threshold, gathered into `levels` groups of adjacent bins (the group of
  level l ends before bin floor((l + 1) n / levels)), each group's sum spread evenly over those of its
  bins that hold something, over the number of values below the threshold;
- both at least 1e-9, except where both are 0, which does not count.

KL-J (arXiv 1903.08066, section 5.1 and table 2; D'Alberto and Dasdan, 2009) is the sum of
(p - q) ln(p / q); entropy (Migacz, "8-bit Inference with TensorRT", GTC 2017) that of p ln(p / q).
The threshold with the least of it is chosen, never above the largest magnitude. Thresholds of at
least `levels` bins are tried.

Output: method, levels, then for every threshold tried (`all`) and for those 1/256 of the bins apart
from `levels` bins on, and all the bins (`coarse`), the threshold chosen and its divergence, and the
width of a bin.
"""

import numpy as np

FLOOR = 1e-9


def histogram(x, bins):
    x = np.abs(x[x != 0]).astype(np.float64)
    k = np.floor(np.log2(x.max())) + 1
    total = min(2 * bins, 8192)
    width = 2.0**k / total
    counts = np.bincount(np.floor(x / width).astype(np.int64), minlength=total)
    return width, counts[: np.flatnonzero(counts)[-1] + 1]


def distributions(counts, n, levels):
    below = counts[:n].astype(np.float64)
    p = below.copy()
    p[-1] += counts[n:].sum()
    ends = np.arange(1, levels + 1) * n // levels
    group = np.searchsorted(ends, np.arange(n), side="right")
    occupied = below > 0
    sums = np.bincount(group, weights=below, minlength=levels)
    holders = np.bincount(group, weights=occupied, minlength=levels)
    q = np.where(occupied, sums[group] / np.maximum(holders[group], 1), 0.0)
    return p / counts.sum(), q / below.sum()


def divergence(method, counts, n, levels):
    if counts[:n].sum() == 0:
        return np.inf
    p, q = distributions(counts, n, levels)
    some = (p > 0) | (q > 0)
    p, q = np.maximum(p[some], FLOOR), np.maximum(q[some], FLOOR)
    return float(np.sum({"kl-j": p - q, "entropy": p}[method] * np.log(p / q)))


def threshold(method, x, levels, bins, coarse):
    width, counts = histogram(x, bins)
    step = max(len(counts) // 256, 1) if coarse else 1
    tried = list(range(levels, len(counts), step)) + [len(counts)]
    found = [divergence(method, counts, n, levels) for n in tried]
    best = int(np.argmin(found))
    return min(tried[best] * width, float(np.abs(x).max())), found[best], width


def rayleigh():
    """Magnitudes at 100,000 even quantiles, and ten outliers."""
    i = np.arange(100_000)
    x = 0.5 * np.sqrt(-2 * np.log((i + 0.5) / 1e5))
    return np.concatenate([x, np.full(10, 50.0)]).astype(np.float32)


def even():
    return (np.arange(1, 100_000) / np.float32(1e5)).astype(np.float32)


if __name__ == "__main__":
    print("# values method levels: all (threshold divergence) coarse (threshold divergence) bin")
    for name, x, cases in [
        ("rayleigh", rayleigh(), [(8,), (128,)]),
        ("even", even(), [(128,)]),
    ]:
        for (levels,) in cases:
            for method in ["kl-j", "entropy"]:
                every, least, width = threshold(method, x, levels, 2048, False)
                coarse, near, _ = threshold(method, x, levels, 2048, True)
                print(f"{name} {method} {levels} {every} {least:.9f} {coarse} {near:.9f} {width}")
