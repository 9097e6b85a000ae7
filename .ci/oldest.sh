#!/bin/sh
# The browser tests of the environment on the lowest versions that pyproject.toml allows, kernel and JupyterLab included.
# The test tools stay in .venv; only the server and its kernels run on the old environment (LAB_PYTHON).
set -e
cd "$(dirname "$0")/.."
VENV="${VENV:-.venv}"
OLD="${OLD:-.venv-oldest}"
[ -x "$OLD/bin/python" ] || "${PYTHON:-python3}" -m venv "$OLD"
"$VENV/bin/python" - <<'LOWEST' >"$OLD/requirements.txt"
import re, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
for requirement in (*project["dependencies"], *extras["pictures"], *extras["lab"]):
    if ">=" in requirement:
        name, lowest = requirement.split(">=")
        print(f"{name}=={lowest}")
LOWEST
echo "-- lowest versions: $(tr '\n' ' ' <"$OLD/requirements.txt")"
"$OLD/bin/python" -m pip install --quiet --disable-pip-version-check -r "$OLD/requirements.txt"
LAB_PYTHON="$PWD/$OLD/bin/python" "$VENV/bin/python" -m pytest -q tests/browser/test_explore.py "$@"
