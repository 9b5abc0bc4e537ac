"""A small convolutional network, quantized by onnxruntime.quantization into QuantizeLinear and
DequantizeLinear, with images and onnxruntime's outputs.

    python onnx_quantize.py FOLDER [per-channel]

Writes FOLDER/quantized.onnx and FOLDER/images.json: the images as the integers of the file's first
quantizer, and the outputs as those of its last.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

rng = np.random.default_rng(14)
folder = pathlib.Path(sys.argv[1])


def weight(name, *shape):
    fan_in = np.prod(shape[1:])
    return numpy_helper.from_array((rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32), name)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


nodes = [
    node("Conv", "image w1 b1", "conv1", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    node("Relu", "conv1", "relu1"),
    node("MaxPool", "relu1", "pool", kernel_shape=[2, 2], strides=[2, 2]),
    node("Conv", "pool w2 b2", "conv2", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    node("Relu", "conv2", "relu2"),
    node("GlobalAveragePool", "relu2", "average"),
    node("Flatten", "average", "flat"),
    node("Gemm", "flat w3 b3", "logits", transB=1),
]
constants = [weight("w1", 8, 3, 3, 3), weight("b1", 8), weight("w2", 8, 8, 3, 3), weight("b2", 8)]
constants += [weight("w3", 10, 8), weight("b3", 10)]
graph = helper.make_graph(
    nodes,
    "net",
    [helper.make_tensor_value_info("image", T.FLOAT, ["batch", 3, 8, 8])],
    [helper.make_tensor_value_info("logits", T.FLOAT, ["batch", 10])],
    constants,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
onnx.save(model, folder / "float.onnx")


class Images(CalibrationDataReader):
    def __init__(self):
        self.left = [rng.standard_normal((16, 3, 8, 8)).astype(np.float32) for _ in range(4)]

    def get_next(self):
        return {"image": self.left.pop()} if self.left else None


quantize_static(
    folder / "float.onnx",
    folder / "quantized.onnx",
    Images(),
    quant_format=QuantFormat.QDQ,
    per_channel=len(sys.argv) > 2,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
)
model = onnx.load(folder / "quantized.onnx")
constant = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
first = next(n for n in model.graph.node if n.input[0] == "image")
last = next(n for n in model.graph.node if n.output[0] == "logits")
scales = [(float(constant[n.input[1]]), int(constant[n.input[2]])) for n in (first, last)]
k = rng.integers(0, 256, (64, 3, 8, 8))
x = ((k - scales[0][1]) * scales[0][0]).astype(np.float32)
session = onnxruntime.InferenceSession(str(folder / "quantized.onnx"), providers=["CPUExecutionProvider"])
y = session.run(["logits"], {"image": x})[0]
y = np.rint(y.astype(np.float64) / scales[1][0]) + scales[1][1]
plain = {"images": k.flatten().tolist(), "outputs": y.astype(int).flatten().tolist()}
(folder / "images.json").write_text(json.dumps(plain))
