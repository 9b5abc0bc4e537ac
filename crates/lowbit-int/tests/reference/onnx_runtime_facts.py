"""What ONNX Runtime's quantized operators compute, measured: the facts that docs/onnx.md states.

    python onnx_runtime_facts.py

Each line is a statement, with how many of how many numbers differ from it.
"""

import collections
import os
import platform
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

onnxruntime.set_default_logger_severity(4)
LEVELS = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
rng = np.random.default_rng(14)
f32 = np.float32


def node(op, inputs, output, domain="", **attributes):
    return helper.make_node(op, inputs.split(), [output], domain=domain, **attributes)


def run(nodes, constants, feeds, level="all", out=T.FLOAT):
    """The output `y`, and the operators that are left after optimization."""
    types = {"float32": T.FLOAT, "uint8": T.UINT8, "int8": T.INT8}
    inputs = [helper.make_tensor_value_info(k, types[str(v.dtype)], v.shape) for k, v in feeds.items()]
    outputs = [helper.make_tensor_value_info("y", out, None)]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        left = [n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node]
    return session.run(["y"], feeds)[0], left


def fact(statement, found, expected):
    wrong = int((np.asarray(found) != np.asarray(expected)).sum())
    print(f"{statement}: {wrong} of {np.asarray(found).size} differ")


def saturated(x, zero, kind=np.uint8):
    info = np.iinfo(kind)
    return np.clip(x + zero, info.min, info.max).astype(kind)


def quantize():
    k = rng.integers(-2000, 2000, 100000)
    x = (k * 0.25).astype(f32)
    constants = {"s": f32(0.5), "z": np.uint8(7)}
    y, _ = run([node("QuantizeLinear", "x s z", "y")], constants, {"x": x}, out=T.UINT8)
    fact("QuantizeLinear rounds x / scale half to even, then adds an odd zero point", y, saturated(np.rint(x / f32(0.5)), 7))


def conv():
    x = rng.integers(0, 256, (4, 16, 12, 12)).astype(np.uint8)
    w = rng.integers(-128, 128, (32, 16, 3, 3)).astype(np.int8)
    b = rng.integers(-9999, 9999, 32).astype(np.int32)
    constants = {"w": w, "b": b, "xs": f32(0.013), "xz": np.uint8(3), "ws": (0.001 + 0.002 * rng.random(32)).astype(f32)}
    constants |= {"wz": np.int8(0), "ys": f32(0.05), "yz": np.uint8(101)}
    names = "x xs xz w ws wz ys yz b"
    y, _ = run([node("QLinearConv", names, "y")], constants, {"x": x}, out=T.UINT8)
    patches = np.lib.stride_tricks.sliding_window_view(x.astype(np.int64) - 3, (3, 3), axis=(2, 3))
    sums = np.einsum("nchwij,ocij->nohw", patches, w.astype(np.int64)) + b[:, None, None]
    scale = (constants["xs"] * constants["ws"] / constants["ys"])[:, None, None]
    formula = saturated(np.rint(sums.astype(f32) * scale), 101)
    fact("QLinearConv is rint(f32(int32 sum) * f32(x_scale * w_scale / y_scale)) + zero point", y, formula)
    exact = sums * (np.float64(constants["xs"]) * constants["ws"].astype(np.float64) / np.float64(constants["ys"]))[:, None, None]
    fact("QLinearConv is the real quotient, rounded half to even", y, saturated(np.rint(exact), 101))


def products_of_bytes():
    x = np.full((1, 64, 8, 8), 255, np.uint8)
    w = np.full((16, 64, 3, 3), 127, np.int8)
    y, _ = run([node("ConvInteger", "x w", "y")], {"w": w}, {"x": x}, out=T.INT32)
    statement = f"ConvInteger of uint8 and int8 does not saturate at 16 bits on this {platform.machine()}"
    fact(statement, y, 255 * 127 * 64 * 9)


