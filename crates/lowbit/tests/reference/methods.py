"""Writes methods.jsonl: quantization methods forward and backward, from the papers.

    pip install torch==2.15.0 numpy==2.4.6
    python methods.py > methods.jsonl

One line is one case. `x`, `grad` and `parameters` are f32 numbers, printed exactly; `y`, `dx` and
`dparameters` are computed from them in f64 and printed with twelve digits. Rounding is to nearest,
ties to even. No value is nearer than 1/1000 of a step to a tie or to an end of the range, except
exactly there with a scale that is exact in f32: f32 and f64 decide alike, which `case` checks by
computing everything a second time in f32. The sign of a zero in `y`, `dx` and `dparameters` means
nothing.

`torch-affine` is computed by PyTorch, in f32. The equations of each method are in its docstring;
sources are the papers that each line names.
"""

import json
import math
import sys
from functools import partial

import numpy as np
import torch

NEAR = 1e-3  # of a step


# ---------------------------------------------------------------- numbers and lines


def exact(value):
    """An f32 number in the fewest digits that f64 reads as the same number."""
    text = repr(float(value))
    return text[:-2] if text.endswith(".0") and text != "-0.0" else text


def near_exact(value):
    return f"{float(value) + 0.0:.12g}"


def numbers(values, text):
    return "[" + ",".join(text(v) for v in np.asarray(values).ravel()) + "]"


def emit(method, options, x, grad, parameters, y, dx, dparameters, source):
    inside = lambda items, text: "{" + ",".join(f'"{k}":{numbers(v, text)}' for k, v in items.items()) + "}"
    fields = [
        f'"method":{json.dumps(method)}',
        f'"options":{json.dumps(options, separators=(",", ":"))}',
        f'"shape":{json.dumps(list(x.shape), separators=(",", ":"))}',
        f'"x":{numbers(x, exact)}',
        f'"grad":{numbers(grad, exact)}',
        f'"parameters":{inside(parameters, exact)}',
        f'"y":{numbers(y, near_exact)}',
        f'"dx":{numbers(dx, near_exact)}',
        f'"dparameters":{inside(dparameters, near_exact)}',
        f'"source":{json.dumps(source)}',
    ]
    print("{" + ",".join(fields) + "}")


def f32(values):
    return np.asarray(values, dtype=np.float32)


def case(method, run, options, x, parameters, source, seed=0):
    """One line; `run(x, grad, parameters, **options)` gives y, dx and dparameters."""
    x, parameters = f32(x), {k: f32(v) for k, v in parameters.items()}
    grad = gradient(x.shape, seed)
    wide = lambda t: np.asarray(t, dtype=np.float64)
    y, dx, dp = run(wide(x), wide(grad), {k: wide(v) for k, v in parameters.items()}, **options)
    narrow = run(x, grad, parameters, **options)
    for a, b in [(y, narrow[0]), (dx, narrow[1])] + [(dp[k], narrow[2][k]) for k in dp]:
        assert np.allclose(a, b, rtol=2e-4, atol=2e-4), (method, options, a, b)
    emit(method, options, x, grad, parameters, y, dx, dp, source)


def gradient(shape, seed):
    values = np.random.default_rng(1000 + seed).integers(1, 17, shape) / 8.0
    return f32(values * np.random.default_rng(2000 + seed).choice([-1, 1], shape))


def sample(shape, seed, scale=1.0, fixed=(), zero_channel=None, position=None, low=None):
    """Normal numbers on a grid of 1/1024, `fixed` at random places, none of the others near a tie or
    an end (`position(x)` gives positions in steps, one array or several; an end is given as a
    position that is a tie there)."""
    for attempt in range(4000):
        rng = np.random.default_rng(seed * 4000 + attempt)
        x = np.round(rng.normal(0, scale, shape) * 1024) / 1024
        if low is not None:
            x = np.maximum(x, low)
        place = rng.choice(x.size, len(fixed), replace=False)
        x.ravel()[place] = fixed
        free = np.ones(x.size, bool)
        free[place] = False
        if zero_channel is not None:
            x[zero_channel] = 0.0
            mask = np.zeros(x.shape, bool)
            mask[zero_channel] = True
            free[mask.ravel()] = False
        if position is None or not np.any([np.ravel(p)[free] for p in near(position(x))]):
            return x
    raise RuntimeError("no sample")


def near(positions):
    for p in positions if isinstance(positions, tuple) else (positions,):
        yield np.abs(p - np.floor(p) - 0.5) < NEAR


def end(x, at, step):
    """A position that is a tie exactly where x is at an end."""
    distance = np.abs(x - at) / step
    return np.where(distance < 0.5, 0.5 + distance, 0.0)


round_ = np.rint  # ties to even


def sign(x):
    """+1 at zero and at minus zero (DoReFa's 2 I(r >= 0) - 1; XNOR-Net and BNN alike)."""
    return np.where(x >= 0, 1.0, -1.0).astype(x.dtype)


