#!/usr/bin/env python3
"""Lowbit's kernels through Python against others', in one run: 2^24 numbers, calls on 16 numbers, and a training step
of ResNet-20 with QPyTorch's names.

    pip install ./crates/lowbit-py torch ml_dtypes
    python benches/peers/python.py [--command target/release/lowbit] [--steps] [--qtorch FOLDER]

Every time is the least of several rounds, in which all take their turns. A peer that cannot be imported is named and
left out. With the command, its own kernels are timed as well, by `lowbit bench kernels`. `--steps` times step.py beside
this file, with `lowbit.compat` in the place of QPyTorch; `--qtorch` names a folder with QPyTorch itself.
"""

import argparse
import importlib
import json
import pathlib
import subprocess
import sys
import time
import timeit

import numpy as np

import lowbit

HERE = pathlib.Path(__file__).resolve().parent
LARGE, SMALL = 1 << 24, 16


def found(name):
    try:
        return importlib.import_module(name)
    except Exception as error:  # What does not build fails in ways of its own.
        print(f"without {name}: {type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}", file=sys.stderr)
        return None


def in_turns(functions, rounds):
    """The least seconds of each, over rounds in which each has its turn."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def ours(x, y):
    formats = ["e4m3", "e5m2", "bf16", "fixed(8,6)", "int8", "bfp(8)", "mxfp4", "posit(8,1)"]
    found = {}
    for text in formats:
        format = lowbit.Format(text)
        found[f"lowbit {text}"] = lambda format=format: lowbit.quantize(x, format, out=y)
    format = lowbit.Format("e4m3")
    found["lowbit e4m3 stochastic"] = lambda: lowbit.quantize(x, format, "stochastic", out=y)
    return found


def numpy_peers(x):
    ml_dtypes = found("ml_dtypes")
    if ml_dtypes is None:
        return {}
    types = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "bf16": ml_dtypes.bfloat16}
    there_and_back = lambda kind: lambda: x.astype(kind).astype(np.float32)
    return {f"ml_dtypes {name}": there_and_back(kind) for name, kind in types.items()}


def torch_peers(torch, x):
    t = torch.from_numpy(x)
    types = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16}
    peers = {f"torch {name}": lambda kind=kind: t.to(kind).to(torch.float32) for name, kind in types.items()}
    peers["torch fake-quantize int8"] = lambda: torch.fake_quantize_per_tensor_affine(t, 1.0, 0, -128, 127)
    peers["torch round, clamp int8"] = lambda: t.round().clamp_(-128, 127)
    return peers


def qpytorch_peers(torch, x):
    quant = found("qtorch.quant")
    if quant is None:
        return {}
    t = torch.from_numpy(x)
    return {
        "qtorch float(5,2)": lambda: quant.float_quantize(t, 5, 2, "nearest"),
        "qtorch fixed(8,6)": lambda: quant.fixed_point_quantize(t, 8, 6, rounding="nearest"),
        "qtorch block(8)": lambda: quant.block_quantize(t, 8, rounding="nearest"),
    }


def large(torch, rounds):
    x = np.random.default_rng(0).standard_normal(LARGE).astype(np.float32)
    y = np.empty_like(x)
    functions = {"copy by numpy (one thread)": lambda: np.copyto(y, x), **ours(x, y), **numpy_peers(x)}
    if torch is not None:
        copy, source = torch.from_numpy(y), torch.from_numpy(x)
        functions["copy by torch"] = lambda: copy.copy_(source)
        functions.update(torch_peers(torch, x))
        functions.update(qpytorch_peers(torch, x))
    print(f"\n2^24 numbers                  10^6 numbers a second, over the faster copy")
    best = in_turns(functions, rounds)
    copy = min(seconds for name, seconds in best.items() if name.startswith("copy"))
    for name, seconds in best.items():
        print(f"{name:30} {LARGE / seconds / 1e6:8.0f}  {copy / seconds:6.3f}")


def command(path, rounds):
    call = [path, "bench", "kernels", "e4m3", "fixed(8,6)", "int8", "bfp(8)", "mxfp4", "posit(8,1)"]
    print("\n" + subprocess.run([*call, "--rounds", str(rounds)], capture_output=True, text=True, check=True).stdout)


def small(torch, rounds):
    x, format = np.linspace(-1, 1, SMALL, dtype=np.float32), lowbit.Format("e4m3")
    functions = {
        "numpy add": lambda: np.add(x, x),
        "lowbit, numpy": lambda: lowbit.quantize(x, format),
        "lowbit, numpy, format as text": lambda: lowbit.quantize(x, "e4m3"),
        "lowbit, numpy, in place": lambda: lowbit.quantize(x, format, out=x),
    }
    if torch is not None:
        functions.update(small_torch(torch, format))
    print("16 numbers                     microseconds a call")
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds):
        for name, function in functions.items():
            best[name] = min(best[name], timeit.timeit(function, number=5000) / 5000)
    for name, seconds in best.items():
        print(f"{name:30} {seconds * 1e6:8.2f}")


def small_torch(torch, format):
    import lowbit.torch

    t = torch.linspace(-1, 1, SMALL)
    g = t.clone().requires_grad_()
    quantizer = lowbit.torch.Quantizer("e4m3", "e5m2")
    functions = {
        "torch add": lambda: t + t,
        "lowbit, torch": lambda: lowbit.torch.quantize(t, format),
        "lowbit, torch, with gradient": lambda: lowbit.torch.quantize(g, format),
        "lowbit.torch.Quantizer": lambda: quantizer(g),
        "operator lowbit::round": lambda: torch.ops.lowbit.round(t, "e4m3", "nearest-even"),
    }
    # With one operator and without, so that the difference is its own.
    programs = {
        "torch.compile, empty": lambda x: x + 1,
        "torch.compile, lowbit": lambda x: lowbit.torch.quantize(x, format) + 1,
    }
    for name, program in programs.items():
        try:
            compiled = torch.compile(program, fullgraph=True)
            compiled(t)
            functions[name] = lambda compiled=compiled: compiled(t)
        except Exception as error:
            print(f"without {name}: {type(error).__name__}", file=sys.stderr)
    return functions


def step(arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])["seconds"] if done.returncode == 0 else None


def steps(qtorch):
    program = str(HERE / "step.py")
    rows = {"PyTorch, float32": [program, "pytorch-float32"]}
    for number in ["float(5,2)", "fixed(8,6)", "block(8)"]:
        rows[f"lowbit.compat {number}"] = ["-m", "lowbit.compat", program, f"qpytorch-{number}"]
        if qtorch:
            start = f"import sys, runpy; sys.path.insert(0, {qtorch!r}); sys.argv = [{program!r}, 'qpytorch-{number}']; "
            rows[f"QPyTorch {number}"] = ["-c", start + f"runpy.run_path({program!r}, run_name='__main__')"]
    print("\na step of ResNet-20            seconds, over PyTorch's")
    best = dict.fromkeys(rows, float("inf"))
    for _ in range(2):
        for name, arguments in rows.items():
            best[name] = min(best[name], step(arguments) or float("inf"))
    for name, seconds in best.items():
        print(f"{name:30} {seconds:8.3f}  {seconds / best['PyTorch, float32']:6.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", help="the lowbit command")
    parser.add_argument("--qtorch", help="a folder in which QPyTorch is")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.qtorch:
        sys.path.insert(0, options.qtorch)
    torch = found("torch")
    large(torch, options.rounds)
    if options.command:
        command(options.command, options.rounds)
    small(torch, options.rounds)
    if options.steps and torch is not None:
        steps(options.qtorch)


if __name__ == "__main__":
    main()
