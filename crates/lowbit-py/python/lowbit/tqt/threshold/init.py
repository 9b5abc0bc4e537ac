"""Setting all thresholds of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from ..fold.foldmodule import isfoldmodule
from ..function import qsigned, qunsigned
from ..function.extra import Adder2d
from .ignore import threshold_activation_ig, threshold_bias_ig, threshold_weight_ig
from .kl import entropy_calibration, j_divergence, kl_divergence, quantize_bins_and_expand
from .max import threshold_activation_max, threshold_bias_max, threshold_weight_max
from .sd import threshold_activation_3sd, threshold_bias_3sd, threshold_weight_3sd

Start = Callable[[nn.Module, nn.Module], None]

WEIGHT: dict[str, Start] = {"max": threshold_weight_max, "3sd": threshold_weight_3sd, "ig": threshold_weight_ig}
BIAS: dict[str, Start] = {"max": threshold_bias_max, "3sd": threshold_bias_3sd, "ig": threshold_bias_ig}
ACTI: dict[str, Start] = {
    "max": threshold_activation_max,
    "3sd": threshold_activation_3sd,
    "ig": threshold_activation_ig,
}

DIVERGENCES = {"entro": kl_divergence, "kl_j": j_divergence}


def _chosen(method: str, methods: Mapping[str, Start], *others: str) -> Start:
    if method not in methods:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(map(repr, (*methods, *others)))}")
    return methods[method]


def init_weight(net_module: nn.Module, qnet_module: nn.Module, method: str = "max") -> None:
    """Sets the threshold of a weight: "max", "3sd" or "ig"."""
    _chosen(method, WEIGHT)(net_module, qnet_module)


def init_bias(net_module: nn.Module, qnet_module: nn.Module, method: str = "max") -> None:
    """Sets the threshold of a bias: "max", "3sd" or "ig"."""
    _chosen(method, BIAS)(net_module, qnet_module)


def init_acti(
    net_module: nn.Module,
    qnet_module: nn.Module,
    method: str = "entro",
    bin_number: int = 2048,
    cali_number: int = 128,
) -> None:
    """Sets the threshold of a result, from `hook_out`: "entro", "kl_j" (the symmetric divergence), "max", "3sd" or
    "ig"."""
    if method in DIVERGENCES:
        divergence = DIVERGENCES[method]
        return entropy_calibration(net_module, qnet_module, bin_number, cali_number, divergence=divergence)
    return _chosen(method, ACTI, *DIVERGENCES)(net_module, qnet_module)


def init_network(
    net_proc: nn.Module,
    qnet_proc: nn.Module,
    name: str = "net",
    weight_method: str = "max",
    bias_method: str = "max",
    acti_method: str = "entro",
    bin_number: int = 2048,
    cali_number: int = 128,
    show: bool = False,
) -> None:
    """Sets the thresholds of the modules of `qnet_proc` from the parameters and the kept results of the same modules of
    `net_proc`, which may be the same network; of a result that was not kept, an error where the module quantizes.

    Folded modules start weight and bias from what they fold, and the result's threshold only from a folded module.
    """
    if not isfoldmodule(qnet_proc):
        for key, child in qnet_proc.named_children():
            if key not in net_proc._modules:
                raise ValueError(f"{name}.{key} is not in the first network, expected two of the same modules")
            methods = weight_method, bias_method, acti_method
            init_network(net_proc.get_submodule(key), child, f"{name}.{key}", *methods, bin_number, cali_number, show)
    source = qnet_proc if isfoldmodule(qnet_proc) and not isfoldmodule(net_proc) else net_proc
    needs_result = acti_method == "ig" or getattr(qnet_proc, "quant", False) is True and not isfoldmodule(qnet_proc)
    starts: dict[str, tuple[bool, Callable[[], None]]] = {
        # The threshold of an adder's result is of no use.
        "acti": (
            not isinstance(qnet_proc, Adder2d) and (needs_result or hasattr(net_proc, "hook_out")),
            lambda: init_acti(net_proc, qnet_proc, acti_method, bin_number, cali_number),
        ),
        "weight": (True, lambda: init_weight(source, qnet_proc, weight_method)),
        "bias": (getattr(source, "bias", None) is not None, lambda: init_bias(source, qnet_proc, bias_method)),
    }
    for tensor, (is_there, start) in starts.items():
        if is_there and hasattr(qnet_proc, f"{tensor}_log2_t"):
            start()
            if show:
                log2_t = float(getattr(qnet_proc, f"{tensor}_log2_t").detach())
                kind = "activation" if tensor == "acti" else tensor
                print(name, f": {kind} threshold is quanted as", log2_t)


def init_max(net_proc: nn.Module, qnet_proc: nn.Module, name: str = "net", show: bool = False) -> None:
    """Sets all thresholds from the largest magnitudes."""
    init_network(net_proc, qnet_proc, name, "max", "max", "max", show=show)


def init_3sd(net_proc: nn.Module, qnet_proc: nn.Module, name: str = "net", show: bool = False) -> None:
    """Sets all thresholds from three standard deviations."""
    init_network(net_proc, qnet_proc, name, "3sd", "3sd", "3sd", show=show)


def init_kl_j(net_proc: nn.Module, qnet_proc: nn.Module, name: str = "net", show: bool = False) -> None:
    """Sets thresholds of results from the symmetric divergence, those of weights and biases from the largest
    magnitudes."""
    init_network(net_proc, qnet_proc, name, "max", "max", "kl_j", show=show)


__all__ = [
    "entropy_calibration",
    "init_3sd",
    "init_acti",
    "init_bias",
    "init_kl_j",
    "init_max",
    "init_network",
    "init_weight",
    "j_divergence",
    "kl_divergence",
    "qsigned",
    "quantize_bins_and_expand",
    "qunsigned",
    "threshold_activation_3sd",
    "threshold_activation_ig",
    "threshold_activation_max",
    "threshold_bias_3sd",
    "threshold_bias_ig",
    "threshold_bias_max",
    "threshold_weight_3sd",
    "threshold_weight_ig",
    "threshold_weight_max",
]
