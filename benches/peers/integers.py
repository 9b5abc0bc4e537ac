"""The speed of a post-activation ResNet-20 with folded normalizations in ONNX Runtime, in float and in
8 bits, and of ours in integers, in turns: images a second of 128 images on all threads, and
microseconds of one image on one thread.

    pip install onnx onnxruntime numpy
    cargo build --release -p lowbit-int --example int_speed
    python benches/peers/integers.py target/release/examples/int_speed

ONNX Runtime's network of 8 bits is what its own quantization tool makes of the float one: unsigned
activations, signed weights, one scale a tensor, quantizers between floats or operators on integers,
whichever is faster. Weights are random: the speed depends on the shapes alone.
"""

import os
import re
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

BATCH = 128
ROUNDS = 5
rng = np.random.default_rng(0)


def resnet20():
    """He et al., arXiv 1512.03385, section 4.2, with 1x1 convolutions where the size changes."""
    nodes, weights = [], []

    def constant(name, shape):
        values = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.01, shape)
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(name, x, inputs, outputs, kernel, stride, rectified):
        weight = constant(name + ".w", (outputs, inputs, kernel, kernel))
        pads = [kernel // 2] * 4
        y = name + (".sum" if rectified else "")
        nodes.append(helper.make_node("Conv", [x, weight, constant(name + ".b", (outputs,))], [y],
                                      kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads))
        if rectified:
            nodes.append(helper.make_node("Relu", [y], [name]))
        return name

    x, channels = conv("stem", "x", 3, 16, 3, 1, True), 16
    for stage, width in enumerate([16, 32, 64]):
        for block in range(3):
            name = f"{stage}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = conv(name + ".conv1", x, channels, width, 3, stride, True)
            y = conv(name + ".conv2", y, width, width, 3, 1, False)
            if stride == 2:
                x = conv(name + ".shortcut", x, channels, width, 1, 2, False)
            nodes.append(helper.make_node("Add", [y, x], [name + ".add"]))
            nodes.append(helper.make_node("Relu", [name + ".add"], [name]))
            x, channels = name, width
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"]))
    weight = constant("fc.w", (64, 10))
    nodes.append(helper.make_node("Gemm", ["features", weight, constant("fc.b", (10,))], ["y"]))
    shape = lambda *sizes: ["n", *sizes]
    graph = helper.make_graph(
        nodes, "resnet20",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape(3, 32, 32))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape(10))], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = 4

    def get_next(self):
        self.left -= 1
        return {"x": images(16)} if self.left >= 0 else None


def images(count):
    return rng.normal(0, 1, (count, 3, 32, 32)).astype(np.float32)


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def seconds(run, x):
    run.run(None, {"x": x})
    calls = max(1, 256 // len(x))
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            run.run(None, {"x": x})
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def ours(program):
    text = subprocess.run([program, str(BATCH)], capture_output=True, text=True, check=True).stdout
    line = r"%d images at a time.*?8 bits: (\d+) images/s, ([\d.]+) us an image, ([\d.]+) of the peak"
    one, many = (re.search(line % n, text, re.DOTALL) for n in (1, BATCH))
    return float(many.group(1)), float(one.group(2)), many.group(3)


def files(model, folder):
    """The network in float, and in 8 bits as ONNX Runtime's tool makes it."""
    float_path = os.path.join(folder, "float.onnx")
    onnx.save(model, float_path)
    paths = {"float": float_path}
    for name, form in [("int8, QDQ", QuantFormat.QDQ), ("int8, QOperator", QuantFormat.QOperator)]:
        paths[name] = os.path.join(folder, name.replace(", ", "-") + ".onnx")
        quantize_static(float_path, paths[name], Images(), quant_format=form,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    return paths


def compare(model, others):
    """Runs ONNX Runtime's networks and `others`, each a function that answers images a second,
    microseconds of one image or None, and a remark, in turns."""
    threads = os.cpu_count()
    paths = files(model, tempfile.mkdtemp())
    sessions = {name: (session(path, threads), session(path, 1)) for name, path in paths.items()}
    found = {}
    for _ in range(ROUNDS):
        for name, (many, one) in sessions.items():
            result = (BATCH / seconds(many, images(BATCH)), 1e6 * seconds(one, images(1)), "")
            found.setdefault(name, []).append(result)
        for name, run in others.items():
            found.setdefault(name, []).append(run())
    print(f"onnxruntime {ort.__version__}, {threads} threads, best of {ROUNDS} rounds in turns")
    for name, results in found.items():
        most, share = max(r[0] for r in results), max(r[2] for r in results)
        least = min((r[1] for r in results if r[1]), default=None)
        alone = f"{least:7.1f} us an image" if least else ""
        print(f"{name:16} {most:8.0f} images/s  {alone}{share and f'  {share} of the peak'}")


if __name__ == "__main__":
    compare(resnet20(), {"ours": lambda: ours(sys.argv[1])} if len(sys.argv) > 1 else {})
