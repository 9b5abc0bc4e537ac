"""Folding the modules of a network."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from .convbn import Conv2dBN
from .convbnact import Conv2dBNReLU
from .foldmodule import isfoldmodule
from .sabn import SA2dBN, isShiftAdder
from .sabnact import SA2dBNReLU

# Paths of a product, its normalization and its rectifier, if it has one.
Chain = tuple[str, str, str | None]


def fold_CBR(conv: nn.Module, bn: nn.Module, relu: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The folded module, and identities in the place of the other two."""
    return Conv2dBNReLU(conv, bn, relu), nn.Identity(), nn.Identity()


def fold_CB(conv: nn.Module, bn: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The folded module, and an identity in the place of the normalization."""
    return Conv2dBN(conv, bn), nn.Identity()


def fold_SABR(sa: nn.Module, bn: nn.Module, relu: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The folded module, and identities in the place of the other two."""
    return SA2dBNReLU(sa, bn, relu), nn.Identity(), nn.Identity()


def fold_SAB(sa: nn.Module, bn: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The folded module, and an identity in the place of the normalization."""
    return SA2dBN(sa, bn), nn.Identity()


def _is_product(module: nn.Module | None, fold_type: str) -> bool:
    return isinstance(module, nn.Conv2d) if fold_type == "conv" else isShiftAdder(module)


def _is_norm(module: nn.Module | None) -> bool:
    return isinstance(module, nn.BatchNorm2d)


def _is_relu(module: nn.Module | None) -> bool:
    return isinstance(module, (nn.ReLU, nn.ReLU6)) and hasattr(module, "acti_log2_t")


class _Tracer(fx.Tracer):
    """Goes into no layer, and into no pair of a shift convolution and an adder."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_layer = isfoldmodule(m) or isShiftAdder(m) or not any(True for _ in m.children())
        return is_layer or super().is_leaf_module(m, module_qualified_name)


def _by_dataflow(net: nn.Module, fold_type: str) -> list[Chain]:
    """Products that a normalization alone reads, which a rectifier alone may read; each called once."""
    nodes = list(_Tracer().trace(net).nodes)
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")

    def called_once(node: fx.Node) -> nn.Module | None:
        if node.op != "call_module" or calls[str(node.target)] != 1:
            return None
        return net.get_submodule(str(node.target))

    def reader(node: fx.Node) -> fx.Node | None:
        users = list(node.users)
        return users[0] if len(users) == 1 else None

    chains: list[Chain] = []
    for node in nodes:
        norm = reader(node) if _is_product(called_once(node), fold_type) else None
        if norm is None or not _is_norm(called_once(norm)):
            continue
        relu = reader(norm)
        if relu is not None and not _is_relu(called_once(relu)):
            relu = None
        chains.append((str(node.target), str(norm.target), None if relu is None else str(relu.target)))
    return chains


def _by_definition(net: nn.Module, fold_type: str) -> Iterator[Chain]:
    """Neighbours among the children of a module, whose channels go together."""
    children = list(net.named_children())
    for i, (name, product) in enumerate(children[:-1]):
        norm_name, norm = children[i + 1]
        if not _is_product(product, fold_type) or not isinstance(norm, nn.BatchNorm2d):
            continue
        channels = product.out_channels if isinstance(product, nn.Conv2d) else norm.num_features
        if channels != norm.num_features:
            continue
        relu_name, relu = children[i + 2] if i + 2 < len(children) else ("", None)
        yield name, norm_name, relu_name if _is_relu(relu) else None


def _fold(net: nn.Module, chain: Chain, fold_type: str) -> None:
    product, norm, relu = chain
    parts = [net.get_submodule(path) for path in chain if path is not None]
    functions: Any = {"conv": (fold_CB, fold_CBR), "add": (fold_SAB, fold_SABR)}[fold_type]
    folded = functions[relu is not None](*parts)
    for path, module in zip((product, norm, relu), folded):
        parent, _, name = str(path).rpartition(".")
        setattr(net.get_submodule(parent), name, module)


def fold_the_network(net: nn.Module, fold_type: str = "conv") -> None:
    """Folds, in place, normalizations and rectifiers of `tqt.function` into the convolutions before them ("conv"), or
    into the shift convolutions with adders before them ("add").

    What comes before what is seen from the flow of data, which `torch.fx` traces; where a network cannot be traced its
    children are tried alone, and neighbours in the order of definition are folded, with a warning. A rectifier that is
    called twice, or not the only one to read a normalization, stays.
    """
    if fold_type not in ("conv", "add"):
        raise ValueError(f"fold_type is {fold_type!r}, expected 'conv' or 'add'")
    if isfoldmodule(net) or not any(True for _ in net.children()):
        return
    try:
        chains = _by_dataflow(net, fold_type)
    except Exception as error:  # Tracing runs the network's own code.
        reason = (str(error).strip().splitlines() or [""])[0]
        chains = list(_by_definition(net, fold_type))
        if chains:
            cause = f"{type(net).__name__} cannot be traced ({type(error).__name__}: {reason})"
            warnings.warn(f"{cause}; neighbours are folded by definition", stacklevel=2)
        for child in net.children():
            if not isShiftAdder(child):
                fold_the_network(child, fold_type)
    for chain in chains:
        _fold(net, chain, fold_type)


def make_the_shortcut_share(net: nn.Module, show: bool = False) -> None:
    """Calls `share_path` of every module that has it."""
    for module in net.modules():
        share_path: Any = getattr(module, "share_path", None)
        if share_path is not None:
            share_path(show=show)
