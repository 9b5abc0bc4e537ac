"""Writes the fixtures of `tests/flow/loading.rs`, by PyTorch itself.

Usage: python3 make.py, in this folder. Needs torch, numpy and safetensors; written with torch
2.15.0 and safetensors 0.8.0.

The network is the one that `lowbit` calls `cnn`, in PyTorch's own modules, with weights and
statistics drawn from a seed. Beside its state dict in two formats there is an input, and what
PyTorch gives for it.
"""

import json

import torch
from safetensors.torch import save_file
from torch import nn


class DigitsCnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.max_pool2d(x, 2)
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc(x.mean(dim=(2, 3)))


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
