"""The app as a person meets it who has a file and writes no code: upload, structure, start, fit, in both themes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import nlmewidgets as nw

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(find_spec("voila") is None, reason="needs Voilà: pip install 'nlmewidgets[app]'")


@pytest.fixture
def app(tmp_path) -> Iterator[Callable[[str], str]]:
    """Start the command in a theme and return its address."""
    started: list[subprocess.Popen[bytes]] = []

    def start(theme: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
        environment = os.environ | folders | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", "nlmewidgets", "app", f"--port={port}", "--theme", theme, "--no-browser"]
        started.append(subprocess.Popen(command, env=environment, cwd=tmp_path))
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return f"http://127.0.0.1:{port}/"
            except OSError:
                assert time.monotonic() < deadline
                assert started[-1].poll() is None
                time.sleep(0.2)

    yield start
    for server in started:
        server.terminate()
        server.wait(20)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_from_a_file_to_a_fit_without_a_line_of_code(browser: Any, app, theme, tmp_path, pictures: Path) -> None:
    records = nw.datasets.load("theophylline").records[["ID", "TIME", "DV", "AMT", "WT"]]
    own = records.rename(columns={"ID": "Subject", "TIME": "Hours", "DV": "Conc", "AMT": "Dose"})
    own.to_csv(tmp_path / "study.csv", index=False, na_rep=".")
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(90_000)
    page.goto(app(theme))
    page.get_by_text("1. Data").wait_for()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload").click()
    chooser.value.set_files(tmp_path / "study.csv")
    page.get_by_text("12 subjects, 132 observations, 12 doses").wait_for()
    page.get_by_placeholder("e.g. oral").fill("oral 1 compartment")
    page.get_by_text("d depot/dt").wait_for()
    page.screenshot(path=pictures / f"app-start-{theme}.png")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("Starting values by").wait_for()
    page.get_by_role("button", name="Start").click()
    page.get_by_text("OFV 104.32").first.wait_for()
    page.screenshot(path=pictures / f"app-fit-{theme}.png")
    page.close()
    assert errors == []