def apart(shape, axis=None, group=None):
    """For every element, the number of the parameter that it uses: one for all; one per index of
    `axis`; or one per run of `group` along `axis` (the last may be shorter), where parameters have
    the tensor's shape with that axis divided by `group`, rounded up, in row-major order."""
    if axis is None:
        return np.zeros(shape, int)
    index = np.indices(shape)
    if group is None:
        return index[axis]
    divided = list(shape)
    divided[axis] = -(-shape[axis] // group)
    index[axis] //= group
    return np.ravel_multi_index(tuple(index), divided)


def sums(values, at, like):
    return np.bincount(at.ravel(), weights=values.ravel().astype(np.float64), minlength=like.size).astype(like.dtype)


def means(values, at):
    count = np.bincount(at.ravel())
    return (np.bincount(at.ravel(), weights=values.ravel().astype(np.float64)) / count).astype(values.dtype)


# ---------------------------------------------------------------- 1, 2: DoReFa


def dorefa_weight(w, g, _, bits, scale="one", maximum="differentiated"):
    """t = tanh w, M = max |t|, n = 2^k - 1, u = t / (2 M) + 1/2, y = S (2 round(n u) / n - 1), where S
    is 1 (eq. 9) or M. Backward, rounding straight through: dt = S g / M; with the maximum
    differentiated, dM = -sum(S g t) / M^2 (+ sum(g y / S) for S = M), shared evenly by the elements
    that attain it, with the sign of each; dw = dt (1 - t^2). One bit (eq. 7): y = sign(w) mean |w|,
    dw = g."""
    if bits == 1:
        return sign(w) * np.mean(np.abs(w)), g, {}
    t, n = np.tanh(w), 2**bits - 1
    m = np.max(np.abs(t))
    s = m if scale == "maximum" else 1.0
    level = 2 * round_(n * (t / (2 * m) + 0.5)) / n - 1
    dt = s * g / m
    if maximum == "differentiated":
        dm = -np.sum(s * g * t) / m**2
        if scale == "maximum":
            dm = dm + np.sum(g * level)
        most = np.abs(t) == m
        dt = dt + np.where(most, np.sign(t) * dm / np.sum(most), 0.0)
    return s * level, dt * (1 - t * t), {}


def dorefa_gradient(x, g, p, bits):
    """y = x. Backward (eq. 12): dx = 2 m (round(n (g / (2 m) + 1/2 + N)) / n - 1/2), m = max |g| of the
    sample (all axes but the first), n = 2^k - 1, N the noise, uniform in (-1/2, 1/2) / n. A sample of
    zeros has dx = 0."""
    n, axes = 2**bits - 1, tuple(range(1, x.ndim))
    m = np.max(np.abs(g), axis=axes, keepdims=True)
    safe = np.where(m == 0, 1, m)
    level = round_(n * (g / (2 * safe) + 0.5 + p["noise"].reshape(g.shape))) / n - 0.5
    return x, np.where(m == 0, 0, 2 * m * level), {}


def write_dorefa():
    source = "arXiv 1606.06160 eq. 7, 9"
    for bits in (1, 2, 4, 8):
        position = lambda w: (2**bits - 1) * (np.tanh(w) / (2 * np.max(np.abs(np.tanh(w)))) + 0.5)
        seen = None if bits == 1 else position
        for i, shape in enumerate(((5, 7), (3, 2, 3, 2))):
            w = sample(shape, 10 + bits + i, fixed=[0.0, -0.0, 3.25, 1 / 1024], zero_channel=1, position=seen)
            for scale in ("one", "maximum"):
                for maximum in ("differentiated", "constant"):
                    if bits == 1 and (scale, maximum) != ("one", "differentiated"):
                        continue
                    if i == 1 and (bits == 8) != (scale == "one"):
                        continue
                    options = {"bits": bits} if bits == 1 else dict(bits=bits, scale=scale, maximum=maximum)
                    case("dorefa-weight", dorefa_weight, options, w, {}, source, bits)
    w = sample((2, 9), 33, fixed=[2.5, -2.5, 2.5, 0.0], position=position)
    case("dorefa-weight", dorefa_weight, dict(bits=4, scale="one", maximum="differentiated"), w, {},
         source + "; three elements attain the maximum and share its gradient")
    for bits in (2, 4, 8):
        for shape in ((3, 5), (2, 2, 3, 3)):
            n = 2**bits - 1
            for seed in range(4000):
                rng = np.random.default_rng(seed)
                grad = gradient(shape, 70 + bits)
                noise = f32(np.round(rng.uniform(-0.5, 0.5, shape) * 4096) / 4096 * 0.998 / n)
                m = np.max(np.abs(grad), axis=tuple(range(1, len(shape))), keepdims=True)
                if not any(np.any(p) for p in near(n * (grad / (2.0 * m) + 0.5 + noise))):
                    break
            x = np.round(np.random.default_rng(5).normal(0, 1, shape) * 64) / 64
            case("dorefa-gradient", dorefa_gradient, dict(bits=bits), x, {"noise": noise},
                 "arXiv 1606.06160 eq. 12", 70 + bits)


# ---------------------------------------------------------------- 3: PACT


def pact(x, g, p, bits):
    """y = clip(x, 0, a) (eq. 1), then round(y n / a) a / n, n = 2^k - 1 (eq. 2). dx = g on [0, a), the
    interval of eq. 1, else 0; da = sum of g where x >= a (eq. 3)."""
    a, n = p["alpha"], 2**bits - 1
    y = round_(np.clip(x, 0, a) * n / a) * a / n
    return y, g * ((x >= 0) & (x < a)), {"alpha": np.sum(g * (x >= a), keepdims=True).reshape(1)}


def write_pact():
    for bits in (2, 3, 4, 5, 8):
        n = 2**bits - 1
        for alpha, shape in ((n / 4, (4, 6)), (1.3, (2, 3, 3, 2)), (6.7, (5, 5))):
            alpha = float(np.float32(alpha))
            fixed = [0.0, -0.0, alpha, -alpha, alpha * 2, -1.0]
            if alpha == n / 4:
                fixed += [0.125, 0.375, 0.625, alpha - 0.125, -0.125, np.nextafter(np.float32(alpha), 0)]
            position = lambda x: (x / alpha * n, end(x, 0, alpha / n), end(x, alpha, alpha / n))
            x = sample(shape, bits, scale=0.7 * alpha, fixed=fixed, position=position)
            case("pact", pact, dict(bits=bits), x, {"alpha": [alpha]}, "arXiv 1805.06085 eq. 1-3", bits)


# ---------------------------------------------------------------- 4: SAWB

# c1, c2 of alpha = c1 sqrt(E w^2) - c2 E|w|. "even": 2^k levels without zero; "zero": 2^k - 1 levels
# with zero. The authors' (fms-model-optimizer), who use those of 8 bits for both.
SAWB = {
    "even": {2: (3.12, 2.064), 3: (7.509, 6.892), 4: (12.68, 12.80), 5: (17.74, 18.64), 8: (31.76, 35.04)},
    "zero": {2: (2.6, 1.71), 4: (12.035, 12.03), 7: (28.24, 30.81), 8: (31.76, 35.04)},
}
# The widths for which the authors have none, by `python methods.py fit`.
SAWB_FITTED = {
    "even": {6: (22.27, 24.11), 7: (27.57, 30.39)},
    "zero": {3: (6.944, 6.307), 5: (16.93, 17.81), 6: (22.17, 23.99)},
}


def sawb_fit():
    """The paper's procedure: the alpha of least squared error for six symmetric distributions (normal,
    Laplace, uniform, logistic, triangular, von Mises with kappa 1), and the line through alpha / E|w|
    over sqrt(E w^2) / E|w|. Prints c1 and c2, beside the authors'."""
    p = (np.arange(200000) + 0.5) / 200000
    angle = np.linspace(0, np.pi, 200001)
    mass = np.cumsum(np.exp(np.cos(angle)))
    normal = math.sqrt(2) * torch.erfinv(torch.tensor(p)).numpy()
    magnitudes = [normal, -np.log1p(-p), p, np.log((1 + p) / (1 - p)), 1 - np.sqrt(1 - p), np.interp(p, mass / mass[-1], angle)]
    for levels in SAWB:
        for bits in range(2, 9):
            n, points = 2**bits - (1 if levels == "even" else 2), []
            for w in magnitudes:
                error = lambda a: np.mean((w - a * (2 * round_(n * (np.minimum(w / a, 1) + 1) / 2) / n - 1)) ** 2)
                first, root = np.mean(w), np.sqrt(np.mean(w * w))
                tried = np.linspace(0.3 * root, min(14 * root, w.max()), 60)
                for _ in range(3):
                    best = int(np.argmin([error(a) for a in tried]))
                    tried = np.linspace(tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)], 30)
                points.append((root / first, tried[15] / first))
            c1, c0 = np.polyfit(*zip(*points), 1)
            print(levels, bits, f"{c1:.3f} {-c0:.3f}", SAWB[levels].get(bits, "-"), flush=True)


def sawb(w, g, p, bits, levels, c1, c2, outside, axis=None):
    """a = c1 sqrt(mean w^2) - c2 mean |w|, or max |w| if that is not positive; n = 2^k - 1 steps without
    zero, 2^k - 2 with zero; y = a (2 round(n (clip(w / a, -1, 1) + 1) / 2) / n - 1). dw = g where
    |w| <= a, else 0 ("zero") or g ("pass"); a is a constant. All zeros: y = 0."""
    at, n = apart(w.shape, axis), 2**bits - (1 if levels == "even" else 2)
    a = c1 * np.sqrt(means(w * w, at)) - c2 * means(np.abs(w), at)
    largest = np.zeros_like(a)
    np.maximum.at(largest, at.ravel(), np.abs(w).ravel())
    a = np.where(a > 0, a, largest)[at]
    safe = np.where(a == 0, 1, a)
    y = a * (2 * round_(n * (np.clip(w / safe, -1, 1) + 1) / 2) / n - 1)
    return y, g * ((np.abs(w) <= a) | (outside == "pass")), {}


def write_sawb():
    def position(w, bits, levels, c, axis):
        at, n = apart(w.shape, axis), 2**bits - (1 if levels == "even" else 2)
        a = c[0] * np.sqrt(means(w * w, at)) - c[1] * means(np.abs(w), at)
        empty = np.bincount(at.ravel(), weights=np.abs(w).ravel()) == 0
        a = np.where(empty, 1, a)[at]  # where it is not positive, no value is far enough from a tie
        return np.where(a > 0, n * (np.clip(w / np.abs(a), -1, 1) + 1) / 2, 0.5), end(np.abs(w), a, 2 * np.abs(a) / n)

    for levels in SAWB:
        for bits, c in sorted((SAWB[levels] | SAWB_FITTED[levels]).items()):
            known = "authors' c1, c2" if bits in SAWB[levels] else "c1, c2 fitted"
            for axis, shape, outside in ((None, (6, 7), "zero"), (0, (4, 3, 2, 2), "pass")):
                if axis == 0 and bits not in SAWB[levels]:
                    continue
                seen = partial(position, bits=bits, levels=levels, c=c, axis=axis)
                fixed, zero = ([0.0, -0.0, 3.5, -4.25], None) if axis is None else ([], 2)
                w = sample(shape, 100 + bits, fixed=fixed, zero_channel=zero, position=seen)
                options = dict(bits=bits, levels=levels, c1=c[0], c2=c[1], outside=outside)
                options |= {} if axis is None else {"axis": axis}
                case("sawb", sawb, options, w, {}, f"arXiv 1807.06964; {known}", bits)
    w = f32([1.25, -1.25, 1.25, 1.0, -1.25, 1.125])  # magnitudes alike: alpha would be negative
    case("sawb", sawb, dict(bits=4, levels="even", c1=12.68, c2=12.80, outside="zero"), w, {},
         "arXiv 1807.06964; alpha negative, hence max |w|")


# ---------------------------------------------------------------- 5: WRPN


def wrpn_weight(w, g, _, bits):
    """y = round(n clip(w, -1, 1)) / n, n = 2^(k-1) - 1; dw = g on [-1, 1]."""
    n = 2 ** (bits - 1) - 1
    return round_(n * np.clip(w, -1, 1)) / n, g * (np.abs(w) <= 1), {}


def wrpn_activation(x, g, _, bits):
    """y = round(n clip(x, 0, 1)) / n, n = 2^k - 1; dx = g on [0, 1]."""
    n = 2**bits - 1
    return round_(n * np.clip(x, 0, 1)) / n, g * ((x >= 0) & (x <= 1)), {}


def write_wrpn():
    for bits in (2, 3, 4, 8):
        n = 2 ** (bits - 1) - 1
        seen = lambda w: (n * np.clip(w, -1, 1), end(np.abs(w), 1, 1 / n))
        fixed = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -2.0, float(np.nextafter(f32(1), f32(2)))]
        case("wrpn-weight", wrpn_weight, dict(bits=bits), sample((5, 5), bits, 0.6, fixed, position=seen), {},
             "arXiv 1709.01134 sec. 5", bits)
    for bits in (1, 2, 4, 8):
        n = 2**bits - 1
        seen = lambda x: (n * np.clip(x, 0, 1), end(x, 0, 1 / n), end(x, 1, 1 / n))
        fixed = [0.0, -0.0, 1.0, 0.5, -0.5, 1.5, float(np.nextafter(f32(1), f32(2)))]
        case("wrpn-activation", wrpn_activation, dict(bits=bits), sample((2, 3, 2, 2), bits, 0.8, fixed, position=seen),
             {}, "arXiv 1709.01134 sec. 5", bits)


# ---------------------------------------------------------------- 6: range-based linear


def range_parameters(p, bits, mode, dtype):
    low, high = p["min"], p["max"]
    if mode == "asymmetric":
        low, high, n = np.minimum(low, 0), np.maximum(high, 0), 2**bits - 1
        q = np.where(high == low, 1, n / np.where(high == low, 1, high - low)).astype(dtype)
        return low, high, q, round_(q * low), 0, n
    a = np.maximum(np.abs(low), np.abs(high))
    n = 2 ** (bits - 1) - 1 if mode == "restricted" else (2**bits - 1) / 2
    q = np.where(a == 0, 1, n / np.where(a == 0, 1, a)).astype(dtype)
    least = -(2 ** (bits - 1)) + (mode == "restricted")
    return -a, a, q, np.zeros_like(q), least, 2 ** (bits - 1) - 1


