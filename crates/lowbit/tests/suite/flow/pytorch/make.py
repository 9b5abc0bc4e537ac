"""Writes the fixtures of `tests/suite/flow/loading.rs`, by PyTorch itself.

Usage: python3 make.py, in this folder. Needs torch, numpy and safetensors; written with torch
2.15.0 and safetensors 0.8.0.

The network is the one that `lowbit` calls `cnn` (`network.py`), with weights and statistics
drawn from a seed. Beside its state dict in two formats there is an input, and what PyTorch gives
for it.
"""

import json

import torch
from safetensors.torch import save_file

from network import DigitsCnn

torch.manual_seed(1903)
model = DigitsCnn()
with torch.no_grad():
    for norm in (model.bn1, model.bn2, model.bn3):
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-0.5, 0.5)
        norm.running_mean.uniform_(-0.5, 0.5)
        norm.running_var.uniform_(0.5, 2.0)
model.eval()
torch.save(model.state_dict(), "cnn.pt")
save_file(model.state_dict(), "cnn.safetensors", metadata={"format": "pt"})

images = torch.rand(2, 1, 8, 8)
with torch.no_grad():
    scores = model(images)
with open("cnn.json", "w") as file:
    json.dump({"images": images.flatten().tolist(), "scores": scores.flatten().tolist()}, file)
    file.write("\n")
