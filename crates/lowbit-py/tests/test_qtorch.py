"""QPyTorch's names: its formats, functions, quantizers, optimizer and lowering."""

import copy
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
from torch import nn  # noqa: E402

import lowbit.compat  # noqa: E402
import lowbit.qtorch as qtorch  # noqa: E402
from lowbit.qtorch import BlockFloatingPoint, FixedPoint, FloatingPoint, Posit, Positbf, _semantics  # noqa: E402
from lowbit.qtorch.auto_low import lower, sequential_lower  # noqa: E402
from lowbit.qtorch.optim import OptimLP  # noqa: E402
from lowbit.qtorch.quant import Quantizer, quant_function as q  # noqa: E402


@pytest.fixture(autouse=True)
def extended():
    yield
    _semantics.use("extended")


def test_formats_print():
    formats = [FixedPoint(8, 6), FloatingPoint(5, 2), BlockFloatingPoint(8, 0), Posit(8, 1), Positbf(8, 2, 0.5)]
    assert [repr(format) for format in formats] == [
        "FixedPoint (wl=8, fl=6)",
        "FloatingPoint (exponent=5, mantissa=2)",
        "BlockFloatingPoint (wl=8, dim=0)",
        "Posit (nsize=8, es=1, scale=1)",
        "Positbf (nsize=8, es=2, scale=0.5)",
    ]
    for wrong in [lambda: FloatingPoint(9, 2), lambda: FixedPoint(0, 1), lambda: Posit(17, 1), lambda: BlockFloatingPoint(8, -2)]:
        with pytest.raises(AssertionError, match="expected"):
            wrong()


def test_fixed_point_by_hand():
    """Ties go to the even number of steps of 1/4."""
    x = torch.tensor([0.125, 0.375, -9.0, 9.0, 0.3])
    assert q.fixed_point_quantize(x, 4, 2, rounding="nearest").tolist() == [0.0, 0.5, -2.0, 1.75, 0.25]
    assert q.fixed_point_quantize(x, 4, 2, symmetric=True, rounding="nearest").tolist()[2] == -1.75
    assert q.fixed_point_quantize(x, 4, 2, clamp=False, rounding="nearest").tolist()[2:4] == [-9.0, 9.0]
    with pytest.raises(ValueError, match="expected fl -1"):
        q.fixed_point_quantize(x, -1, 2)


def test_the_two_kinds_of_floats():
    """Of five exponent bits the extension has values down to 2^-15 and none below, the release subnormals down to
    2^-16 and numbers in the highest exponent: up to 1.75 * 2^16."""
    x = torch.tensor([1e9, 2.0**-15, 0.6 * 2.0**-15, 2.0**-16])
    assert q.float_quantize(x, 5, 2, "nearest").tolist() == [1.75 * 2.0**15, 2.0**-15, 2.0**-15, 0.0]
    _semantics.use("upstream")
    assert q.float_quantize(x, 5, 2, "nearest").tolist() == [1.75 * 2.0**16, 2.0**-15, 2.0**-16, 2.0**-16]
    with pytest.raises(ValueError, match="expected 'extended' or 'upstream'"):
        _semantics.use("own")
    assert q.float_quantize(x, 9, 2, "nearest").isfinite().all()


def test_random_numbers_follow_the_generator_of_torch():
    x = torch.full((1 << 16,), 0.3)
    for function in [lambda: q.float_quantize(x, 4, 3), lambda: q.fixed_point_quantize(x, 8, 4), lambda: q.block_quantize(x, 4)]:
        torch.manual_seed(1)
        first, second = function(), function()
        torch.manual_seed(1)
        assert torch.equal(first, function()) and not torch.equal(first, second)
        # Steps are at most 1/16, so that the mean of 2^16 has a standard error below 1.3e-4.
        assert abs(first.double().mean() - 0.3) < 6e-4


