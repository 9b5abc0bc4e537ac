"""Times one training step of ResNet-20 (CIFAR shape) in PyTorch: float32, or with a peer's
quantizers; or, in float32, of a small GPT on windows of 64 of 65 characters; and prints one JSON object.
Started by run.py, once a peer, so that each has a process of its own."""

import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn
import torch.nn.functional as F


def float_layers():
    return nn.Conv2d, nn.Linear, lambda: nn.ReLU()


def dorefa_layers(bits=4):
    """DoReFa-Net as its public PyTorch implementations have it."""

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, levels):
            return torch.round(x * levels) / levels

        @staticmethod
        def backward(ctx, grad):
            return grad, None

    levels = float(2**bits - 1)

    def weight(w):
        w = torch.tanh(w)
        w = w / w.abs().max() * 0.5 + 0.5
        return 2 * Round.apply(w, levels) - 1

    class Conv(nn.Conv2d):
        def forward(self, x):
            x = Round.apply(x.clamp(0, 1), levels)
            return F.conv2d(x, weight(self.weight), None, self.stride, self.padding)

    class Linear(nn.Linear):
        def forward(self, x):
            return F.linear(Round.apply(x.clamp(0, 1), levels), weight(self.weight), self.bias)

    return Conv, Linear, lambda: nn.ReLU()


def fake_quant_layers():
    """torch.ao's fake quantization, 8 bits, of weights and activations."""
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

    def make(signed):
        return FakeQuantize(
            observer=MovingAverageMinMaxObserver,
            quant_min=-128 if signed else 0,
            quant_max=127 if signed else 255,
            dtype=torch.qint8 if signed else torch.quint8,
            qscheme=torch.per_tensor_symmetric if signed else torch.per_tensor_affine,
        )

    class Conv(nn.Conv2d):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.q_weight, self.q_input = make(True), make(False)

        def forward(self, x):
            w = self.q_weight(self.weight)
            return F.conv2d(self.q_input(x), w, None, self.stride, self.padding)

    class Linear(nn.Linear):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.q_weight, self.q_input = make(True), make(False)

        def forward(self, x):
            return F.linear(self.q_input(x), self.q_weight(self.weight), self.bias)

    return Conv, Linear, lambda: nn.ReLU()


def brevitas_layers():
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat

    def conv(*args, **kwargs):
        return qnn.QuantConv2d(
            *args,
            weight_quant=Int8WeightPerTensorFloat,
            input_quant=Int8ActPerTensorFloat,
            **kwargs,
        )

    def linear(*args, **kwargs):
        return qnn.QuantLinear(*args, weight_quant=Int8WeightPerTensorFloat, bias=True, **kwargs)

    return conv, linear, lambda: nn.ReLU()


def tqt_layers():
    """The TQT package: weights, and activations after each ReLU, at 8 bits with trained
    thresholds, which it leaves to the caller to set."""
    from tqt import function as tqt

    def weighted(layer):
        def make(*args, **kwargs):
            made = layer(*args, quant=True, **kwargs)
            made.weight_log2_t.data.copy_(made.weight.detach().abs().max().log2())
            return made

        return make

    def relu():
        made = tqt.ReLU(quant=True)
        made.acti_log2_t.data.fill_(2.0)
        return made

    return weighted(tqt.Conv2d), weighted(tqt.Linear), relu


def qpytorch_layers(number):
    """QPyTorch: activations and their gradients rounded to nearest after each ReLU."""

    def layers():
        import qtorch
        from qtorch.quant import Quantizer

        def q():
            chosen = number(qtorch)
            return Quantizer(
                forward_number=chosen,
                backward_number=chosen,
                forward_rounding="nearest",
                backward_rounding="nearest",
            )

        return nn.Conv2d, nn.Linear, lambda: nn.Sequential(nn.ReLU(), q())

    return layers


def posit_layers():
    """QPyTorch extended: the same with posits."""
    from qtorch_plus.quant import posit_quantize

    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return posit_quantize(x, nsize=8, es=1, rounding="nearest")

        @staticmethod
        def backward(ctx, grad):
            return posit_quantize(grad, nsize=8, es=1, rounding="nearest")

    class Quantize(nn.Module):
        def forward(self, x):
            return Round.apply(x)

    return nn.Conv2d, nn.Linear, lambda: nn.Sequential(nn.ReLU(), Quantize())


