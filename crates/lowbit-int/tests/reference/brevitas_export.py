"""Small convolutional networks of Brevitas, exported as QONNX, with images and the outputs of qonnx's executor.

    pip install torch brevitas onnx onnxscript onnxoptimizer qonnx
    python brevitas_export.py FOLDER

Writes FOLDER/cases.jsonl, a line for each network: its file, the images as integers of the file's first
quantizer, and the executor's outputs as floats.
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import torch
from brevitas import nn as qnn
from brevitas import quant
from brevitas.export import export_qonnx
from onnx import numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

warnings.filterwarnings("ignore")
folder = pathlib.Path(sys.argv[1])
FIXED = dict(weight_quant=quant.Int8WeightPerTensorFixedPoint, bias_quant=quant.Int16Bias)
FLOAT = dict(weight_quant=quant.Int8WeightPerChannelFloat, bias_quant=quant.Int32Bias)


def network(kinds, act, relu, bits):
    return torch.nn.Sequential(
        qnn.QuantIdentity(act_quant=act, return_quant_tensor=True),
        qnn.QuantConv2d(3, 8, 3, padding=1, weight_bit_width=bits, return_quant_tensor=True, **kinds),
        qnn.QuantReLU(act_quant=relu, bit_width=bits, return_quant_tensor=True),
        torch.nn.MaxPool2d(2),
        qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, weight_bit_width=bits, return_quant_tensor=True, **kinds),
        qnn.QuantReLU(act_quant=relu, bit_width=bits, return_quant_tensor=True),
        torch.nn.Flatten(),
        qnn.QuantLinear(128, 10, bias=True, weight_bit_width=bits, return_quant_tensor=True, **kinds),
        qnn.QuantIdentity(act_quant=act, return_quant_tensor=False),
    )


def case(name, kinds, act, relu, bits):
    torch.manual_seed(14)
    model = network(kinds, act, relu, bits)
    for _ in range(8):
        model(torch.randn(32, 3, 8, 8))
    model.eval()
    path = folder / f"{name}.onnx"
    export_qonnx(model, torch.randn(1, 3, 8, 8), export_path=str(path), input_names=["image"])
    proto = onnx.load(path)
    constant = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant":
            constant[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    first = next(n for n in proto.graph.node if n.input[0] == "image")
    scale = float(constant[first.input[1]])
    rng = np.random.default_rng(14)
    k = rng.integers(-127, 128, (32, 3, 8, 8))
    session = ModelWrapper(proto).transform(InferShapes())
    output = session.graph.output[0].name
    images = ((k * scale).astype(np.float32))[:, None]
    y = np.concatenate([execute_onnx(session, {"image": x})[output] for x in images])
    print(name, [n.op_type for n in proto.graph.node])
    return {"file": path.name, "exact": name.startswith("fixed"), "images": k.flatten().tolist(), "outputs": y.astype(np.float64).flatten().tolist()}


with open(folder / "cases.jsonl", "w") as lines:
    for bits in (8, 4):
        cases = [case(f"fixed{bits}", FIXED, quant.Int8ActPerTensorFixedPoint, quant.Uint8ActPerTensorFixedPoint, bits)]
        cases += [case(f"float{bits}", FLOAT, quant.Int8ActPerTensorFloat, quant.Uint8ActPerTensorFloat, bits)]
        for line in cases:
            lines.write(json.dumps(line) + "\n")
