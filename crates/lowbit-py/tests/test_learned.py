"""TQT, LSQ, PACT and DoReFa-Net: values and gradients of their papers in float64, quantized layers, calibration."""

import copy
import math
import pickle

import numpy as np
import pytest

import lowbit

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
import lowbit.torch as lt  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

LN2 = math.log(2.0)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2.0


def gradients(function, *inputs):
    """The result for a sum with fixed weights, and its gradients."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    weights = numbers(*y.shape, seed=9).to(y.dtype)
    (y * weights).sum().backward()
    return y.detach(), weights.double().numpy(), [x.grad for x in inputs]


def tqt_of_the_paper(x, log2_t, bits, signed):
    """Equations 4, 7 and 8 of arXiv 1903.08066: values, slopes to log2 t, slopes to x."""
    n, p = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1.0) if signed else (0.0, 2.0**bits - 1.0)
    s = 2.0 ** np.ceil(log2_t) / 2.0 ** (bits - signed)
    k = np.rint(x / s)
    inside = (n <= k) & (k <= p)
    to_t = s * LN2 * np.where(inside, k - x / s, np.where(k < n, n, p))
    return np.clip(k, n, p) * s, to_t, inside.astype(float)


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 24])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("log2_t", [-3.0, -0.3, 0.0, 1.2])
def test_tqt_is_the_paper(bits, signed, log2_t):
    x = numbers(7, 50)
    x[0, :6] = torch.tensor([0.0, -0.0, 2.0**log2_t, -(2.0**log2_t), 1e9, -1e9])
    y, weights, (to_x, to_t) = gradients(lambda x, t: lt.trained_threshold(x, t, bits, signed), x, torch.tensor([log2_t]))
    values, slopes, inside = tqt_of_the_paper(x.double().numpy(), np.float32(log2_t), bits, signed)
    assert np.array_equal(y.double().numpy(), values)
    assert np.array_equal(to_x.double().numpy(), weights * inside)
    terms = weights * slopes
    assert to_t.shape == (1,) and abs(float(to_t) - terms.sum()) < 1e-5 * np.abs(terms).sum()


@pytest.mark.parametrize("signed", [True, False])
def test_tqt_has_the_bits_of_the_kernel(numbers, signed):
    """`fixed(8,f)` of the same step; a format has no minus zero, TQT has."""
    x = torch.from_numpy(numbers)
    for log2_t, fraction in [(0.0, 7), (-0.5, 7), (0.5, 6), (3.0, 4), (-2.0, 9)]:
        format = f"{'' if signed else 'u'}fixed(8,{fraction if signed else fraction + 1})"
        y = lt.trained_threshold(x, torch.tensor([log2_t]), 8, signed)
        finite = ~x.isnan()
        assert torch.equal((y + 0.0)[finite], lowbit.quantize(x, format)[finite]) and y[~finite].isnan().all()


def test_tqt_by_hand():
    """3 bits, threshold 2^ceil(0.3) = 2: step 2/4 = 0.5, integers -4 to 3; without a sign step 2/8, integers 0 to 7. The
    values are those of the Rust quantizer's own test."""
    x = torch.tensor([0.0, 0.24, 0.25, 0.26, 0.75, 1.5, 1.8, 9.0, -0.25, -2.0, -2.2, -7.0])
    y = lt.trained_threshold(x, torch.tensor([0.3]), 3)
    assert y.tolist() == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 1.5, 1.5, 0.0, -2.0, -2.0, -2.0]
    assert y.signbit().tolist() == [False] * 8 + [True] * 4
    y = lt.trained_threshold(x, torch.tensor([0.3]), 3, signed=False)
    assert y.tolist() == [0.0, 0.25, 0.25, 0.25, 0.75, 1.5, 1.75, 1.75, 0.0, 0.0, 0.0, 0.0]
    # Slopes to log2 t are s ln 2 times 1 - 0.52, 3 (above) and -4 (below).
    log2_t = torch.tensor([0.3], requires_grad=True)
    lt.trained_threshold(torch.tensor([0.26, 9.0, -7.0]), log2_t, 3).sum().backward()
    assert float(log2_t.grad) == pytest.approx(0.5 * LN2 * (0.48 + 3.0 - 4.0), rel=1e-6)


