"""The names of `wageubn`: the quantizers by hand, layers and widths."""

import inspect

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
from torch import nn as plain  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import lowbit  # noqa: E402
import lowbit.wageubn as wageubn  # noqa: E402
import lowbit.wageubn.function as nn  # noqa: E402
from lowbit.wageubn.config import Config, config_network  # noqa: E402

MANY = 1 << 16


def test_direct_quantizers_by_hand():
    """Of 4 bits steps are 1/8, ties even; words end at +-7/8 times the point's place."""
    x = torch.tensor([0.0625, 0.1875, -0.3, 5.0, -5.0])
    assert nn.directquant(x, 4).tolist() == [0.0, 0.25, -0.25, 5.0, -5.0]
    assert nn.alldirectquant(x, 4, 4).tolist() == [0.0, 0.25, -0.25, 0.875, -0.875]
    assert nn.alldirectquant(x, 4, 6).tolist() == [0.0, 0.25, -0.25, 3.875, -3.875]
    assert nn.weightquant(x, 4).tolist() == [0.0, 0.25, -0.25, 0.875, -0.875]
    y = torch.randn(1000)
    assert torch.equal(nn.directquant(y, 8), lowbit.quantize(y, "fixed(24,7,unbounded)"))
    assert torch.equal(nn.alldirectquant(y, 8, 6), lowbit.quantize(y, "fixed(6,7,symmetric)"))


def test_shift_and_flag_by_hand():
    """The largest magnitude is 3, log2 3 = 1.58, so that R = 4. Shift: of 3 bits 4 times steps of 1/4, up to 3/4. Flag:
    Sc = 4 / 4 = 1; from 1 on in whole Sc up to 3, below in steps of Sc / 4."""
    x = torch.tensor([3.0, -1.4, 0.6, 0.3, -0.1])
    assert nn.shiftquant(x, 3).tolist() == [3.0, -1.0, 1.0, 0.0, 0.0]
    assert nn.errquant(x, 3).tolist() == [3.0, -1.0, 0.5, 0.25, 0.0]
    # The scale is in both branches: a quarter of everything is a quarter of the result.
    assert torch.equal(nn.errquant(x / 4, 3), nn.errquant(x, 3) / 4)
    zeros = torch.zeros(3)
    for function in (nn.shiftquant, nn.errquant, nn.errorquant):
        assert torch.equal(function(zeros, 8), zeros) and function(torch.zeros(0), 8).numel() == 0
    assert torch.equal(nn.constquant(zeros, 8, 8), zeros)


def test_stochastic_rounding_is_unbiased():
    torch.manual_seed(1)
    x = torch.full((MANY,), 2.3)
    first = nn.sround(x)
    assert first.unique().tolist() == [2.0, 3.0]
    # A deviation of at most 1/2 gives the mean of 2^16 a standard error of 0.002.
    assert abs(first.mean().item() - 2.3) < 0.01
    torch.manual_seed(1)
    assert torch.equal(nn.sround(x), first) and not torch.equal(nn.sround(x), first)
    whole = torch.tensor([-3.0, 0.0, 8388609.0])
    assert torch.equal(nn.sround(whole), whole)
    # R = 1, dr = 2^2: 0.3 is 1.2 of its quarters, of which 15 bits make sevenths of 2^14.
    y = torch.full((MANY,), 0.3)
    y[0] = 1.0
    constant = nn.constquant(y, 3, 15) * 2**14
    assert constant.unique().tolist() == [1.0, 2.0, 3.0] and abs(constant[1:].mean().item() - 1.2) < 0.01


def test_gradients():
    x = torch.tensor([0.3, -5.0, 1.0], requires_grad=True)
    incoming = torch.tensor([0.3, 0.1, -0.9])
    functions = [nn.sround, lambda x: nn.directquant(x, 4), lambda x: nn.alldirectquant(x, 4, 4), lambda x: nn.shiftquant(x, 4), lambda x: nn.weightquant(x, 4), lambda x: nn.errquant(x, 4), lambda x: nn.constquant(x, 4, 8)]
    for function in functions:
        x.grad = None
        function(x).backward(incoming)
        assert torch.equal(x.grad, incoming)
    x.grad = None
    y = nn.gbnquant(x, 3)
    y.backward(incoming)
    assert torch.equal(y, x) and x.grad.tolist() == [0.25, 0.0, -1.0]
    for function in (nn.gwquant, nn.gradquant):
        x.grad = None
        # R is 2^round(log2 0.9) = 1, quarters over 2^14, up to 3.
        function(x, 15, 3).backward(incoming)
        assert (x.grad * 2**14).abs().max() <= 3 and torch.equal((x.grad * 2**14).round(), x.grad * 2**14)
    with pytest.raises(ValueError, match="k is 0, expected 1 to 32"):
        nn.directquant(x, 0)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.Linear, nn.Adder2d])
