"""Computes every node of a network of integers and compares it with what is recorded.

python run.py [FOLDER]: exit code 0 if all is the same; else 1, and the first node that differs.
"""
import json
import sys

import numpy as np

folder = sys.argv[1] if len(sys.argv) > 1 else sys.path[0]
load = lambda name: np.load(f"{folder}/{name}").astype(np.int64)


def axis(size, output, kernel, stride, before, dilation, transposed):
    """Which input element k of window o meets, and whether there is one: two arrays [output, kernel]."""
    o, k = np.arange(output)[:, None], np.arange(kernel)
    at = o + before - k * dilation if transposed else o * stride + k * dilation - before
    whole = at % stride == 0 if transposed else at == at
    at = at // stride if transposed else at
    return np.clip(at, 0, size - 1), whole & (at >= 0) & (at < size)


def sides(node, kernel, x, y, transposed=False):
    """The axes of rows and columns; a sequence has one row."""
    s = [[1] + list(v) if x.ndim == 3 else v for v in (node["stride"], [p[0] for p in node["padding"]], node["dilation"], kernel)]
    s[1][0] = 0 if x.ndim == 3 else s[1][0]
    size = [(1,) + a.shape[2:] if a.ndim == 3 else a.shape[2:] for a in (x, y)]
    return [axis(size[0][d], size[1][d], s[3][d], s[0][d], s[1][d], s[2][d], transposed) for d in (0, 1)]


def convolution(node, x, y, zero):
    w, groups, transposed = node["weights"], node["groups"], node["transposed"] is not None
    (r, r_in), (c, c_in) = sides(node["sliding"], w["shape"][2:], x, y, transposed)
    x = (x - zero).reshape(len(x), x.shape[1], -1, x.shape[-1])
    x = x[:, :, r[:, :, None, None], c] * (r_in[:, :, None, None] & c_in)
    x = x.reshape(len(x), groups, -1, *x.shape[2:])
    w = np.array(w["values"], np.int64).reshape(groups, -1, w["shape"][1], r.shape[1], c.shape[1])
    w = w.swapaxes(1, 2) if transposed else w
    total = sum(np.einsum("ngiykx,goik->ngoyx", x[..., l], w[..., l]) for l in range(c.shape[1]))
    bias = np.array(node["bias"] or [0]).reshape(-1, *[1] * (y.ndim - 2))
    return total.reshape(y.shape) + bias


