"""What `fold_the_network` looks for."""

from .sabn import isShiftAdder

__all__ = ["isShiftAdder"]
