#!/usr/bin/env bash
# Lints the crate, builds the wheel, installs it into a virtual environment (.venv beside this file, or
# $LOWBIT_VENV) and runs the tests of Python. Needs Rust and Python 3.10 or later.
#
#   check.sh           # tests with torch are skipped, and counted, unless torch is in the environment
#   check.sh --torch   # installs torch as well, which are some gigabytes
set -euo pipefail
cd "$(dirname "$0")"
venv=${LOWBIT_VENV:-$PWD/.venv}

cargo clippy --release -p lowbit-py --all-targets -- -D warnings

[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
if [ "${1:-}" = --torch ]; then
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch>=2.4"
fi

wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$venv/bin/python" -m maturin build --release --quiet --interpreter "$venv/bin/python" --out "$wheels"
ls -l "$wheels"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheels"/*.whl

# As `python -m pytest` would, but for the crate's own folder, which has the sources of the package.
"$venv/bin/pytest" -q -rs tests
