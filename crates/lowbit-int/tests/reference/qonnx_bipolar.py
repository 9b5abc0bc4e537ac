"""Two small networks with `BipolarQuant` weights and activations, with images and qonnx's outputs.

    pip install onnx==1.23.2 qonnx==1.0.0
    python qonnx_bipolar.py

writes bipolar-sums.onnx and bipolar-integers.onnx beside this file, and bipolar.jsonl: a line for each,
with the images as integers of the file's first quantizer and the outputs as integers of its last. In the
first a sum becomes -1 or 1 as it is, in the second after a quantizer of 4 bits; sums of 0 are many.
"""

import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes

DOMAIN = "qonnx.custom_op.general"
FOLDER = pathlib.Path(__file__).parent
IMAGES = 8


def node(op, inputs, output, domain="", **attributes):
    return helper.make_node(op, inputs.split(), [output], name=output, domain=domain, **attributes)


def quant(inputs, output, signed=1):
    return node("Quant", inputs, output, DOMAIN, signed=signed, narrow=0, rounding_mode="ROUND")


def network(rng, quantized):
    """Weights of -1/2 and 1/2 on pixels of 4 bits; signs of sums; a matrix of 4 bits on those."""
    sums = "grid" if quantized else "conv"
    nodes = [
        quant("image quarter zero four", "pixels", signed=0),
        node("BipolarQuant", "w half", "signs", DOMAIN),
        node("Conv", "pixels signs", "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        *([quant("conv one zero four", "grid")] if quantized else []),
        node("BipolarQuant", f"{sums} two", "ends", DOMAIN),
        node("Flatten", "ends", "flat"),
        quant("m quarter zero four", "matrix"),
        node("Gemm", "flat matrix", "gemm", transB=1),
        quant("gemm half zero eight", "y"),
    ]
    scalars = {"half": 0.5, "one": 1, "quarter": 0.25, "two": 2, "zero": 0, "four": 4, "eight": 8}
    constants = {name: np.float32(value) for name, value in scalars.items()}
    constants["w"] = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    constants["m"] = rng.standard_normal((5, 64)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "bipolar",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [IMAGES, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [IMAGES, 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def main():
    rng = np.random.default_rng(5)
    with open(FOLDER / "bipolar.jsonl", "w") as lines:
        for name, quantized in [("sums", False), ("integers", True)]:
            model = network(rng, quantized)
            file = f"bipolar-{name}.onnx"
            onnx.save(model, FOLDER / file)
            # Half of the pixels are 0, so that many sums are.
            images = rng.integers(0, 16, (IMAGES, 2, 4, 4)) * rng.integers(0, 2, (IMAGES, 2, 4, 4))
            images[0] = 0
            wrapped = ModelWrapper(model).transform(InferShapes())
            found = execute_onnx(wrapped, {"image": (images * 0.25).astype(np.float32)}, True)
            zeros = int((found["conv"] == 0).sum())
            outputs = np.rint(found["y"] / 0.5).astype(int)
            case = {"file": file, "zeros": zeros, "images": images.ravel().tolist(), "outputs": outputs.ravel().tolist()}
            lines.write(json.dumps(case) + "\n")


main()
