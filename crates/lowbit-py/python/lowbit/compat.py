"""Lowbit in the place of `qtorch`, for programs that are written for it.

    python -m lowbit.compat script.py arguments    # runs a script unchanged
    import lowbit.compat; lowbit.compat.install()  # in a program, before it imports qtorch
"""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from pathlib import Path

# The modules that programs import.
MODULES = (
    "number",
    "posit_activation",
    "quant",
    "quant.quant_function",
    "quant.quant_module",
    "quant.quant_cpu",
    "quant.quant_cuda",
    "optim",
    "optim.optim_low",
    "auto_low",
    "auto_low.auto_low",
)

# The names under which QPyTorch is installed.
NAMES = ("qtorch", "qtorch_plus")


def install(*, qtorch: str = "extended") -> None:
    """Puts `lowbit.qtorch` in the place of `qtorch` and `qtorch_plus`, for every later import.

    qtorch: whose floats `float_quantize` has, "extended" (the posit extension, packages qtorch_plus and qtorch 2.0) or
    "upstream" (qtorch 0.3.0).

    ValueError for another; RuntimeError if QPyTorch itself has been imported.
    """
    from .qtorch import _semantics

    _semantics.use(qtorch)
    ours = importlib.import_module("lowbit.qtorch")
    for name in NAMES:
        if sys.modules.get(name, ours) is not ours:
            raise RuntimeError(f"{name} itself has been imported, expected install() before it")
    for name in NAMES:
        sys.modules[name] = ours
        for module in MODULES:
            sys.modules[f"{name}.{module}"] = importlib.import_module(f"lowbit.qtorch.{module}")
        # Where QPyTorch's setup.py puts its extension modules.
        for kernels in ("quant_cpu", "quant_cuda"):
            module = sys.modules[f"{name}.{kernels}"] = sys.modules[f"{name}.quant.{kernels}"]
            setattr(ours, kernels, module)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lowbit.compat", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--qtorch", choices=["extended", "upstream"], default="extended", help="whose floats there are")
    parser.add_argument("-m", dest="is_module", action="store_true", help="run a module, such as unittest or pytest")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    install(qtorch=options.qtorch)
    sys.argv = [options.script, *options.arguments]
    if options.is_module:
        sys.path.insert(0, "")
        runpy.run_module(options.script, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(options.script).resolve().parent))
        runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()