def windows(node, x, y):
    """Which elements each window has, [output, size] for rows and columns, and what padding counts."""
    size = (x.reshape(len(x), x.shape[1], -1, x.shape[-1]).shape[2:], y.reshape(len(y), y.shape[1], -1, y.shape[-1]).shape[2:])
    if "adaptive" in node:
        i = [np.arange(n) for n in size[0]]
        o = [np.arange(m)[:, None] for m in size[1]]
        return [(i[d] >= o[d] * size[0][d] // size[1][d]) & (i[d] < -(-(o[d] + 1) * size[0][d] // size[1][d])) for d in (0, 1)]
    at = sides(node["sliding"]["sliding"], node["sliding"]["kernel"], x, y)
    return [((a[..., None] == np.arange(size[0][d])) & inside[..., None]).any(1) for d, (a, inside) in enumerate(at)]


def pool(node, x, y, zero):
    rows, columns = windows(node["windows"], x, y)
    x = x.reshape(len(x), x.shape[1], -1, x.shape[-1])
    if node["op"] == "max-pool":
        lines = np.stack([x[:, :, row].max(2) for row in rows], 2)
        return np.stack([lines[..., column].max(3) for column in columns], 3).reshape(y.shape)
    total = rows.astype(np.int64) @ (x - zero) @ columns.T.astype(np.int64)
    if not (node["include_padding"] and "sliding" in node["windows"]):
        counts = rows.sum(1), columns.sum(1)
        total *= np.multiply(*[np.lcm.reduce(n) for n in counts]) // np.outer(*counts)
    return total.reshape(y.shape)


def requantize(node, x, zero):
    m, offset, shift = (np.array(node[k]).reshape(-1, *[1] * (x.ndim - 2)) for k in ("multiplier", "offset", "shift"))
    scaled = m * (x - zero) + offset
    floor, half = scaled >> shift, (1 << shift) >> 1
    rest = scaled - (floor << shift)
    tie_up = {"half-even": floor & 1 == 1, "half-away": scaled >= 0, "half-up": True, "floor": False}[node["rounding"]]
    up = (rest > half) & (node["rounding"] != "floor") | (rest == half) & tie_up
    zero, _, least, greatest = numbers(node["numbers"])
    return np.clip(floor + (up & (shift > 0)) + zero, least, greatest)


def numbers(n):
    """Zero point, sign, least and greatest of a tensor."""
    least = -(1 << n["bits"] - 1) if n["signed"] else 0
    return n.get("zero_point", 0), n["signed"], least, least + (1 << n["bits"]) - 1


def compute(node, xs, y, kinds):
    op, x, (zero, signed) = node["op"], xs[0], kinds[0][:2]
    if op == "convolution":
        return convolution(node, x, y, zero)
    if op == "linear":
        w = np.array(node["weights"]["values"], np.int64).reshape(node["weights"]["shape"])
        return (x - zero) @ w.T + np.array(node["bias"] or [0])
    if op == "add":
        return sum(m * (x - k[0]) for m, x, k in zip(node["multipliers"], xs, kinds))
    if op in ("max-pool", "average-pool"):
        return pool(node, x, y, zero)
    if op == "embedding":
        return np.array(node["weights"]["values"], np.int64).reshape(node["weights"]["shape"])[x]
    return {
        "mul": lambda: (x - zero) * (xs[1] - kinds[1][0]),
        "concat": lambda: np.concatenate(xs, node["axis"] + 1),
        "rectifier": lambda: np.maximum(x, zero),
        "clamp": lambda: np.clip(x, node["least"], node["greatest"]),
        "requantize": lambda: requantize(node, x, zero),
        "flatten": lambda: x.reshape(y.shape),
        "look-up": lambda: np.array(node["table"])[x + (len(node["table"]) // 2 if signed else 0)],
    }[op]()


def checksum(name):
    """Fletcher's, of bytes in two sums modulo 2^32 - 1."""
    b = np.frombuffer(open(f"{folder}/{name}", "rb").read(), np.uint8).astype(np.uint64)
    weighted = b * np.arange(len(b), 0, -1, dtype=np.uint64) % (2**32 - 1)
    return f"{int(weighted.sum()) % (2**32 - 1):08x}{int(b.sum()) % (2**32 - 1):08x}"


graph, cases = (json.load(open(f"{folder}/{name}.json", encoding="utf-8")) for name in ("graph", "cases"))
kinds = {i["name"]: numbers(i["numbers"]) for i in graph["inputs"]}
for node in graph["nodes"]:
    # Sums have a sign and zero point 0; other nodes say what they hold, or hold what they are given.
    held = node.get("numbers") or (node["op"] == "embedding" and node["weights"]["numbers"])
    sums = node["op"] in ("convolution", "linear", "add", "mul", "average-pool")
    kinds[node["name"]] = numbers(held) if held else (0, True) if sums else kinds[node["inputs"][0]]
    recorded = [([cases["tensors"][i] for i in node["inputs"]], cases["tensors"][node["name"]])]
    recorded += [(p["inputs"], p["output"]) for p in cases["probes"] if p["node"] == node["name"]]
    for inputs, output in recorded:
        y = load(output)
        if not np.array_equal(compute(node, [load(x) for x in inputs], y, [kinds[i] for i in node["inputs"]]), y):
            sys.exit(f"{node['name']}: differs from {output}")
for name, sums in cases["checksums"].items():
    if checksum(name) != sums:
        sys.exit(f"{name}: is not what was recorded")
print(f"{len(graph['nodes'])} nodes: the same")
