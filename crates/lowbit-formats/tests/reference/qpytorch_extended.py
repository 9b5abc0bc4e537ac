"""Tables made by QPyTorch's extended version itself, on random tensors; formats, both roundings.

The extended version (posits, tables, and everything of QPyTorch 0.2) is on no package index in this
form. Its repository is minhhn2910/QPyTorch, here at commit 7cbe80b; PyTorch 2.15 asks for C++20:

    git clone https://github.com/minhhn2910/QPyTorch qpytorch && cd qpytorch && git checkout 7cbe80b
    sed -i s/-std=c++17/-std=c++20/ qtorch/quant/quant_function.py
    pip install torch==2.15.0 numpy==2.4.6 ninja
    PYTHONPATH=. python .../generate.py extended

- `extended.txt`: to nearest. One random tensor of each magnitude, then a line for each format.
- `stochastic.txt`: how often each number became what, of 4,096 times. QPyTorch seeds two of its three
  generators by itself, so that a second run counts otherwise.

Names are those of the crate's formats, so that `posit(8,1,scale=1/3)` is Posit(8, 1, scale=3).
"""

import numpy as np

SEED = 2019
COUNT = 64
TRIALS = 4096
HEADER = "# QPyTorch, minhhn2910/QPyTorch at 7cbe80b, torch 2.15.0"

# Where QPyTorch has other results than the formats' definitions, and why; `tests/suite/qpytorch.rs`
# allows a difference for these reasons alone.
DEPARTURES = [
    "# fixed: a half is added in float32 before rounding; where that is inexact, a number beside a tie is one",
    "# bfp: ties go up; and 6 * 2^exponent is added in float32 first, which makes ties of numbers beside them",
    "# posit with a scale: the product with it is rounded to float32 before it is rounded to a posit",
    "# table: of two values as near the first; zero for what lies more than 1e5 beyond the last",
    "# bfloat16: zero for what lies beyond the posit's range, left out here",
]

FIXED = [(8, 6), (8, 4), (4, 2), (16, 8), (12, 12), (5, 4)]
BLOCKS = [2, 4, 6, 8, 12, 16]
FLOATS = [(5, 2), (4, 3), (2, 1), (3, 4), (6, 9), (8, 7), (5, 10)]
POSITS = [(6, 1), (8, 1), (8, 2), (16, 1), (16, 2), (16, 3), (5, 1), (4, 3)]
# QPyTorch multiplies by its scale.
SCALES = [(1.0, ""), (32.0, ",scale=1/32"), (0.25, ",scale=4"), (3.0, ",scale=1/3"), (10.0, ",scale=1/10"), (0.7, ",scale=1/0.7")]
TABLE = [0.125, 0.25, 0.4, 0.7, 1.0, 1.5, 3.0, 7.0]
HINTS = [0.1, 0.2, 0.3, 0.5, 0.8, 1.25, 2.0, 5.0]


def tensors():
    """Normal numbers, numbers of many magnitudes, and multiples of 1/64, which have ties."""
    rng = np.random.default_rng(SEED)
    normal = rng.standard_normal(COUNT)
    wide = rng.standard_normal(COUNT) * 2.0 ** rng.integers(-20, 20, COUNT)
    steps = rng.integers(-300, 300, COUNT) / 64
    for x in (normal, wide, steps):
        x = x.astype(np.float32)
        # QPyTorch takes the largest number, not the largest magnitude, where a dimension is given.
        x[np.abs(x).argmax()] = np.abs(x).max()
        yield x


def numbers(values):
    return ",".join(str(v) for v in values)


def nearest():
    """(name, function of a tensor) of each format."""
    import torch
    from qtorch.quant import quant_function as q

    near = {"rounding": "nearest"}
    for w, f in FIXED:
        yield f"fixed({w},{f})", lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, True, False, **near)
        yield f"fixed({w},{f},symmetric)", lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, True, True, **near)
        yield f"fixed({w},{f},unbounded)", lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, False, False, **near)
    for w in BLOCKS:
        yield f"bfp({w})", lambda x, w=w: q.block_quantize(x, w, -1, **near)
    for e, m in FLOATS:
        yield f"qpytorch({e},{m})", lambda x, e=e, m=m: q.float_quantize(x, e, m, **near)
    for n, es in POSITS:
        for scale, option in SCALES:
            yield f"posit({n},{es}{option})", lambda x, n=n, es=es, s=scale: q.posit_quantize(x, n, es, s, **near)
    table, hints = torch.tensor(TABLE), torch.tensor(HINTS)
    yield "qpytorch-weight", lambda x: q.new_format_quantize(x)
    yield "qpytorch-activation", lambda x: q.act_format_quantize(x)
    yield f"table({numbers(TABLE)},sign)", lambda x: q.configurable_table_quantize(x, table)
    name = f"table({numbers(TABLE)},sign,geometric=0.0001)"
    yield name, lambda x: q.configurable_table_quantize_geomean(x, table)
    name = f"table({numbers(TABLE)},sign,thresholds({numbers(HINTS)}))"
    yield name, lambda x: q.configurable_table_quantize_rounding_hint(x, table, hints)
    for name in ("sigmoid", "tanh", "tanh_enhanced"):
        yield name, lambda x, f=getattr(q, f"posit_{name}"): f(x, 16)
    # Within the range of posit(8,1): QPyTorch makes a zero of what lies beyond.
    inside = lambda x: torch.where((x.abs() > 2.0**-11) & (x.abs() < 2.0**11), x, torch.ones_like(x))
    yield "bfloat16", lambda x: q.bfloat16_posit8_quantize(inside(x).bfloat16(), 8, 1).float()


