"""Number formats, as QPyTorch describes them."""

from __future__ import annotations

__all__ = ["Number", "FixedPoint", "BlockFloatingPoint", "FloatingPoint", "Posit", "Positbf"]


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Checks a parameter, with the error that QPyTorch raises."""
    allowed = f"{least} or more" if most is None else f"{least} to {most}"
    good = type(value) is int and value >= least and (most is None or value <= most)
    assert good, f"{name} is {value}, expected a whole number, {allowed}"


class Number:
    """The base of all formats."""


class FixedPoint(Number):
    """`wl` bits, `fl` of them after the point: from -2^(wl - fl - 1) in steps of 2^-fl. With `symmetric` the lowest
    value is left out; without `clamp` there is no largest and no smallest one."""

    def __init__(self, wl: int, fl: int, clamp: bool = True, symmetric: bool = False) -> None:
        _whole("wl", wl, 1)
        # A fraction of no bits, or of more than there are, is a format like any other.
        assert type(fl) is int, f"fl is {fl}, expected a whole number"
        for name, value in [("clamp", clamp), ("symmetric", symmetric)]:
            assert type(value) is bool, f"{name} is {value}, expected True or False"
        self.wl, self.fl, self.clamp, self.symmetric = wl, fl, clamp, symmetric

    def __repr__(self) -> str:
        return f"FixedPoint (wl={self.wl:d}, fl={self.fl:d})"


class FloatingPoint(Number):
    """`exp` bits of exponent and `man` of mantissa."""

    def __init__(self, exp: int, man: int) -> None:
        _whole("exp", exp, 1, 8)
        _whole("man", man, 1, 23)
        self.exp, self.man = exp, man

    def __repr__(self) -> str:
        return f"FloatingPoint (exponent={self.exp:d}, mantissa={self.man:d})"


class BlockFloatingPoint(Number):
    """Words of `wl` bits that share an exponent: one of the whole tensor, or one for each index of `dim`."""

    def __init__(self, wl: int, dim: int = -1) -> None:
        _whole("wl", wl, 1)
        _whole("dim", dim, -1)
        self.wl, self.dim = wl, dim

    def __repr__(self) -> str:
        return f"BlockFloatingPoint (wl={self.wl:d}, dim={self.dim:d})"


class Posit(Number):
    """Posits of `nsize` bits, `es` of them of exponent, of numbers times `scale`."""

    most = 16

    def __init__(self, nsize: int, es: int, scale: float = 1.0) -> None:
        _whole("nsize", nsize, 1, self.most)
        _whole("es", es, 0, 3)
        self.nsize, self.es, self.scale = nsize, es, scale

    def __repr__(self) -> str:
        return f"{type(self).__name__} (nsize={self.nsize:d}, es={self.es:d}, scale={self.scale:g})"


class Positbf(Posit):
    """Posits of at most 8 bits, of numbers rounded to bfloat16 first."""

    most = 8
