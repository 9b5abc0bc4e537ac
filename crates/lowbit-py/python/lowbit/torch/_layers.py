"""Linear and convolution layers with quantizers for weight, bias, input and output."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._quantizers import LearnedQuantizer

# What a convolution of PyTorch's keeps of its arguments.
CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class _Slots(nn.Module):
    """The quantizers of a layer. Parameters of a slot's quantizer have paths such as
    `conv1.quantizers.weight.TrainedThreshold.log2_threshold`."""

    weight: Tensor
    bias: Tensor | None
    quantizers: nn.ModuleDict

    def _attach(self, **slots: nn.Module | None) -> None:
        self.quantizers = nn.ModuleDict()
        for slot, quantizer in slots.items():
            if quantizer is None:
                continue
            if not isinstance(quantizer, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"{slot}_quantizer is {quantizer!r}, expected a module such as TQT(8)")
            kind = type(quantizer).__name__
            if isinstance(quantizer, LearnedQuantizer):
                quantizer.attach(slot, self.weight.shape[0] if slot == "weight" else None)
                kind = quantizer.kind
            self.quantizers[slot] = nn.ModuleDict({kind: quantizer})

    def quantizer(self, slot: str) -> nn.Module | None:
        """The quantizer of a slot: "weight", "bias", "input" or "output"."""
        if slot not in self.quantizers:
            return None
        holder = self.quantizers[slot]
        assert isinstance(holder, nn.ModuleDict)
        (quantizer,) = holder.values()
        return quantizer

    def quantized(self, slot: str, x: Tensor) -> Tensor:
        """A tensor as the layer reads it, or hands it on."""
        quantizer = self.quantizer(slot)
        return x if quantizer is None else quantizer(x)

    def _parameters_read(self) -> tuple[Tensor, Tensor | None]:
        bias = None if self.bias is None else self.quantized("bias", self.bias)
        return self.quantized("weight", self.weight), bias


class Linear(_Slots, nn.Linear):
    """`torch.nn.Linear` with quantizers: y = Q_output(Q_input(x) Q_weight(W)^T + Q_bias(b)).

    weight_quantizer, input_quantizer, bias_quantizer, output_quantizer: modules such as `TQT(8)`; None leaves a tensor
    in float. The other arguments are those of `torch.nn.Linear`, and so are the parameters' names.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
        bias_quantizer: nn.Module | None = None,
        output_quantizer: nn.Module | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._attach(weight=weight_quantizer, bias=bias_quantizer, input=input_quantizer, output=output_quantizer)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self._parameters_read()
        return self.quantized("output", F.linear(self.quantized("input", input), weight, bias))


class Conv2d(_Slots, nn.Conv2d):
    """`torch.nn.Conv2d` with quantizers, as `Linear` has them. With another padding mode than "zeros" the input is
    quantized before it is padded."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        weight_quantizer: nn.Module | None = None,
        input_quantizer: nn.Module | None = None,
        bias_quantizer: nn.Module | None = None,
        output_quantizer: nn.Module | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )
        self._attach(weight=weight_quantizer, bias=bias_quantizer, input=input_quantizer, output=output_quantizer)

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self._parameters_read()
        return self.quantized("output", self._conv_forward(self.quantized("input", input), weight, bias))


def _twin(layer: nn.Module, slots: dict[str, nn.Module | None]) -> Linear | Conv2d:
    """A layer of ours with the very parameters of PyTorch's, and with quantizers."""
    with torch.device("meta"):
        if isinstance(layer, nn.Conv2d):
            options: dict[str, Any] = {name: getattr(layer, name) for name in CONVOLUTION}
            twin: Linear | Conv2d = Conv2d(bias=layer.bias is not None, **options)
        else:
            assert isinstance(layer, nn.Linear)
            twin = Linear(layer.in_features, layer.out_features, layer.bias is not None)
    twin.weight, twin.bias = layer.weight, layer.bias
    twin._attach(**slots)  # pyright: ignore[reportPrivateUsage]
    twin.quantizers.to(twin.weight.device)
    return twin.train(layer.training)


def quantize_layers(
    model: nn.Module,
    weight: nn.Module | None = None,
    input: nn.Module | None = None,
    bias: nn.Module | None = None,
    output: nn.Module | None = None,
    *,
    layers: Sequence[str] | None = None,
) -> list[str]:
    """Gives quantizers to the `torch.nn.Linear` and `torch.nn.Conv2d` layers of a model, in place.

    weight, input, bias, output: what each layer gets a copy of, such as `TQT(8)`; None leaves that tensor in float.
    layers: paths of the layers, such as "features.0"; all unless given.

    Gives the paths. Parameters keep their paths, and are the same ones, so that an optimizer may have them already. A
    layer with several paths stays one layer.
    ValueError for a path with no such layer, if there is none, and for a layer with hooks, which would be lost.
    """
    paths = {path: layer for path, layer in model.named_modules(remove_duplicate=False) if path}
    found = {path: layer for path, layer in paths.items() if type(layer) in (nn.Linear, nn.Conv2d)}
    chosen = list(found) if layers is None else list(layers)
    if not chosen:
        raise ValueError("the model has no layer of torch.nn.Linear or torch.nn.Conv2d inside, expected one")
    for path in chosen:
        if path not in found:
            names = ", ".join(found)
            raise ValueError(f"there is no layer {path!r} of torch.nn.Linear or torch.nn.Conv2d, expected one of {names}")
        if found[path]._forward_hooks or found[path]._forward_pre_hooks:
            raise ValueError(f"layer {path!r} has hooks, expected quantize_layers before them")
    slots = {"weight": weight, "bias": bias, "input": input, "output": output}
    twins: dict[nn.Module, nn.Module] = {}
    for layer in dict.fromkeys(found[path] for path in chosen):
        twins[layer] = _twin(layer, {slot: copy.deepcopy(quantizer) for slot, quantizer in slots.items()})
    for path, layer in found.items():
        if layer in twins:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, twins[layer])
    return chosen
