"""Tensors, their gradients, modules and optimizers; compiled and not."""

import copy
import io
import pickle

import numpy as np
import pytest

import lowbit
from conftest import same

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
import lowbit.torch as lt  # noqa: E402
from torch import nn  # noqa: E402

MODES = ["nearest-even", "down", "stochastic(seed=1,stream=2)"]


def same_tensors(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    return torch.equal(a.nan_to_num(nan=12345.0), b.nan_to_num(nan=12345.0)) and torch.equal(a.signbit(), b.signbit())


@pytest.mark.parametrize("format", ["e4m3", "fixed(8,6)", "mxfp4", "bfp(8,dim=0)"])
@pytest.mark.parametrize("rounding", MODES)
def test_numbers_are_those_of_numpy(numbers, format, rounding):
    x = torch.from_numpy(np.nan_to_num(numbers[:6144])).reshape(48, 128)
    views = [x, x.t(), x[::2], x[:, 3::4], x.reshape(2, 24, 128).permute(2, 0, 1), x[0, :1].expand(7)]
    views.append(x.reshape(2, 3, 32, 32).to(memory_format=torch.channels_last))
    for view in views:
        expected = torch.from_numpy(lowbit.quantize(np.ascontiguousarray(view.numpy()), format, rounding))
        for function in (lt.quantize, lowbit.quantize):
            assert same_tensors(function(view, format, rounding), expected)
        compiled = torch.ops.lowbit.round(view, format, rounding)
        assert same_tensors(compiled, expected)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(kind):
    x = torch.randn(33, 5).to(kind)
    for view in [x, x.t(), x[::2]]:
        found = lt.quantize(view, "e4m3")
        assert found.dtype == kind and same_tensors(found.double(), lt.quantize(view.double(), "e4m3"))


def test_in_place_and_out():
    x = torch.randn(1000)
    expected = lt.quantize(x, "e4m3")
    assert lowbit.quantize(x, "e4m3", out=x) is x and torch.equal(x, expected)
    y = torch.zeros(2000)[::2]
    lt.quantize(x, "e5m2", out=y)
    assert torch.equal(y, lt.quantize(x, "e5m2"))
    half = torch.randn(10).bfloat16()
    assert lowbit.quantize(half, "e4m3", out=half) is half


def test_the_gradient_passes():
    x = torch.randn(10, requires_grad=True)
    for function in (lt.quantize, lowbit.quantize, lambda x, f: torch.ops.lowbit.round(x, f, "nearest-even")):
        x.grad = None
        function(x, "e4m3").mul(torch.arange(10)).sum().backward()
        assert torch.equal(x.grad, torch.arange(10.0))
    assert not lt.quantize(x.detach(), "e4m3").requires_grad


@pytest.mark.parametrize(
    "kind, pattern, call",
    [
        (TypeError, "torch.int64 cannot be rounded", lambda: lt.quantize(torch.arange(3), "e4m3")),
        (TypeError, "layout torch.sparse_coo", lambda: lt.quantize(torch.eye(3).to_sparse(), "e4m3")),
        (ValueError, r"out has the shape \[2\], expected \[3\]", lambda: lt.quantize(torch.zeros(3), "e4m3", out=torch.zeros(2))),
        (TypeError, "out is of torch.float64", lambda: lt.quantize(torch.zeros(3), "e4m3", out=torch.zeros(3).double())),
        (ValueError, "takes no part in autograd", lambda: lt.quantize(torch.zeros(3, requires_grad=True), "e4m3", out=torch.zeros(3))),
        (ValueError, "unknown format", lambda: lt.Quantizer("e4m3x")),
        (ValueError, "unknown rounding", lambda: lt.Quantizer("e4m3", forward_rounding="near")),
        (ValueError, "zero_clamped goes with a forward format", lambda: lt.Quantizer(zero_clamped=True)),
        (ValueError, "layer 'convolution' is not known, expected one of conv", lambda: lt.lower(nn.Linear(2, 2), ["convolution"])),
    ],
)
def test_refused(kind, pattern, call):
    with pytest.raises(kind, match=pattern):
        call()


def samples(kind):
    x = torch.randn(4, 6, dtype=kind, requires_grad=True)
    stream = torch.tensor(4)
    quantize, round = torch.ops.lowbit.quantize, torch.ops.lowbit.round
    return [
        (round, (x, "e4m3", "nearest-even")),
        (round, (x.detach().t(), "mxfp4", "stochastic", stream)),
        (quantize, (x, "fixed(5,4)", "stochastic", "e5m2", "stochastic", True, stream)),
        (quantize, (x, "", "down", "e5m2", "up")),
        (quantize, (x.detach()[::2], "e4m3", "down", "", "up")),
    ]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_opcheck(kind):
    for operator, arguments in samples(kind):
        if operator is torch.ops.lowbit.round and "mxfp4" in arguments and kind is torch.bfloat16:
            continue
        found = torch.library.opcheck(operator, arguments)
        assert set(found.values()) == {"SUCCESS"}


def both_ways(model, x):
    """Outputs and gradients of three steps."""
    found = []
    for _ in range(3):
        y = model(x)
        found += [y, *torch.autograd.grad(y.square().sum(), list(model.parameters()))]
    return found


def test_compiled_programs_have_the_same_numbers():
    model = nn.Sequential(
        nn.Linear(6, 8),
        lt.Quantizer("fixed(8,6)", "e5m2", "stochastic", "stochastic", zero_clamped=True),
        nn.ReLU(),
        nn.Linear(8, 4),
        lt.Quantizer("e4m3", "mxfp4"),
    )
    x = torch.randn(5, 6)
    twin = copy.deepcopy(model)
    compiled = torch.compile(twin, fullgraph=True, backend="aot_eager")
    for a, b in zip(both_ways(model, x), both_ways(compiled, x)):
        assert torch.equal(a, b)
    assert int(twin[1].calls) == int(model[1].calls) == 3
    format = lowbit.Format("e4m3")
    function = torch.compile(lambda x: lt.quantize(x, format, "stochastic", seed=3) * 2, fullgraph=True, backend="aot_eager")
    assert torch.equal(function(x), lt.quantize(x, "e4m3", "stochastic", seed=3) * 2)


def test_the_gradient_is_rounded_and_hooked():
    """0.3 is 0.25 in fixed(4,2); the hook comes before the rounding, so 0.3 * 3 is 1.0."""
    x = torch.tensor([0.3, 5.0, -1.0, 1.9], requires_grad=True)
    quantizer = lt.Quantizer("fixed(4,2)", "fixed(4,2)", zero_clamped=True, hooks=[lambda g: g * 3])
    y = quantizer(x)
    assert y.tolist() == [0.25, 1.75, -1.0, 1.75]
    y.backward(torch.full((4,), 0.3))
    # 1.9 is rounded to 2.0, out of the range that ends at 1.75, and so is 5.
    assert x.grad.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert repr(quantizer) == "Quantizer(forward=fixed(4,2), nearest-even; backward=fixed(4,2), nearest-even; zero_clamped)"


def test_forward_and_backward_draw_apart():
    x = torch.full((1000,), 0.3, requires_grad=True)
    quantizer = lt.Quantizer("e4m3", "e4m3", "stochastic", "stochastic", seed=5)
    y = quantizer(x)
    y.backward(torch.full((1000,), 0.3))
    assert torch.equal(y.detach(), lt.quantize(x.detach(), "e4m3", "stochastic", seed=5, stream=0))
    assert torch.equal(x.grad, lt.quantize(x.detach(), "e4m3", "stochastic", seed=5, stream=1))
    assert not torch.equal(y.detach(), quantizer(x.detach()))


def test_a_quantizer_goes_on_where_it_was():
    x = torch.randn(100)
    first = lt.Quantizer("e4m3", None, "stochastic")
    first(x)
    second = lt.Quantizer("e4m3", None, "stochastic")
    second.load_state_dict(first.state_dict())
    third = pickle.loads(pickle.dumps(first))
    assert torch.equal(first(x), second(x)) and torch.equal(first(x), (third(x), third(x))[1])
    assert lt.Quantizer("e4m3").state_dict() == {}


def test_lowered_models():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(2 * 4, 3))
    keys = list(model.state_dict())
    quantizers = lt.lower(model, ["conv", "activation", "4"], forward="e4m3", backward="e5m2")
    assert list(quantizers) == ["0", "2", "4"] and list(model.state_dict()) == keys
    x = torch.randn(2, 1, 4, 4)
    y = model(x)
    assert torch.equal(y, lt.quantize(y, "e4m3"))
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert torch.equal(twin(x), y)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), y)


