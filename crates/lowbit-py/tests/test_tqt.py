"""The names of `tqt`: numbers, layers, thresholds, folding, analysis, and programs that import them."""

import copy
import importlib
import io
import math
import subprocess
import sys
import warnings

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (check.sh --torch installs it)")
from torch import nn as plain  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import lowbit  # noqa: E402
import lowbit.tqt as tqt  # noqa: E402
import lowbit.tqt.function as nn  # noqa: E402

LN2 = math.log(2.0)

SURFACE = {
    "tqt": "function threshold wrapper utils config fused_config fold analyse",
    "tqt.function": "Module ModuleList ModuleDict Sequential Parameter MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d"
    " ReLU ReLU6 BatchNorm2d Conv2d Conv2dBN Linear extra Adder2d SEConv2d qsigned qunsigned Dropout Identity Flatten init functional",
    "tqt.function.extra": "Adder2d adder2d_function SEConv2d",
    "tqt.function.number": "Ceil ceil RoundToEven round qSigned qsigned qUnsigned qunsigned number_to_tensor",
    "tqt.threshold": "threshold_weight_3sd threshold_bias_3sd threshold_activation_3sd entropy_calibration threshold_weight_max"
    " threshold_bias_max threshold_activation_max hook_handler remove_hook remove_hookout add_hook get_hook init_network qsigned",
    "tqt.threshold.init": "init_weight init_bias init_acti init_network qsigned qunsigned",
    "tqt.threshold.ignore": "threshold_weight_ig threshold_bias_ig threshold_activation_ig",
    "tqt.threshold.kl": "kl_divergence quantize_bins_and_expand entropy_calibration",
    "tqt.wrapper": "OFUNCTION QFUNCTION",
    "tqt.utils": "_getattr _isinstance make_net_quant_or_not make_bn_fold_with_previous make_bn_freeze",
    "tqt.config": "Config config_bn config_acti config_conv_linear config_network",
    "tqt.fused_config": "Fconfig list_to_fconfig get_all_layers layers_config",
    "tqt.fold": "Conv2dBNReLU Conv2dBN ShareQuant SA2dBN SA2dBNReLU fold_CBR fold_the_network make_the_shortcut_share isfoldmodule",
    "tqt.fold.fold_op": "fold_CBR fold_CB fold_SABR fold_SAB fold_the_network make_the_shortcut_share",
    "tqt.fold.foldmodule": "_FoldModule isfoldmodule",
    "tqt.analyse": "cosine_similarity kl_similarity",
}


@pytest.mark.parametrize("module", SURFACE)
def test_the_names_are_there(module):
    found = importlib.import_module(f"lowbit.{module}")
    assert [name for name in SURFACE[module].split() if not hasattr(found, name)] == []
    assert tqt.__version__ == "1.0.2"


def test_numbers_by_hand():
    """3 bits and a threshold of 2^ceil(0.3) = 2: steps of 1/2 with a sign, of 1/4 without."""
    x = torch.tensor([0.25, 0.26, 0.75, 1.8, 9.0, -0.3, -7.0])
    t = torch.tensor([0.3])
    assert nn.qsigned(x, t, 3).tolist() == [0.0, 0.5, 1.0, 1.5, 1.5, -0.5, -2.0]
    assert nn.qunsigned(x, t, 3).tolist() == [0.25, 0.25, 0.75, 1.75, 1.75, 0.0, 0.0]
    assert torch.equal(tqt.function.number.qSigned.apply(x, t, 3), nn.qsigned(x, 0.3, 3))
    # Of 32 bits float32 holds every number below the threshold; so does a bias of as many.
    assert torch.equal(nn.qsigned(x[:4], t, 32), x[:4])


