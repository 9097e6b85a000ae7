"""Where threads and processes do not exist (Pyodide): the package imports, fits, explores and saves all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, json, subprocess, sys, threading

sys.modules["numba"] = sys.modules["_multiprocessing"] = None

def refuse(*_, **__):
    raise RuntimeError("can't start new thread")

import nlmewidgets as nw
import nlmewidgets.panels.explore, nlmewidgets.panels.startpage
sys.platform = "emscripten"
threading.Thread.start = subprocess.Popen.__init__ = refuse

async def main():
    page = nw.explore(workspace=None)
    page.example.value = "theophylline"
    page.structure = "oral_1cpt"
    explorer = nw.explore(page.model(), page.data, workspace="study.json")
    explorer.guess()
    assert explorer.message.startswith("Starting values"), explorer.message
    explorer.start()
    for _ in range(20_000):
        if not explorer.running:
            break
        await asyncio.sleep(0)
    assert explorer.status == "converged", (explorer.status, explorer.message)
    fit = await nw.fit_async(explorer.model_now, explorer.data, "focei")
    assert abs(fit.ofv - explorer.result.ofv) < 1e-2, (fit.ofv, explorer.result.ofv)
    explorer.close()
    assert len(json.load(open("study.json"))["fits"]) == 1

asyncio.run(main())
print("done")
"""


def test_it_explores_and_fits_without_threads(tmp_path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]