PEERS = {
    "pytorch-float32": float_layers,
    "dorefa-pytorch-w4a4": dorefa_layers,
    "torch.ao-fake-quantize-8": fake_quant_layers,
    "brevitas-int8": brevitas_layers,
    "tqt-w8a8": tqt_layers,
    "qpytorch-float(5,2)": qpytorch_layers(lambda q: q.FloatingPoint(exp=5, man=2)),
    "qpytorch-fixed(8,6)": qpytorch_layers(lambda q: q.FixedPoint(wl=8, fl=6)),
    "qpytorch-block(8)": qpytorch_layers(lambda q: q.BlockFloatingPoint(wl=8, dim=0)),
    "qtorch-plus-posit(8,1)": posit_layers,
}


class Block(nn.Module):
    def __init__(self, cin, cout, stride, conv, relu):
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(cin), relu()
        self.conv1 = conv(cin, cout, 3, stride=stride, padding=1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(cout), relu()
        self.conv2 = conv(cout, cout, 3, padding=1, bias=False)
        changes = cin != cout or stride != 1
        self.shortcut = conv(cin, cout, 1, stride=stride, bias=False) if changes else None

    def forward(self, x):
        a = self.relu1(self.bn1(x))
        shortcut = self.shortcut(a) if self.shortcut is not None else x
        return self.conv2(self.relu2(self.bn2(self.conv1(a)))) + shortcut


class ResNet20(nn.Module):
    def __init__(self, layers):
        super().__init__()
        conv, linear, relu = layers
        # First and last layer in float, as in the networks they are compared with.
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        blocks, cin = [], 16
        for stage, width in enumerate((16, 32, 64)):
            for i in range(3):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Block(cin, width, stride, conv, relu))
                cin = width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.conv1(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


# Layers, heads, features, as minGPT's.
GPTS = {"gpt-nano": (3, 3, 48), "gpt-micro": (4, 4, 128), "gpt-mini": (6, 6, 192)}
CHARACTERS, CONTEXT = 65, 64


class GptLayer(nn.Module):
    def __init__(self, heads, features):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.all = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.up, self.down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def forward(self, x):
        batch, length, features = x.shape
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.all(self.norm1(x)).split(features, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, features))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    def __init__(self, layers, heads, features):
        super().__init__()
        self.word = nn.Embedding(CHARACTERS, features)
        self.position = nn.Embedding(CONTEXT, features)
        self.layers = nn.Sequential(*(GptLayer(heads, features) for _ in range(layers)))
        self.norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, CHARACTERS, bias=False)

    def forward(self, x):
        x = self.word(x) + self.position(torch.arange(CONTEXT))
        return self.head(self.norm(self.layers(x))).flatten(0, 1)


def workload(model, peer, batch):
    """A network, what it reads, and classes."""
    if model in GPTS:
        if peer != "pytorch-float32":
            raise SystemExit(f"{model} is timed in float32 alone")
        x = torch.randint(CHARACTERS, (batch, CONTEXT))
        return Gpt(*GPTS[model]), x, torch.randint(CHARACTERS, (batch * CONTEXT,))
    network = ResNet20(PEERS[peer]())
    return network, torch.rand(batch, 3, 32, 32) * 2 - 1, torch.arange(batch) % 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--model", choices=["resnet20", *GPTS], default="resnet20")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    before = memory("VmRSS")
    model, x, y = workload(args.model, args.peer, args.batch)
    if args.channels_last:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    if args.compile:
        model = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    seconds, inference = [], []
    for round_ in range(args.rounds + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        step = time.perf_counter() - start
        if round_ >= 2:
            seconds.append(step)
    peak = memory("VmHWM")
    model.eval()
    with torch.no_grad():
        for round_ in range(args.rounds + 2):
            start = time.perf_counter()
            model(x)
            if round_ >= 2:
                inference.append(time.perf_counter() - start)
    step = statistics.median(seconds)
    print(
        json.dumps(
            {
                "name": args.peer
                + ("-channels-last" if args.channels_last else "")
                + ("-compiled" if args.compile else ""),
                "seconds": step,
                "images_per_second": args.batch / step,
                "inference_images_per_second": args.batch / statistics.median(inference),
                "memory_bytes": peak - before,
            }
        )
    )


def memory(field):
    """A line of /proc/self/status in bytes; the process's peak where there is none."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