def test_gradients_by_hand():
    """Within a threshold of 1 and 3 bits without a sign, steps are 1/8: 0.3 is 2.4 of them. The threshold gets s ln 2 times
    2 - 2.4, 7 above and 0 below."""
    x = torch.tensor([0.3, 2.0, -1.0], requires_grad=True)
    t = torch.zeros(1, requires_grad=True)
    (nn.qunsigned(x, t, 3) * torch.tensor([1.0, 2.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 0.0]
    assert t.grad.item() == pytest.approx(LN2 / 8 * (-0.4 + 2 * 7))
    y = torch.tensor([0.4], requires_grad=True)
    (tqt.function.number.round(y) * 3 + tqt.function.number.ceil(y) * 4).sum().backward()
    assert y.grad.tolist() == [7.0]


def lenet():
    """Two convolutions, one of them with a normalization, and a linear layer."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(4)
            self.relu1 = nn.ReLU()
            self.pool = nn.MaxPool2d(2)
            self.conv2 = nn.Conv2d(4, 6, 4)
            self.relu2 = nn.ReLU6()
            self.fc = nn.Linear(6, 3)

        def forward(self, x):
            x = self.pool(self.relu1(self.bn1(self.conv1(x))))
            return self.fc(self.relu2(self.conv2(x)).flatten(1))

    return Net()


KEYS = [
    "conv1.weight", "conv1.weight_log2_t",
    "bn1.weight", "bn1.bias", "bn1.weight_log2_t", "bn1.bias_log2_t", "bn1.running_mean", "bn1.running_var", "bn1.num_batches_tracked",
    "relu1.acti_log2_t",
    "conv2.weight", "conv2.bias", "conv2.weight_log2_t", "conv2.bias_log2_t",
    "relu2.acti_log2_t",
    "fc.weight", "fc.bias", "fc.weight_log2_t", "fc.bias_log2_t",
]  # fmt: skip


def test_a_network_from_float_to_quantized():
    net, x = lenet(), torch.rand(8, 1, 8, 8)
    assert sorted(net.state_dict()) == sorted(KEYS)
    assert all(value.shape == (1,) for key, value in net.state_dict().items() if "log2" in key)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    net.eval()
    float_result = net(x)
    handles = tqt.threshold.add_hook(net)
    net(x)
    tqt.utils.make_net_quant_or_not(net, quant=True)
    tqt.threshold.init_network(net, net, acti_method="max")
    tqt.threshold.remove_hook(handles)
    found = dict(tqt.threshold.get_hook(net, "net"))
    assert not any(result.requires_grad for result in found.values())
    assert net.relu1.acti_log2_t.item() == pytest.approx(math.log2(found["net.relu1"].max().item()), abs=1e-5)
    assert net.conv2.bias_log2_t.item() == pytest.approx(math.log2(net.conv2.bias.abs().max().item()), abs=1e-5)
    tqt.threshold.remove_hookout(net, "net")
    assert tqt.threshold.get_hook(net, "net") == []
    # The tensors that the optimizer has are those of the network.
    assert all(any(p is q for q in optimizer.param_groups[0]["params"]) for p in net.parameters())
    result = net(x)
    assert not torch.equal(result, float_result) and torch.allclose(result, float_result, atol=0.05)
    net.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.requires_grad for p in net.parameters())
    optimizer.step()
    tqt.utils.make_net_quant_or_not(net, "net", quant=False)
    assert not net.relu1.quant and not net.relu1.acti_log2_t.requires_grad
    tqt.utils.make_net_quant_or_not(net, "net", quant=True, exclude=[plain.ReLU])
    assert net.conv1.quant and net.relu2.quant and not net.relu1.quant


def test_layers_round_their_parameters():
    x = torch.randn(2, 3, 5, 5)
    conv = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", quant=True)
    twin = plain.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    with torch.no_grad():
        conv.weight_log2_t.fill_(-1.5)
        twin.weight.copy_(lowbit.quantize(conv.weight, "fixed(8,8)"))
        twin.bias.copy_(lowbit.quantize(conv.bias, "fixed(16,15)"))
    assert torch.equal(conv(x), twin(x))
    linear = nn.Linear(3, 2, bias=False, quant=True)
    assert torch.equal(linear(x[0, 0, :3, :3]), F.linear(x[0, 0, :3, :3], lowbit.quantize(linear.weight, "fixed(8,7)")))
    relu, relu6 = nn.ReLU(quant=True), nn.ReLU6(quant=True)
    with torch.no_grad():
        relu6.acti_log2_t.fill_(3.0)
    assert torch.equal(relu(x), lowbit.quantize(x.relu(), "ufixed(8,8)"))
    assert relu6(torch.tensor([7.0, 3.3])).tolist() == [6.0, 3.3125]


def test_static_and_switches():
    """Thresholds train only in a layer that quantizes and is not static."""
    for layer in [nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 1), nn.ReLU(), nn.ReLU6(), nn.BatchNorm2d(1, affine=False), nn.Adder2d(1, 1, 1)]:
        thresholds = [p for name, p in layer.named_parameters() if "log2" in name]
        layer.quantilize()
        assert layer.quant and all(t.requires_grad for t in thresholds)
        layer.floatilize()
        assert not layer.quant and not any(t.requires_grad for t in thresholds)
        layer.static()
        layer.quantilize()
        assert not layer.retrain and not any(t.requires_grad for t in thresholds)


def test_thresholds_that_do_not_train_are_saved():
    layer = nn.Linear(2, 2, retrain=False, quant=True)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    with torch.no_grad():
        layer.weight_log2_t.fill_(2.0)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    again = nn.Linear(2, 2, retrain=False)
    again.load_state_dict(torch.load(file))
    assert again.weight_log2_t.tolist() == [2.0] and again.to(torch.float64).weight_log2_t.dtype == torch.float64
    # State dicts of the package lack them.
    again.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    with pytest.raises(RuntimeError, match="weight_log2_t"):
        nn.Linear(2, 2).load_state_dict({"weight": layer.weight, "bias": layer.bias})


def test_integers_of_parameters():
    """Of 4 bits and a threshold of 2^1 steps are 1/4: 0.6 is 2, -5 the least, -8; of the bias 16 bits and 2^0."""
    layer = nn.Linear(2, 1, weight_bit_width=4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.6, -5.0]]))
        layer.bias.fill_(0.25)
        layer.weight_log2_t.fill_(0.7)
    layer.quant_answer()
    assert layer.weight.tolist() == [[2.0, -8.0]] and layer.bias.tolist() == [2.0**13]
    nn.Conv2d(1, 1, 1, bias=False).quant_answer()


def test_normalizations_are_those_of_torch():
    """In float, in training and evaluation, with another momentum and epsilon; quantized, with rounded scale and shift."""
    for options in [{}, {"eps": 0.1, "momentum": 0.3}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}]:
        ours, theirs = nn.BatchNorm2d(3, **options), plain.BatchNorm2d(3, **options)
        for _ in range(3):
            x = torch.randn(4, 3, 5, 5) * 2 + 1
            assert torch.allclose(ours(x), theirs(x), atol=1e-6)
        state = {key: value for key, value in ours.state_dict().items() if "log2" not in key}
        assert all(torch.allclose(value.float(), theirs.state_dict()[key].float()) for key, value in state.items())
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), atol=1e-6)
    ours = nn.BatchNorm2d(3, weight_bit_width=4, quant=True)
    theirs = plain.BatchNorm2d(3)
    with torch.no_grad():
        ours.weight.copy_(torch.tensor([0.3, -0.9, 0.55]))
        theirs.weight.copy_(torch.tensor([0.25, -0.875, 0.5]))
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    source = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        source.weight_log2_t.fill_(3.0)
    ours.fold(source)
    assert ours.weight_log2_t.tolist() == [3.0]


def adder_of_the_paper(x, w, stride, padding):
    """The negative distances of arXiv 1912.13200, equation 2, in float64, window by window."""
    x = F.pad(x.double(), (padding[1],) * 2 + (padding[0],) * 2)
    windows = x.unfold(2, w.shape[2], stride[0]).unfold(3, w.shape[3], stride[1])
    return windows, -(windows[:, None] - w.double()[None, :, :, None, None]).abs().sum((2, 5, 6))


@pytest.mark.parametrize("stride, padding, kernel", [(1, 0, 3), (2, 1, 3), ((1, 2), (0, 1), (2, 3))])
def test_adders_are_the_paper(stride, padding, kernel):
    x = torch.randn(2, 3, 7, 6, requires_grad=True)
    layer = nn.extra.Adder2d(3, 4, kernel, stride, padding)
    pair = lambda value: value if isinstance(value, tuple) else (value, value)
    y = layer(x)
    windows, expected = adder_of_the_paper(x.detach(), layer.weight.detach(), pair(stride), pair(padding))
    assert torch.allclose(y.double(), expected, atol=1e-4)
    g = torch.randn_like(y)
    y.backward(g)
    difference = windows[:, None] - layer.weight.detach().double()[None, :, :, None, None]
    full = (difference * g.double()[:, :, None, :, :, None, None]).sum((0, 3, 4))
    expected = full * (0.2 * math.sqrt(full.numel()) / full.norm())
    assert torch.allclose(layer.weight.grad.double(), expected, atol=1e-5)
    # Of the input, clip(W - X, -1, 1), put back where the windows came from.
    columns = (-difference.clamp(-1, 1) * g.double()[:, :, None, :, :, None, None]).sum(1)
    columns = columns.permute(0, 1, 4, 5, 2, 3).reshape(2, -1, columns.shape[2] * columns.shape[3])
    expected = F.fold(columns, (7, 6), pair(kernel), padding=pair(padding), stride=pair(stride))
    assert torch.allclose(x.grad.double(), expected, atol=1e-4)


def test_adders_with_quantized_weights():
    x = torch.randn(2, 3, 6, 6)
    layer = nn.Adder2d(3, 4, 3, 1, 1, bias=True, quant=True)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([1.0, 0.3, 0.0, -1.0]))
        layer.weight_log2_t.fill_(2.0)
    weight = lowbit.quantize(layer.weight, "fixed(8,5)")
    bias = lowbit.quantize(layer.bias, "fixed(16,15)").reshape(1, -1, 1, 1)
    assert torch.allclose(layer(x), nn.extra.adder2d_function(x, weight, 1, 1) + bias)
    assert not hasattr(nn.Adder2d(3, 4, 3), "bias_log2_t")
    with pytest.raises(TypeError, match="bias is 8, expected True or False"):
        nn.Adder2d(3, 4, 3, 1, 1, 8)


def test_shifts():
    """To the nearest power of two of the exponents, 0 below the threshold; the gradient passes."""
    layer = nn.SEConv2d(1, 6, 1, threshold=0.01, bias=True)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.3, -0.37, 1.0, -3.0, 0.009, 0.0]).reshape(6, 1, 1, 1))
    assert layer(torch.ones(1, 1, 1, 1)).flatten().tolist() == [0.25, -0.5, 1.0, -4.0, 0.0, 0.0]
    layer(torch.full((1, 1, 1, 1), 2.0)).sum().backward()
    assert layer.weight.grad.flatten().tolist() == [2.0] * 6
    assert nn.SEConv2d(4, 8, (3, 1), groups=2)(torch.rand(1, 4, 5, 5)).shape == (1, 8, 3, 5)
    with pytest.raises(ValueError, match="in_channels is 3, expected a multiple of groups, 2"):
        nn.SEConv2d(3, 4, 3, groups=2)


def test_starts_of_thresholds():
    module, qmodule = plain.Linear(2, 1), nn.Linear(2, 1, quant=True)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, -4.0]]))
        module.bias.fill_(0.5)
    init = tqt.threshold.init
    init.init_weight(module, qmodule)
    init.init_bias(module, qmodule)
    assert qmodule.weight_log2_t.tolist() == [2.0] and qmodule.bias_log2_t.tolist() == [-1.0]
    # The mean is -1.5, the deviation of 1 and -4 is 5 / sqrt(2); that of a single number 0.
    init.init_weight(module, qmodule, "3sd")
    init.init_bias(module, qmodule, "3sd")
    assert qmodule.weight_log2_t.item() == pytest.approx(math.log2(1.5 + 15 / math.sqrt(2))) and qmodule.bias_log2_t.tolist() == [-1.0]
    init.init_weight(module, qmodule, "ig")
    init.init_bias(module, qmodule, "ig")
    relu = nn.ReLU(quant=True)
    init.init_acti(plain.ReLU(), relu, "ig")
    assert [qmodule.weight_log2_t.item(), qmodule.bias_log2_t.item(), relu.acti_log2_t.item()] == [0.0, 8.0, 7.0]
    with pytest.raises(ValueError, match="method is 'sd', expected one of 'max', '3sd', 'ig'"):
        init.init_weight(module, qmodule, "sd")
    with pytest.raises(ValueError, match="ReLU has no hook_out, expected add_hook and a forward pass"):
        init.init_acti(plain.ReLU(), relu)
    with pytest.raises(ValueError, match="net.0 is not in the first network"):
        init.init_network(nn.Sequential(), nn.Sequential(nn.ReLU()))


def test_the_steps_of_the_readme():
    """A float network, the same with its import changed, thresholds pair by pair, and quantization after that."""

    class Flat(nn.Module):
        def __init__(self, nn):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.relu, self.fc = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2, 2)
            self.proc = ["conv", "relu", "fc"]

        def forward(self, x):
            return self.fc(self.relu(self.conv(x)).flatten(1))

    net, qnet = Flat(plain), Flat(nn)
    plain.init.constant_(net.conv.bias, 0.5)
    for add_hook in (lambda: tqt.threshold.add_hook(net, "oNet", tqt.threshold.hook_handler), lambda: tqt.threshold.add_hook_general(net, tqt.threshold.hook_handler)):
        handles = add_hook()
        net(torch.rand(8, 1, 3, 3))
        assert [name for name, _ in tqt.threshold.get_hook(net, "net")] == ["net.conv", "net.relu", "net.fc"]
        tqt.threshold.remove_hook(handles)
    qnet.load_state_dict(net.state_dict(), strict=False)
    for name in net.proc:
        tqt.threshold.init.init_network(getattr(net, name), getattr(qnet, name), show=True)
    assert qnet.conv.weight_log2_t.item() == pytest.approx(math.log2(net.conv.weight.abs().max().item()), abs=1e-5)
    largest = net.relu.hook_out.max().item()
    assert 0.0 < 2.0 ** qnet.relu.acti_log2_t.item() <= largest * 1.001
    for start in (tqt.threshold.init_max, tqt.threshold.init_3sd, tqt.threshold.init_kl_j):
        start(net, qnet)
        assert qnet.relu.acti_log2_t.isfinite().all()
    tqt.threshold.init_max(net, qnet)
    assert qnet.relu.acti_log2_t.item() == pytest.approx(math.log2(largest), abs=1e-5)
    tqt.utils.make_net_quant_or_not(qnet, "net", quant=True, exclude=[plain.BatchNorm2d])
    x = torch.rand(4, 1, 3, 3)
    assert torch.allclose(qnet(x), net(x), atol=0.05) and not torch.equal(qnet(x), net(x))


def test_the_threshold_of_least_divergence():
    kl = tqt.threshold.kl
    # 10 bins into 3 of 3, 3 and 4: sums 6, 0 and 8 over the 2, 0 and 4 bins that are not empty.
    dist = torch.tensor([2.0, 0.0, 4.0, 0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 3.0])
    assert kl.quantize_bins_and_expand(dist, 3).tolist() == [3.0, 0.0, 3.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0]
    a, b = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    assert kl.kl_divergence(a, b).item() == pytest.approx(0.5 * LN2)
    # The other way 1/4 ln(1/2) and 1/4 ln((1/4) / 1e-12) more.
    assert kl.j_divergence(a, b).item() == pytest.approx(0.25 * LN2 + 0.25 * math.log(0.25e12), rel=1e-5)
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    relu, qrelu = plain.ReLU(), nn.ReLU(quant=True)
    relu.hook_out = torch.cat([x, torch.tensor([40.0])])
    kl.entropy_calibration(relu, qrelu)
    # One number far out is clipped, most others are not.
    assert 2.5 < 2.0 ** qrelu.acti_log2_t.item() < 6.0
    # Zeros, of which a rectifier makes many, say nothing about a threshold.
    before = qrelu.acti_log2_t.item()
    relu.hook_out = torch.cat([relu.hook_out, torch.zeros(1_000_000)])
    kl.entropy_calibration(relu, qrelu)
    assert qrelu.acti_log2_t.item() == before
    relu.hook_out = torch.zeros(10)
    kl.entropy_calibration(relu, qrelu)
    assert qrelu.acti_log2_t.item() == pytest.approx(math.log2(1e-12), rel=1e-4)
    with pytest.raises(ValueError, match="cali_number is 4096, expected 1 to bin_number, 2048"):
        kl.entropy_calibration(relu, qrelu, cali_number=4096)


def test_widths():
    net = lenet()
    config = tqt.config.Config(conv_and_linear_weight=4, conv_and_linear_bias=12, bn_weight=6, bn_bias=10, acti=5)
    tqt.config.config_network(net, "net", config)
    assert (net.conv2.weight_bit_width, net.fc.bias_bit_width, net.bn1.weight_bit_width, net.bn1.bias_bit_width) == (4, 12, 6, 10)
    assert (net.relu1.acti_bit_width, net.relu2.acti_bit_width) == (5, 5)
    assert tuple(tqt.config.Config()) == (8, 8, 8, 8, 8)
    layers = tqt.fused_config.get_all_layers(net)
    assert len(layers) == 7 and tqt.fused_config.get_all_layers(net) == layers
    triples = tqt.fused_config.list_to_fconfig([[], [3, 4, 5], *[[]] * 5], default=[8, 16, 8])
    assert triples[:2] == [(8, 16, 8), (3, 4, 5)]
    tqt.fused_config.layers_config(net, triples)
    assert (net.conv1.bias_bit_width, net.bn1.weight_bit_width, net.relu1.acti_bit_width) == (16, 3, 8)
    with pytest.raises(ValueError, match="lst has 1 entries, expected one for each of the 7 layers"):
        tqt.fused_config.layers_config(net, triples[:1])
    with pytest.raises(ValueError, match=r"an entry is \[1\]"):
        tqt.fused_config.list_to_fconfig([[1]])


def test_wrapped_layers():
    for name, kind in [("Conv2d", plain.Conv2d), ("Linear", plain.Linear), ("ReLU", plain.ReLU), ("MaxPool2d", plain.MaxPool2d)]:
        arguments = {"Conv2d": (1, 6, 5, 1, 2), "Linear": (3, 2), "ReLU": (), "MaxPool2d": ((2, 2),)}[name]
        quantized = tqt.wrapper.QFUNCTION[name](*arguments, quant=True)
        in_float = tqt.wrapper.OFUNCTION[name](*arguments, quant=True)
        assert type(in_float) is kind and isinstance(quantized, kind)
        assert name == "MaxPool2d" or quantized.quant
    assert isinstance(tqt.wrapper.OFUNCTION["Adder2d"](1, 2, 3, bias=False, weight_bit_width=4), nn.extra.Adder2d)
    assert tqt.wrapper.QFUNCTION["BatchNorm2d"](3, 1e-3, quant=True).eps == 1e-3
    assert tqt.wrapper.OFUNCTION["ReLU"](True, 8, True).inplace
    assert tqt.utils._getattr(lenet(), "conv1.weight").shape == (4, 1, 3, 3)
    assert tqt.utils._getattr(nn.Sequential(nn.ReLU()), "0").acti_bit_width == 8


def warmed(net, *shape):
    """A network whose running statistics and affine parameters are no neutral ones, in evaluation."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, plain.BatchNorm2d):
            plain.init.uniform_(module.weight, 0.5, 1.5)
            plain.init.normal_(module.bias)
    for _ in range(3):
        net(torch.randn(*shape) * 1.5 + 0.3)
    return net.eval()


def test_folding_keeps_the_network():
    net = warmed(lenet(), 4, 1, 8, 8)
    x = torch.randn(2, 1, 8, 8)
    before = net(x)
    tqt.fold.fold_the_network(net)
    assert isinstance(net.conv1, tqt.fold.Conv2dBNReLU) and isinstance(net.bn1, plain.Identity) and isinstance(net.relu1, plain.Identity)
    assert torch.allclose(net(x), before, atol=1e-5) and isinstance(net.conv2, plain.Conv2d) and isinstance(net.relu2, nn.ReLU6)
    keys = [key for key in net.state_dict() if key.startswith("conv1.")]
    assert {"conv1.conv.weight", "conv1.bn.weight", "conv1.weight_log2_t", "conv1.bias_log2_t", "conv1.acti_log2_t"} < set(keys)
    assert net.conv1.weight_log2_t.dim() == 0 and net.conv1.acti_log2_t.shape == (1,)
    tqt.utils.make_net_quant_or_not(net, quant=True)
    folded = net.conv1
    weight = lowbit.quantize(folded.weight.detach(), f"fixed(8,{7 - math.ceil(folded.weight_log2_t.item())})")
    bias = lowbit.quantize(folded.bias.detach(), f"fixed(16,{15 - math.ceil(folded.bias_log2_t.item())})")
    expected = lowbit.quantize(F.conv2d(x, weight, bias, padding=1).relu(), "ufixed(8,8)")
    assert torch.equal(folded(x), expected)
    assert len(tqt.fused_config.get_all_layers(net)) == 5
    tqt.threshold.init_network(net, net, acti_method="ig")
    assert folded.weight_log2_t.item() == pytest.approx(math.log2(folded.weight.abs().max().item()), abs=1e-5)
    with pytest.raises(TypeError, match="expected quant_answer before folding"):
        folded.quant_answer()


def test_folded_statistics_in_training():
    """In float a folded pair trains as the pair; quantized it takes the batch's statistics, and frozen the running ones.
    Scale and shift train in all cases."""
    conv, bn = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3)
    twin = plain.Sequential(copy.deepcopy(conv), copy.deepcopy(bn))
    pair = tqt.fold.Conv2dBN(conv, bn)
    x = torch.randn(4, 2, 6, 6)
    assert torch.allclose(pair(x), twin(x), atol=1e-5)
    assert torch.allclose(pair.bn.running_var, twin[1].running_var) and torch.allclose(pair.bn.running_mean, twin[1].running_mean)
    # With many bits the quantized pair is the float one.
    pair.weight_bit_width = pair.bias_bit_width = 24
    with torch.no_grad():
        pair.weight_log2_t.fill_(3.0)
        pair.bias_log2_t.fill_(3.0)
    pair.quantilize()
    assert torch.allclose(pair(x), twin(x), atol=1e-4)
    pair(x).sum().backward()
    assert all(p.grad is not None for p in (pair.conv.weight, pair.bn.weight, pair.bn.bias, pair.weight_log2_t, pair.bias_log2_t))
    tqt.utils.make_bn_freeze(pair)
    mean = pair.bn.running_mean.clone()
    frozen = pair(x)
    assert torch.equal(pair.bn.running_mean, mean)
    pair.bn.weight.grad = None
    frozen.sum().backward()
    assert pair.bn.weight.grad is not None and torch.equal(frozen, pair.eval()(x))
    tqt.utils.make_bn_freeze(pair, "net", mode=False)
    assert not pair.bn_freezing


class Residual(nn.Module):
    """One rectifier in two places, and a normalization whose neighbour by definition is no convolution of its own."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.relu = nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)

    def forward(self, x):
        y = self.relu(self.bn2(self.conv1(x)))
        return self.relu(self.bn1(self.conv2(y)) + x)


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()
        self.block = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))

    def forward(self, x):
        if x.sum() > 0:
            x = -x
        return self.block(self.relu(self.bn(self.conv(x))))


def test_folding_goes_by_the_flow_of_data():
    net = warmed(Residual(), 4, 2, 5, 5)
    x = torch.randn(2, 2, 5, 5)
    before = net(x)
    norms = net.bn1, net.bn2
    tqt.fold.fold_the_network(net)
    assert type(net.conv1) is tqt.fold.Conv2dBN and net.conv1.bn is norms[1] and net.conv2.bn is norms[0] and isinstance(net.relu, nn.ReLU)
    assert torch.allclose(net(x), before, atol=1e-5)
    net = warmed(Untraceable(), 4, 1, 5, 5)
    before = net(x[:, :1])
    with pytest.warns(UserWarning, match="Untraceable cannot be traced"):
        tqt.fold.fold_the_network(net)
    assert isinstance(net.conv, tqt.fold.Conv2dBNReLU) and isinstance(net.block[0], tqt.fold.Conv2dBN)
    assert torch.allclose(net(x[:, :1]), before, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tqt.fold.fold_the_network(nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))]))
    with pytest.raises(ValueError, match="fold_type is 'all', expected 'conv' or 'add'"):
        tqt.fold.fold_the_network(net, "all")
    with pytest.raises(TypeError, match="the modules are Linear and BatchNorm2d"):
        tqt.fold.Conv2dBN(nn.Linear(1, 1), nn.BatchNorm2d(1))


def test_folding_shift_adders():
    """y = gamma / sigma (adder(shift(x)) - mean) + beta, with the deviation once."""
    net = nn.Sequential(nn.Sequential(nn.SEConv2d(2, 3, 3), nn.Adder2d(3, 4, 3)), nn.BatchNorm2d(4), nn.ReLU())
    net = warmed(net, 4, 2, 8, 8)
    x = torch.randn(2, 2, 8, 8)
    before = net(x)
    tqt.fold.fold_the_network(net, "add")
    folded = net[0]
    assert isinstance(folded, tqt.fold.SA2dBNReLU) and isinstance(net[1], plain.Identity)
    assert torch.allclose(net(x), before, atol=1e-4)
    keys = set(folded.state_dict())
    assert {"shift.weight", "adder.weight", "bn.weight", "bn_weight_log2_t", "bn_bias_log2_t", "acti_log2_t"} < keys
    assert "adder_weight_log2_t" not in keys
    net.train()
    assert folded.train()(x).shape == before.shape
    net.eval()
    folded.quantilize()
    folded.weight_bit_width = folded.bias_bit_width = 24
    with torch.no_grad():
        folded.adder_weight_log2_t.fill_(4.0)
        folded.acti_log2_t.fill_(5.0)
    folded.acti_bit_width = 24
    assert torch.allclose(folded(x), net(x), atol=1e-4) and folded.adder.quant
    folded.static()
    assert folded.adder_weight_log2_t is folded.adder.weight_log2_t and not folded.adder_weight_log2_t.requires_grad
    pair = tqt.fold.SA2dBN(nn.Sequential(nn.SEConv2d(1, 1, 1), nn.Adder2d(1, 1, 1)), nn.BatchNorm2d(1))
    pair(torch.rand(2, 1, 3, 3)).sum().backward()
    assert pair.shift.weight.grad is not None and pair.bn.weight.grad is not None


def test_shared_thresholds():
    a, b = tqt.fold.ShareQuant(), tqt.fold.ShareQuant(quant=True)
    with torch.no_grad():
        a.acti_log2_t.fill_(2.0)
        b.acti_log2_t.fill_(-1.0)
    a.share(b)
    assert a.acti_log2_t is b.acti_log2_t and b.acti_log2_t.tolist() == [2.0]
    assert torch.equal(b(torch.tensor([5.0, -5.0, 0.02])), torch.tensor([127 / 32, -4.0, 1 / 32]))
    assert a(torch.tensor([0.3])).tolist() == pytest.approx([0.3])
    calls = []

    class Block(nn.Module):
        def share_path(self, show=False):
            calls.append(show)

    tqt.fold.make_the_shortcut_share(nn.Sequential(Block(), nn.Sequential(Block())), show=True)
    assert calls == [True, True]
    with pytest.raises(TypeError, match="the other module is Identity"):
        a.share(plain.Identity())


def test_a_convolution_with_its_normalization():
    layer = nn.Conv2dBN(1, 2, 3, padding=1)
    assert {"weight", "bias", "weight_log2_t", "bias_log2_t", "bn.weight", "bn.running_var"} < set(layer.state_dict())
    x = torch.randn(3, 1, 5, 5)
    warmed(layer, 4, 1, 5, 5)
    twin = plain.Conv2d(1, 2, 3, padding=1)
    twin.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    assert torch.allclose(layer(x), layer.bn(twin(x)))
    layer.weight_bit_width = layer.bias_bit_width = 24
    with torch.no_grad():
        layer.weight_log2_t.fill_(3.0)
        layer.bias_log2_t.fill_(3.0)
    layer.quantilize()
    unfolded = layer(x)
    layer.make_fold()
    assert torch.allclose(layer(x), unfolded, atol=1e-4) and nn.Conv2dBN(1, 1, 1, bias=False, quant=True, fold=True)(x).shape == (3, 1, 5, 5)


def test_comparing_networks():
    net = lenet().eval()
    qnet = copy.deepcopy(net)
    tqt.utils.make_net_quant_or_not(qnet)
    x = torch.rand(4, 1, 8, 8)
    handles = tqt.threshold.add_hook(qnet)
    qnet(x)
    tqt.threshold.init_network(qnet, qnet, acti_method="max")
    tqt.threshold.remove_hook(handles)
    tqt.threshold.remove_hookout(qnet)
    cosines = dict(tqt.analyse.cosine_similarity(net, qnet))
    assert set(cosines) == {key for key in KEYS if key.endswith(("weight", "bias"))} and cosines["conv2.weight"] > 0.999
    w = net.conv2.weight.detach().double().flatten()
    q = nn.qsigned(qnet.conv2.weight, qnet.conv2.weight_log2_t, 2).detach().double().flatten()
    rough = dict(tqt.analyse.cosine_similarity(net, qnet, wba=[2, 4, 8]))
    assert rough["conv2.weight"] == pytest.approx((w @ q / w.norm() / q.norm()).item()) and rough["conv2.bias"] < cosines["conv2.bias"]
    same = tqt.analyse.kl_similarity(net, net, x, show=False)
    assert len(same) == 6 and all(divergence == pytest.approx(0.0, abs=1e-5) for _, divergence in same)
    apart = dict(tqt.analyse.kl_similarity(net, qnet, x, show=False))
    assert all(math.isfinite(divergence) and divergence >= -1e-5 for divergence in apart.values()) and apart["fc"] > 0.1
    assert tqt.threshold.get_hook(qnet) == [] and not net.conv1._forward_hooks


SCRIPT = """
import sys, torch
import tqt
import tqt.function as nn
from tqt.function import Adder2d
from tqt.threshold.init import *
from tqt.function.number import qsigned
from tqt.__version__ import __version__
import wageubn, wageubn.function, wageubn.config
net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Dropout(0.1))
tqt.utils.make_net_quant_or_not(net, quant=True)
init_network(net, net, 'net', acti_method='ig')
torch.save(net, sys.argv[1])
print(tqt.__name__, __version__, net(torch.rand(1, 1, 5, 5)).shape, type(torch.load(sys.argv[1], weights_only=False)[0]).__module__, wageubn.__name__)
"""


def run(*arguments):
    done = subprocess.run([sys.executable, "-m", "lowbit.compat", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_programs_run_unchanged(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert run(script, tmp_path / "net.pt") == "lowbit.tqt 1.0.2 torch.Size([1, 2, 3, 3]) lowbit.tqt.function.conv lowbit.wageubn"


@pytest.mark.parametrize("module, shape", [("tqt.function.adder", [10, 4, 8, 8]), ("wageubn.function.batchnorm", [3, 3, 5, 5])])
def test_modules_run_as_programs(module, shape):
    assert run("-m", module) == f"torch.Size({shape})"


@pytest.mark.parametrize("arguments, message", [(["nosuch.py"], "there is no nosuch.py, expected a script"), (["-m", "tqt.nosuch"], "there is no module tqt.nosuch")])
def test_programs_that_are_not_there(arguments, message):
    done = subprocess.run([sys.executable, "-m", "lowbit.compat", *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "kind, message, call",
    [
        (TypeError, "x is of torch.int64, expected a tensor of floating-point numbers", lambda: nn.qsigned(torch.arange(3), 0.0, 8)),
        (TypeError, "x is of list, expected a tensor", lambda: nn.qsigned([1.0], 0.0, 8)),
        (ValueError, "bits is 33, expected 1 to 32", lambda: nn.qsigned(torch.zeros(1), 0.0, 33)),
        (ValueError, "log2_t has 2 numbers, expected 1 or one per index", lambda: nn.qsigned(torch.zeros(3), torch.zeros(2), 8)),
        (TypeError, r"name is Config\(.*, expected a text such as 'net'", lambda: tqt.config.config_network(lenet(), tqt.config.Config())),
        (TypeError, "name is True, expected a text", lambda: tqt.utils.make_net_quant_or_not(lenet(), True)),
        (AttributeError, "has no attribute 'Convolution', nor has torch.nn", lambda: nn.Convolution),
    ],
)
def test_refused(kind, message, call):
    with pytest.raises(kind, match=message):
        call()


def test_packages_to_be_chosen(monkeypatch):
    import lowbit.compat as compat

    for name in [name for name in sys.modules if name.partition(".")[0] in ("tqt", "qtorch", "qtorch_plus", "wageubn")]:
        monkeypatch.delitem(sys.modules, name)
    original = type(sys)("tqt")
    monkeypatch.setitem(sys.modules, "tqt", original)
    before = set(sys.modules)
    with pytest.raises(RuntimeError, match="tqt itself has been imported"):
        compat.install()
    assert "qtorch" not in sys.modules
    compat.install(packages=["wageubn"])
    assert sys.modules["wageubn.function"] is importlib.import_module("lowbit.wageubn.function") and sys.modules["tqt"] is original
    with pytest.raises(ValueError, match="package 'brevitas' is not known, expected 'qtorch'"):
        compat.install(packages=["brevitas"])
    for name in set(sys.modules) - before:
        if name.startswith("wageubn"):
            monkeypatch.delitem(sys.modules, name)
