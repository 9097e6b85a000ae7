"""The command line: ``nlmewidgets app data.csv`` opens the environment as a page, without a notebook."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from nlmewidgets import __version__

__all__ = ["app_command", "main"]

NOTEBOOK = Path(__file__).parent / "app" / "start.ipynb"
DATA_VARIABLE = "NLMEWIDGETS_DATA"
"""In which the app's kernel finds the file; see `nlmewidgets.panels.startpage`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(prog="nlmewidgets", description="Nonlinear mixed-effects models, explored.")
    parser.add_argument("--version", action="version", version=f"nlmewidgets {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    app = commands.add_parser("app", help="open the environment as a page in the browser")
    app.add_argument("data", nargs="?", type=Path, help="a CSV file in NONMEM's layout; without it, upload one there")
    app.add_argument("--port", type=int, default=0, help="0 (the default): any that is free")
    app.add_argument("--theme", choices=("light", "dark"), default="light")
    app.add_argument("--no-browser", action="store_true", help="print the address and open nothing")
    chosen = parser.parse_args(arguments)
    refusal = _refusal(chosen.data)
    if refusal:
        print(f"nlmewidgets app: {refusal}", file=sys.stderr)
        return 2
    environment = dict(os.environ)
    environment.pop(DATA_VARIABLE, None)
    if chosen.data is not None:
        environment[DATA_VARIABLE] = str(chosen.data.resolve())
    command = app_command(chosen.port, chosen.theme, browser=not chosen.no_browser)
    if os.name == "posix":  # becomes the server, so that whatever ends the command ends it
        os.execve(command[0], command, environment)
    return subprocess.run(command, env=environment, check=False).returncode


def _refusal(data: Path | None) -> str:
    """Return why the app cannot start, in a sentence with the remedy; '' if it can."""
    if data is not None and not data.is_file():
        return f"There is no file '{data}'; check the path, or start without one and upload it on the page."
    for module in ("voila", "ipywidgets", "bqplot"):
        if find_spec(module) is None:
            return f"The app needs '{module}': install the extra with pip install 'nlmewidgets[app]'."
    return ""


def app_command(port: int, theme: str, *, browser: bool) -> list[str]:
    """Return the command that serves the packaged notebook to this computer only."""
    command = [sys.executable, "-m", "voila", str(NOTEBOOK), f"--port={port}", "--Voila.ip=127.0.0.1"]
    command += [f"--theme={theme}", "--VoilaConfiguration.show_tracebacks=True"]
    return command if browser else [*command, "--no-browser"]


if __name__ == "__main__":
    sys.exit(main())
