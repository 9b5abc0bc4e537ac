"""Widths by the kind of layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import nn

from ..tqt.utils import walk
from .function import Adder2d

Classes = Iterable[type[nn.Module]]

BN_LIST = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
ACTI_LIST = (nn.ReLU, nn.ReLU6)
CONV_LINEAR_LIST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, Adder2d)


class _Fields(NamedTuple):
    iostrict: bool = False
    conv_and_linear_weight: int = 8
    conv_and_linear_bias: int = 8
    conv_and_linear_in: int = 8
    conv_and_linear_out: int = 12
    bn_weight: int = 8
    bn_bias: int = 8
    bn_mean: int = 8
    bn_var: int = 8
    bn_in: int = 12
    bn_out: int = 8
    acti_in: int = 8
    acti: int = 8
    conv_and_linear_weight_all: int | None = None
    conv_and_linear_bias_all: int | None = None
    conv_and_linear_in_all: int | None = None
    conv_and_linear_out_all: int | None = None
    bn_weight_all: int | None = None
    bn_bias_all: int | None = None
    bn_mean_all: int | None = None
    bn_var_all: int | None = None
    bn_in_all: int | None = None
    bn_out_all: int | None = None
    acti_in_all: int | None = None
    acti_all: int | None = None


class Config(_Fields):
    """Widths in bits: of the sign and the bits behind the point, and with `_all` of whole words, which are as wide
    unless given."""

    def __new__(cls, *widths: Any, **named: Any) -> Config:
        fields = _Fields(*widths, **named)._asdict()
        for name, value in fields.items():
            if value is None:
                fields[name] = fields[name.removesuffix("_all")]
        return super().__new__(cls, **fields)


def _set(proc: nn.Module, config: Config, classes: Classes, widths: dict[str, str]) -> bool:
    if not isinstance(proc, tuple(classes)):
        return False
    for name, field in widths.items():
        setattr(proc, f"{name}_dec_bit_width", getattr(config, field))
        setattr(proc, f"{name}_all_bit_width", getattr(config, f"{field}_all"))
    return True


def config_bn(proc: nn.Module, config: Config, bn_list: Classes) -> bool:
    """Sets the widths of a normalization; whether the module is one."""
    names = {"weight": "weight", "bias": "bias", "mean": "mean", "var": "var", "output": "out", "input": "in"}
    return _set(proc, config, bn_list, {name: f"bn_{field}" for name, field in names.items()})


def config_acti(proc: nn.Module, config: Config, acti_list: Classes) -> bool:
    """Sets the widths of an activation; whether the module is one."""
    return _set(proc, config, acti_list, {"acti": "acti", "input": "acti_in"})


def config_conv_linear(proc: nn.Module, config: Config, conv_linear_list: Classes) -> bool:
    """Sets the widths of a layer with a weight; whether the module is one."""
    names = {"weight": "weight", "bias": "bias", "input": "in", "output": "out"}
    return _set(proc, config, conv_linear_list, {name: f"conv_and_linear_{field}" for name, field in names.items()})


def config_io(proc: nn.Module, config: Config) -> None:
    """Sets how strict a module's inputs and outputs are."""
    proc.iostrict = config.iostrict  # pyright: ignore


def config_network(
    net: nn.Module,
    name: str = "net",
    config: Config = Config(),
    bn_list: Classes = BN_LIST,
    acti_list: Classes = ACTI_LIST,
    conv_linear_list: Classes = CONV_LINEAR_LIST,
    show: bool = False,
) -> None:
    """Sets the widths of the layers of a network."""
    bn_list, acti_list, conv_linear_list = tuple(bn_list), tuple(acti_list), tuple(conv_linear_list)
    for path, module in walk(net, name):
        if any(True for _ in module.children()):
            continue
        config_io(module, config)
        config_acti(module, config, acti_list)
        config_conv_linear(module, config, conv_linear_list)
        config_bn(module, config, bn_list)
        if show:
            print(path, "is configured")


# What the package's README calls it.
network_config = config_network
