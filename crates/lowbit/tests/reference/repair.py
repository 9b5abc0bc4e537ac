"""Repairs of networks that are quantized without training, computed with NumPy in double precision.

    python3 repair.py > repair.jsonl

Needs numpy (2.4 made the file). Written from the papers: cross-layer equalization and bias correction (arXiv
1906.04721), AdaRound (arXiv 2004.10568), GPTQ (arXiv 2210.17323). Numbers are exact `float32`; what is
expected is not rounded. Lines of `gptq` and `adaround` are one layer each, those of `network` a whole one:
`conv1` (2 to 4 channels, 3x3, stride 2, padding 1), ReLU, `conv2` (one 3x3 for each channel, padding 1),
ReLU, `fc`.
"""
import json

import numpy as np


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def listed(x):
    return np.asarray(x).ravel().tolist()


# GPTQ, without its Cholesky factor: of the weights that are not rounded yet, F, the Hessian is inverted anew
# for every column, and the error is spread by its first row (eq. 2).

def gptq(w, x, step, low, high):
    """`w` [rows][columns], `x` [places][columns], `step` [rows]."""
    w = w.copy()
    h = 2 * x.T @ x
    dead = np.diag(h) == 0
    mean = np.diag(h).mean()
    h[dead, dead] = 1
    h += 0.01 * mean * np.eye(len(h))
    codes = np.zeros_like(w)
    for j in range(w.shape[1]):
        inverse = np.linalg.inv(h[j:, j:])
        codes[:, j] = np.clip(np.rint(w[:, j] / step), low, high)
        error = (w[:, j] - codes[:, j] * step) / inverse[0, 0]
        w[:, j:] -= np.outer(error, inverse[0])
    return codes


# AdaRound, on the rows themselves: no moments.

STEPS, RATE = 1000, 0.02


def adaround(w, x, target, step, low, high):
    """`x` [places][columns] as the quantized network has it, `target` [places][rows]."""
    step = step[:, None]
    regularization = max(0.01, (step**2).mean() * (x**2).mean())
    floor = np.floor(w / step)
    share = w / step - floor
    v = -np.log(1.2 / (share + 0.1) - 1)
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for t in range(STEPS):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(sigmoid * 1.2 - 0.1, 0, 1)
        code = floor + h
        soft = np.clip(code, low, high) * step
        error = x @ soft.T - target
        of_code = 2 * error.T @ x / len(x) * step * ((code >= low) & (code <= high))
        if t >= 0.2 * STEPS:
            along = (t - 0.2 * STEPS) / (0.8 * STEPS)
            beta = 2 + (20 - 2) / 2 * (1 + np.cos(np.pi * along))
            of_code -= regularization * beta * np.abs(2 * h - 1) ** (beta - 1) * np.sign(2 * h - 1) * 2
        g = of_code * 1.2 * sigmoid * (1 - sigmoid) * ((h > 0) & (h < 1))
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g**2
        v -= RATE * (mean / (1 - 0.9 ** (t + 1))) / (np.sqrt(square / (1 - 0.999 ** (t + 1))) + 1e-8)
    h = np.clip(1.2 / (1 + np.exp(-v)) - 0.1, 0, 1)
    return np.clip(floor + (h >= 0.5), low, high)


def layer(rng, rows, columns, places, bits):
    """A weight, what it reads in float and quantized, and a step for each row."""
    mix = rng.standard_normal((columns, columns)) / np.sqrt(columns)
    x = f32(np.maximum(rng.standard_normal((places, columns)) @ mix, 0))
    quantized = f32(np.minimum(np.rint(x * 8), 31) / 8)
    w = f32(rng.standard_normal((rows, columns)) * np.exp2(rng.uniform(-2, 1, (rows, 1))))
    levels = 2 ** (bits - 1)
    step = np.exp2(np.ceil(np.log2(np.abs(w).max(1) * rng.uniform(0.6, 1, rows) / levels)))
    return w, x, quantized, step, -levels, levels - 1


def layer_cases(rng):
    for rows, columns, places, bits in [(3, 5, 40, 4), (4, 16, 200, 3), (2, 40, 300, 2), (1, 9, 64, 3)]:
        w, x, quantized, step, low, high = layer(rng, rows, columns, places, bits)
        if columns == 16:
            # An input that is never anything but zero.
            x[:, 3] = quantized[:, 3] = 0
        for kind in ["gptq", "adaround"]:
            target = f32(x @ w.T)
            codes = {
                "gptq": lambda: gptq(w, quantized, step, low, high),
                "adaround": lambda: adaround(w, quantized, target, step, low, high),
            }[kind]()
            nearest = np.clip(np.rint(w / step[:, None]), low, high)
            share = lambda c: float(((target - quantized @ (c * step[:, None]).T) ** 2).sum() / (target**2).sum())
            yield {
                "kind": kind, "rows": rows, "columns": columns, "weight": listed(w), "x": listed(quantized),
                "target": listed(target), "step": listed(step), "min": low, "max": high,
                "codes": listed(codes), "nearest_error": share(nearest), "error": share(codes),
            }


# A network.