def test_thresholds_of_channels_and_extreme_ones():
    x, log2_t = numbers(3, 4, 5), torch.tensor([-1.0, 0.5, 2.0])
    y, _, (_, to_t) = gradients(lambda x, t: lt.trained_threshold(x, t, 4), x, log2_t)
    for i in range(3):
        one = lt.trained_threshold(x[i], log2_t[i], 4)
        assert torch.equal(y[i], one)
    assert to_t.shape == (3,)
    turned = lt.trained_threshold(x.transpose(0, 1), log2_t, 4, axis=1)
    assert torch.equal(turned.transpose(0, 1), y)
    # Steps are held to 2^-126 and 2^126; NaN stays NaN.
    tiny = lt.trained_threshold(torch.tensor([1.0, 0.0]), torch.tensor([-1000.0]), 8)
    assert tiny.tolist() == [127.0 * 2.0**-126, 0.0]
    assert lt.trained_threshold(torch.tensor([1e38]), torch.tensor([math.inf]), 8).tolist() == [2.0**126]
    assert lt.trained_threshold(torch.ones(2), torch.tensor([math.nan]), 8).isnan().all()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [True, False])
def test_lsq_is_the_paper(bits, signed):
    """Section 2 of arXiv 1902.08153, equations 1 to 3."""
    x, step, scale = numbers(6, 40), 0.3, 0.125
    function = lambda x, s: lt.learned_step(x, s, bits, signed, scale)
    y, weights, (to_x, to_s) = gradients(function, x, torch.tensor([step]))
    s, v = np.float32(step), (x / torch.tensor(step)).double().numpy()
    low, high = (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)
    values = np.rint(np.clip(v, low, high)).astype(np.float32) * s
    assert np.array_equal(y.numpy(), values)
    inside = (low < v) & (v < high)
    assert np.array_equal(to_x.double().numpy(), weights * inside)
    terms = weights * np.where(inside, np.rint(v) - v, np.where(v <= low, low, high)) * scale
    assert abs(float(to_s) - terms.sum()) < 1e-5 * np.abs(terms).sum()


