"""Layers at random and what the kernels of CMSIS-NN and TensorFlow Lite Micro make of them.

    python targets.py SEED COUNT CMSIS CMSIS_SINGLE TFLITE TFLITE_SINGLE > targets.jsonl

The last four are programs that call the kernels, built with and without the single-rounding option
(CMSIS_NN_USE_SINGLE_ROUNDING, TFLITE_SINGLE_ROUNDING). Each reads layers on its standard input, a
line each, and prints each output in a line, channels last. A line has the layer's kind and numbers,
all in the kernels' own terms:

    conv, depthwise or transposed: input height width channels, kernel height width channels, output
        channels height width, stride, dilation, padding above and left, offsets of input and output,
        least and greatest output, multipliers, shifts, biases, inputs, weights
    linear: inputs, outputs, then from the offsets on the same
    add: scales a, b and output; count; offset multiplier shift of a, of b, of the output; ends; a; b
    mul: count, offsets of a, b and output, multiplier, shift, ends; a; b
    average or max: input height width channels, kernel, output, stride, padding, ends; inputs
    quantize: count, zero point, multiplier, shift, zero point of the output, ends; inputs

A line of the result has a network in lowbit-int's JSON, its inputs, and the outputs with two roundings
and with one. Both libraries have to agree. Multipliers come from QuantizeMultiplier's definition, and
TensorFlow Lite's program compares those of additions with its own.
"""

import json
import math
import random
import subprocess
import sys

SEED, COUNT = int(sys.argv[1]), int(sys.argv[2])
DRIVERS = {"twice": [sys.argv[3], sys.argv[5]], "once": [sys.argv[4], sys.argv[6]]}
R = random.Random(SEED)


def quantize_multiplier(real):
    """The multiplier of 31 bits, half away from zero, and its shift."""
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2**31 + 0.5)
    return (2**30, shift + 1) if multiplier == 2**31 else (multiplier, shift)


class Numbers:
    """The integers of a tensor; `below` is what int8 has less."""

    def __init__(self, exponent=None, narrow=True):
        kinds = [(8, True), (8, True), (8, False), (8, False), (7, False), (4, False), (4, True)]
        self.bits, self.signed = R.choice(kinds if narrow else kinds[:4])
        self.least = -(2 ** (self.bits - 1)) if self.signed else 0
        self.greatest = self.least + 2**self.bits - 1
        self.exponent = exponent
        self.zero = 0 if exponent is not None else R.choice([0, self.least, R.randint(self.least, self.greatest)])
        self.below = 128 if self.greatest > 127 else 0

    def json(self):
        numbers = {"bits": self.bits, "signed": self.signed}
        if self.exponent is not None:
            return {**numbers, "exponent": self.exponent}
        return {**numbers, "scale": 0.1, "zero_point": self.zero}

    def ends(self):
        return [self.least - self.below, self.greatest - self.below]

    def values(self, count):
        corner = lambda: R.choice([self.least, self.greatest])
        return [corner() if R.random() < 0.2 else R.randint(self.least, self.greatest) for _ in range(count)]

    def int8(self, values):
        return [v - self.below for v in values]


def scale(most, powers):
    """Multiplier and shift that bring sums of a magnitude to eight bits, more or less."""
    if powers:
        return 1, R.randint(0, max(1, int(math.log2(most))))
    real = 2 ** R.uniform(-2, 9) / most
    bits = R.choice([3, 8, 15, 24, 31])
    fraction, exponent = math.frexp(real)
    return max(1, round(fraction * 2**bits)), max(0, bits - exponent)


def requantize(multipliers, shifts, numbers):
    rounding = R.choice(["half-even", "half-away", "half-up", "floor"])
    constants = {"multiplier": multipliers, "offset": [0], "shift": shifts}
    return {"name": "y", "inputs": ["sums"], "op": "requantize", **constants, "rounding": rounding, "numbers": numbers.json()}


def graph(inputs, nodes):
    return {"format": "lowbit-int", "version": 1, "inputs": inputs, "nodes": nodes, "outputs": ["y"]}


def channels_last(values, channels):
    pixels = len(values) // channels
    return [values[c * pixels + p] for p in range(pixels) for c in range(channels)]


def channels_first(values, channels):
    pixels = len(values) // channels
    return [values[p * channels + c] for c in range(channels) for p in range(pixels)]


