"""A small convolutional network, quantized by onnxruntime.quantization into operators on integers, with
images and onnxruntime's outputs.

    python onnx_qoperator.py FOLDER

Writes FOLDER/cases.jsonl, a line for each of several networks: its file, the images as the integers of the
file's first quantizer, and the outputs, of onnxruntime without and with all optimizations, as those of the
last one.
"""

import json
import logging
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

logging.disable(logging.CRITICAL)
LEVELS = [onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL]
folder = pathlib.Path(sys.argv[1])


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def network(rng, residual):
    def weight(name, *shape):
        fan_in = np.prod(shape[1:])
        return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)

    nodes = [
        node("Conv", "image w1 b1", "conv1", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", "conv1", "relu1"),
        node("MaxPool", "relu1", "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pool w2 b2", "conv2", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Conv", "pool w4 b4", "depthwise", pads=[1, 1, 1, 1], kernel_shape=[3, 3], group=8),
        node("Add", "conv2 pool", "add") if residual else node("Relu", "conv2", "add"),
        node("Concat", "add depthwise", "both", axis=1),
        node("GlobalAveragePool", "both", "average"),
        node("Flatten", "average", "flat"),
        node("MatMul", "flat w5", "product"),
        node("Add", "product b5", "sum"),
        node("LeakyRelu", "sum", "leaky", alpha=0.1),
        node("Gemm", "leaky w3 b3", "logits", transB=1),
    ]
    constants = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", 8, 8, 3, 3), weight("b2", 8)]
    constants += [weight("w4", 8, 1, 3, 3), weight("b4", 8), weight("w5", 16, 12), weight("b5", 12)]
    constants += [weight("w3", 10, 12), weight("b3", 10)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", T.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", T.FLOAT, ["batch", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


class Images(CalibrationDataReader):
    def __init__(self, rng):
        self.left = [rng.standard_normal((16, 3, 8, 8)).astype(np.float32) for _ in range(4)]

    def get_next(self):
        return {"image": self.left.pop()} if self.left else None


def case(seed, residual, per_channel, activation):
    rng = np.random.default_rng(seed)
    path = folder / f"{seed}.onnx"
    onnx.save(network(rng, residual), folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        path,
        Images(rng),
        quant_format=QuantFormat.QOperator,
        per_channel=per_channel,
        activation_type=activation,
        weight_type=QuantType.QInt8,
    )
    model = onnx.load(path)
    constant = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    first = next(n for n in model.graph.node if n.input[0] == "image")
    last = next(n for n in model.graph.node if n.output[0] == "logits")
    scales = [(float(constant[n.input[1]]), int(constant[n.input[2]])) for n in (first, last)]
    least = 0 if activation == QuantType.QUInt8 else -128
    k = rng.integers(least, least + 256, (64, 3, 8, 8))
    x = ((k - scales[0][1]) * scales[0][0]).astype(np.float32)
    outputs = []
    for level in LEVELS:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        y = session.run(["logits"], {"image": x})[0]
        y = np.rint(y.astype(np.float64) / scales[1][0])
        outputs.append(y.astype(int).flatten().tolist())
    return {
        "file": path.name,
        "images": (k - scales[0][1]).flatten().tolist(),
        "outputs": outputs,
        "operators": sorted({n.op_type for n in model.graph.node}),
        "residual": residual,
    }


with open(folder / "cases.jsonl", "w") as lines:
    for seed in range(12):
        activation = QuantType.QInt8 if seed % 4 == 3 else QuantType.QUInt8
        lines.write(json.dumps(case(seed, seed % 2 == 1, seed % 3 == 2, activation)) + "\n")