def test_lsq_by_hand():
    """3 bits, a step of 0.5: in steps 0.4, 2.6, 3, 9, -4 and -7, of which the last four are at or beyond an end. With the
    gradients 1, 2, 4, 8, 16, 32 the step gets -0.4 + 0.8 + 12 + 24 - 64 - 128 = -155.6, times the scale 0.25."""
    x = torch.tensor([0.2, 1.3, 1.5, 4.5, -2.0, -3.5], requires_grad=True)
    step = torch.tensor([0.5], requires_grad=True)
    (lt.learned_step(x, step, 3, True, 0.25) * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 0.0, 0.0, 0.0, 0.0] and float(step.grad) == pytest.approx(-38.9)
    for step in [0.0, -1.0]:
        y = lt.learned_step(torch.tensor([1.0, 0.0]), torch.tensor([step]), 4)
        assert y.tolist() == [7.0 * 2.0**-126, 0.0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_pact_is_the_paper(bits):
    """Equations 1 to 3 of arXiv 1805.06085."""
    x, clip, levels = numbers(6, 40), 1.7, 2.0**bits - 1.0
    x[0, 0] = clip
    y, weights, (to_x, to_a) = gradients(lambda x, a: lt.learned_clip(x, a, bits), x, torch.tensor([clip]))
    a, v = float(np.float32(clip)), x.double().numpy()
    clipped = 0.5 * (np.abs(v) - np.abs(v - a) + a)
    assert np.allclose(y.numpy(), np.rint(clipped * levels / a) * a / levels, atol=1e-6)
    assert np.array_equal(to_x.double().numpy(), weights * ((0.0 <= v) & (v < a)))
    assert float(to_a) == pytest.approx((weights * (v >= a)).sum(), rel=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("scale", ["one", "maximum"])
@pytest.mark.parametrize("maximum", ["differentiated", "constant"])
def test_dorefa_weights_are_the_paper(bits, scale, maximum):
    """Equation 9 of arXiv 1606.06160; the gradient is that of tanh(w) / max |tanh(w)|, or of the scaled reading's, by
    finite differences with the rounding error as a constant."""
    w, levels, step = numbers(5, 8), 2.0**bits - 1.0, 1e-6
    y, weights, (to_w,) = gradients(lambda w: lt.dorefa_weight(w, bits, scale, maximum), w)
    v = w.double().numpy()
    whole = np.abs(np.tanh(v)).max()

    def smooth(v):
        m = np.abs(np.tanh(v)).max() if maximum == "differentiated" else whole
        return np.tanh(v) / m, m if scale == "maximum" else 1.0

    ratio, factor = smooth(v)
    rounded = 2.0 * np.rint(levels * (ratio / 2.0 + 0.5)) / levels - 1.0
    assert np.allclose(y.numpy(), rounded * factor, atol=1e-6)
    error = rounded - ratio

    def loss(v):
        ratio, factor = smooth(v)
        return (weights * (ratio + error) * factor).sum()

    for index in np.ndindex(v.shape):
        moved = [v.copy(), v.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        assert float(to_w[index]) == pytest.approx((loss(moved[0]) - loss(moved[1])) / (2 * step), abs=1e-4)


def test_dorefa_by_hand():
    # The mean of 1, 2, 0 and 5 is 2; zero counts as positive.
    y, weights, (to_w,) = gradients(lambda w: lt.dorefa_weight(w, 1), torch.tensor([1.0, -2.0, 0.0, 5.0]))
    assert y.tolist() == [2.0, -2.0, 2.0, 2.0] and np.array_equal(to_w.double().numpy(), weights)
    # tanh: 0.76159, -0.46212, 0.09967, 0; over the largest, halved, plus a half, times 3: 3, 0.590, 1.696, 1.5.
    y = lt.dorefa_weight(torch.tensor([1.0, -0.5, 0.1, 0.0]), 2)
    assert y.tolist() == pytest.approx([1.0, -1 / 3, 1 / 3, 1 / 3], abs=1e-6)
    # 15 / 2 goes to the even 8, so that zeros are 2 * 8/15 - 1, and get no gradient.
    y, _, (to_w,) = gradients(lambda w: lt.dorefa_weight(w, 4), torch.zeros(2))
    assert y.tolist() == pytest.approx([1 / 15, 1 / 15], abs=1e-6) and to_w.tolist() == [0.0, 0.0]
    # Thirds of the unit interval; beyond it the gradient is 0.
    x = torch.tensor([-0.1, 0.0, 0.4, 0.9, 1.0, 1.1], requires_grad=True)
    y = lt.dorefa_activation(x, 2)
    y.sum().backward()
    assert y.tolist() == pytest.approx([0.0, 0.0, 1 / 3, 1.0, 1.0, 1.0]) and x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_other_types(kind):
    x = numbers(20).to(kind)
    one = torch.ones(1)
    functions = [
        lambda x: lt.trained_threshold(x, one, 4),
        lambda x: lt.learned_step(x, one * 0.25, 4),
        lambda x: lt.learned_clip(x, one, 4),
        lambda x: lt.dorefa_weight(x, 4),
    ]
    for function in functions:
        y, _, (to_x,) = gradients(function, x)
        assert y.dtype == kind and to_x.dtype == kind
        assert torch.allclose(y.double(), function(x.double()), atol=4e-3 if kind == torch.bfloat16 else 1e-3)


@pytest.mark.parametrize(
    "kind, pattern, call",
    [
        (ValueError, "bits is 1, expected 2 to 24", lambda: lt.TQT(1)),
        (ValueError, "bits is 17, expected 2 to 16", lambda: lt.LSQ(17)),
        (ValueError, "bits is 0, expected 1 to 16", lambda: lt.PACT(0)),
        (ValueError, "bits is 25, expected 1 to 24", lambda: lt.DoReFaWeight(25)),
        (ValueError, "scale is 'max', expected 'one' or 'maximum'", lambda: lt.DoReFaWeight(4, scale="max")),
        (ValueError, "log2_t has 2 numbers, expected 1 or one per index of axis 0", lambda: lt.trained_threshold(torch.zeros(3), torch.zeros(2), 8)),
        (ValueError, "PACT is no quantizer of weight, expected one of input, output", lambda: lt.Linear(2, 2, weight_quantizer=lt.PACT(4))),
        (ValueError, "per_channel is for a weight, not for input", lambda: lt.Linear(2, 2, input_quantizer=lt.TQT(4, per_channel=True))),
        (TypeError, "x is of torch.int64, expected a tensor of floating-point numbers", lambda: lt.DoReFaWeight(4)(torch.arange(3))),
        (TypeError, "x is of torch.int64, expected a tensor of floating-point numbers", lambda: lt.LSQ(4)(torch.arange(3))),
        (TypeError, "input_quantizer is 8, expected a module", lambda: lt.Linear(2, 2, input_quantizer=8)),
        (ValueError, "there is no layer '1' of", lambda: lt.quantize_layers(nn.Sequential(nn.Linear(2, 2)), layers=["1"])),
        (ValueError, "has no layer of torch.nn.Linear", lambda: lt.quantize_layers(nn.Sequential(nn.ReLU()))),
        (ValueError, "TQT saw no number", lambda: lt.TQT(8).start_from()),
        (ValueError, "TQT saw a NaN or an infinity", lambda: lt.TQT(8).start_from(torch.tensor([1.0, math.inf]))),
    ],
)
def test_refused(kind, pattern, call):
    with pytest.raises(kind, match=pattern):
        call()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3))


def test_layers_read_quantized_tensors():
    """Of 8 bits and a threshold of 1 steps are 1/128."""
    layer = lt.Linear(3, 2, weight_quantizer=lt.TQT(8), input_quantizer=lt.TQT(8), bias_quantizer=lt.TQT(16), output_quantizer=lt.TQT(8))
    x = torch.rand(5, 3)
    fixed = lambda t, format="fixed(8,7)": lowbit.quantize(t, format)
    expected = fixed(F.linear(fixed(x), fixed(layer.weight), fixed(layer.bias, "fixed(16,15)")))
    assert torch.equal(layer(x), expected)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    conv = lt.Conv2d(2, 4, 3, padding=1, groups=2, bias=False, padding_mode="reflect", weight_quantizer=lt.TQT(4, per_channel=True))
    plain = nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False, padding_mode="reflect")
    assert conv.quantizer("weight").log2_threshold.shape == (4,) and conv.quantizer("input") is None
    conv.quantizer("weight").enabled = False
    plain.load_state_dict({"weight": conv.weight})
    image = torch.rand(1, 2, 5, 5)
    assert torch.equal(conv(image), plain(image)) and "enabled=False" in repr(conv)


