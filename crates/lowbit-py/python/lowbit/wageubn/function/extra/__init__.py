"""Layers without products, in float."""

from .adder import Adder2d, adder2d_function

__all__ = ["Adder2d", "adder2d_function"]
