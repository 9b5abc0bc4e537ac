"""Layers without products, in float."""

from .adder import Adder2d, adder2d_function
from .seconv import SEConv2d

__all__ = ["Adder2d", "SEConv2d", "adder2d_function"]
