"""The stubs say what the module has, and programs that use them are checked by pyright in strict mode."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lowbit
from lowbit import _lowbit

ROOT = Path(lowbit.__file__).parent


def stubbed():
    """Names of the stub: functions and classes, and what each class has."""
    tree = ast.parse((ROOT / "_lowbit.pyi").read_text())
    defined = (ast.FunctionDef, ast.ClassDef)
    names = {node.name: node for node in tree.body if isinstance(node, defined) and not node.name.startswith("_")}
    members = lambda node: {m.name for m in node.body if isinstance(m, ast.FunctionDef)}
    return {name: members(node) if isinstance(node, ast.ClassDef) else None for name, node in names.items()}


def test_stubs_are_complete():
    found = stubbed()
    assert set(found) == {name for name in dir(_lowbit) if not name.startswith("_")}
    for name, members in found.items():
        if members is not None:
            own = {member for member in vars(getattr(_lowbit, name)) if not member.startswith("__")}
            assert {member for member in members if not member.startswith("__")} == own, name
    assert set(lowbit.__all__) == set(found) - {"quantize_at"}
    assert (ROOT / "py.typed").exists()


def test_pyright_is_strict(tmp_path):
    """On the package and on a program that uses it."""
    if not shutil.which("pyright", path=str(Path(sys.executable).parent)):
        pytest.skip("pyright is not installed")
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np\n"
        "import numpy.typing as npt\n"
        "import lowbit\n"
        "x: npt.NDArray[np.float32] = np.zeros((2, 3), np.float32)\n"
        "y: npt.NDArray[np.float32] = lowbit.quantize(x, 'e4m3', 'stochastic', seed=1, out=x)\n"
        "z: float = lowbit.quantize(0.3, lowbit.Format('fixed(8,6)'), lowbit.Rounding.stochastic(1))\n"
        "w: npt.NDArray[np.float64] = lowbit.quantize([[0.3], [1.0]], 'mxfp4')\n"
        "v: npt.NDArray[np.float32] = lowbit.quantize(np.arange(3), 'e4m3')\n"
        "facts = lowbit.Format('e4m3').facts\n"
        "print(facts.epsilon, lowbit.compare(['e4m3', 'int8'], {'x': x}).fits[0][0].plain.sqnr_db)\n"
        "print(lowbit.decode(lowbit.encode(y, 'e4m3'), 'e4m3') + z, w, v, lowbit.plot('e4m3').svg)\n"
    )
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    call = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    if "0 errors" not in done.stdout and "error:" not in done.stdout:
        pytest.skip(f"pyright did not run: {done.stdout.strip()} {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout
