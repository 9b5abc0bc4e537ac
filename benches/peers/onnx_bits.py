"""Whether ONNX Runtime, at each of its four optimization levels, has the bits of `lowbit run`.

    pip install onnxruntime numpy
    lowbit export RUN --unchecked --out net.json
    lowbit export RUN --unchecked --to onnx-qdq --out net.onnx
    python benches/peers/onnx_bits.py target/release/lowbit net.json net.onnx [OTHER.onnx ...]

1,000 random images: integers of the input's width, each moved by up to 0.49 of its step, so that the
file's own quantizer has work to do. Results are compared as floats, bit for bit.
"""

import json
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

IMAGES, BATCH = 1000, 100
LEVELS = ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_ALL")

program, network, *files = sys.argv[1:]
given = json.load(open(network))["inputs"][0]
numbers = given["numbers"]
scale = 2.0 ** numbers["exponent"] if "exponent" in numbers else numbers["scale"]
least = -(1 << (numbers["bits"] - 1)) if numbers["signed"] else 0
rng = np.random.default_rng(1)
k = rng.integers(least, least + (1 << numbers["bits"]), (IMAGES, *given["shape"]))
x = (k - numbers.get("zero_point", 0) + rng.uniform(-0.49, 0.49, k.shape)) * scale
x = x.astype(np.float32)
with tempfile.NamedTemporaryFile(suffix=".npy") as images:
    np.save(images, x)
    images.flush()
    lines = subprocess.run([program, "run", network, images.name], capture_output=True, text=True,
                           check=True).stdout.splitlines()
ours = np.array([[float(score) for score in line.split()[1:]] for line in lines], np.float32)
for path in files:
    for level in LEVELS:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, "ORT_" + level)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        parts = [session.run(None, {name: x[i : i + BATCH]})[0] for i in range(0, IMAGES, BATCH)]
        theirs = np.concatenate(parts).reshape(IMAGES, -1)
        print(f"{path} {level:15} {int((theirs != ours).any(1).sum())} of {IMAGES} images differ")
