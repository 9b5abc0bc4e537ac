"""Nodes that the other simulators' files do not have, as NIR files, with what an independent program makes
of them: `nir/NAME.nir` and `nir_nodes.jsonl`.

    pip install nir==1.0.8 torch
    python nir_nodes.py

Neurons are Euler's forward step of NIR's equations in f64, from zero, of which a spike is `v >= v_threshold`
and sets `v_reset`; convolutions and pools are torch's. Weights are multiples of 1/8.
"""

import json
import pathlib

import nir
import numpy as np
import torch
from torch.nn import functional as F

STEPS = 40
DT = 0.125
folder = pathlib.Path(__file__).parent / "nir"
random = np.random.default_rng(13)


def eighths(*shape):
    return random.integers(-8, 9, shape) / 8


def vector(*values):
    return np.array(values, dtype=np.float64)


def euler(node, x):
    """Potentials or spikes, `[time, neurons]`."""
    kind = type(node).__name__
    v = np.zeros_like(node.r)
    i = np.zeros_like(node.r)
    made = []
    for step in x:
        current = step
        if kind.startswith("Cuba"):
            i = i + DT / node.tau_syn * (-i + node.w_in * step)
            current = i
        if kind == "I":
            v = v + DT * node.r * current
        else:
            tau = node.tau_mem if kind.startswith("Cuba") else node.tau
            v = v + DT / tau * (node.v_leak - v + node.r * current)
        if not kind.endswith("F"):
            made.append(v)
            continue
        # What f32 may decide otherwise.
        assert np.abs(v - node.v_threshold).min() > 1e-5, kind
        z = v >= node.v_threshold
        v = np.where(z, node.v_reset, v)
        made.append(z.astype(np.float64))
    return np.stack(made)


def neurons():
    tau = vector(0.5, 1.0, 2.0)
    syn = vector(0.25, 0.5, 1.0)
    r = vector(1.0, 2.0, 0.75)
    leak = vector(0.5, -0.25, 0.0)
    fires = {"v_threshold": vector(0.7, 0.9, 0.35), "v_reset": vector(0.125, 0.125, 0.125)}
    yield "li-leak", nir.LI(tau=tau, r=r, v_leak=leak)
    yield "lif-leak", nir.LIF(tau=tau, r=r, v_leak=leak, **fires)
    cuba = {"tau_syn": syn, "tau_mem": tau, "r": r, "w_in": vector(1.5, 1.0, 2.0)}
    yield "cuba-li", nir.CubaLI(v_leak=np.zeros(3), **cuba)
    yield "cuba-li-leak", nir.CubaLI(v_leak=leak, **cuba)
    yield "cuba-lif-leak", nir.CubaLIF(v_leak=leak, **cuba, **fires)
    yield "integrator", nir.I(r=r)


def layers():
    """A node, the shape that it reads, and what torch makes of `[time, ...]`."""
    weight, bias = eighths(4, 2, 3), eighths(4)
    for name, options in [
        ("conv1d", {"stride": 1, "padding": 1, "dilation": 1}),
        ("conv1d-strided", {"stride": 2, "padding": 2, "dilation": 2}),
    ]:
        node = nir.Conv1d(input_shape=9, weight=weight, bias=bias, groups=1, **options)
        made = lambda x, o=options: F.conv1d(x, torch.tensor(weight), torch.tensor(bias), **o)
        yield name, node, (2, 9), made
    pool = {"kernel_size": (2, 4), "stride": (2, 1)}
    node = nir.AvgPool2d(padding=np.array([0, 0]), **{k: np.array(v) for k, v in pool.items()})
    yield "avg-pool", node, (2, 5, 6), lambda x: F.avg_pool2d(x, **pool)
    at = vector(0.5, 0.75, 0.375)
    yield "threshold", nir.Threshold(threshold=at), (3,), lambda x: (x >= torch.tensor(at)).double()


def write(name, node, shape, x, y):
    ends = {"input": nir.Input({"input": np.array(shape)}), "output": nir.Output({"output": np.array(y.shape[1:])})}
    edges = [("input", "node"), ("node", "output")]
    nir.write(folder / f"{name}.nir", nir.NIRGraph({**ends, "node": node}, edges), compression=None)
    flat = lambda t: t.reshape(len(t), -1).tolist()
    return json.dumps({"name": name, "dt": DT, "x": flat(x), "y": flat(y)})


def later(delays, x):
    """Each feature so many units of time later."""
    made = np.zeros_like(x)
    for feature, delay in enumerate(delays):
        steps = min(round(delay / DT), len(x))
        made[steps:, feature] = x[: len(x) - steps, feature]
    return made


def padded():
    pool = {"kernel_size": (2, 4), "stride": (2, 1), "padding": (1, 2)}
    fields = {k: np.array(v) for k, v in pool.items()}
    mean = lambda x: F.avg_pool2d(x, **pool)
    yield "avg-pool-padded", nir.AvgPool2d(**fields), (2, 5, 6), mean
    yield "sum-pool-padded", nir.SumPool2d(**fields), (2, 5, 6), lambda x: 8 * mean(x)
    delays = vector(0.25, 0.0, 0.5, 0.25, 1.0)
    made = lambda x: torch.tensor(later(delays, x.numpy()))
    yield "delay", nir.Delay(delay=delays), (5,), made


lines = []
for name, node in neurons():
    x = random.integers(-4, 13, (STEPS, 3)) / 8
    lines.append(write(name, node, (3,), x, euler(node, x)))
for name, node, shape, made in [*layers(), *padded()]:
    x = eighths(5, *shape)
    lines.append(write(name, node, shape, x, made(torch.tensor(x)).numpy()))
(folder.parent / "nir_nodes.jsonl").write_text("\n".join(lines) + "\n")
