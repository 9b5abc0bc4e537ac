"""QPyTorch's names on Lowbit's kernels: `import lowbit.qtorch as qtorch`, or `lowbit.compat.install()` and
`import qtorch`.

Numbers are those of QPyTorch on a CPU, but for its faults, which docs/coming-from.md lists. `float_quantize` has the semantics
of the posit extension ("extended") or of the release 0.3.0 ("upstream"); see `lowbit.compat.install`.
"""

from .number import (
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Number,
    Posit,
    Positbf,
)
from .posit_activation import (
    PositTanhFunction,
    PositTanhFunctionEnhanced,
    PositTanhModule,
    PositTanhModuleEnhanced,
    RefTanhModule,
)

__all__ = [
    "FixedPoint",
    "BlockFloatingPoint",
    "FloatingPoint",
    "Posit",
    "Positbf",
    "PositTanhModule",
    "PositTanhModuleEnhanced",
    "RefTanhModule",
]