def test_blocks_share_an_exponent():
    """Words of 4 bits: the largest, 6, has steps of 1; of each row its own. Ties go up, as QPyTorch's do (0.3.0 was run:
    -112 becomes -96 where steps are 32)."""
    x = torch.tensor([[6.0, 0.4, -1.5], [0.75, 0.1, 0.07]])
    assert q.block_quantize(x, 4, rounding="nearest").tolist() == [[6.0, 0.0, -1.0], [1.0, 0.0, 0.0]]
    assert q.block_quantize(x, 4, 0, "nearest")[1].tolist() == [0.75, 0.125, 0.125]
    assert q.block_quantize(torch.tensor([-112.0, 112.0, -128.0]), 4, rounding="nearest").tolist() == [-96.0, 128.0, -128.0]


def test_posits():
    x = torch.tensor([0.3, 3.0, -1e9])
    assert torch.equal(q.posit_quantize(x, 8, 1, 4.0), q.posit_quantize(x * 4, 8, 1) / 4)
    assert torch.equal(q.bfloat16_posit8_quantize(x, 8, 1), q.posit_quantize(x.bfloat16().float(), 8, 1))
    # 1 is 0100.0000 of 8 bits, in the upper half of 16.
    codes = q.convert_to_posit(torch.tensor([1.0, -1.0]), 8, 1)
    assert codes.dtype == torch.int32 and codes.tolist() == [0x4000, 0xC000]
    assert q.posit_sigmoid(torch.tensor([0.0, 1.0]), 8).tolist() == [0.5, 0.75]
    y = qtorch.PositTanhModule()(torch.zeros(2, requires_grad=True))
    y.sum().backward()
    assert y.grad_fn is not None and y.tolist() == [0.0, 0.0]


def test_tables():
    """Magnitudes; of two as near the first; zero stays."""
    x = torch.tensor([0.0, 0.1, 1.5, -2.9, 3.0, 100.0])
    assert q.configurable_table_quantize(x, torch.tensor([1.0, 2.0, 4.0])).tolist() == [0.0, 1.0, 1.0, -2.0, 2.0, 4.0]
    assert q.configurable_table_quantize(x, torch.tensor([4.0, 2.0, 1.0])).tolist() == [0.0, 1.0, 2.0, -2.0, 4.0, 4.0]
    assert q.configurable_table_quantize(x / 4, [1.0, 2.0, 4.0], scale=4.0).tolist()[1:4] == [0.25, 0.25, -0.5]
    assert q.configurable_table_quantize_geomean(x, [1.0, 4.0]).tolist() == [0.0, 1.0, 1.0, -4.0, 4.0, 4.0]
    hints = q.configurable_table_quantize_rounding_hint(x, [1.0, 2.0], [0.1, 2.0])
    assert hints.tolist() == [0.0, 0.0, 1.0, -2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="no magnitude"):
        q.configurable_table_quantize(x, [-1.0, 2.0])


def test_results_are_new_and_contiguous():
    x = torch.randn(6, 4).t()
    for function in [lambda: q.fixed_point_quantize(x, 8, 6), lambda: q.block_quantize(x, 8), lambda: q.posit_quantize(x, 8, 1)]:
        assert function().is_contiguous() and function().data_ptr() != x.data_ptr()
    assert q.float_quantize(x.bfloat16(), 4, 3, "nearest").dtype == torch.bfloat16


def test_quantizers_round_both_ways():
    x = torch.tensor([0.3, -1.0, 1.0, 0.99], requires_grad=True)
    number = FixedPoint(5, 4)
    seen = []
    function = q.quantizer(number, number, "nearest", "nearest", True, [lambda g: seen.append(g) or g * 2])
    y = function(x)
    assert "Rounding" in type(q.quantizer(number)(x).grad_fn).__name__
    y.sum().backward()
    # 2 is more than 15/16; 1.0 and what is rounded to it leave the range.
    assert x.grad.tolist() == [0.9375, 0.9375, 0.0, 0.0] and len(seen) == 1
    assert torch.equal(q.quantizer()(x), x) and q.quantizer()(x) is not x
    with pytest.raises(ValueError, match="goes with FixedPoint"):
        q.quantizer(FloatingPoint(5, 2), clamping_grad_zero=True)