def range_linear(x, g, p, bits, mode, axis=None, group=None):
    """asymmetric: lo = min(min, 0), hi = max(max, 0), q = (2^k - 1) / (hi - lo), z = round(q lo),
    i = clamp(round(q x - z), 0, 2^k - 1), y = (i + z) / q. Symmetric, a = max(|min|, |max|):
    restricted q = (2^(k-1) - 1) / a, i in +-(2^(k-1) - 1); full q = ((2^k - 1) / 2) / a, i in
    -2^(k-1) ... 2^(k-1) - 1; y = i / q. dx = g where lo <= x <= hi (|x| <= a), else 0. A range of
    width zero has q = 1."""
    at = apart(x.shape, axis, group)
    low, high, q, z, least, most = range_parameters(p, bits, mode, x.dtype)
    i = np.clip(round_(q[at] * x - z[at]), least, most)
    return (i + z[at]) / q[at], g * ((x >= low[at]) & (x <= high[at])), {}


def write_range_linear():
    source = "Distiller, algo_quantization.md; arXiv 1806.08342"
    layouts = [((5, 6), {}), ((4, 3, 2, 2), {"axis": 0}), ((2, 3, 2, 2), {"axis": 1}), ((3, 7), {"axis": 1, "group": 3}),
               ((5, 3), {"axis": 0, "group": 2})]
    for mode in ("asymmetric", "restricted", "full"):
        for bits in (2, 3, 4, 8):
            for number, (shape, parts) in enumerate(layouts):
                if (bits in (3,) and number > 1) or (bits == 8 and number == 4):
                    continue
                at = apart(shape, **parts)
                count = at.max() + 1
                rng = np.random.default_rng(bits * 10 + number)
                while True:
                    p = {"min": -np.round(rng.uniform(0.2, 1.5, count) * 256) / 256,
                         "max": np.round(rng.uniform(0.3, 2.0, count) * 256) / 256}
                    if count > 1:
                        p["min"][1] = p["max"][1] = 0.0
                    if count > 2:
                        p["min"][2] = 0.125  # above zero: the range still includes it
                    _, _, q, _, _, _ = range_parameters({k: f32(v) for k, v in p.items()}, bits, mode, np.float64)
                    if mode != "asymmetric" or not any(np.any(n) for n in near(q * np.minimum(p["min"], 0))):
                        break
                p = {k: f32(v) for k, v in p.items()}

                def position(x):
                    low, high, q, z, least, most = range_parameters(p, bits, mode, np.float64)
                    return q[at] * x - z[at], end(x, low[at], 1 / q[at]), end(x, high[at], 1 / q[at])

                fixed = [-3.0, 3.5, 0.0, -0.0] if count == 1 else []
                x = sample(shape, bits * 7 + number, 0.9, fixed, position=position)
                if count > 1:
                    x[at == 1] = 0.0
                case("range-linear", range_linear, dict(bits=bits, mode=mode) | parts, x, p, source, bits + number)
    # Exact steps: ties, and the ends themselves. q is 2 (asymmetric), 1 (restricted), a power of two (full).
    ties = f32([-2.0, -2.25, -1.75, -0.25, 0.25, 0.75, 0.0, -0.0, 5.5, 5.75, 6.0, -3.0])
    case("range-linear", range_linear, dict(bits=4, mode="asymmetric"), ties, {"min": [-2], "max": [5.5]}, source)
    case("range-linear", range_linear, dict(bits=4, mode="asymmetric"), ties, {"min": [-2.25], "max": [5.25]},
         source + "; the zero point is a tie")
    ties = f32([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 7.0, 7.5, -7.0, -7.5, 0.0])
    case("range-linear", range_linear, dict(bits=4, mode="restricted"), ties, {"min": [-7], "max": [3]}, source)
    case("range-linear", range_linear, dict(bits=4, mode="full"), ties, {"min": [-7.5], "max": [6]}, source)


GAUSS, LAPLACE = {}, {}


def aciq(distribution, bits):
    """The clipping value in units of sigma or b that minimizes the paper's expected squared error with
    2^M steps on [-a, a]: Laplace 2 b^2 e^(-a/b) + a^2 / (3 4^M); Gauss (a^2 + s^2)(1 - erf(a / (s
    sqrt 2))) - sqrt(2 / pi) a s e^(-a^2 / (2 s^2)) + a^2 / (3 4^M). For a one-sided tensor, 2^M steps on
    [0, a], it is that of M + 1. Found by bisection of the derivative."""
    noise = 2 / (3 * 4.0**bits)
    if distribution == "laplace":
        slope = lambda a: -2 * math.exp(-a) + noise * a
    else:
        slope = lambda a: 2 * a * math.erfc(a / math.sqrt(2)) - 2 * math.sqrt(2 / math.pi) * math.exp(-a * a / 2) + noise * a
    low, high = 1e-3, 60.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low


def range_of(batches, name, **o):
    """See NOTES: ranges. `batches` has one row per batch."""
    x = batches.ravel()
    least, most = batches.min(axis=1), batches.max(axis=1)
    if name == "minmax":
        return x.min(), x.max()
    if name == "average" and o["form"] == "torch":
        low, high = least[0], most[0]
        for a, b in zip(least[1:], most[1:]):
            low, high = low + o["constant"] * (a - low), high + o["constant"] * (b - high)
        return low, high
    if name == "average":
        low = high = 0 * x[0]
        for a, b in zip(least, most):
            low, high = low * o["decay"] + (1 - o["decay"]) * a, high * o["decay"] + (1 - o["decay"]) * b
        correction = 1 - o["decay"] ** len(least)
        return low / correction, high / correction
    if name == "mean":
        return least.mean(), most.mean()
    if name == "deviations":
        spread = o["count"] * np.sqrt(np.sum((x - x.mean()) ** 2) / (x.size - 1))
        return max(x.min(), x.mean() - spread), min(x.max(), x.mean() + spread)
    if name == "percentile":
        return np.quantile(x, 1 - o["percentile"] / 100), np.quantile(x, o["percentile"] / 100)
    a = aciq(name, o["bits"] + o["one_sided"])
    if o["one_sided"]:
        unit = 2 * x.mean() if name == "laplace" else np.sqrt(2 * np.mean(x * x))
        return 0 * x[0], min(x.max(), a * unit)
    unit = np.mean(np.abs(x - x.mean())) if name == "laplace" else np.sqrt(np.sum((x - x.mean()) ** 2) / (x.size - 1))
    return max(x.min(), x.mean() - a * unit), min(x.max(), x.mean() + a * unit)