def step_by_hand(weight, velocity, gradient, accumulator):
    """SGD with momentum 0.9 and rate 0.1, with what is rounded in its place."""
    gradient = lowbit.quantize(gradient * 8, "fixed(8,4)")
    velocity = (velocity * np.float32(0.9) + gradient).astype(np.float32)
    accumulator = lowbit.quantize((accumulator - np.float32(0.1) * velocity).astype(np.float32), "fixed(16,12)")
    return lowbit.quantize(accumulator, "fixed(8,6)"), lowbit.quantize(velocity, "e5m2"), accumulator


def test_low_precision_steps_by_hand():
    start = np.array([0.3, -0.7, 1.2], np.float32)
    p = nn.Parameter(torch.from_numpy(start.copy()))
    idle = nn.Parameter(torch.ones(2))
    optimizer = lt.LowPrecision(
        torch.optim.SGD([p, idle], lr=0.1, momentum=0.9),
        weight="fixed(8,6)", gradient="fixed(8,4)", momentum="e5m2", accumulator="fixed(16,12)",
        gradient_scale=8.0, rounding="nearest-even",
    )
    accumulator, velocity = lowbit.quantize(start, "fixed(16,12)"), np.zeros(3, np.float32)
    assert same(p.detach().numpy(), lowbit.quantize(accumulator, "fixed(8,6)"))
    for gradient in [[0.1, 0.02, -0.3], [0.4, -0.01, 0.2], [-0.2, 0.3, 0.05]]:
        gradient = np.array(gradient, np.float32)
        p.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        weight, velocity, accumulator = step_by_hand(None, velocity, gradient, accumulator)
        assert same(p.detach().numpy(), weight)
        assert same(optimizer.state[p]["momentum_buffer"].numpy(), velocity)
        assert same(optimizer.accumulators[p].numpy(), accumulator)
    assert torch.equal(idle, torch.ones(2))