def patches(x, kernel, stride, padding):
    """Rows `[batch * places][channels][kernel * kernel]` and the places of an image."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    side = (x.shape[2] - kernel) // stride + 1
    rows = [
        x[n, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel].reshape(x.shape[1], -1)
        for n in range(len(x)) for i in range(side) for j in range(side)
    ]
    return np.array(rows), side


def images(rows, batch, side):
    return rows.reshape(batch, side, side, -1).transpose(0, 3, 1, 2)


QUANTIZED_INPUT = {"conv1": (1 / 16, -32, 31), "conv2": (1 / 8, 0, 31), "fc": (1 / 8, 0, 31)}
WEIGHT = (1 / 8, -4, 3)


def grid(x, step, low, high):
    return np.clip(np.rint(x / step), low, high) * step


class Network:
    def __init__(self, p):
        self.p = p

    def sums(self, x, quantized=None):
        """What each layer reads, as rows for each group, and its sums as rows, without the bias; `quantized`
        names the layers whose inputs are quantized."""
        batch, read, made = len(x), {}, {}

        def take(name, x):
            return grid(x, *QUANTIZED_INPUT[name]) if quantized and name in quantized else x

        rows, side = patches(take("conv1", x), 3, 2, 1)
        read["conv1"] = [rows.reshape(len(rows), -1)]
        made["conv1"] = read["conv1"][0] @ self.p["conv1.weight"].reshape(4, -1).T
        y = images(np.maximum(made["conv1"] + self.p["conv1.bias"], 0), batch, side)
        rows, side = patches(take("conv2", y), 3, 1, 1)
        read["conv2"] = [rows[:, c] for c in range(4)]
        w = self.p["conv2.weight"].reshape(4, -1)
        made["conv2"] = np.stack([read["conv2"][c] @ w[c] for c in range(4)], 1)
        y = images(np.maximum(made["conv2"] + self.p["conv2.bias"], 0), batch, side)
        read["fc"] = [take("fc", y.reshape(batch, -1))]
        made["fc"] = read["fc"][0] @ self.p["fc.weight"]
        return read, made


LAYERS = ["conv1", "conv2", "fc"]


def rounded(p, x, how):
    float_network, p = Network(p), dict(p)
    _, made = float_network.sums(x)
    for name in LAYERS:
        read, _ = Network(p).sums(x, LAYERS)
        w = p[name + ".weight"]
        rows = w.T if name == "fc" else w.reshape(len(w), -1)
        groups = np.split(rows, len(read[name]))
        targets = np.split(made[name], len(read[name]), 1)
        step = lambda rows: np.full(len(rows), WEIGHT[0])
        codes = [
            gptq(rows, x, step(rows), *WEIGHT[1:]) if how == "gptq"
            else adaround(rows, x, target, step(rows), *WEIGHT[1:])
            for rows, x, target in zip(groups, read[name], targets)
        ]
        rows = np.concatenate(codes) * WEIGHT[0]
        p[name + ".weight"] = rows.T if name == "fc" else rows.reshape(w.shape)
    return p


def corrected(float_p, p, x):
    _, expected = Network(float_p).sums(x)
    p = {k: grid(v, *WEIGHT) if k.endswith("weight") else v for k, v in p.items()}
    for name in LAYERS:
        _, found = Network(p).sums(x, LAYERS)
        # The biases of the layer itself are the same before, and are no part of these sums.
        p[name + ".bias"] = p[name + ".bias"] - (found[name] - expected[name]).mean(0)
    return {k: v for k, v in p.items() if k.endswith("bias")}


def equalized(p):
    w1, w2, w3 = (p[name + ".weight"].copy() for name in LAYERS)
    b1, b2 = p["conv1.bias"].copy(), p["conv2.bias"].copy()
    for _ in range(1000):
        r1, r2 = (np.abs(w).reshape(4, -1).max(1) for w in (w1, w2))
        s = np.sqrt(r1 * r2) / r2
        w1, b1, w2 = w1 / s[:, None, None, None], b1 / s, w2 * s[:, None, None, None]
        r2, r3 = np.abs(w2).reshape(4, -1).max(1), np.abs(w3).reshape(4, -1).max(1)
        s = np.sqrt(r2 * r3) / r3
        w2, b2 = w2 / s[:, None, None, None], b2 / s
        w3 = (w3.reshape(4, -1, 3) * s[:, None, None]).reshape(w3.shape)
    values = {"conv1.weight": w1, "conv2.weight": w2, "fc.weight": w3, "conv1.bias": b1, "conv2.bias": b2}
    return {**values, "fc.bias": p["fc.bias"]}


def network_cases(rng):
    for places in [24, 60]:
        uneven = np.exp2(rng.uniform(-3, 3, (4, 1, 1, 1)))
        p = {
            "conv1.weight": f32(rng.standard_normal((4, 2, 3, 3)) * 0.2),
            "conv1.bias": f32(rng.standard_normal(4) * 0.2),
            "conv2.weight": f32(rng.standard_normal((4, 1, 3, 3)) * 0.25),
            "conv2.bias": f32(rng.standard_normal(4) * 0.2),
            "fc.weight": f32(rng.standard_normal((36, 3)) * 0.15),
            "fc.bias": f32(rng.standard_normal(3) * 0.2),
        }
        x = f32(rng.standard_normal((places, 2, 6, 6)) * 0.7)
        spread = {**p, "conv1.weight": f32(p["conv1.weight"] * uneven)}
        expected = {
            "gptq": rounded(p, x, "gptq"), "adaround": rounded(p, x, "adaround"),
            "bias-correct": corrected(p, p, x), "equalize": equalized(spread),
        }
        yield {
            "kind": "network", "images": places, "x": listed(x), "parameters": {k: listed(v) for k, v in p.items()},
            "spread": listed(spread["conv1.weight"]),
            "expected": {how: {k: listed(v) for k, v in q.items()} for how, q in expected.items()},
        }


rng = np.random.default_rng(17)
for case in [*layer_cases(rng), *network_cases(rng)]:
    print(json.dumps(case))
