"""Trains LeNet-5 on the embedded digits in PyTorch and writes lenet.onnx.

burn-onnx 0.22.0 made lenet.rs and lenet.bpk of that, in a program of one line:

    burn_onnx::ModelGen::new().input("lenet.onnx").out_dir(".").run_from_cli();

Run with torch and onnx installed: python lenet.py
"""

import gzip
import pathlib

import torch
from torch import nn

FILE = pathlib.Path(__file__).parents[2] / "assets" / "digits.csv.gz"
MEAN, STD = 0.30466984, 0.37580837


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.flatten(x, 1)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


def digits():
    """Images of 28 x 28: each pixel three times, in a frame of two zeros."""
    rows = gzip.open(FILE, "rt").read().split()
    table = torch.tensor([[float(v) for v in row.split(",")] for row in rows])
    images = (table[:, :64].reshape(-1, 1, 8, 8) / 16 - MEAN) / STD
    images = images.repeat_interleave(3, 2).repeat_interleave(3, 3)
    return nn.functional.pad(images, (2, 2, 2, 2)), table[:, 64].long()


torch.manual_seed(0)
images, labels = digits()
# The library's own split: of the rows sorted by label, every fifth is a test image.
test = torch.argsort(labels, stable=True)[4::5]
is_test = torch.zeros(len(labels), dtype=torch.bool)
is_test[test] = True
train = (~is_test).nonzero().flatten()
model = LeNet()
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for epoch in range(8):
    for part in train[torch.randperm(len(train))].split(32):
        loss = nn.functional.cross_entropy(model(images[part]), labels[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval()
right = (model(images[test]).argmax(1) == labels[test]).sum().item()
print(f"{right} of {len(test)} right")
torch.onnx.export(
    model,
    (torch.zeros(2, 1, 28, 28),),
    "lenet.onnx",
    input_names=["images"],
    output_names=["logits"],
    dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
    opset_version=17,
    dynamo=False,
)
