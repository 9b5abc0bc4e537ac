#!/usr/bin/env bash
# Lints the crate, builds the wheel, installs it into a virtual environment (.venv beside this file, or
# $LOWBIT_VENV) and runs the tests of Python. Needs Rust and Python 3.10 or later.
#
#   check.sh           # tests with torch are skipped, and counted, unless torch is in the environment
#   check.sh --torch   # installs torch as well, which are some gigabytes
#
# Ends with 77 where there is no such Python, or its packages cannot be installed.
set -euo pipefail
cd "$(dirname "$0")"
venv=${LOWBIT_VENV:-$PWD/.venv}

cargo clippy --release -p lowbit-py --all-targets -- -D warnings

pip() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

skip() {
    echo "SKIPPED: the Python module is not tested: $1" >&2
    exit 77
}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || skip "python3 is not 3.10 or later"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv" || skip "python3 has no venv"
pip -r tests/requirements.txt || skip "its packages cannot be installed"
if [ "${1:-}" = --torch ]; then
    pip "torch>=2.4"
fi

wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$venv/bin/python" -m maturin build --release --quiet --interpreter "$venv/bin/python" --out "$wheels"
ls -l "$wheels"
pip --force-reinstall --no-deps "$wheels"/*.whl

# As `python -m pytest` would, but for the crate's own folder, which has the sources of the package.
"$venv/bin/pytest" -q -rs tests
