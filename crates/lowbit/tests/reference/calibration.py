"""Thresholds by divergence, from the definitions of KL-J and entropy calibration.

    python calibration.py > calibration.txt

Written with NumPy and the papers alone. A histogram of magnitudes other than zero has bins of one
width: those that divide [0, 2^k) evenly, 2^k being the least power of two above the magnitude that
99.9 % of them do not exceed, into twice `bins`, but at most 8192. For a threshold on an upper edge of
a bin, with the n bins below it:

- p: the counts, those above the threshold added to the last bin, over the number of all values;
- q: the counts below the threshold, gathered into `levels` groups of adjacent bins (the group of
  level l ends before bin floor((l + 1) n / levels)), each group's sum spread evenly over those of its
  bins that hold something, over the number of values below the threshold;
- both at least 1e-9, except where both are 0, which does not count.

KL-J (arXiv 1903.08066, section 5.1 and table 2; D'Alberto and Dasdan, 2009) is the sum of
(p - q) ln(p / q); entropy (Migacz, "8-bit Inference with TensorRT", GTC 2017) that of p ln(p / q).
The threshold with the least of it is chosen, never above the largest magnitude. Tried are those of
at least `levels` bins that are, from there on, 1/256 of 2^k apart below 2^k, 1/128 of the octave in
every octave above, and the last: the end of the last bin that holds something, but no more than
2^k, or 2^k levels / 256 where that is more. Values beyond all thresholds are part of p's last bin.

The papers divide the range up to the largest magnitude, and try thresholds up to it. One value far
from all others then leaves the rest a few bins, in which no threshold loses anything but the
outlier; and since q spreads a level evenly over its bins, evenly spread values seem to lose nothing
if all of them become one level. Hence bins and thresholds by the 99.9 %, which keep 256 levels.

Output: values, the ten outliers among them, method, levels, threshold, its divergence, and the
width of a bin.
"""

import numpy as np

FLOOR = 1e-9


def histogram(x, bins):
    """The width of a bin, the number of bins to 2^k, and numbers and counts of those with values."""
    x = np.sort(np.abs(x[x != 0]).astype(np.float64))
    bulk = x[(len(x) * 999 + 999) // 1000 - 1]
    range_ = min(2 * bins, 8192)
    width = 2.0 ** (np.floor(np.log2(bulk)) + 1) / range_
    # An f32 tells no more than 2^12 bins of an octave apart.
    octave = 2.0 ** np.floor(np.log2(x)) / 4096
    x = np.where(octave > width, np.floor(x / octave) * octave, x)
    return width, range_, *np.unique(np.floor(x / width).astype(np.int64), return_counts=True)


def divergence(method, numbers, counts, n, levels):
    below = numbers < n
    if not below.any():
        return np.inf
    bins, p = numbers[below], counts[below].astype(np.float64)
    ends = np.arange(1, levels + 1) * n // levels
    group = np.searchsorted(ends, bins, side="right")
    _, group = np.unique(group, return_inverse=True)
    q = (np.bincount(group, weights=p) / np.bincount(group))[group]
    above = counts[~below].sum()
    if bins[-1] == n - 1:
        p[-1] += above
    elif above > 0:
        p, q = np.append(p, above), np.append(q, 0.0)
    p, q = np.maximum(p / p.sum(), FLOOR), np.maximum(q / q.sum(), FLOOR)
    return float(np.sum({"kl-j": p - q, "entropy": p}[method] * np.log(p / q)))


def threshold(method, x, levels, bins):
    width, range_, numbers, counts = histogram(x, bins)
    end = min(numbers[-1] + 1, range_ * max(1, levels // 256))
    tried = list(range(levels, range_, range_ // 256))
    octave = range_
    while octave < end:
        tried += [n for n in range(octave, 2 * octave, octave // 128) if n >= levels]
        octave *= 2
    tried = [n for n in tried if n < end] + [end]
    found = [divergence(method, numbers, counts, n, levels) for n in tried]
    best = int(np.argmin(found))
    return np.float32(min(tried[best] * width, float(np.abs(x).max()))), found[best], width


def rayleigh():
    """Magnitudes at 100,000 even quantiles."""
    i = np.arange(100_000)
    return (0.5 * np.sqrt(-2 * np.log((i + 0.5) / 1e5))).astype(np.float32)


def even():
    return (np.arange(1, 100_000) / np.float32(1e5)).astype(np.float32)


if __name__ == "__main__":
    print("# values outliers method levels threshold divergence bin")
    for name, x in [("rayleigh", rayleigh()), ("even", even())]:
        for outlier in [0.5, 50, 1e4, 1e6]:
            values = np.concatenate([x, np.full(10, outlier, np.float32)])
            for levels in [8, 128, 256, 2048]:
                for method in ["kl-j", "entropy"]:
                    t, least, width = threshold(method, values, levels, 2048)
                    print(f"{name} {outlier:g} {method} {levels} {t} {least:.9f} {width}")
