"""Opens `nir/lowbit.nir`, which this library has written, with the Python package `nir`, and computes it:
`nir_opened.jsonl`.

    pip install nir==1.0.8 torch
    cargo test --release --test suite -- --ignored our_file_is_written
    python nir_opened.py

`nir.read` checks every type and shape. Neurons are Euler's forward step of NIR's equations in f64, rounded
where our metadata says `lowbit.state`; `lowbit.input` and `lowbit.output` are rounded as they go by.
"""

import json
import pathlib
import re

import nir
import numpy as np
import torch
from torch.nn import functional as F

STEPS = 30
DT = 0.125
here = pathlib.Path(__file__).parent
random = np.random.default_rng(29)


def rounding(text):
    """`fixed(bits,fraction)`, to the nearest even or toward zero."""
    if text is None:
        return lambda x: x
    text = text.decode() if isinstance(text, bytes) else str(text)
    bits, fraction, mode = re.fullmatch(r"fixed\((\d+),(\d+)\)(:toward-zero)?", text).groups()
    most = 2 ** (int(bits) - 1)
    step = 2.0 ** -int(fraction)
    whole = np.trunc if mode else np.round
    return lambda x: np.clip(whole(x / step), -most, most - 1) * step


def steps(node, x):
    """`[time, ...]` of a neuron's node. A state is rounded after each part of its sum, or, where it is
    rounded otherwise than to the nearest, after the step."""
    kind = type(node).__name__
    state = node.metadata.get("lowbit.state")
    each = rounding(state) if state is not None and "toward" not in str(state) else lambda x: x
    last = rounding(state)
    v = i = np.zeros(node.r.shape)
    made = []
    for step in x:
        current = step
        if kind.startswith("Cuba"):
            i = (1 - DT / node.tau_syn) * i + DT / node.tau_syn * node.w_in * step
            current = i
        if kind == "IF":
            v = each(v + each(DT * node.r * current))
        else:
            tau = node.tau_mem if kind.startswith("Cuba") else node.tau
            v = each(each((1 - DT / tau) * v) + each(DT / tau * node.r * current)) + DT / tau * node.v_leak
        if kind.endswith("F"):
            assert np.abs(v - node.v_threshold).min() > 1e-5 or state is not None
            z = v >= node.v_threshold
            v = np.where(z, node.v_reset, v)
        v = last(v)
        made.append(z.astype(np.float64) if kind.endswith("F") else v)
    return np.stack(made)


def computed(node, x):
    kind = type(node).__name__
    t = torch.tensor
    if kind == "Conv2d":
        assert tuple(node.stride) == (1, 1) and tuple(node.dilation) == (1, 1) and node.groups == 1
        return F.conv2d(t(x), t(node.weight), t(node.bias), padding=tuple(node.padding)).numpy()
    if kind == "SumPool2d":
        size = tuple(int(n) for n in node.kernel_size)
        return F.avg_pool2d(t(x), size, tuple(int(n) for n in node.stride)).numpy() * size[0] * size[1]
    if kind == "Flatten":
        return x.reshape(len(x), -1)
    if kind in ("Affine", "Linear"):
        return x @ node.weight.T + getattr(node, "bias", 0.0)
    return steps(node, x)


graph = nir.read(here / "nir" / "lowbit.nir")
following = dict(graph.edges)
x = random.integers(-4, 13, (STEPS, *graph.nodes["input"].input_type["input"])) / 8
flat = lambda t: t.reshape(len(t), -1).tolist()
first, lines = flat(x), []
name = following["input"]
while name != "output":
    node = graph.nodes[name]
    x = computed(node, rounding(node.metadata.get("lowbit.input"))(x))
    x = rounding(node.metadata.get("lowbit.output"))(x)
    lines.append(json.dumps({"name": name, "dt": DT, "x": first if not lines else [], "y": flat(x)}))
    print(name, type(node).__name__, dict(node.metadata), "sum", np.abs(x).sum())
    name = following[name]
print("nir", nir.version, "has opened a file of version", nir.serialization.read_version(here / "nir" / "lowbit.nir"))
(here / "nir_opened.jsonl").write_text("\n".join(lines) + "\n")
