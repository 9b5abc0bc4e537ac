"""The time of leaky neurons over 500 steps in snnTorch and Norse, forward and backward: 512 neurons,
16 samples, two threads; the sizes of the Open Neuromorphic comparison of simulators.

    pip install torch snntorch norse
    python benches/peers/spiking.py

Ours: `cargo run --release --example spiking_speed`.
"""

import time
import warnings

warnings.filterwarnings("ignore")

import norse.torch as norse
import snntorch as snn
import torch

STEPS, BATCH, NEURONS = 500, 16, 512
REPEATS = 5

torch.set_num_threads(2)
x = torch.rand(STEPS, BATCH, NEURONS) * 1.1 - 0.2


def of_snntorch(x):
    layer = snn.Leaky(beta=0.9)
    membrane = layer.init_leaky()
    spikes = []
    for step in x:
        z, membrane = layer(step, membrane)
        spikes.append(z)
    return torch.stack(spikes)


def of_norse(x):
    spikes, _ = norse.LIF()(x)
    return spikes


def of_norse_box(x):
    spikes, _ = norse.Lift(norse.LIFBoxCell())(x)
    return spikes


for name, run in [("snnTorch Leaky", of_snntorch), ("Norse LIF", of_norse), ("Norse LIFBox", of_norse_box)]:
    best = float("inf")
    for _ in range(REPEATS):
        leaf = x.clone().requires_grad_(True)
        start = time.perf_counter()
        run(leaf).sum().backward()
        best = min(best, time.perf_counter() - start)
    print(f"{name:16} {best * 1e3:8.1f} ms")
