"""Random convolutions and neurons as sinabs discretizes them for DynapCNN and Speck, and the spikes of its
simulation of them: `speck.jsonl`.

    pip install sinabs==3.1.3 torch
    python speck.py > speck.jsonl

Two layers a network, of integers after `discretize_conv_spike`. Neurons fire once a step or as often as
their potential holds the threshold, which sinabs calls single and multi spike.
"""

import importlib.util
import json
import pathlib

import sinabs
import sinabs.activation as activation
import sinabs.layers as sl
import torch
from torch import nn

# By its path: the package around it asks for the chip's driver.
path = pathlib.Path(sinabs.__file__).parent / "backend/dynapcnn/discretize.py"
spec = importlib.util.spec_from_file_location("discretize", path)
discretize = importlib.util.module_from_spec(spec)
spec.loader.exec_module(discretize)

NETWORKS = 40
STEPS = 12


def layer(channels, several, stride, padding):
    conv = nn.Conv2d(*channels, 3, stride=stride, padding=padding)
    neurons = sl.IAF(
        spike_threshold=float(torch.empty(1).uniform_(0.3, 1.0)),
        min_v_mem=-1.0,
        spike_fn=activation.MultiSpike if several else activation.SingleSpike,
    )
    return discretize.discretize_conv_spike(conv, neurons)


def run(conv, neurons, x):
    """Spikes `[time, channels, height, width]`."""
    with torch.no_grad():
        y = neurons(conv(x).unsqueeze(0)).squeeze(0)
    # What a state of 16 bits would not hold.
    assert neurons.v_mem.abs().max() < 2**15
    return y


def whole(x):
    assert (x == x.round()).all()
    return x.int().tolist()


def network(index):
    several = bool(index % 2)
    channels = torch.randint(1, 4, (3,)).tolist()
    layers, x = [], torch.poisson(torch.rand(STEPS, channels[0], 6, 6))
    record = {"x": whole(x), "several": several}
    for pair in zip(channels, channels[1:]):
        stride, padding = int(torch.randint(1, 3, ())), int(torch.randint(0, 2, ()))
        conv, neurons = layer(pair, several, stride, padding)
        x = run(conv, neurons, x)
        layers.append(
            {
                "weight": whole(conv.weight.data),
                "bias": whole(conv.bias.data),
                "stride": stride,
                "padding": padding,
                "threshold": int(neurons.spike_threshold),
                "min_v": int(neurons.min_v_mem),
                "spikes": whole(x),
            }
        )
        if min(x.shape[2:]) < 3:
            break
    return {**record, "layers": layers}


torch.manual_seed(13)
for index in range(NETWORKS):
    print(json.dumps(network(index), separators=(",", ":")))