def train(optimizer, model, steps):
    for i in steps:
        x = torch.linspace(-1, 1, 24).reshape(4, 6) * (i + 1)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_a_resumed_optimizer_goes_on(kind):
    def made():
        torch.manual_seed(0)
        model = nn.Linear(6, 3)
        inner = kind(model.parameters(), lr=0.05, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
        way = dict(weight="e4m3", gradient="e5m2", momentum="e5m2", second_moment="bf16", accumulator="fp16")
        return model, lt.LowPrecision(inner, **way, seed=3)

    whole, optimizer = made()
    train(optimizer, whole, range(6))
    first, optimizer = made()
    train(optimizer, first, range(3))
    kept = io.BytesIO()
    torch.save([first.state_dict(), optimizer.state_dict()], kept)
    kept.seek(0)
    second, optimizer = made()
    weights, state = torch.load(kept)
    second.load_state_dict(weights)
    optimizer.load_state_dict(state)
    train(optimizer, second, range(3, 6))
    assert torch.equal(whole.weight, second.weight)
    assert torch.equal(whole.weight, lt.quantize(whole.weight, "e4m3"))


def test_schedules_work_on_it():
    p = nn.Parameter(torch.ones(3))
    optimizer = lt.LowPrecision(torch.optim.SGD([p], lr=1.0), weight="e4m3")
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    p.grad = torch.zeros(3)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.5 and optimizer.optimizer.param_groups is optimizer.param_groups
    assert isinstance(optimizer, torch.optim.Optimizer) and "weight=e4m3" in repr(optimizer)


class Rounded(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return lowbit.quantize(torch.linspace(-1, 1, 1 << 16) * (i + 1), "bfp(8)")


def test_workers_of_a_data_loader():
    lowbit.quantize(torch.randn(1 << 20), "e4m3")
    loader = torch.utils.data.DataLoader(Rounded(), batch_size=2, num_workers=4, multiprocessing_context="fork")
    found = torch.cat(list(loader))
    assert torch.equal(found, torch.stack([Rounded()[i] for i in range(8)]))
