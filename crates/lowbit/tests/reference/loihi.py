"""Random layers of Loihi's neurons and the spikes and last potentials of lava-dl's simulation of them:
`loihi.jsonl`.

    pip install lava-dl==0.6.0 lava-nc==0.10.0 torch
    python loihi.py

lava-dl computes in integers: decays in 4096ths, weights of 8 bits times 64.
"""

import json
import pathlib

import torch
from lava.lib.dl.slayer.neuron import cuba

LAYERS = 60
STEPS = 60
SCALE = 64


def layer():
    inputs, neurons = torch.randint(1, 6, (2,)).tolist()
    weight = torch.randint(-128, 128, (inputs, neurons))
    x = (torch.rand(STEPS, inputs) < 0.4).long()
    current, voltage = torch.randint(1, 4096, (2,)).tolist()
    threshold = int(torch.randint(20, 2000, ()))
    layer = cuba.Neuron(
        threshold=threshold / SCALE,
        current_decay=current / 4096,
        voltage_decay=voltage / 4096,
        scale=SCALE,
    )
    # What is a weight here is a weight over the scale there; `[batch, neurons, time]`.
    sums = (x @ weight).T.unsqueeze(0).double() / SCALE
    with torch.no_grad():
        _, potentials = layer.dynamics(sums)
        spikes = layer.spike(potentials)
    made = potentials.squeeze(0)[:, -1] * SCALE * 64
    assert (made == made.round()).all()
    return {
        "weight": weight.tolist(),
        "x": x.tolist(),
        "current_decay": current,
        "voltage_decay": voltage,
        "threshold": threshold,
        "spikes": spikes.squeeze(0).T.int().tolist(),
        # Before a reset.
        "potentials": made.int().tolist(),
    }


torch.manual_seed(13)
lines = [json.dumps(layer(), separators=(",", ":")) + "\n" for _ in range(LAYERS)]
pathlib.Path(__file__).with_suffix(".jsonl").write_text("".join(lines))
