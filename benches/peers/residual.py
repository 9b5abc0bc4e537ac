"""The speed of two ResNet-20 in ONNX Runtime, in float and in 8 bits, and of ours, in turns: images a
second of 128 images on all threads.

    pip install onnx onnxruntime numpy
    cargo build --release
    python benches/peers/residual.py post target/release/lowbit
    python benches/peers/residual.py pre target/release/lowbit resnet20.json FOLDER

`post` is the post-activation network, whose normalizations ONNX Runtime is given folded; ours is
`resnet20-v1b` in float as it is evaluated, normalizations and all. `pre` is our pre-activation network,
whose normalizations ONNX Runtime leaves in float; `resnet20.json` is what `lowbit export` wrote of it in 8
bits, FOLDER has CIFAR-10. Ours in integers is measured with the rounding of its images.
"""

import json
import subprocess
import sys

import numpy as np
from integers import BATCH, compare, resnet20, rng
from onnx import TensorProto, helper, numpy_helper


def preactivation():
    """He et al., arXiv 1603.05027: normalization and rectifier before each convolution."""
    nodes, weights = [], []

    def constant(name, values):
        weights.append(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
        return name

    def conv(name, x, inputs, outputs, kernel, stride):
        shape = (outputs, inputs, kernel, kernel)
        weight = constant(name + ".w", rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape))
        nodes.append(helper.make_node("Conv", [x, weight], [name], kernel_shape=[kernel] * 2,
                                      strides=[stride] * 2, pads=[kernel // 2] * 4))
        return name

    def activated(name, x, channels):
        parameters = [constant(f"{name}.{what}", rng.uniform(0.5, 1.5, channels))
                      for what in ("gamma", "beta", "mean", "variance")]
        nodes.append(helper.make_node("BatchNormalization", [x, *parameters], [name + ".norm"]))
        nodes.append(helper.make_node("Relu", [name + ".norm"], [name]))
        return name

    x, channels = conv("stem", "x", 3, 16, 3, 1), 16
    for stage, width in enumerate([16, 32, 64]):
        for block in range(3):
            name = f"{stage}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            first = activated(name + ".bn1", x, channels)
            y = conv(name + ".conv1", first, channels, width, 3, stride)
            y = conv(name + ".conv2", activated(name + ".bn2", y, width), width, width, 3, 1)
            if stride == 2:
                x = conv(name + ".shortcut", first, channels, width, 1, 2)
            nodes.append(helper.make_node("Add", [y, x], [name]))
            x, channels = name, width
    x = activated("bn", x, 64)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"]))
    last = [constant("fc.w", rng.normal(0, 0.1, (64, 10))), constant("fc.b", np.zeros(10))]
    nodes.append(helper.make_node("Gemm", ["features", *last], ["y"]))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *sizes])
            for name, sizes in [("x", (3, 32, 32)), ("y", (10,))]]
    graph = helper.make_graph(nodes, "resnet20", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def lowbit(program, *arguments):
    run = subprocess.run([program, *arguments, "--json"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def in_float(program, model):
    found = lowbit(program, "bench", "train", "--model", model, "--ways", "float", "--rounds", "3",
                   "--batch", str(BATCH))
    return found["steps"][0]["inference_images_per_second"], None, ""


def in_integers(program, path, folder):
    found = lowbit(program, "run", path, "--data", "cifar10", "--data-dir", folder)
    return found["images"] / found["seconds"], None, ""


def main(form, program, *files):
    if form == "post":
        return compare(resnet20(), {"ours, float": lambda: in_float(program, "resnet20-v1b")})
    others = {"ours, float": lambda: in_float(program, "resnet20")}
    if files:
        others["ours, integers"] = lambda: in_integers(program, *files)
    return compare(preactivation(), others)


if __name__ == "__main__":
    main(*sys.argv[1:])
