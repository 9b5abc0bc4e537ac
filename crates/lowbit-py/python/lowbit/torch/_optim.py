"""Optimizers whose numbers are of a few bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .._lowbit import Format
from ._functions import read, read_rounding
from ._ops import round_plain, rounding_of

# What is rounded, in the order of a step, which is the order of the random streams.
ROLES = ("gradient", "accumulator", "weight", "momentum", "second_moment")

Way = str | Format | tuple[str | Format, str] | Callable[[Tensor], Tensor] | None


class LowPrecision(Optimizer):
    """Rounds what an optimizer keeps and changes: p, its gradient g, its moments m and v.

    One step: g becomes Q_g(s g); p becomes the accumulator a; the optimizer steps; a becomes Q_a(p), p becomes Q_w(a);
    m becomes Q_m(m) and v Q_v(v). Without an accumulator format there is no a, and p is rounded alone.

    optimizer: any of torch.optim's, whose `param_groups` this one shares. m is its `momentum_buffer` or `exp_avg`, v its
    `exp_avg_sq` or `max_exp_avg_sq`.
    weight, gradient, momentum, second_moment, accumulator: formats, (format, rounding), or functions from a tensor to a
    rounded one; formats without a rounding take `rounding`.
    gradient_scale: s, more than 0; applied with or without a format for gradients.
    seed: of stochastic rounding. Parameter i of step n draws from a stream of its own for each role.
    round_at_start: whether weights are rounded now, so that the first forward sees them rounded.

    Parameters without a gradient are left alone. The state dict holds the optimizer's, the accumulators and the count
    of steps: a resumed run gives the numbers of one that was not interrupted.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        weight: Way = None,
        gradient: Way = None,
        momentum: Way = None,
        second_moment: Way = None,
        accumulator: Way = None,
        gradient_scale: float = 1.0,
        rounding: str = "stochastic",
        seed: int = 0,
        round_at_start: bool = True,
    ) -> None:
        if not gradient_scale > 0:
            raise ValueError(f"gradient_scale is {gradient_scale}, expected more than 0")
        given = dict(zip(ROLES, (gradient, accumulator, weight, momentum, second_moment)))
        self.optimizer, self.gradient_scale, self.steps = optimizer, gradient_scale, 0
        self.ways: dict[str, tuple[Format, str] | Callable[[Tensor], Tensor]] = {}
        for role, way in given.items():
            if callable(way):
                self.ways[role] = way
                continue
            format, mode = way if isinstance(way, tuple) else (way, rounding)
            format = read(format)
            if format is not None:
                self.ways[role] = format, read_rounding(mode, seed)
        self.accumulators: dict[Tensor, Tensor] = {}
        self._places = {p: i for i, p in enumerate(self._parameters())}
        self._start(round_at_start)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.optimizer.defaults

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    @torch.no_grad()
    def _start(self, rounded: bool) -> None:
        for p in self._parameters():
            if rounded:
                self._keep(p)
            elif "accumulator" in self.ways:
                self.accumulators[p] = p.detach().clone()

    def _keep(self, p: Tensor) -> None:
        """The parameter to its accumulator, if there are any, and rounded to its own format."""
        if "accumulator" in self.ways:
            self.accumulators[p] = self._rounded(p, "accumulator", p)
        if "weight" in self.ways:
            source = self.accumulators.get(p, p)
            self._rounded(source, "weight", p, p)
        elif p in self.accumulators:
            p.copy_(self.accumulators[p])

    def _rounded(self, x: Tensor, role: str, p: Tensor, out: Tensor | None = None) -> Tensor:
        way = self.ways[role]
        if callable(way):
            rounded = way(x)
            return rounded if out is None else out.copy_(rounded)
        format, text = way
        rounding = rounding_of(text)
        if rounding.is_stochastic:
            place = self._places.setdefault(p, len(self._places))
            stream = (self.steps * (1 << 20) + place) * len(ROLES) + ROLES.index(role)
            rounding = rounding.with_randomness(stream=stream % (1 << 64))
        return round_plain(x, format, rounding, out)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; a closure computes gradients first, once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps += 1
        changed = [p for p in self._parameters() if p.grad is not None]
        for p in changed:
            gradient = p.grad
            assert gradient is not None
            if self.gradient_scale != 1.0:
                gradient.mul_(self.gradient_scale)
            if "gradient" in self.ways:
                self._rounded(gradient, "gradient", p, gradient)
            if p in self.accumulators:
                p.copy_(self.accumulators[p])
        self.optimizer.step()
        for p in changed:
            self._keep(p)
            self._round_moments(p)
        return loss

    def _round_moments(self, p: Tensor) -> None:
        names = {
            "momentum": ("momentum_buffer", "exp_avg"),
            "second_moment": ("exp_avg_sq", "max_exp_avg_sq"),
        }
        for role, keys in names.items():
            for key in keys if role in self.ways else ():
                moment = self.optimizer.state[p].get(key)
                if moment is not None:
                    self._rounded(moment, role, p, moment)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.optimizer.add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        accumulators = [self.accumulators.get(p) for p in self._parameters()]
        return {"optimizer": self.optimizer.state_dict(), "accumulators": accumulators, "steps": self.steps}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict["optimizer"])
        self.steps = state_dict["steps"]
        self.accumulators = {
            p: kept.to(p) for p, kept in zip(self._parameters(), state_dict["accumulators"]) if kept is not None
        }

    def __repr__(self) -> str:
        ways = {role: way if callable(way) else way[0] for role, way in self.ways.items()}
        return f"{type(self).__name__}({', '.join(f'{role}={way}' for role, way in ways.items())}, {self.optimizer!r})"