def of_channels(most, powers, channels, exponent):
    """Constants for each channel, or for all, and the output's numbers."""
    if R.random() < 0.5:
        multiplier, shift = scale(most, powers)
        pairs = [(multiplier, shift)] * channels
        constants = [multiplier], [shift]
        output = Numbers(exponent + shift if powers else None)
    else:
        pairs = [scale(most, powers) for _ in range(channels)]
        constants = [m for m, _ in pairs], [s for _, s in pairs]
        output = Numbers()
    return *constants, [quantize_multiplier(m / 2**s) for m, s in pairs], output


def convolution(kind):
    powers = R.random() < 0.4
    x = Numbers(-4 if powers else None)
    groups = 1
    if kind == "depthwise":
        channels = groups = R.randint(1, 5)
        outputs = channels * R.choice([1, 1, 2])
    else:
        if kind == "conv" and R.random() < 0.3:
            groups = 2
        channels, outputs = groups * R.randint(1, 4), groups * R.randint(1, 4)
    kernel, stride = [R.randint(1, 3) for _ in range(2)], [R.randint(1, 2) for _ in range(2)]
    dilation = [R.choice([1, 1, 2]) for _ in range(2)] if kind != "transposed" else [1, 1]
    padding = [[R.randint(0, min(1, k - 1)) for _ in range(2)] for k in kernel]
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    sizes = [R.randint(max(1, r - sum(p)), r + 3) for r, p in zip(reach, padding)]
    if kind == "transposed":
        size = [(i - 1) * s + k - sum(p) for i, s, k, p in zip(sizes, stride, kernel, padding)]
        if min(size) < 1:
            return convolution(kind)
        # Zeros between the inputs and the kernel's other side are the kernels' business.
        shape = [channels, outputs, *kernel]
    else:
        size = [(i + sum(p) - r) // s + 1 for i, p, r, s in zip(sizes, padding, reach, stride)]
        shape = [outputs, channels // groups, *kernel]
    weights = [R.choice([-128, 127, R.randint(-128, 127), R.randint(-9, 9)]) for _ in range(math.prod(shape))]
    bias = [R.randint(-3000, 3000) for _ in range(outputs)]
    most = 60 * 60 * math.sqrt(kernel[0] * kernel[1] * channels // groups)
    multipliers, shifts, pairs, y = of_channels(most, powers, outputs, -7)
    values = x.values(channels * sizes[0] * sizes[1])
    tensor = {"shape": shape, "numbers": {"bits": 8, "signed": True, "exponent": -3}, "values": weights}
    sliding = {"stride": stride, "padding": padding, "dilation": dilation}
    layer = {"name": "sums", "inputs": ["x"], "op": "convolution", "weights": tensor, "bias": bias}
    layer |= {"sliding": sliding, "groups": groups, "transposed": [0, 0] if kind == "transposed" else None}
    network = graph([{"name": "x", "shape": [channels, *sizes], "numbers": x.json()}], [layer, requantize(multipliers, shifts, y)])
    area = kernel[0] * kernel[1]
    if kind == "depthwise":
        kernel_values = channels_last(weights, outputs)
    elif kind == "transposed":
        # Of [in, out, kernel] to [out, kernel, in].
        kernel_values = [weights[(i * outputs + o) * area + k] for o in range(outputs) for k in range(area) for i in range(channels)]
    else:
        per = channels // groups
        kernel_values = [v for o in range(outputs) for v in channels_last(weights[o * per * area :][: per * area], per)]
    of_kernel = 1 if kind == "depthwise" else channels // groups
    line = [*sizes, channels, *kernel, of_kernel, outputs, *size, *stride, *dilation, padding[0][0], padding[1][0]]
    line += [x.below - x.zero, y.zero - y.below, *y.ends(), *[m for m, _ in pairs], *[s for _, s in pairs], *bias]
    line += channels_last(x.int8(values), channels) + kernel_values
    return network, [values], line, outputs


def linear():
    powers = R.random() < 0.4
    x = Numbers(-4 if powers else None)
    inputs, outputs = R.randint(1, 40), R.randint(1, 9)
    weights = [R.choice([-128, 127, R.randint(-128, 127)]) for _ in range(inputs * outputs)]
    bias = [R.randint(-3000, 3000) for _ in range(outputs)]
    multipliers, shifts, pairs, y = of_channels(60 * 60 * math.sqrt(inputs), powers, outputs, -7)
    values = x.values(inputs)
    tensor = {"shape": [outputs, inputs], "numbers": {"bits": 8, "signed": True, "exponent": -3}, "values": weights}
    layer = {"name": "sums", "inputs": ["x"], "op": "linear", "weights": tensor, "bias": bias}
    network = graph([{"name": "x", "shape": [inputs], "numbers": x.json()}], [layer, requantize(multipliers, shifts, y)])
    line = [inputs, outputs, x.below - x.zero, y.zero - y.below, *y.ends()]
    line += [*[m for m, _ in pairs], *[s for _, s in pairs], *bias, *x.int8(values), *weights]
    return network, [values], line, outputs


def cancelled():
    """An addition whose inputs nearly cancel, in fine steps: each rounding of an input is seen."""
    count, most = 24, 2**20 + R.randint(0, 2**20)
    p, q = R.randint(1, 9), R.randint(10, 20)
    m = [round(most * p / q) + R.randint(-40, 40), most]
    byte = Numbers(narrow=False)
    byte.bits, byte.signed, byte.least, byte.greatest, byte.zero, byte.below = 8, True, -128, 127, 0, 0
    multiplier, shift = R.randrange(2**13, 2**15, 2) + 1, 17 + R.randint(0, 3)
    steps = [R.randint(-6, 6) for _ in range(count)]
    return m, byte, multiplier, shift, [q * s for s in steps], [-p * s for s in steps]


def two_inputs(kind):
    count, powers = R.randint(1, 40), R.random() < 0.5
    if kind == "mul":
        a, b = Numbers(-4 if powers else None), Numbers(-3 if powers else None)
        multiplier, shift = scale(60 * 60, powers)
        y = Numbers(-7 + shift if powers else None)
        ratio = multiplier, shift
        layer = {"name": "sums", "inputs": ["a", "b"], "op": "mul"}
    else:
        finer = R.randint(0, 6) if powers else 0
        m = [1, 1]
        m[R.randrange(2)] = 2**finer
        if not powers:
            m = [R.randint(1, 2 ** R.choice([2, 10, 20])) for _ in range(2)]
        # The sum's step is -4 - finer.
        a, b = [Numbers(-4 - finer + int(math.log2(f)) if powers else None) for f in m]
        multiplier, shift = scale(60 * max(m), powers)
        # What TensorFlow Lite asks for: an output no finer than 2^-19 of the inputs.
        if multiplier / 2**shift * 2 * max(m) >= 2**20:
            return two_inputs(kind)
        y = Numbers(-4 - finer + shift if powers else None)
        layer = {"name": "sums", "inputs": ["a", "b"], "op": "add", "multipliers": m}
        ratio = multiplier, shift
    first, second = a.values(count), b.values(count)
    if kind == "add" and R.random() < 0.3:
        m, a, *ratio, first, second = cancelled()
        b, count = a, len(first)
        y = Numbers()
        layer["multipliers"] = m
    tensors = [{"name": n, "shape": [count], "numbers": t.json()} for n, t in (("a", a), ("b", b))]
    network = graph(tensors, [layer, requantize([ratio[0]], [ratio[1]], y)])
    offsets, of_output = [a.below - a.zero, b.below - b.zero], y.zero - y.below
    if kind == "mul":
        found = quantize_multiplier(ratio[0] / 2 ** ratio[1])
        line = [count, *offsets, of_output, *found, *y.ends()]
    else:
        scales = [*m, 2 ** ratio[1] / ratio[0]]
        twice = 2 * max(m)
        found = [quantize_multiplier(s / twice) for s in m] + [quantize_multiplier(twice / (2**20 * scales[2]))]
        line = [*(f.hex() for f in map(float, scales)), count]
        line += [offsets[0], *found[0], offsets[1], *found[1], of_output, *found[2], *y.ends()]
    return network, [first, second], line + a.int8(first) + b.int8(second), 1


def pool(kind):
    powers = R.random() < 0.5
    x = Numbers(-4 if powers else None)
    channels = R.randint(1, 5)
    if R.random() < 0.3:
        sizes = [R.randint(1, 8) for _ in range(2)]
        kernel, stride, padding, size = sizes, [1, 1], [[0, 0], [0, 0]], [1, 1]
        windows = {"adaptive": {"output": [1, 1]}}
    else:
        kernel, stride = [R.randint(1, 4) for _ in range(2)], [R.randint(1, 3) for _ in range(2)]
        padding = [[R.randint(0, k // 2) for _ in range(2)] for k in kernel]
        sizes = [R.randint(max(1, k - sum(p)), k + 3) for k, p in zip(kernel, padding)]
        size = [(i + sum(p) - k) // s + 1 for i, p, k, s in zip(sizes, padding, kernel, stride)]
        # No window in the padding alone.
        starts = [[o * s - p[0] for o in range(n)] for s, p, n in zip(stride, padding, size)]
        if any(f + k <= 0 or f >= i for all_, k, i in zip(starts, kernel, sizes) for f in all_):
            return pool(kind)
        sliding = {"stride": stride, "padding": padding, "dilation": [1, 1]}
        windows = {"sliding": {"kernel": kernel, "sliding": sliding}}
    values = x.values(channels * sizes[0] * sizes[1])
    line = [*sizes, channels, *kernel, *size, *stride, padding[0][0], padding[1][0], *x.ends()]
    line += channels_last(x.int8(values), channels)
    name = "y" if kind == "max" else "sums"
    node = {"name": name, "inputs": ["x"], "op": kind + "-pool", "windows": windows}
    nodes = [node]
    if kind == "average":
        node["include_padding"] = False
        counts = []
        for k, i, s, p, n in zip(kernel, sizes, stride, padding, size):
            counts.append([min(o * s - p[0] + k, i) - max(o * s - p[0], 0) for o in range(n)])
        multiple = math.lcm(*counts[0]) * math.lcm(*counts[1])
        # The output has the input's step: a multiplier of 31 bits, which is 1 / multiple.
        shift = 31 + multiple.bit_length()
        inverse = [multiple.bit_length() - 1, 1] if multiple & (multiple - 1) == 0 else [shift, round(2**shift / multiple)]
        nodes.append(requantize([inverse[1]], [inverse[0]], x))
    network = graph([{"name": "x", "shape": [channels, *sizes], "numbers": x.json()}], nodes)
    return network, [values], line, channels, x


def quantize():
    powers = R.random() < 0.3
    x = Numbers(-4 if powers else None)
    multiplier, shift = scale(60, powers)
    y = Numbers(-4 + shift if powers else None)
    values = x.values(40)
    node = requantize([multiplier], [shift], y) | {"inputs": ["x"]}
    network = graph([{"name": "x", "shape": [40], "numbers": x.json()}], [node])
    found = quantize_multiplier(multiplier / 2**shift)
    line = [40, x.zero - x.below, *found, y.zero - y.below, *y.ends(), *x.int8(values)]
    return network, [values], line, 1


def case(kind):
    if kind in ("conv", "depthwise", "transposed"):
        return convolution(kind)
    if kind in ("add", "mul"):
        return two_inputs(kind)
    if kind in ("average", "max"):
        return pool(kind)
    return linear() if kind == "linear" else quantize()


KINDS = ["conv", "depthwise", "transposed", "linear", "add", "mul", "average", "max", "quantize"]
cases = []
for number in range(COUNT):
    kind = KINDS[number % len(KINDS)]
    cases.append((kind, *case(kind)))
text = "".join(f"{kind} {' '.join(map(str, line))}\n" for kind, _, _, line, *_ in cases)


def outputs(driver):
    result = subprocess.run([driver], input=text, capture_output=True, text=True, check=True).stdout
    return [[int(v) for v in line.split()] for line in result.splitlines()]


found = {}
for rounds, drivers in DRIVERS.items():
    cmsis, tflite = map(outputs, drivers)
    assert len(cmsis) == len(tflite) == COUNT, (len(cmsis), len(tflite))
    for (kind, *_), a, b in zip(cases, cmsis, tflite):
        assert a == b, (rounds, kind, a, b)
    found[rounds] = cmsis
for number, (kind, network, inputs, _, channels, *more) in enumerate(cases):
    numbers = (more[0] if more else None, network["nodes"][-1].get("numbers"))
    below = numbers[0].below if more else 128 if (numbers[1]["bits"], numbers[1]["signed"]) == (8, False) else 0
    line = {"kind": kind, "graph": network, "inputs": inputs}
    for rounds, all_ in found.items():
        line[rounds] = [v + below for v in channels_first(all_[number], channels)]
    print(json.dumps(line, separators=(",", ":")))
