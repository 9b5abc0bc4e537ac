"""The names of the package `tqt` on Lowbit's quantizer: `import lowbit.tqt as tqt`, or `lowbit.compat.install()` and
`import tqt`.

Layers, thresholds and checkpoints are those of tqt 1.0.2 and its main branch, but for their faults, which
docs/coming-from.md lists. Numbers are those of `lowbit.torch.trained_threshold` (Jain et al., arXiv 1903.08066).
"""

from . import function  # isort: skip
from . import analyse, config, fold, fused_config, threshold, utils, wrapper
from .__version__ import __version__

__all__ = [
    "__version__",
    "analyse",
    "config",
    "fold",
    "function",
    "fused_config",
    "threshold",
    "utils",
    "wrapper",
]
