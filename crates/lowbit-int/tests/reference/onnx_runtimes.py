"""Files of networks of integers in the runtimes that take them.

    python onnx_runtimes.py FOLDER

FOLDER has cases.jsonl: a line a file, with images and outputs as integers, and the file's certificate.
Each file is checked by onnx.checker and run by onnxruntime at its four optimization levels and by
onnx's reference evaluator, or by qonnx's executor. A table of counts is printed for each dialect,
runtime and verdict of the certificate: files, files that differ, numbers, numbers that differ. What
differs is named; the exit status is 1 if a file that is certified as EXACT does, or is refused.
"""

import collections
import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnx.reference
import onnxruntime

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)

LEVELS = {
    "ort-disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "ort-basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "ort-extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "ort-all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def integers(tensor):
    return np.array(tensor["values"], dtype=np.int64).reshape(-1, *tensor["shape"])


def floats(tensor):
    fractions = np.array(tensor["fractions"]).reshape(-1, *tensor["shape"])
    return (tensor["scale"] * (integers(tensor) - tensor["zero_point"] + fractions)).astype(np.float32)


def by_onnxruntime(path, feeds, names, level):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(names, feeds)


def by_numpy(path, feeds, names):
    return onnx.reference.ReferenceEvaluator(str(path)).run(names, feeds)


def by_qonnx(path, feeds, names):
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model = onnx.load(path)
    # The executor has no free dimensions.
    batch = len(next(iter(feeds.values())))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = batch
    found = execute_onnx(ModelWrapper(model).transform(InferShapes()), feeds)
    return [found[name] for name in names]


def runs(case, path, feeds, names):
    for runtime in case["certificate"]["runtimes"]:
        if runtime == "numpy":
            yield runtime, lambda: by_numpy(path, feeds, names)
        elif runtime == "qonnx":
            yield runtime, lambda: by_qonnx(path, feeds, names)
        else:
            yield runtime, lambda runtime=runtime: by_onnxruntime(path, feeds, names, runtime)


def verdict(certificate, runtime):
    order = ["EXACT", "EXACT UNLESS TIE", "DIFFERS"]
    place = certificate["runtimes"].index(runtime)
    return max((entry["verdicts"][place] for entry in certificate["entries"]), key=order.index, default="EXACT")


def main(folder):
    counts = collections.defaultdict(lambda: np.zeros(5, dtype=np.int64))
    failed = False
    for line in (folder / "cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        path = folder / case["file"]
        onnx.checker.check_model(onnx.load(path), full_check=case["dialect"] != "qonnx")
        feeds = {tensor["name"]: floats(tensor) for tensor in case["inputs"]}
        names = [tensor["name"] for tensor in case["outputs"]]
        for runtime, run in runs(case, path, feeds, names):
            given = verdict(case["certificate"], runtime)
            count = counts[case["dialect"], case["ties"], runtime, given]
            count[0] += 1
            try:
                found = run()
            except Exception as error:
                count[4] += 1
                if given != "EXACT":
                    continue
                failed = True
                print(f"{case['file']}: {runtime} refuses it: {str(error)[:300]}")
                continue
            different = numbers = 0
            for tensor, y in zip(case["outputs"], found):
                k = np.rint(y.astype(np.float64) / tensor["scale"]) + tensor["zero_point"]
                expected = integers(tensor)
                wrong = k != expected if k.shape == expected.shape else np.ones(expected.shape, bool)
                different += int(wrong.sum())
                numbers += wrong.size
            count[1:4] += [different > 0, numbers, different]
            if different and given == "EXACT":
                failed = True
                print(f"{case['file']}: {runtime} differs in {different} of {numbers}")
    print("dialect         ties    runtime       certified         files  differ  numbers  differ  refused")
    for key in sorted(counts):
        dialect, ties, runtime, given = key
        files, wrong, numbers, different, refused = counts[key]
        print(
            f"{dialect:14}  {ties:6}  {runtime:12}  {given:16}  {files:5}  {wrong:6}  {numbers:7}"
            f"  {different:6}  {refused:7}"
        )
    sys.exit(failed)


main(pathlib.Path(sys.argv[1]))