def test_calibration():
    """Thresholds are the largest magnitudes, steps 2 mean |x| / sqrt(Q_p): of inputs 1, 2, 3 and 0 without a sign 3 /
    sqrt(15), of weights of mean 0.625 1.25 / sqrt(7)."""
    model = nn.Sequential(lt.Linear(2, 2, weight_quantizer=lt.LSQ(4), input_quantizer=lt.LSQ(4)), lt.Linear(2, 1, weight_quantizer=lt.TQT(8), input_quantizer=lt.TQT(8)))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.5, -0.25], [1.0, -0.75]]))
        model[1].weight.copy_(torch.tensor([[0.25, 0.75]]))
    plain = model[0].weight @ torch.tensor([1.0, 2.0]) + model[0].bias
    model.train()
    with lt.calibrate(model):
        assert not model.training
        assert torch.allclose(model[0](torch.tensor([[1.0, 2.0]])), plain[None])
        model(torch.tensor([[3.0, 0.0]]))
    assert model.training and model[0].training
    first, second = model[0], model[1]
    assert first.quantizer("input").step.item() == pytest.approx(3 / math.sqrt(15))
    assert first.quantizer("weight").step.item() == pytest.approx(1.25 / math.sqrt(7))
    assert float(first.quantizer("input").signed) == 0.0 and float(first.quantizer("weight").signed) == 1.0
    assert second.quantizer("weight").log2_threshold.item() == pytest.approx(math.log2(0.75))
    assert not torch.equal(first(torch.tensor([[1.0, 2.0]])), plain[None])
    # The step's gradient is scaled by 1 / sqrt(N Q_p), of one sample N = 2, Q_p = 15.
    x, step = torch.full((3, 2), 100.0), first.quantizer("input").step
    first.quantizer("input")(x).sum().backward()
    assert step.grad.item() == pytest.approx(6 * 15 / math.sqrt(2 * 15))
    unused = nn.Sequential(lt.Linear(2, 2, input_quantizer=lt.PACT(4)), lt.Linear(2, 2))
    with pytest.raises(ValueError, match="0.quantizers.input.Pact saw no number"), lt.calibrate(unused):
        pass
    pact, channels = lt.PACT(4, retrain=False), lt.TQT(8, per_channel=True)
    pact.start_from(torch.tensor([1.0]), torch.tensor([2.5]))
    assert pact.clip.tolist() == [2.5] and not pact.clip.requires_grad
    channels.attach("weight", 3)
    channels.start_from(torch.tensor([[1.0, -4.0], [0.0, 0.0], [0.5, 0.25]]))
    assert channels.log2_threshold.tolist() == [2.0, 2.0, -1.0]


