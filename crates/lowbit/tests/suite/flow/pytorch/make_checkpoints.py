"""Writes the checkpoints of `tests/suite/flow/checkpoints.rs`, by PyTorch itself.

Usage: python3 make_checkpoints.py, in this folder. Needs torch; written with torch 2.15.0.

The network is `cnn`, as in `make.py`, every tensor of which holds one number over and over, so that
the files are small: PyTorch stores a tensor that was expanded as its one number. What differs is
how training scripts wrap a state dict: in a dictionary beside the epoch and the optimizer's state,
with the prefix of `DataParallel`, or not at all, as a whole module.
"""

import json

import torch
from torch import nn

from network import DigitsCnn

model = DigitsCnn()
for i, (name, parameter) in enumerate(sorted(model.state_dict().items())):
    if parameter.dtype != torch.float32 or parameter.ndim == 0:
        continue
    module, _, leaf = name.rpartition(".")
    # Means are smaller than the shifts, so that no rectifier is closed.
    size = 0.01 if leaf == "running_mean" or parameter.ndim > 1 else 0.0625
    number = torch.tensor(size * (i + 1))
    value = number.expand(parameter.shape)
    owner = model.get_submodule(module)
    if leaf in owner._parameters:
        setattr(owner, leaf, nn.Parameter(value))
    else:
        owner._buffers[leaf] = value
model.eval()

# The one tensor that is not constant, and that an optimizer has a state for.
model.fc.bias = nn.Parameter(torch.linspace(-1, 1, 10))
optimizer = torch.optim.SGD([model.fc.bias], lr=0.125, momentum=0.9)
images = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
model(images).square().sum().backward()
optimizer.step()
optimizer.zero_grad()

state = model.state_dict()
parallel = nn.DataParallel(model).state_dict()
torch.save({"epoch": 3, "state_dict": state, "optimizer": optimizer.state_dict()}, "state_dict.pt")
torch.save({"model": parallel, "optimizer": optimizer.state_dict()}, "model_parallel.pth")
torch.save(nn.DataParallel(torch.compile(model)).state_dict(), "parallel_compiled.pt")
torch.save(model, "whole.pt")
torch.save({"model": state, "state_dict": state}, "two.pt")

with torch.no_grad():
    scores = model(images)
with open("checkpoints.json", "w") as file:
    json.dump({"images": images.flatten().tolist(), "scores": scores.flatten().tolist()}, file)
    file.write("\n")
