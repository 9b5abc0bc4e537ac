"""python run.py [FOLDER]: computes every node from what is recorded of its inputs; names the first that differs."""
import json
import sys

import numpy as np

folder = sys.argv[1] if len(sys.argv) > 1 else sys.path[0]
M = 2**32 - 1


def numbers(n):
    """Zero point, sign, least and greatest of what a tensor holds."""
    least = -(1 << n["bits"] - 1) if n["signed"] else 0
    return n.get("zero_point", 0), n["signed"], least, least + (1 << n["bits"]) - 1


def taps(node, kernel, n, m, d, transposed=False):
    """Whether element k of window o is element i, [o, k, i], of dimension d: rows 0, columns 1."""
    if "adaptive" in node:
        o, k, i = np.ogrid[:m, :1, :n]
        return (i >= o * n // m) & (i < -(-(o + 1) * n // m))
    # A sequence is an image with one row.
    stride, padding, dilation, kernel = (([one] + v)[-2:][d] for one, v in (
        (1, node["stride"]), ([0, 0], node["padding"]), (1, node["dilation"]), (1, kernel)))
    o, k, i = np.ogrid[:m, :kernel, :n]
    a, b = (i, o) if transposed else (o, i)
    return a * stride + k * dilation == b + padding[0]


def compute(node, xs, y, kinds):
    op, x, (zero, signed) = node["op"], xs[0], kinds[0][:2]
    each = lambda values: np.array(values, np.int64).reshape(-1, *[1] * (y.ndim - 2))
    table = lambda: np.array(node["weights"]["values"], np.int64).reshape(node["weights"]["shape"])
    if op in ("convolution", "max-pool", "average-pool"):
        x, image = (a.reshape(len(a), a.shape[1], -1, a.shape[-1]) for a in (x, y))
        sizes = list(zip(x.shape[2:], image.shape[2:], (0, 1)))
    if op == "convolution":
        w, turned = table(), node["transposed"] is not None
        w = w.reshape(node["groups"], -1, w.shape[1], *([1] + list(w.shape[2:]))[-2:])
        rows, columns = (taps(node["sliding"], list(w.shape[3:]), *size, turned).astype(np.int64) for size in sizes)
        x = np.einsum("ncij,yki,xlj->nckyxl", x - zero, rows, columns, optimize=True)
        x = x.reshape(len(x), node["groups"], -1, *x.shape[2:])
        w = w.swapaxes(1, 2) if turned else w
        sums = np.einsum("ngikyxl,goikl->ngoyx", x, w, optimize=True)
        return sums.reshape(y.shape) + each(node["bias"] or [0])
    if op in ("max-pool", "average-pool"):
        window = node["windows"].get("sliding")  # or adaptive
        slides, kernel = (window["sliding"], window["kernel"]) if window else (node["windows"], None)
        rows, columns = (taps(slides, kernel, *size).any(1) for size in sizes)
        if op == "max-pool":
            lines = np.stack([x[:, :, row].max(2) for row in rows], 2)
            return np.stack([lines[..., column].max(3) for column in columns], 3).reshape(y.shape)
        sums = np.einsum("ncij,yi,xj->ncyx", x - zero, rows.astype(np.int64), columns.astype(np.int64), optimize=True)
        if not (window and node["include_padding"]):
            counts = rows.sum(1), columns.sum(1)
            sums *= np.prod([np.lcm.reduce(n) for n in counts]) // np.outer(*counts)
        return sums.reshape(y.shape)
    if op == "requantize":
        m, offset, shift = (each(node[name]) for name in ("multiplier", "offset", "shift"))
        scaled = m * (x - zero) + offset
        floor, half = scaled >> shift, (1 << shift) >> 1
        rest = scaled - (floor << shift)
        tie = {"half-even": floor & 1 == 1, "half-away": scaled >= 0, "half-up": True, "floor": False}[node["rounding"]]
        up = (shift > 0) & (node["rounding"] != "floor") & ((rest > half) | (rest == half) & tie)
        zero, _, least, greatest = numbers(node["numbers"])
        return np.clip(floor + up + zero, least, greatest)
    return {
        "linear": lambda: (x - zero) @ table().T + np.array(node["bias"] or [0]),
        "add": lambda: sum(m * (x - k[0]) for m, x, k in zip(node["multipliers"], xs, kinds)),
        "mul": lambda: (x - zero) * (xs[1] - kinds[1][0]),
        "concat": lambda: np.concatenate(xs, node["axis"] + 1),
        "rectifier": lambda: np.maximum(x, zero),
        "clamp": lambda: np.clip(x, node["least"], node["greatest"]),
        "flatten": lambda: x.reshape(y.shape),
        "look-up": lambda: np.array(node["table"])[x + (len(node["table"]) // 2 if signed else 0)],
        "embedding": lambda: table()[x],
    }[op]()


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
        *xs, y = (np.load(f"{folder}/{name}").astype(np.int64) for name in [*inputs, output])
        if not np.array_equal(compute(node, xs, y, [kinds[i] for i in node["inputs"]]), y):
            sys.exit(f"{node['name']}: differs from {output}")
for name, recorded in cases["checksums"].items():
    # Fletcher's, of bytes in two sums modulo 2^32 - 1.
    b = np.frombuffer(open(f"{folder}/{name}", "rb").read(), np.uint8).astype(np.uint64)
    weighted = b * np.arange(len(b), 0, -1, dtype=np.uint64) % M
    if f"{int(weighted.sum()) % M:08x}{int(b.sum()) % M:08x}" != recorded:
        sys.exit(f"{name}: is not what was recorded")
print(f"{len(graph['nodes'])} nodes: the same")
