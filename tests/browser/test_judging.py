"""The linked diagnostics as a person meets them: one subject lit up everywhere, in both themes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("nlmewidgets_pages", Path(__file__).with_name("pages.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
pages = sys.modules.setdefault("nlmewidgets_pages", importlib.util.module_from_spec(_SPEC))
_SPEC.loader.exec_module(pages)

SETUP = """\
import nlmewidgets as nw
data = nw.datasets.load("theophylline")
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
    residual=nw.Additive(0.7), name="Theophylline",
)
explorer = nw.explore(model, data)
explorer
"""


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_linked_diagnostics_are_readable_in_both_themes(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    notebook.theme(theme)
    notebook.execute("explorer.start().wait(); explorer.excluded = (9,)")
    notebook.execute("explorer.panel = 'diagnostics'")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('NPDE: mean')", 20_000)
    notebook.execute("explorer.selected_ids = (5,)")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('individual curve')", 20_000)
    notebook.settle()
    short = "dark" if "Dark" in theme else "light"
    page.locator(".nlme").first.screenshot(path=pictures / f"diagnostics-{short}.png")
    assert pages.unreadable(page) == []
    assert pages.clipped(page) == []