def test_layers_of_a_model():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameters = list(model.parameters())
    assert lt.quantize_layers(model, weight=lt.LSQ(4, per_channel=True), input=lt.PACT(4)) == ["0", "3"]
    assert [p for p in model.parameters() if any(p is q for q in parameters)] and type(model[0]) is lt.Conv2d
    assert all(any(p is q for q in model.parameters()) for p in parameters) and optimizer.param_groups[0]["params"][0] is model[0].weight
    x = torch.rand(2, 1, 8, 8)
    with lt.calibrate(model):
        model(x)
    y = model(x)
    y.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), y)
    again = network()
    lt.quantize_layers(again, weight=lt.LSQ(4, per_channel=True), input=lt.PACT(4))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), y)
    tied = nn.ModuleDict({"a": model[3], "b": nn.Linear(2, 2)})
    tied["c"] = tied["b"]
    assert lt.quantize_layers(tied, input=lt.TQT(8), layers=["b"]) == ["b"] and tied["c"] is tied["b"]
    hooked = nn.Sequential(nn.Linear(2, 2))
    lt.lower(hooked, ["linear"], "e4m3")
    with pytest.raises(ValueError, match="layer '0' has hooks"):
        lt.quantize_layers(hooked, input=lt.TQT(8))


def test_names_are_those_of_the_engine():
    """As `lowbit` names what quantizers learn in its own records."""
    layer = lt.Linear(2, 2, weight_quantizer=lt.TQT(8), input_quantizer=lt.PACT(8), bias_quantizer=lt.LSQ(8))
    assert list(layer.state_dict()) == [
        "weight",
        "bias",
        "quantizers.weight.TrainedThreshold.log2_threshold",
        "quantizers.weight.TrainedThreshold.signed",
        "quantizers.bias.Lsq.step",
        "quantizers.bias.Lsq.signed",
        "quantizers.input.Pact.clip",
    ]
    assert list(lt.Linear(2, 2, weight_quantizer=lt.DoReFaWeight(4), input_quantizer=lt.DoReFaActivation(4)).state_dict()) == ["weight", "bias"]


def test_compiled():
    model = network()
    lt.quantize_layers(model, weight=lt.TQT(4), input=lt.LSQ(4))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(compiled(x), model(x))
    compiled(x).sum().backward()
