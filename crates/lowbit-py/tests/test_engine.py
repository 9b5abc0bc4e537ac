"""Networks that were trained in PyTorch go on in Lowbit's own engine, with what their quantizers learned."""

import gzip
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from conftest import command

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
import lowbit.torch as lt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

DIGITS = Path(__file__).parents[2] / "lowbit" / "assets" / "digits.csv.gz"


class Cnn(nn.Module):
    """The engine's network for the digits, with its names."""

    def __init__(self):
        super().__init__()
        for i, (a, b) in enumerate([(1, 16), (16, 32), (32, 64)], 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 3, padding=1, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        for i in (1, 2, 3):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)).relu()
            x = F.max_pool2d(x, 2) if i == 2 else x
        return self.fc(x.mean((2, 3)))


@pytest.fixture(autouse=True)
def one_thread():
    """Networks so small gain nothing by more, and lose much where a machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def digits():
    """Images and labels to train on and to test with, in the engine's split: sorted by label, every fifth is a test's."""
    rows = np.array([line.split(",") for line in gzip.decompress(DIGITS.read_bytes()).decode().split()], np.int64)
    order = np.argsort(rows[:, -1], kind="stable")
    is_test = np.zeros(len(rows), bool)
    is_test[order[4::5]] = True
    images = torch.from_numpy(rows[:, :-1].reshape(-1, 1, 8, 8)).float() / 16.0
    mean, deviation = images[~is_test].mean(), images[~is_test].std(correction=0)
    images, labels = (images - mean) / deviation, torch.from_numpy(rows[:, -1])
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


# Weights and inputs of inner layers; the first and the last have 8 bits.
METHODS = {
    "lsq": (lt.LSQ, lt.LSQ),
    "tqt": (lt.TQT, lt.TQT),
    "pact": (lt.DoReFaWeight, lt.PACT),
    "dorefa": (lt.DoReFaWeight, lt.DoReFaActivation),
}


def trained(method, train):
    """A few steps of float, calibration, a few steps quantized to 4 bits."""
    torch.manual_seed(0)
    weight, input = METHODS[method]
    net, (images, labels) = Cnn(), train

    def steps(count):
        optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
        for _ in range(count):
            picked = torch.randint(len(images), (64,))
            optimizer.zero_grad()
            F.cross_entropy(net(images[picked]), labels[picked]).backward()
            optimizer.step()

    steps(60)
    if method in ("lsq", "tqt"):
        lt.quantize_layers(net, weight(8), input(8), layers=["conv1", "fc"])
    lt.quantize_layers(net, weight(4), input(4), layers=["conv2", "conv3"])
    with lt.calibrate(net):
        net(images[:256])
    steps(20)
    return net.eval()


@pytest.mark.parametrize("method", ["lsq", "pact", "dorefa"])
def test_the_engine_has_the_same_network(tmp_path, method):
    """Loss and accuracy over the test images are those of PyTorch, to what sums in another order leave (2e-8 where this
    was written)."""
    run = command()
    train, (images, labels) = digits()
    net = trained(method, train)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    call = [run, "train", "--data", "digits", "--method", method, "--wbits", "4", "--abits", "4"]
    call += ["--from", tmp_path / "net.pt", "--epochs", "0", "--threads", "1", "--out", tmp_path / "run"]
    done = subprocess.run([str(part) for part in call], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "calibrated" not in done.stdout + done.stderr
    (result,) = [json.loads(path.read_text()) for path in (tmp_path / "run").rglob("result.json")]
    with torch.no_grad():
        scores = net(images)
    accuracy, loss = (scores.argmax(1) == labels).float().mean().item(), F.cross_entropy(scores, labels).item()
    assert accuracy > 0.6
    assert result["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert result["loss"] == pytest.approx(loss, abs=1e-4)


def test_thresholds_of_a_file_are_kept(tmp_path):
    """Those of other slots are calibrated."""
    run = command()
    net = trained("tqt", digits()[0])
    with torch.no_grad():
        net.conv2.quantizer("input").log2_threshold.fill_(1.125)
    torch.save({"model": net.state_dict(), "epoch": 3}, tmp_path / "net.pt")
    call = [run, "quantize", "--data", "digits", "--wbits", "4", "--abits", "4", "--from", tmp_path / "net.pt"]
    done = subprocess.run([str(part) for part in [*call, "--threads", "1", "--out", tmp_path / "run"]], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith(("conv", "fc"))}
    assert rows["conv2.input"][1:4] == ["u4", "4", "1.125"] and "fc.output" in rows
