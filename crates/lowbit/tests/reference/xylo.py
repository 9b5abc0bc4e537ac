"""Random small networks and what Rockpool's simulation of Xylo makes of them: `xylo.jsonl`.

    pip install xylosim==0.1.3 numpy
    python xylo.py > xylo.jsonl

Weights and inputs are small enough that no sum of a step saturates on its way, where the chip adds
one event after the other.
"""

import json

import numpy as np
from xylosim.v2 import XyloLayer, XyloSynapse

NETWORKS = 150
STEPS = 20


def synapses(weights):
    return [
        [XyloSynapse(int(j), 0, int(row[j])) for j in np.flatnonzero(row)] for row in weights
    ]


def network(rng):
    inputs, hidden, outputs = rng.integers(1, 5), rng.integers(1, 7), rng.integers(1, 4)
    return {
        "w_in": rng.integers(-128, 128, (inputs, hidden)),
        "w_rec": rng.integers(-30, 31, (hidden, hidden)),
        "w_out": rng.integers(-60, 61, (hidden, outputs)),
        "threshold": rng.integers(50, 2000, hidden),
        "threshold_out": rng.integers(50, 2000, outputs),
        "dash_mem": rng.integers(1, 6, hidden),
        "dash_mem_out": rng.integers(1, 6, outputs),
        "dash_syn": rng.integers(1, 4, hidden),
        "dash_syn_out": rng.integers(1, 4, outputs),
        "x": rng.poisson(rng.uniform(0.1, 2.0), (STEPS, inputs)).clip(0, 15),
    }


def simulate(n):
    hidden, outputs = n["w_out"].shape
    # The layer points into these lists.
    kept = [synapses(n[name]) for name in ("w_in", "w_rec", "w_out")]
    layer = XyloLayer(
        synapses_in=kept[0],
        synapses_rec=kept[1],
        synapses_out=kept[2],
        aliases=[[] for _ in range(hidden)],
        threshold=n["threshold"].tolist(),
        threshold_out=n["threshold_out"].tolist(),
        has_bias=False,
        bias=[0] * hidden,
        bias_out=[0] * outputs,
        weight_shift_inp=0,
        weight_shift_rec=0,
        weight_shift_out=0,
        dash_mem=n["dash_mem"].tolist(),
        dash_mem_out=n["dash_mem_out"].tolist(),
        dash_syns=[[d, 0] for d in n["dash_syn"].tolist()],
        dash_syns_out=[[d, 0] for d in n["dash_syn_out"].tolist()],
        name="reference",
    )
    out = layer.evolve(n["x"].tolist())
    spikes = np.array(layer.rec_recurrent_spikes)
    potentials = np.array(layer.rec_v_mem).T
    return {"spikes": spikes, "potentials": potentials, "out": np.array(out)}


rng = np.random.default_rng(13)
for _ in range(NETWORKS):
    n = network(rng)
    line = {key: np.asarray(value).tolist() for key, value in {**n, **simulate(n)}.items()}
    print(json.dumps(line, separators=(",", ":")))
