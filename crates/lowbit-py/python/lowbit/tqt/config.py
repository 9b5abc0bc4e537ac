"""Widths by the kind of layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from .function.extra import Adder2d
from .utils import walk

Classes = Iterable[type[nn.Module]]

BN_LIST = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ACTI_LIST = (nn.ReLU, nn.ReLU6)
CONV_LINEAR_LIST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, Adder2d)


class Config(NamedTuple):
    """Widths in bits. Biases of convolutions have 8 here, where the layers' own default is 16, as in `tqt`."""

    conv_and_linear_weight: int = 8
    conv_and_linear_bias: int = 8
    bn_weight: int = 8
    bn_bias: int = 8
    acti: int = 8


def config_bn(proc: nn.Module, config: Config, bn_list: Classes) -> bool:
    """Sets the widths of a normalization; whether the module is one."""
    if not isinstance(proc, tuple(bn_list)):
        return False
    proc.weight_bit_width, proc.bias_bit_width = config.bn_weight, config.bn_bias  # pyright: ignore
    return True


def config_acti(proc: nn.Module, config: Config, acti_list: Classes) -> bool:
    """Sets the width of an activation; whether the module is one."""
    if not isinstance(proc, tuple(acti_list)):
        return False
    proc.acti_bit_width = config.acti  # pyright: ignore
    return True


def config_conv_linear(proc: nn.Module, config: Config, conv_linear_list: Classes) -> bool:
    """Sets the widths of a layer with a weight; whether the module is one."""
    if not isinstance(proc, tuple(conv_linear_list)):
        return False
    proc.weight_bit_width = config.conv_and_linear_weight  # pyright: ignore
    proc.bias_bit_width = config.conv_and_linear_bias  # pyright: ignore
    return True


def config_network(
    net: nn.Module,
    name: str = "net",
    config: Config = Config(),
    bn_list: Classes = BN_LIST,
    acti_list: Classes = ACTI_LIST,
    conv_linear_list: Classes = CONV_LINEAR_LIST,
    show: bool = False,
) -> None:
    """Sets the widths of a module and of all inside."""
    bn_list, acti_list, conv_linear_list = tuple(bn_list), tuple(acti_list), tuple(conv_linear_list)
    for path, module in walk(net, name):
        kinds = {
            "acti": config_acti(module, config, acti_list),
            "conv/linear": config_conv_linear(module, config, conv_linear_list),
            "bn": config_bn(module, config, bn_list),
        }
        for kind, is_one in kinds.items():
            if show and is_one:
                print(path, f"{kind} is configured")
