"""Run under Pyodide: tests of the core, by pytest."""

from __future__ import annotations

import os
import sys


async def main() -> None:
    import pytest

    os.chdir("/tree")
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "-m", "not slow"]
    code = pytest.main([*options, "--import-mode=importlib", "-W", "ignore", *sys.argv[1:]])
    if code:
        raise SystemExit(int(code))
