"""Networks of snnTorch and sinabs as NIR files, with what they make of random spikes: `nir/NAME.nir` and
`nir.jsonl`.

    pip install snntorch==1.0.0 sinabs==3.1.3 nir==1.0.8 nirtorch==2.0.2 torch
    python nir_files.py

Weights are multiples of 1/64 and decays of 1/8 or so, so that sums are exact in any order. sinabs' files do
not say the lower limit of a potential, which it takes to be minus the threshold when it reads one.
"""

import copy
import json
import pathlib

import nir
import sinabs.layers as sl
import sinabs.nir
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir
from torch import nn

STEPS = 25
folder = pathlib.Path(__file__).parent / "nir"


def coarse(module):
    """Weights on a grid."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            for values in layer.parameters():
                values.data = (values.data * 64).round() / 64
    return module


def spikes(shape, rate):
    return (torch.rand(STEPS, *shape) < rate).float()


def through(layers, x):
    """What hidden layers and the last one make, step by step; states are kept in the modules."""
    made = []
    for step in x:
        y = step[None]
        for layer in layers:
            y = layer(y)
            y = y[0] if isinstance(y, tuple) else y
        made.append(y[0].detach())
    return torch.stack(made)


def write(name, graph, x, y):
    nir.write(folder / f"{name}.nir", graph)
    flat = lambda t: t.reshape(len(t), -1).int().tolist()
    return json.dumps({"name": name, "shape": list(x.shape[1:]), "x": flat(x), "y": flat(y)})


def of_snntorch():
    torch.manual_seed(1)
    dense = nn.Sequential(
        nn.Linear(6, 12),
        snn.Leaky(beta=torch.full((12,), 0.875), threshold=torch.full((12,), 0.5), init_hidden=True),
        nn.Linear(12, 5, bias=False),
        snn.Synaptic(
            alpha=torch.full((5,), 0.75),
            beta=torch.full((5,), 0.875),
            threshold=torch.full((5,), 0.75),
            init_hidden=True,
            output=True,
        ),
    )
    recurrent = nn.Sequential(
        nn.Linear(4, 8),
        snn.RLeaky(beta=0.75, threshold=0.5, linear_features=8, init_hidden=True, output=True),
    )
    for name, net, inputs in [("snntorch", dense, 6), ("snntorch-recurrent", recurrent, 4)]:
        net = coarse(net)
        x = spikes((inputs,), 0.4)
        graph = export_to_nir(copy.deepcopy(net), x[0])
        yield write(name, graph, x, through(net, x))


def of_sinabs():
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        sl.IAFSqueeze(batch_size=1, spike_threshold=torch.tensor(0.5), min_v_mem=-0.5),
        sl.SumPool2d(2, 2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        sl.IAFSqueeze(batch_size=1, spike_threshold=torch.tensor(0.75), min_v_mem=-0.75),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 5),
        sl.LIFSqueeze(
            tau_mem=torch.full((5,), 4.0),
            spike_threshold=torch.full((5,), 0.5),
            norm_input=False,
            batch_size=1,
        ),
    )
    net = coarse(net)
    x = spikes((2, 8, 8), 0.3)
    fresh = copy.deepcopy(net)
    net(x)
    graph = sinabs.nir.to_nir(net, x[:1])
    y = fresh(x)
    yield write("sinabs", graph, x, y.detach())


folder.mkdir(exist_ok=True)
lines = [*of_snntorch(), *of_sinabs()]
(folder.parent / "nir.jsonl").write_text("\n".join(lines) + "\n")