def test_the_layer_is_copied_and_pickled():
    layer = Quantizer(FixedPoint(8, 6), FloatingPoint(5, 2), "nearest", "nearest")
    assert repr(layer) == "Quantizer()" and list(layer.state_dict()) == []
    x = torch.randn(10)
    for twin in [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]:
        assert torch.equal(twin(x), layer(x))


def test_the_optimizer():
    p = nn.Parameter(torch.tensor([0.3, 0.6]))
    quant = lambda x: q.fixed_point_quantize(x, 8, 4, rounding="nearest")
    inner = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    optimizer = OptimLP(inner, weight_quant=quant, grad_quant=quant, momentum_quant=quant, acc_quant=lambda x: q.float_quantize(x, 8, 12, "nearest"), grad_scaling=2.0)
    assert p.tolist() == pytest.approx([0.3, 0.6]) and optimizer.param_groups is inner.param_groups
    p.grad = torch.tensor([0.05, -0.1])
    optimizer.step()
    # The gradients are 0.1 and -0.2 in steps of 1/16: 0.125 and -0.1875.
    assert optimizer.state[p]["momentum_buffer"].tolist() == [0.125, -0.1875]
    assert optimizer.weight_acc[p].tolist() == pytest.approx([0.2875, 0.61875], abs=1e-4)
    assert p.tolist() == [0.3125, 0.625]
    with pytest.raises(AssertionError, match="expected SGD or Adam"):
        OptimLP(torch.optim.RMSprop([p]))


def test_lowering():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.ModuleList([nn.Linear(4, 2)]))
    lowered = sequential_lower(model, ["linear"], forward_number=FixedPoint(4, 2), forward_rounding="nearest")
    assert isinstance(lowered[0], nn.Sequential) and isinstance(lowered[0][1], Quantizer) and isinstance(model[0], nn.Linear)
    assert isinstance(lowered[2][0][0], nn.Linear) and lowered[2][0][1] is lowered[0][1]
    assert lower(model, ["linear"], forward_number=FixedPoint(4, 2), forward_rounding="nearest") is None
    x = torch.randn(3, 4)
    assert torch.equal(model[0](x), lowered[0](x)) and torch.equal(copy.deepcopy(model)[0](x), model[0](x))
    with pytest.raises(AssertionError, match="expected one of conv"):
        lower(model, ["convolution"])


SCRIPT = """
import sys
import qtorch, qtorch_plus
from qtorch.quant import *
from qtorch import FixedPoint
from qtorch.quant.quant_function import assert_wl_fl, get_module
from qtorch.optim import OptimLP
from qtorch.auto_low import sequential_lower
import qtorch.quant_cpu, torch
x = torch.tensor([1e9])
assert qtorch.quant_cpu.float_quantize_nearest(x, 2, 5).equal(float_quantize(x, 5, 2, "nearest"))
out, mask = get_module(x).fixed_point_quantize_nearest_mask(x, 4, 2, False)
print(qtorch.__name__, qtorch_plus is qtorch, float_quantize(x, 5, 2, "nearest").item(), out.item(), mask.item(), sys.argv[1:])
"""


def test_scripts_run_unchanged(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for name, largest in [("extended", 1.75 * 2.0**15), ("upstream", 1.75 * 2.0**16)]:
        call = [sys.executable, "-m", "lowbit.compat", "--qtorch", name, str(script), "--epochs", "3"]
        done = subprocess.run(call, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == f"lowbit.qtorch True {largest} 1.75 1 ['--epochs', '3']"


def test_the_original_is_not_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "qtorch", sys.modules["sys"])
    with pytest.raises(RuntimeError, match="qtorch itself has been imported"):
        lowbit.compat.install()
