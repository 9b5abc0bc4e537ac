"""Reference tables made by QPyTorch's own kernels (package qtorch, built from its C++ source).

- `block.txt`: block floating point, whole tensor and along each dimension. QPyTorch takes the
  maximum before the absolute value when a dimension is given, so every slice here has its largest
  magnitude at a positive element. It rounds ties up, and rounds once to f32 on the way; so inputs
  are odd multiples of a power of two that is small enough for no tie, and large enough for f32.
- `qpytorch.txt`: floating point without subnormals, by the posit extension of QPyTorch 0.2 (package
  qtorch-plus); ties and range ends included.
- `fixed.txt`: fixed point; no ties.
"""

import numpy as np

SEED = 2019


def block(write, bits):
    import torch
    from qtorch.quant import block_quantize

    rng = np.random.default_rng(SEED)
    shape = (3, 4, 5)
    lines = ["# qtorch 0.3.0, torch 2.9.0", "# input SHAPE: float32 bits; WORD DIM (-1: whole tensor): results"]
    for size in (1.0, 2.0**-20, 2.0**40):
        x = rng.standard_normal(shape) * 2.0 ** rng.integers(-4, 3, shape) * size
        last = 2.0 ** (np.floor(np.log2(np.abs(x).max())) - 21)
        x = ((2 * np.round(x / last / 2) + 1) * last).astype(np.float32)
        for dim in range(3):
            # The index of `dim` with its largest magnitude: make that element positive.
            moved = np.moveaxis(x, dim, 0).reshape(shape[dim], -1)
            for row in range(shape[dim]):
                column = np.abs(moved[row]).argmax()
                at = np.argwhere(np.abs(x) == np.abs(moved[row, column]))[0]
                x[tuple(at)] = np.abs(x[tuple(at)])
            # No tie at 16 bits: half a step is above the last place of every input.
            assert (np.abs(moved).max(axis=1) >= last * 2.0**17).all()
        lines.append("input 3 4 5: " + " ".join(bits(x.flatten())))
        for word in (2, 3, 4, 6, 8, 12, 16):
            for dim in (-1, 0, 1, 2):
                q = block_quantize(torch.from_numpy(x.copy()), wl=word, dim=dim, rounding="nearest")
                lines.append(f"{word} {dim}: " + " ".join(bits(q.numpy().flatten())))
    write("block.txt", lines)


def floats(write, bits):
    import torch
    from qtorch_plus.quant import float_quantize

    rng = np.random.default_rng(SEED + 1)
    lines = ["# qtorch-plus 0.2.0, torch 2.9.0", "# format EXPONENT MANTISSA; then lines of input=result, float32 bits"]
    for exponent, mantissa in ((5, 2), (4, 3), (3, 2), (2, 3), (2, 1), (3, 4), (5, 10), (6, 9), (8, 7)):
        bias = 2 ** (exponent - 1) - 1
        low = max(-bias - mantissa - 3, -125)
        x = []
        for e in list(range(low, low + mantissa + 6)) + list(range(-1, 2)) + [bias - 1, bias, bias + 1]:
            if e > 127:
                continue
            # Halves and quarters of the last place, and random significands.
            m = rng.integers(0, 2**23, 3).tolist()
            last = 1 << (23 - mantissa)
            k = int(rng.integers(0, 2**mantissa))
            m += [0, 1, 2**23 - 1, k * last, k * last + last // 2, k * last + last // 2 - 1, k * last + last // 2 + 1]
            x += [((e + 127) << 23) | i for i in m]
        x = np.array(sorted(set(x)), dtype=np.uint32)
        x = np.concatenate([x, x | 0x80000000, [0]]).astype(np.uint32).view(np.float32)
        q = float_quantize(torch.from_numpy(x.copy()), exponent, mantissa, "nearest").numpy()
        lines.append(f"format {exponent} {mantissa}")
        pairs = [f"{a}={b}" for a, b in zip(bits(x), bits(q))]
        lines += [" ".join(pairs[i : i + 12]) for i in range(0, len(pairs), 12)]
    write("qpytorch.txt", lines)


def fixed(write, bits):
    import torch
    from qtorch.quant import fixed_point_quantize

    rng = np.random.default_rng(SEED + 2)
    lines = ["# qtorch 0.3.0, torch 2.9.0", "# format WORD FRACTION CLAMP SYMMETRIC; then lines of input=result, float32 bits"]
    for word, fraction in ((8, 6), (8, 4), (4, 2), (4, 0), (2, 1), (16, 8), (12, 11), (1, 0)):
        for clamp, symmetric in ((1, 0), (1, 1), (0, 0)):
            x = (rng.standard_normal(60) * 2.0 ** (word - fraction - 2)).astype(np.float32)
            scaled = x.astype(np.float64) * 2.0**fraction
            assert (np.abs(scaled - np.floor(scaled) - 0.5) > 1e-7).all()
            q = fixed_point_quantize(torch.from_numpy(x.copy()), word, fraction, bool(clamp), bool(symmetric), "nearest")
            lines.append(f"format {word} {fraction} {clamp} {symmetric}")
            pairs = [f"{a}={b}" for a, b in zip(bits(x), bits(q.numpy()))]
            lines += [" ".join(pairs[i : i + 12]) for i in range(0, len(pairs), 12)]
    write("fixed.txt", lines)


def qpytorch_tables(write, bits):
    block(write, bits)
    floats(write, bits)
    fixed(write, bits)
