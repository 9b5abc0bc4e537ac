"""The release of the package `tqt` whose names these are."""

__title__ = "tqt"
__version__ = "1.0.2"
