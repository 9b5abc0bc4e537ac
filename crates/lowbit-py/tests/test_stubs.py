"""The stubs say what the module has, and programs that use them are checked by pyright in strict mode."""

import ast
import json
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


PROGRAM = """
import numpy as np
import numpy.typing as npt
import lowbit
x: npt.NDArray[np.float32] = np.zeros((2, 3), np.float32)
y: npt.NDArray[np.float32] = lowbit.quantize(x, 'e4m3', 'stochastic', seed=1, out=x)
z: float = lowbit.quantize(0.3, lowbit.Format('fixed(8,6)'), lowbit.Rounding.stochastic(1))
w: npt.NDArray[np.float64] = lowbit.quantize([[0.3], [1.0]], 'mxfp4')
v: npt.NDArray[np.float32] = lowbit.quantize(np.arange(3), 'e4m3')
facts = lowbit.Format('e4m3').facts
print(facts.epsilon, lowbit.compare(['e4m3', 'int8'], {'x': x}).fits[0][0].plain.sqnr_db)
print(lowbit.decode(lowbit.encode(y, 'e4m3'), 'e4m3') + z, w, v, lowbit.plot('e4m3').svg)
"""

TORCH = """
import torch
from torch import Tensor, nn
import lowbit
import lowbit.torch as lt
x = torch.zeros(3)
y: Tensor = lowbit.quantize(lt.quantize(x, 'e4m3', seed=None), 'e4m3')
layer: nn.Module = lt.Quantizer('fixed(8,6)', lowbit.Format('e5m2'), 'stochastic', zero_clamped=True)
quantizers: dict[str, lt.Quantizer] = lt.lower(nn.Linear(2, 2), ['linear', nn.Conv2d], 'e4m3')
optimizer = lt.LowPrecision(torch.optim.SGD([y], lr=0.1), weight='e4m3', momentum=('e5m2', 'down'), gradient=torch.relu)
print(layer, quantizers, optimizer.accumulators[x])
z: Tensor = lt.trained_threshold(x, torch.zeros(1), 8, signed=False) + lt.dorefa_weight(x, 4, scale='maximum')
fc = lt.Linear(2, 2, weight_quantizer=lt.LSQ(4, per_channel=True), input_quantizer=lt.PACT(4, clip=10.0))
conv: lt.Conv2d = lt.Conv2d(1, 2, 3, weight_quantizer=lt.DoReFaWeight(4), input_quantizer=lt.DoReFaActivation(4))
paths: list[str] = lt.quantize_layers(nn.Sequential(fc, conv), weight=lt.TQT(8), layers=['0'])
with lt.calibrate(fc):
    print(fc(z), fc.quantizer('input'), paths)
"""


DROP_INS = """
import torch
from torch import Tensor
import lowbit.tqt as tqt
import lowbit.tqt.function as nn
import lowbit.wageubn.function as wnn
from lowbit.wageubn.config import Config, config_network
net: nn.Module = nn.Sequential(nn.Conv2d(1, 2, 3, weight_bit_width=4), nn.BatchNorm2d(2), nn.ReLU())
tqt.utils.make_net_quant_or_not(net, quant=True, exclude=[nn.ReLU])
tqt.fold.fold_the_network(net)
tqt.threshold.init_network(net, net, acti_method='max')
x: Tensor = nn.qsigned(torch.zeros(3), torch.zeros(1), 8) + wnn.directquant(torch.zeros(3), 8)
cosines: list[tuple[str, float]] = tqt.analyse.cosine_similarity(net, net)
config_network(wnn.Linear(2, 2), 'net', Config(acti=4))
print(x, cosines, tqt.__version__, nn.Dropout(0.5))
"""


@pytest.mark.parametrize("text", [PROGRAM, TORCH, DROP_INS], ids=["numpy", "torch", "drop-ins"])
def test_pyright_is_strict(tmp_path, text):
    """On a program that uses the package."""
    if text is not PROGRAM:
        pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
    pytest.importorskip("pyright")
    (tmp_path / "program.py").write_text(text)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    call = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", str(tmp_path)]
    done = subprocess.run(call, capture_output=True, text=True)
    if "error" not in done.stdout:
        pytest.skip(f"pyright did not run: {done.stdout.strip()} {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout
