"""Helpers that programs import."""

from ..tqt.utils import _isinstance

__all__ = ["_isinstance"]
