"""Writes integer_training.jsonl: the quantizers of WAGE, WAGEUBN and NITI, from the papers, in f64.

    pip install numpy==2.4.6
    python integer_training.py > integer_training.jsonl

One line is one case. Numbers are f32, printed exactly. Every scale is a power of two, so that f32 and f64
decide alike everywhere, ties included, which are rounded to even. `y` is what a tensor `x` becomes; of
`constant`, which rounds at random, `low` and `high` are the two values between which it falls.

    shift     R clip(Q(x / R, k), -1 + d, 1 - d),  d = 2^(1 - k), Q(x, k) = d round(x / d)
              R = 2^round(log2 max |x|)  (WAGEUBN, arXiv 1909.02384, section III; WAGE, 1802.04680, eq. 7)
              R = 2^ceil(log2 max |x|)   (NITI, 2009.13108, section III)
    flag      with sc = R / 2^(k - 1):  sc clip(round(x / sc), -2^(k-1) + 1, 2^(k-1) - 1) where |x| >= sc,
              sc clip(Q(x / sc, k), -1, 1) elsewhere  (WAGEUBN, Q_E2)
    constant  clip(Sr(d_r x / R), -d_r + 1, d_r - 1) / 2^(bits - 1)  (WAGEUBN, CQ)
    wage      clip(Q(w, k), -1 + d, 1 - d) / a,  a = max(2^round(log2(1.5 d / sqrt(c / n))), 1), c = 6, of
              the authors' program 3  (WAGE, section 3.3.1)
    niti      clip(Q(w, 8), -1 + d, 1 - d) 2^ceil(log2 sqrt(6 / (n_in + n_out)))  (NITI, section III)
"""

import json

import numpy as np


def exact(values):
    return [float(v) + 0.0 for v in np.asarray(values, np.float64).ravel()]


def emit(method, options, x, **results):
    line = dict(method=method, options=options, shape=list(x.shape), x=exact(x))
    line |= {name: exact(values) for name, values in results.items()}
    print(json.dumps(line, separators=(",", ":")))


def power(x, of=np.round):
    largest = np.max(np.abs(x))
    return 1.0 if largest == 0 else 2.0 ** of(np.log2(largest))


def q(x, k):
    d = 2.0 ** (1 - k)
    return np.rint(x / d) * d


def clipped(x, k):
    d = 2.0 ** (1 - k)
    return np.clip(q(x, k), -1 + d, 1 - d)


def flag(x, k):
    sc = power(x) / 2 ** (k - 1)
    top = 2 ** (k - 1) - 1
    large = sc * np.clip(np.rint(x / sc), -top, top)
    small = sc * np.clip(q(x / sc, k), -1, 1)
    return np.where(np.abs(x / sc) >= 1, large, small)


def samples():
    rng = np.random.default_rng(1)
    for i, scale in enumerate([1.0, 3e-5, 7e4, 1e-20]):
        for spread in (1.0, 4.0):
            values = rng.normal(size=(2, 3, 3)) * np.exp(spread * rng.normal(size=(2, 3, 3))) * scale
            yield values.astype(np.float32).astype(np.float64)
        # Sixteenths, halves of steps among them.
        yield rng.integers(-40, 41, (3, 6)) / 16 * 2.0 ** (5 * i - 8)
    yield np.zeros((2, 3))
    yield np.array([[0.75, -0.75]])
    yield np.array([[-1.0, 0.0625, 1.0, 2.0**-9, -(2.0**-15)]])


def main():
    for x in samples():
        for k in (2, 4, 8, 16):
            for name, of in (("nearest", np.round), ("above", np.ceil)):
                r = power(x, of)
                emit("shift", dict(bits=k, power=name), x, y=r * clipped(x / r, k))
        for k in (3, 8):
            emit("flag", dict(bits=k), x, y=flag(x, k))
        for bits, d in ((15, 128), (15, 2), (8, 8)):
            v, step = d * x / power(x), 2.0 ** (1 - bits)
            low, high = (np.clip(f(v), 1 - d, d - 1) * step for f in (np.floor, np.ceil))
            emit("constant", dict(bits=bits, range=d), x, low=low, high=high)
    rng = np.random.default_rng(2)
    for shape, axis in (((16, 8, 3, 3), 0), ((20, 1, 5, 5), 0), ((500, 10), 1), ((3, 2), 1)):
        w = (rng.integers(-130, 131, shape) / 128).astype(np.float64)
        fan_in = w.size // shape[axis]
        fan_out = shape[axis] * int(np.prod(shape[2:]))
        for k in (2, 4, 8):
            d = 2.0 ** (1 - k)
            for limit, c in (("paper", 6), ("authors", 3)):
                a = max(2.0 ** np.round(np.log2(1.5 * d / np.sqrt(c / fan_in))), 1.0)
                emit("wage", dict(bits=k, limit=limit, axis=axis), w, y=clipped(w, k) / a)
        scale = 2.0 ** np.ceil(np.log2(np.sqrt(6 / (fan_in + fan_out))))
        emit("niti", dict(bits=8, axis=axis), w, y=clipped(w, 8) * scale)


if __name__ == "__main__":
    main()
