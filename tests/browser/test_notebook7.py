"""The same environment in Notebook 7: it opens, a slider moves the curve, a fit runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import lab

CELL = lab.theophylline("nw.Combined(additive=0.3, proportional=0.1)")
PATHS = "[...document.querySelectorAll('.nlme .bqplot path.line')].map(p => p.getAttribute('d')).join('|')"
SETTINGS = "Cannot read properties of undefined (reading 'schema')"
"""What Notebook 7 says of its own settings, with any notebook."""


@pytest.fixture
def notebook7(tmp_path) -> Iterator[Any]:
    if subprocess.run([lab.PYTHON, "-c", "import notebook"], capture_output=True).returncode:
        pytest.skip("Notebook 7 is not installed: pip install 'notebook>=7.4'")
    running = lab.Server(tmp_path, app="notebook").start()
    yield running
    running.stop()


def test_the_environment_opens_in_notebook_7(browser, notebook7, pictures: Path) -> None:
    lab.write(notebook7.root / "seven.ipynb", [CELL])
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_default_timeout(60_000)
    page.goto(f"{notebook7.url}/notebooks/seven.ipynb")
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget")
    page.evaluate(
        """async () => {
            const app = window.jupyterapp;
            await app.restored;
            await app.shell.currentWidget.context.ready;
            await app.shell.currentWidget.sessionContext.ready;
            await app.commands.execute('notebook:run-all-cells');
        }"""
    )
    assert "jp-notebook" in page.content().lower()
    page.locator(".nlme .bqplot path.line").first.wait_for(state="attached")
    page.wait_for_timeout(500)
    before = page.evaluate(f"() => {PATHS}")
    # Notebook 7 takes the arrow keys for itself, to move between cells.
    page.locator(".nlme .noUi-handle").nth(1).press("PageUp")
    page.wait_for_function(f"() => {PATHS} !== {before!r}")
    page.locator(".nlme").first.get_by_role("button", name="Start").click()
    page.get_by_text("OFV 104.32").first.wait_for()
    page.screenshot(path=pictures / "notebook-7.png")
    page.close()
    assert [e for e in errors if e != SETTINGS] == []
