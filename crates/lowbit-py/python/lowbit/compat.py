"""Lowbit in the place of `qtorch`, `tqt` and `wageubn`, for programs that are written for them.

    python -m lowbit.compat script.py arguments    # runs a script unchanged
    import lowbit.compat; lowbit.compat.install()  # in a program, before it imports them
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import pkgutil
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

# Packages by the names under which others are installed.
PACKAGES = {
    "qtorch": "lowbit.qtorch",
    "qtorch_plus": "lowbit.qtorch",
    "tqt": "lowbit.tqt",
    "wageubn": "lowbit.wageubn",
}


def install(*, qtorch: str = "extended", packages: Iterable[str] = tuple(PACKAGES)) -> None:
    """Puts ours in the place of other packages, for every later import.

    qtorch: whose floats `float_quantize` has, "extended" (the posit extension, packages qtorch_plus and qtorch 2.0) or
    "upstream" (qtorch 0.3.0).
    packages: which ones, of "qtorch", "qtorch_plus", "tqt" and "wageubn".

    ValueError for others; RuntimeError if one of the packages itself has been imported.
    """
    from .qtorch import _semantics

    _semantics.use(qtorch)
    chosen = tuple(packages)
    for name in chosen:
        if name not in PACKAGES:
            raise ValueError(f"package {name!r} is not known, expected {', '.join(map(repr, PACKAGES))}")
    ours = {name: importlib.import_module(PACKAGES[name]) for name in chosen}
    for name, module in ours.items():
        if sys.modules.get(name, module) is not module:
            raise RuntimeError(f"{name} itself has been imported, expected install() before it")
    for name, module in ours.items():
        _put(name, module)


def _put(name: str, package: ModuleType) -> None:
    """Puts a package and the modules in it under another name."""
    sys.modules[name] = package
    prefix = f"{package.__name__}."
    for found in pkgutil.walk_packages(package.__path__, prefix):
        inner = found.name.removeprefix(prefix)
        is_public = not inner.rpartition(".")[2].startswith("_") or inner == "__version__"
        if is_public:
            sys.modules[f"{name}.{inner}"] = importlib.import_module(found.name)
    if package.__name__ == "lowbit.qtorch":
        # Where QPyTorch's setup.py puts its extension modules.
        for kernels in ("quant_cpu", "quant_cuda"):
            module = sys.modules[f"{name}.{kernels}"] = sys.modules[f"{name}.quant.{kernels}"]
            setattr(package, kernels, module)


def _real_name(module: str) -> str:
    """The name of a module, or of ours in its place."""
    package, dot, rest = module.partition(".")
    return PACKAGES.get(package, package) + dot + rest


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(_real_name(module)) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lowbit.compat", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--qtorch", choices=["extended", "upstream"], default="extended", help="whose floats there are")
    parser.add_argument("-m", dest="is_module", action="store_true", help="run a module, such as unittest or pytest")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if not options.is_module and not Path(options.script).exists():
        parser.error(f"there is no {options.script}, expected a script of Python, or -m before a module")
    install(qtorch=options.qtorch)
    sys.argv = [options.script, *options.arguments]
    if options.is_module:
        sys.path.insert(0, "")
        if not _is_there(options.script):
            parser.error(f"there is no module {options.script}")
        name = _real_name(options.script)
        if name != options.script:
            # It is run once more under another name.
            sys.modules.pop(name, None)
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(options.script).resolve().parent))
        runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    main()
