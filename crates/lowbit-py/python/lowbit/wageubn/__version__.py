"""The release of the package `wageubn` whose names these are."""

__title__ = "wageubn"
__version__ = "1.2.0"