def test_default_widths(layer):
    defaults = {name: p.default for name, p in inspect.signature(layer).parameters.items() if "bit_width" in name}
    widths = {"weight": 8, "bias": 16, "input": 8, "output": 12}
    assert defaults == {f"{tensor}_{kind}_bit_width": bits for kind in ("dec", "all") for tensor, bits in widths.items()}
    assert inspect.signature(layer).parameters["iostrict"].default is False


def test_layers_round_words():
    x = torch.randn(2, 3, 5, 5) * 2
    conv = nn.Conv2d(3, 4, 3)
    weight, bias = nn.directquant(conv.weight, 8), nn.directquant(conv.bias, 16)
    assert torch.equal(conv(x), F.conv2d(x, weight, bias)) and list(conv.state_dict()) == ["weight", "bias"]
    # Strictness can be set later, and chooses the function then.
    conv.iostrict = True
    expected = F.conv2d(nn.alldirectquant(x, 8, 8), nn.alldirectquant(conv.weight, 8, 8), nn.alldirectquant(conv.bias, 16, 16))
    assert conv.quant is nn.alldirectquant and torch.equal(conv(x), nn.alldirectquant(expected, 12, 12))
    linear = nn.Linear(3, 2, bias=False, weight_dec_bit_width=4)
    assert torch.equal(linear(x[0, 0, :, :3]), F.linear(x[0, 0, :, :3], nn.directquant(linear.weight, 4)))
    for kind, function in [(nn.ReLU, F.relu), (nn.ReLU6, F.relu6)]:
        assert torch.equal(kind()(x), nn.directquant(function(x), 8)) and isinstance(kind(), getattr(plain, kind.__name__))
        assert torch.equal(kind(iostrict=True)(x), nn.alldirectquant(function(nn.alldirectquant(x, 8, 8)), 8, 8))
    adder = nn.Adder2d(3, 4, 3, bias=True)
    expected = nn.extra.adder2d_function(x, nn.directquant(adder.weight, 8), nn.directquant(adder.bias, 16))
    assert torch.equal(adder(x), expected)
    adder(x).sum().backward()
    assert adder.weight.grad is not None and adder.bias.grad is not None


def test_normalization_by_hand():
    """Mean 2 and variance 0.3: the deviation 0.5477 is 70.1 of 128 steps, 70 / 128; scale 0.7 is 90 steps, shift -0.3 is
    -38."""
    layer = nn.BatchNorm2d(1, eps=2.0**-15).eval()
    with torch.no_grad():
        layer.running_mean.fill_(2.0)
        layer.running_var.fill_(0.3)
        layer.weight.fill_(0.7)
        layer.bias.fill_(-0.3)
    x = torch.tensor([2.0, 3.0]).reshape(1, 1, 1, 2)
    expected = torch.tensor([0.0, 1.0]) / (70 / 128 + 2.0**-15) * (90 / 128) - 38 / 128
    assert torch.equal(layer(x).flatten(), (expected * 128).round() / 128)
    # In training the statistics are the batch's and the running ones move; a variance of zero stays finite.
    layer.train()
    y = layer(torch.full((2, 1, 3, 3), 5.0))
    y.sum().backward()
    assert y.isfinite().all() and layer.running_mean.item() == pytest.approx(2.3) and layer.weight.grad.isfinite().all()
    wide = {f"{name}_dec_bit_width": 20 for name in ("weight", "bias", "mean", "var", "output", "input")}
    x = torch.randn(4, 3, 6, 6)
    for affine in (True, False):
        ours, theirs = nn.BatchNorm2d(3, affine=affine, **wide), plain.BatchNorm2d(3, affine=affine)
        assert torch.allclose(ours(x), theirs(x), atol=1e-3)
        assert torch.allclose(ours.running_var, theirs.running_var) and torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-3)


def test_widths_of_a_network():
    assert len(Config()) == 25 and Config().iostrict is False and Config().conv_and_linear_out_all == 12
    config = Config(iostrict=True, conv_and_linear_weight=6, bn_mean=16, acti=5, acti_all=7)
    assert (config.conv_and_linear_weight_all, config.bn_mean_all, config.acti_all, config.bn_in) == (6, 16, 7, 12)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU(), nn.Adder2d(2, 2, 1)), nn.Flatten(), nn.Linear(2, 2))
    config_network(net, "net", config)
    assert (net[0].weight_dec_bit_width, net[0].output_all_bit_width, net[1].mean_all_bit_width, net[1].input_dec_bit_width) == (6, 12, 16, 12)
    assert (net[2][0].acti_dec_bit_width, net[2][0].acti_all_bit_width, net[2][1].weight_all_bit_width, net[4].iostrict) == (5, 7, 6, True)
    assert net(torch.rand(2, 1, 3, 3)).shape == (2, 2)
    assert wageubn.config.network_config is config_network
    with pytest.raises(AttributeError, match="has no attribute 'Convolution'"):
        nn.Convolution  # noqa: B018
