#!/usr/bin/env python3
"""Compares a training step of ResNet-20 (batch 128, CIFAR shape) with PyTorch and the quantized
peers, in one run, and prints one table of ratios to PyTorch's float32 step.

    python3 benches/peers/run.py

Installs what it compares with into a virtual environment (--venv, by default .venv-peers beside
this file), builds the lowbit command, and times all of them in turn, several times over. A peer
that cannot be installed or run here is named and left out.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# The peer, and the packages it needs beside torch.
PEERS = [
    ("pytorch-float32", []),
    ("pytorch-float32 --channels-last", []),
    ("pytorch-float32 --channels-last --compile", []),
    ("torch.ao-fake-quantize-8", []),
    ("dorefa-pytorch-w4a4", []),
    ("brevitas-int8", ["brevitas"]),
    ("tqt-w8a8", ["tqt"]),
    ("qpytorch-float(5,2)", ["qtorch", "ninja"]),
    ("qpytorch-fixed(8,6)", ["qtorch", "ninja"]),
    ("qpytorch-block(8)", ["qtorch", "ninja"]),
    ("qtorch-plus-posit(8,1)", ["qtorch_plus", "ninja"]),
]


def note(text):
    print(text, file=sys.stderr, flush=True)


def prepare(folder, torch_index):
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    index = ["--index-url", torch_index] if torch_index else []
    have = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    if not have:
        note("installing torch")
        subprocess.run([*pip, *index, "torch", "numpy"], check=True)
    missing = set()
    for package in dict.fromkeys(package for _, packages in PEERS for package in packages):
        note(f"installing {package}")
        if subprocess.run([*pip, package]).returncode != 0:
            missing.add(package)
    return python, missing


def run_peer(python, peer, args):
    words = peer.split()
    command = [python, HERE / "step.py", *words]
    command += ["--batch", args.batch, "--rounds", args.rounds, "--threads", args.threads]
    # The build tools that a peer calls are beside its Python.
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, env=environment
    )
    if done.returncode != 0:
        note(f"{peer}: left out: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_lowbit(way, args):
    command = [ROOT / "target" / "release" / "lowbit", "bench", "train", "--json"]
    command += ["--ways", way, "--batch", args.batch, "--rounds", args.rounds]
    command += ["--threads", args.threads]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True)
    times = json.loads(done.stdout)
    step = times["steps"][0]
    return {
        "name": f"lowbit {step['name']}",
        "images_per_second": step["images_per_second"],
        "inference_images_per_second": step["inference_images_per_second"],
        "memory_bytes": times["memory_bytes"] or 0,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--venv", type=pathlib.Path, default=HERE / ".venv-peers")
    parser.add_argument("--torch-index", help="where pip finds torch, instead of its usual place")
    args = parser.parse_args()
    python, missing = prepare(args.venv, args.torch_index)
    subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
    peers = [peer for peer, packages in PEERS if not missing.intersection(packages)]
    for peer, packages in PEERS:
        if peer not in peers:
            note(f"{peer}: left out: {', '.join(missing.intersection(packages))} not installed")
    results = {}
    # All of them in turn within each repeat, so that a slow moment meets all.
    for _ in range(args.repeats):
        for peer in list(peers):
            result = run_peer(python, peer, args)
            if result is None:
                peers.remove(peer)
            else:
                results.setdefault(result["name"], []).append(result)
        for way in ("float", "dorefa", "tqt", "tqt-operands", "stock"):
            result = run_lowbit(way, args)
            results.setdefault(result["name"], []).append(result)

    def median(runs, field):
        return statistics.median(run[field] for run in runs)

    base = results["pytorch-float32"]
    fields = ("images_per_second", "inference_images_per_second", "memory_bytes")
    header = ("step", "images/s", "over PyTorch", "inference/s", "over PyTorch", "MiB", "over PyTorch")
    rows = [header]
    for name, runs in results.items():
        row = [name]
        for field in fields:
            value = median(runs, field)
            scaled = value / 2**20 if field == "memory_bytes" else value
            row += [f"{scaled:.0f}", f"{value / median(base, field):.2f}"]
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for row in rows:
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))))


if __name__ == "__main__":
    main()