def beside_boundaries(scale):
    """Numbers whose product with the scale lies at a boundary of posit(8,1), and beside it."""
    # posit(9,1) between 1 and 2 has 5 bits of fraction, of which odd ones are boundaries.
    x = np.array([(1 + k / 32) * 2.0**e / scale for k in range(1, 32, 2) for e in (0, 1)], dtype=np.float32)
    return np.concatenate([x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(9e9))])


def extended(write, bits):
    import torch
    from qtorch.quant import posit_quantize

    lines = [HEADER, "# input: float32 bits; NAME: results", *DEPARTURES]
    for x in tensors():
        lines.append("input: " + " ".join(bits(x)))
        for name, quantize in nearest():
            lines.append(f"{name}: " + " ".join(bits(quantize(torch.from_numpy(x.copy())).numpy())))
    for scale, option in SCALES[3:]:
        x = beside_boundaries(scale)
        lines.append("input: " + " ".join(bits(x)))
        y = posit_quantize(torch.from_numpy(x), 8, 1, scale, rounding="nearest")
        lines.append(f"posit(8,1{option}): " + " ".join(bits(y.numpy())))
    write("extended.txt", lines)


def stochastic(write, bits):
    import torch
    from qtorch.quant import quant_function as q

    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    random = {"rounding": "stochastic"}
    cases = []
    for w, f in ((8, 6), (4, 2), (5, 4)):
        size = 2.0 ** (w - f - 1)
        x = (rng.uniform(-1.2, 1.2, 12) * size).tolist() + [0.3 * 2.0**-f, -0.5 * 2.0**-f, 1.25 * 2.0**-f]
        cases.append((f"fixed({w},{f})", x, lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, True, False, **random)))
        cases.append((f"fixed({w},{f},symmetric)", x, lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, True, True, **random)))
        cases.append((f"fixed({w},{f},unbounded)", x, lambda x, w=w, f=f: q.fixed_point_quantize(x, w, f, False, False, **random)))
    for w in (3, 4, 8):
        x = rng.uniform(-1, 1, 15).tolist() + [1.9]
        cases.append((f"bfp({w})", x, lambda x, w=w: q.block_quantize(x, w, -1, **random)))
    for e, m in ((5, 2), (4, 3), (2, 1), (8, 7)):
        smallest = 2.0 ** (1 - 2 ** (e - 1))
        x = rng.standard_normal(6).tolist()
        if e < 8:
            # Below the smallest number, around its half above all.
            x += (np.array([0.2, 0.45, 0.5, 0.51, 0.5 + 0.2 / 2**m, 0.5 + 0.4 / 2**m, 0.75, 0.97, 1.03, -0.55]) * smallest).tolist()
        cases.append((f"qpytorch({e},{m},stochastic=original)", x, lambda x, e=e, m=m: q.float_quantize(x, e, m, **random)))
    lines = [HEADER, f"# NAME; then a line for each number of the tensor: NUMBER RESULT*TIMES ..., float32 bits, of {TRIALS} times"]
    for name, x, quantize in cases:
        x = torch.tensor(x, dtype=torch.float32)
        results = np.stack([quantize(x).numpy() for _ in range(TRIALS)])
        lines.append(name)
        for number, column in zip(bits(x.numpy()), results.T):
            values, times = np.unique(column, return_counts=True)
            lines.append(number + " " + " ".join(f"{v}*{n}" for v, n in zip(bits(values), times)))
    # QPyTorch's stochastic posits are rounded to nearest.
    x = torch.from_numpy(next(tensors()))
    assert (q.posit_quantize(x, 8, 1, **random) == q.posit_quantize(x, 8, 1, rounding="nearest")).all()
    write("stochastic.txt", lines)


def extended_tables(write, bits):
    extended(write, bits)
    stochastic(write, bits)