def write_ranges():
    rng = np.random.default_rng(44)
    batches = np.round(rng.standard_t(3, (4, 24)) * 64) / 64 + np.array([[0.0], [0.25], [-0.5], [0.125]])
    positive = np.maximum(batches, 0)

    def line(name, source, x=batches, **options):
        y = range_of(x.astype(np.float64), name, **options)
        assert np.allclose(y, range_of(f32(x), name, **options), rtol=1e-4, atol=1e-4)
        emit(f"range-{name}", options, f32(x), [], {}, y, [], {}, source)

    line("minmax", "minimum and maximum of all batches")
    line("average", "PyTorch, MovingAverageMinMaxObserver", form="torch", constant=0.01)
    line("average", "PyTorch, MovingAverageMinMaxObserver", form="torch", constant=0.1)
    line("average", "Distiller, FakeLinearQuantization (arXiv 1712.05877)", form="corrected", decay=0.999)
    line("average", "Distiller, FakeLinearQuantization (arXiv 1712.05877)", form="corrected", decay=0.9)
    line("mean", "mean over the batches of their minimum and maximum")
    for count in (1, 2, 3):
        line("deviations", "Distiller, N_STD", count=count)
    for percentile in (90, 99, 99.9, 100):
        line("percentile", "linear interpolation between order statistics", percentile=percentile)
    for name in ("gauss", "laplace"):
        for bits in range(2, 9):
            emit("aciq-constant", dict(distribution=name, bits=bits, one_sided=False), f32([]), [], {},
                 [aciq(name, bits)], [], {}, "arXiv 1810.05723")
            emit("aciq-constant", dict(distribution=name, bits=bits, one_sided=True), f32([]), [], {},
                 [aciq(name, bits + 1)], [], {}, "arXiv 1810.05723")
            if bits in (2, 3, 4, 8):
                line(name, "arXiv 1810.05723", bits=bits, one_sided=False)
                line(name, "arXiv 1810.05723", x=positive, bits=bits, one_sided=True)


# ---------------------------------------------------------------- 7: PyTorch's affine


def write_torch():
    """fake_quantize: i = clamp(round(x (1 / s)) + z, least, most), y = (i - z) s; dx = g where the
    unclamped i is within least ... most."""
    for least, most, scale, zero, shape in (
        (0, 255, 0.0137, 131, (5, 6)), (-128, 127, 0.0171, 0, (5, 6)), (0, 15, 0.21, 5, (4, 5)), (-8, 7, 0.25, 0, (4, 6)),
        (-8, 7, 0.25, -3, (4, 6)), (0, 3, 0.5, 1, (3, 6)), (-127, 127, 0.0117, 0, (3, 7)),
    ):
        scale = float(np.float32(scale))
        position = lambda x: x / scale
        low, high = (least - zero) * scale, (most - zero) * scale
        fixed = [0.0, -0.0, low * 1.5 - 1, high * 1.5 + 1]
        fixed += [0.125, 0.375, -0.125, high + 0.125, low - 0.125, high, low] if scale == 0.25 else []
        x = f32(sample(shape, most, 0.6 * (high - low) / 2, fixed, position=position))
        t, g = torch.tensor(x, requires_grad=True), gradient(shape, most)
        y = torch.fake_quantize_per_tensor_affine(t, scale, zero, least, most)
        y.backward(torch.tensor(g))
        emit("torch-affine", dict(least=least, most=most), x, g, dict(scale=f32([scale]), zero_point=f32([zero])),
             y.detach().numpy(), t.grad.numpy(), {}, "torch.fake_quantize_per_tensor_affine, torch 2.15.0")
    for least, most, axis, shape in ((0, 255, 1, (2, 3, 2, 2)), (-128, 127, 0, (3, 2, 2, 2)), (-8, 7, 0, (4, 5)), (0, 15, 1, (4, 3))):
        count, rng = shape[axis], np.random.default_rng(axis + most)
        scale = f32(rng.uniform(1.5, 3, count) / (most - least))
        zero = rng.integers(least, most + 1, count) if least == 0 else np.zeros(count, int)
        at = apart(shape, axis)
        x = f32(sample(shape, most + axis, 1.5, [0.0, -9.0, 9.0], position=lambda x: x / scale[at].astype(np.float64)))
        t, g = torch.tensor(x, requires_grad=True), gradient(shape, most)
        y = torch.fake_quantize_per_channel_affine(t, torch.tensor(scale), torch.tensor(zero, dtype=torch.int32), axis, least, most)
        y.backward(torch.tensor(g))
        emit("torch-affine", dict(least=least, most=most, axis=axis), x, g, dict(scale=scale, zero_point=f32(zero)),
             y.detach().numpy(), t.grad.numpy(), {}, "torch.fake_quantize_per_channel_affine, torch 2.15.0")


# ---------------------------------------------------------------- 8: LSQ, LSQ+


def ends(bits, signed):
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def lsq(v, g, p, bits, signed, gradient_scale, features=None, axis=None):
    """y = round(clip(v / s, Qn, Qp)) s (sec. 2). ds = c sum g (round(v / s) - v / s inside, Qn where
    v / s <= Qn, Qp where v / s >= Qp) (sec. 2.1), dv = g inside, Qn < v / s < Qp, else 0.
    gradient_scale "paper": c = 1 / sqrt(features Qp), features that of the weights that share s, or of
    one sample's activations; "one": c = 1."""
    least, most = ends(bits, signed)
    at, s = apart(v.shape, axis), p["step"]
    u = v / s[at]
    inside = (u > least) & (u < most)
    each = np.where(inside, round_(u) - u, np.where(u <= least, least, most)).astype(v.dtype)
    c = 1 / math.sqrt(features * most) if gradient_scale == "paper" else 1.0
    return round_(np.clip(u, least, most)) * s[at], g * inside, {"step": c * sums(g * each, at, s)}


def lsq_plus(x, g, p, bits, signed, gradient_scale, features=None):
    """y = round(clip((x - b) / s, n, p)) s + b. ds as in LSQ of (x - b) / s, db = c sum of g where not
    n < (x - b) / s < p, dx = g inside. c multiplies both."""
    least, most = ends(bits, signed)
    s, b = p["step"], p["offset"]
    u = (x - b) / s
    inside = (u > least) & (u < most)
    each = np.where(inside, round_(u) - u, np.where(u <= least, least, most))
    c = 1 / math.sqrt(features * most) if gradient_scale == "paper" else 1.0
    ds, db = c * np.sum(g * each).reshape(1), c * np.sum(g * ~inside).reshape(1)
    return round_(np.clip(u, least, most)) * s + b, g * inside, {"step": ds, "offset": db}