def add():
    k = rng.integers(0, 256, (2, 100000)).astype(np.uint8)
    for zero in (4, 7):
        constants = {"s": f32(1), "z": np.uint8(0), "ys": f32(2), "yz": np.uint8(zero)}
        call = node("QLinearAdd", "x s z x2 s z ys yz", "y", domain="com.microsoft")
        y, _ = run([call], constants, {"x": k[0], "x2": k[1]}, out=T.UINT8)
        half = k.astype(np.int64).sum(0) / 2
        fact(f"QLinearAdd rounds half to even, then adds the zero point {zero}", y, saturated(np.rint(half), zero))
        fact(f"QLinearAdd adds the zero point {zero}, then rounds half to even", y, saturated(np.rint(half + zero), 0))


def average():
    x = rng.integers(0, 256, (1000, 4, 4, 4)).astype(np.uint8)
    for zero in (4, 7):
        constants = {"s": f32(1), "z": np.uint8(0), "ys": f32(1), "yz": np.uint8(zero)}
        call = node("QLinearGlobalAveragePool", "x s z ys yz", "y", domain="com.microsoft", channels_last=0)
        y, _ = run([call], constants, {"x": x}, out=T.UINT8)
        mean = x.astype(np.int64).sum((2, 3), keepdims=True) / 16
        fact(f"QLinearGlobalAveragePool rounds half to even, then adds the zero point {zero}", y, saturated(np.rint(mean), zero))
        fact(f"QLinearGlobalAveragePool adds the zero point {zero}, then rounds half to even", y, saturated(np.rint(mean + zero), 0))


def clip(level):
    for exponent in (-20, -30, -31, -32, -40):
        step = f32(2.0**exponent)
        x = (rng.integers(-40, 40, 100000) * step).astype(f32)
        # A clip of the network's input stays; this is one of a sum.
        nodes = [node("Add", "x s", "p"), node("Clip", "p a b", "c"), node("QuantizeLinear", "c s z", "q"), node("DequantizeLinear", "q s z", "y")]
        constants = {"a": f32(0), "b": f32(15 * step), "s": step, "z": np.uint8(0)}
        y, left = run(nodes, constants, {"x": x}, level)
        x += step
        kept = "kept" if "Clip" in left else "left out"
        fact(f"{level}: Clip to 4 bits before QuantizeLinear with scale 2^{exponent} is {kept}", y, np.clip(x, 0, 15 * step))


def matmul(level):
    for kind in (np.uint8, np.int16):
        k = rng.integers(0, 200, (500, 64)).astype(kind)
        w = rng.integers(-128, 128, (64, 16)).astype(np.int8)
        constants = {"s": f32(1), "z": kind(0), "w": w, "ws": f32(0.5)}
        nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
        nodes += [node("DequantizeLinear", "w ws", "wd"), node("MatMul", "d wd", "y")]
        y, left = run(nodes, constants, {"x": k.astype(f32)}, level)
        product = next(op for op in left if "MatMul" in op)
        statement = f"{level}: MatMul of {kind.__name__} and int8 between DequantizeLinear, which is {product}, has the integers' sums"
        fact(statement, y, (k.astype(np.int64) @ w.astype(np.int64)) * 0.5)


def fusions(level):
    x = rng.integers(-128, 128, (1, 4, 9, 9)).astype(f32)
    w = rng.integers(-128, 128, (4, 4, 3, 3)).astype(np.int8)
    b = rng.integers(-999, 999, 4).astype(np.int32)
    constants = {"s": f32(1), "z": np.int8(0), "w": w, "ws": f32(0.5), "b": b, "bs": f32(0.5), "ys": f32(64), "u": np.uint8(0)}
    begin = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
    conv = [node("DequantizeLinear", "w ws", "wd"), node("DequantizeLinear", "b bs", "bd"), node("Conv", "d wd bd", "c")]
    for zero, kind in (("z", "int8"), ("u", "uint8")):
        end = [node("QuantizeLinear", f"c ys {zero}", "e"), node("DequantizeLinear", f"e ys {zero}", "y")]
        _, left = run(begin + conv + end, constants, {"x": x}, level)
        print(f"{level}: a convolution from int8 to {kind} becomes {dict(collections.Counter(left))}")


print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, numpy {np.__version__}")
quantize()
conv()
products_of_bytes()
add()
average()
for level in LEVELS:
    clip(level)
    matmul(level)
    fusions(level)
