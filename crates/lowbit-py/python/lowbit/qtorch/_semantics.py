"""Whose floats `float_quantize` has: QPyTorch's posit extension and its release 0.3.0 differ."""

from __future__ import annotations

from functools import lru_cache

from .._lowbit import Format

_chosen = "extended"


def use(name: str) -> None:
    """Chooses "extended": no subnormals, one more binade below, and what is below the smallest value goes to the nearer
    of it and zero at random, too; or "upstream": IEEE's exponents and subnormals, the highest exponent used for numbers.
    """
    global _chosen
    if name not in ("extended", "upstream"):
        raise ValueError(f"qtorch is {name!r}, expected 'extended' or 'upstream'")
    _chosen = name


def float_format(exp: int, man: int, stochastic: bool) -> tuple[Format, str]:
    """The format of `float_quantize(x, exp, man)`, and the rounding to nearest that it goes with. Ties go away from zero:
    in the extension's format in every mode to nearest, of which the first is the fastest."""
    nearest = "nearest-away" if _chosen == "upstream" else "nearest-even"
    return _format(_chosen, min(exp, 8), man, stochastic), nearest


@lru_cache(maxsize=1024)
def _format(semantics: str, exp: int, man: int, stochastic: bool) -> Format:
    if exp == 8 and man == 23:
        return Format("fp32")
    if semantics == "upstream":
        # Of eight bits the highest exponent is that of float32's infinity.
        return Format(f"float({exp},{man}{',finite' if exp < 8 else ''})")
    return Format(f"qpytorch({exp},{min(man, 22)}{',stochastic=original' * stochastic})")