def write_lsq():
    for signed in (True, False):
        for bits in (2, 3, 4, 8) if signed else (1, 2, 4, 8):
            least, most = ends(bits, signed)
            for step, shape in ((0.25, (4, 7)), (0.3, (2, 3, 3, 2))):
                step = float(np.float32(step))
                fixed = [0.0, -0.0, most * step + 4, least * step - 4]
                if step == 0.25:
                    fixed += [0.125, -0.125, 0.375, most * step, least * step, (most - 0.5) * step, (most + 0.5) * step,
                              (least - 0.5) * step, (least + 0.5) * step]
                seen = lambda v: (v / step, end(v, most * step, step), end(v, least * step, step))
                v = sample(shape, bits, 0.6 * most * step + 0.2, fixed, position=seen)
                features = v.size if signed else v.size // shape[0]
                for scale in ("paper", "one"):
                    options = dict(bits=bits, signed=signed, gradient_scale=scale)
                    options |= {"features": features} if scale == "paper" else {}
                    case("lsq", lsq, options, v, {"step": [step]}, "arXiv 1902.08153 sec. 2", bits)
    for bits, shape in ((2, (3, 5)), (4, (3, 2, 2, 2))):
        least, most = ends(bits, True)
        step = f32([0.25, 0.3, 0.7])
        at = apart(shape, 0)
        wide = step[at].astype(np.float64)
        seen = lambda v: (v / wide, end(v, most * wide, wide), end(v, least * wide, wide))
        v = sample(shape, 60 + bits, 1.0, zero_channel=1, position=seen)
        options = dict(bits=bits, signed=True, gradient_scale="paper", features=v.size // 3, axis=0)
        case("lsq", lsq, options, v, {"step": step}, "arXiv 1902.08153 sec. 2, a step per channel", bits)
    for signed in (True, False):
        for bits in (2, 3, 4, 8):
            least, most = ends(bits, signed)
            for step, offset, shape in ((0.25, -0.5, (4, 7)), (0.21, -0.13, (2, 3, 3, 2))):
                step, offset = float(np.float32(step)), float(np.float32(offset))
                fixed = [0.0, -0.0, most * step + 4, least * step - 4]
                if step == 0.25:
                    fixed += [k * step + offset for k in (most, least, most - 0.5, most + 0.5, least + 0.5, least - 0.5, 0.5)]
                seen = lambda x: ((x - offset) / step, end(x - offset, most * step, step), end(x - offset, least * step, step))
                x = sample(shape, 80 + bits, 0.5 * most * step + 0.3, fixed, position=seen)
                options = dict(bits=bits, signed=signed, gradient_scale="one" if step == 0.25 else "paper")
                options |= {} if step == 0.25 else {"features": x.size // shape[0]}
                case("lsq-plus", lsq_plus, options, x, {"step": [step], "offset": [offset]}, "arXiv 2004.09576", bits)


# ---------------------------------------------------------------- 9: XNOR-Net, binary


def xnor_weight(w, g, _, gradient):
    """y = a sign(w), a = mean |w| of the output channel (axis 0), n elements. "paper": dw = g (1 / n + a
    1(|w| <= 1)); "complete": dw = sign(w) / n sum over the channel of g sign(w) + g a 1(|w| <= 1), the
    chain rule of both factors; "straight-through": dw = g."""
    at = apart(w.shape, 0)
    a, n = means(np.abs(w), at)[at], w[0].size
    hard = g * a * (np.abs(w) <= 1)
    if gradient == "paper":
        dw = g / n + hard
    elif gradient == "complete":
        dw = sign(w) * means(g * sign(w), at)[at] + hard
    else:
        dw = g
    return a * sign(w), dw, {}


def binary(x, g, _):
    """y = sign(x), +1 at zero; dx = g where |x| <= 1 (arXiv 1602.02830 eq. 1, 4)."""
    return sign(x), g * (np.abs(x) <= 1), {}


def write_binary():
    above = float(np.nextafter(f32(1), f32(2)))
    for shape in ((4, 7), (3, 2, 3, 2)):
        w = sample(shape, 3, 0.8, [0.0, -0.0, 1.0, -1.0, 1.5, above], zero_channel=1)
        for gradient in ("paper", "complete", "straight-through"):
            case("xnor-weight", xnor_weight, dict(gradient=gradient), w, {}, "arXiv 1603.05279 sec. 3.1", 4)
        case("binary", binary, {}, w, {}, "arXiv 1602.02830 eq. 1, 4", 4)


# ---------------------------------------------------------------- 10: TWN, TTQ


def twn(w, g, _, factor, axis=None):
    """d = factor mean |w| (0.7, in the third version 0.75), a = mean of |w| where |w| > d (eq. 5), 0 if
    there is none; y = a for w > d, -a for w < -d, else 0 (eq. 3); dw = g."""
    at = apart(w.shape, axis)
    over = np.abs(w) > factor * means(np.abs(w), at)[at]
    count = np.bincount(at.ravel(), weights=over.ravel())
    a = np.bincount(at.ravel(), weights=(np.abs(w) * over).ravel()) / np.maximum(count, 1)
    return (np.sign(w) * over * a.astype(w.dtype)[at]), g, {}


def ttq(w, g, p, threshold):
    """d = threshold max |w|; y = wp for w > d, -wn for w < -d, else 0. dwp = sum g where w > d, dwn =
    -sum g where w < -d (the paper prints no minus, its -wn and the authors' code have it); dw = g wp,
    g, g wn."""
    d = threshold * np.max(np.abs(w))
    up, down = w > d, w < -d
    wp, wn = p["positive"], p["negative"]
    y = np.where(up, wp, np.where(down, -wn, 0))
    dp = {"positive": np.sum(g * up).reshape(1), "negative": -np.sum(g * down).reshape(1)}
    return y, g * np.where(up, wp, np.where(down, wn, 1)), dp


def write_ternary():
    def position(w, axis):
        d = (0.7 * means(np.abs(w), apart(w.shape, axis)))[apart(w.shape, axis)]
        return end(np.abs(w), d, np.where(d == 0, 1, d))

    for shape, axis in (((5, 7), None), ((3, 2, 3, 2), None), ((4, 6), 0), ((3, 2, 2, 3), 0)):
        fixed = [0.0, -0.0, 4.0] if axis is None else []
        w = sample(shape, 9, 0.6, fixed, zero_channel=1, position=partial(position, axis=axis))
        options = dict(factor=0.7) | ({} if axis is None else {"axis": axis})
        case("twn", twn, options, w, {}, "arXiv 1605.04711 eq. 3, 5", 9)
    w = f32([0.75, -0.75, 0.5, -0.5, 1.5, -2.0, 1.0, 1.0])  # mean |w| is 1: 0.75 is at the threshold
    case("twn", twn, dict(factor=0.75), w, {}, "arXiv 1605.04711 eq. 3, 5; weights at the threshold")
    case("twn", twn, dict(factor=0.7), f32(np.zeros((2, 3))), {}, "arXiv 1605.04711 eq. 3, 5; all zero")
    for shape, t in (((5, 7), 0.05), ((3, 2, 3, 2), 0.05), ((4, 5), 0.0625)):
        t = float(np.float32(t)) if t != 0.05 else t
        fixed = [0.0, -0.0, 2.0] + ([0.125, -0.125, 0.1875] if t == 0.0625 else [])
        seen = lambda w: end(np.abs(w), t * np.max(np.abs(w)), t * np.max(np.abs(w)))
        w = np.clip(sample(shape, 12, 0.3, fixed, zero_channel=None, position=seen), -2, 2)
        case("ttq", ttq, dict(threshold=t), w, {"positive": [1.3125], "negative": [0.71875]}, "arXiv 1612.01064", 12)


# ---------------------------------------------------------------- 11: APoT


def apot_levels(b):
    """The 2^b magnitudes of b bits, base width k = 2, the largest 1. n = b // 2 terms p_i in {0, 2^-i,
    2^-(i+n), 2^-(i+2n)} for even b; for odd b p_i in {0, 2^-i, 2^-(i+n),
    2^-(i+2n+1)} and one more, {0, 2^-2n}."""
    n, odd = b // 2, b % 2
    levels = [0.0]
    for i in range(n):
        term = [0.0, 2.0**-i, 2.0 ** -(i + n), 2.0 ** -(i + 2 * n + odd)]
        levels = [a + t for a in levels for t in term]
    if odd:
        levels = [a + t for a in levels for t in (0.0, 2.0 ** (-2 * n))]
    levels = np.array(sorted(levels))
    assert len(set(levels)) == 2**b
    return levels / levels[-1]


def project(u, b):
    """The nearest level of u in [0, 1]; a tie goes to the level of even number, counted from zero."""
    levels = apot_levels(b).astype(u.dtype)
    middle = (levels[1:] + levels[:-1]) / 2
    i = np.searchsorted(middle, u, side="left")  # u above middle[i - 1], at or below middle[i]
    tie = (i < len(middle)) & (np.append(middle, 2)[i] == u) & (i % 2 == 1)
    return levels[i + tie]


def apot_weight(w, g, p, bits, normalize, outside):
    """z = (w - m) / (s + 1e-5), m and s of the whole tensor, s^2 = mean (w - m)^2 (or z = w, "none");
    y = a sign(z) P(clip(|z| / a, 0, 1)), P the nearest of the 2^(k-1) magnitudes. da = sum g
    (sign(z) where |z| > a, else y / a - z / a); dz = g where |z| <= a, else 0 ("zero") or g
    ("pass"); dw by the normalization, with m and s differentiated or constant."""
    a, eps = p["alpha"], 1e-5
    m, s = (np.mean(w), np.sqrt(np.mean((w - np.mean(w)) ** 2))) if normalize != "none" else (0, 1)
    z = (w - m) / (s + eps) if normalize != "none" else w
    level = np.sign(z) * project(np.minimum(np.abs(z) / a, 1), bits - 1)
    inside = np.abs(z) <= a
    da = np.sum(g * np.where(inside, level - z / a, np.sign(z))).reshape(1)
    dz = g * (inside | (outside == "pass"))
    if normalize == "constant":
        dz = dz / (s + eps)
    elif normalize == "differentiated":
        dz = (dz - np.mean(dz)) / (s + eps) - (w - m) / s * np.mean(dz * (w - m)) / (s + eps) ** 2
    return a * level, dz, {"alpha": da}


def apot_activation(x, g, p, bits):
    """y = a P(clip(x / a, 0, 1)), P the nearest of the 2^k magnitudes; da = sum g (1 where x > a, P(x / a)
    - x / a inside, 0 where x < 0); dx = g on [0, a]."""
    a = p["alpha"]
    level = project(np.clip(x / a, 0, 1), bits)
    inside = (x >= 0) & (x <= a)
    da = np.sum(g * np.where(inside, level - x / a, x > a)).reshape(1)
    return a * level, g * inside, {"alpha": da}


def apot_position(u, b):
    """A tie where u is half way between two levels, in units of that distance."""
    levels = apot_levels(b)
    middle, width = (levels[1:] + levels[:-1]) / 2, np.diff(levels)
    i = np.argmin(np.abs(u[..., None] - middle), axis=-1)
    return end(u, middle[i], width[i])


def write_apot():
    for b in range(1, 9):
        emit("apot-levels", dict(magnitude_bits=b), f32([]), [], {}, apot_levels(b), [], {}, "arXiv 1909.13144")
    for bits in (2, 3, 4, 5, 8):
        for normalize, outside, alpha, shape in (
            ("none", "zero", 1.0, (5, 6)), ("none", "pass", 1.7, (5, 6)), ("differentiated", "zero", 2.1, (3, 2, 3, 2)),
            ("constant", "pass", 1.9, (4, 7)),
        ):
            alpha = float(np.float32(alpha))

            def position(w):
                z = (w - w.mean()) / (w.std() + 1e-5) if normalize != "none" else w
                u = np.abs(z) / alpha
                return apot_position(np.minimum(u, 1), bits - 1), end(u, 1, 0.01)

            fixed = [0.0, -0.0, 4.0, -4.5]
            if alpha == 1.0:
                fixed += [1.0, -1.0] + [0.5] * (bits == 2) + [0.125, 0.375, 0.75, -0.375] * (bits == 3)
            w = sample(shape, 20 + bits, 0.8, fixed, position=position)
            case("apot-weight", apot_weight, dict(bits=bits, normalize=normalize, outside=outside), w, {"alpha": [alpha]},
                 "arXiv 1909.13144", bits)
        for alpha, shape in ((2.0, (4, 6)), (3.3, (2, 3, 2, 2))):
            alpha = float(np.float32(alpha))
            seen = lambda x: (apot_position(np.clip(x / alpha, 0, 1), bits), end(x, 0, 0.01), end(x, alpha, 0.01))
            fixed = [0.0, -0.0, 5.0, -4.5]
            fixed += [2.0] + [0.25, 0.75, 1.5] * (bits == 2) if alpha == 2.0 else []
            x = sample(shape, 40 + bits, 1.5, fixed, position=seen)
            case("apot-activation", apot_activation, dict(bits=bits), x, {"alpha": [alpha]}, "arXiv 1909.13144", bits)


# ---------------------------------------------------------------- 12: learned widths


def learned_width(x, g, p, ties, axis=None):
    """F = round(f), y = R(x 2^F) 2^-F, no clipping; R rounds ties up, floor(. + 1/2), as the paper, or to
    even. dx = g, df = ln 2 sum g (x - y)."""
    at = apart(x.shape, axis)
    unit = np.exp2(round_(p["fraction"]))[at]
    y = (np.floor(x * unit + 0.5) if ties == "up" else round_(x * unit)) / unit
    return y, g, {"fraction": math.log(2) * sums(g * (x - y), at, p["fraction"])}


def learned_width_saturating(x, g, p, ties, signed, symmetric=False, axis=None):
    """F = round(f), I = round(i), hi = 2^I - 2^-F, lo = -2^I, -hi (symmetric) or 0 (unsigned); y = R(clip(x,
    lo, hi) 2^F) 2^-F. Inside lo <= x <= hi: dx = g, df = ln 2 g (x - y), di = 0. Above: df = ln 2 2^-F g,
    di = ln 2 2^I g. Below: of lo likewise."""
    at, ln2 = apart(x.shape, axis), math.log(2)
    unit, size = np.exp2(round_(p["fraction"]))[at], np.exp2(round_(p["integer"]))[at]
    high = size - 1 / unit
    low = -high if signed and symmetric else -size * signed
    c = np.clip(x, low, high)
    y = (np.floor(c * unit + 0.5) if ties == "up" else round_(c * unit)) / unit
    inside, below = (x >= low) & (x <= high), x < low
    both = signed and symmetric
    df = np.where(inside, x - y, np.where(below, -1 / unit * both, 1 / unit)) * ln2
    di = np.where(inside, 0, np.where(below, -size * signed, size)) * ln2
    dp = {"fraction": sums(g * df, at, p["fraction"]), "integer": sums(g * di, at, p["integer"])}
    return y, g * inside, dp


def ebops(x, g, p, positions):
    """Effective bit operations of a linear layer of O outputs and I inputs, or a convolution (positions
    output pixels): positions sum over o, i of b_w[o] b_a[i], where b = max(integer + round(fraction),
    0), the bits without the sign. Gradients to fractions and integers straight through, 0 where
    b is 0. Parameters of one element serve all outputs or inputs."""
    b_w = np.maximum(p["weight_integer"] + round_(p["weight_fraction"]), 0)
    b_a = np.maximum(p["activation_integer"] + round_(p["activation_fraction"]), 0)
    outputs, inputs = x.shape
    share_w, share_a = outputs // b_w.size, inputs // b_a.size
    y = positions * share_w * share_a * b_w.sum() * b_a.sum()
    each = g.ravel()[0] * positions * share_w * share_a
    dw, da = each * b_a.sum() * (b_w > 0), each * b_w.sum() * (b_a > 0)
    return y.reshape(1), [], {"weight_integer": dw, "weight_fraction": dw, "activation_integer": da, "activation_fraction": da}


def write_learned_width():
    source = "arXiv 2405.00645"
    for ties in ("up", "even"):
        for f, shape, axis in (([2.3], (4, 6), None), ([-0.8], (3, 5), None), ([0.2, 3.4, -1.3], (3, 2, 2, 2), 0), ([5.1, 2.7, 0.1], (2, 3, 2, 2), 1)):
            unit = np.exp2(np.round(f))[apart(shape, axis)]
            fixed = [0.0, -0.0, 0.125, 0.375, -0.125, 2.5, -3.5] if f == [2.3] else [0.0, 1.0, -3.0]
            x = sample(shape, 5, 2.0, fixed, position=lambda x: x * unit)
            options = dict(ties=ties) | ({} if axis is None else {"axis": axis})
            case("learned-width", learned_width, options, x, {"fraction": f}, source + "; HGQ", 6)
    for signed, symmetric in ((True, False), (True, True), (False, False)):
        for f, i, shape, axis in (([2.3], [0.9], (4, 6), None), ([1.2, 3.4, -0.7], [1.1, -0.2, 2.3], (3, 2, 3, 2), 0)):
            unit, size = (np.exp2(np.round(v))[apart(shape, axis)] for v in (f, i))
            seen = lambda x: (x * unit, end(x, size - 1 / unit, 1 / unit), end(x, -size, 1 / unit), end(x, 0, 1e-3))
            fixed = [0.0, 0.125, -0.125, 2.0, 1.75, -2.0, -1.75, -2.25, 7.0, -7.0] if axis is None else [-9.0, 9.0]
            x = sample(shape, 8, 2.0, fixed, position=seen)
            options = dict(ties="even", signed=signed, symmetric=symmetric) | ({} if axis is None else {"axis": axis})
            case("learned-width-saturating", learned_width_saturating, options, x, {"fraction": f, "integer": i},
                 source + "; HGQ2, overflow SAT", 7)
    for shape, w, a, positions in (
        ((3, 4), ([0, 1, -1], [3.2, 4.4, 0.3]), ([2], [2.7]), 1), ((3, 4), ([0], [3.6]), ([0, 1, 2, -2], [1.2, 2.3, 3.4, 1.1]), 25),
    ):
        p = {"weight_integer": w[0], "weight_fraction": w[1], "activation_integer": a[0], "activation_fraction": a[1]}
        p, x, g = {k: f32(v) for k, v in p.items()}, f32(np.zeros(shape)), f32([0.5])
        wide = {k: v.astype(np.float64) for k, v in p.items()}
        y, _, dp = ebops(x, g.astype(np.float64), wide, positions)
        emit("ebops", dict(positions=positions), x, g, p, y, [], dp, source + "; effective bit operations")


def main():
    write_dorefa()
    write_pact()
    write_sawb()
    write_wrpn()
    write_range_linear()
    write_ranges()
    write_lsq()
    write_binary()
    write_ternary()
    write_torch()
    write_apot()
    write_learned_width()


if __name__ == "__main__":
    sawb_fit() if sys.argv[1:] == ["fit"] else main()
