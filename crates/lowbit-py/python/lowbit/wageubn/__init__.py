"""The names of the package `wageubn`: `import lowbit.wageubn as wageubn`, or `lowbit.compat.install()` and
`import wageubn`.

The quantizers of WAGEUBN (Yang et al., arXiv 1909.02384, section III.C) and layers with them, as in wageubn 1.2.0, but
for its faults, which docs/coming-from.md lists.
"""

from . import config, function
from .__version__ import __version__

__all__ = ["__version__", "config", "function"]
