"""The panels about the objective, its integral, its variance and a design, as a person sees them, in both themes."""

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

THEMES = pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])


def shoot(notebook, pictures, name: str, theme: str) -> None:
    """Take a picture of the explorer, which must be readable."""
    notebook.settle()
    short = "dark" if "Dark" in theme else "light"
    notebook.page.locator(".nlme").first.screenshot(path=pictures / f"{name}-{short}.png")
    assert pages.unreadable(notebook.page) == []
    assert pages.clipped(notebook.page) == []


@THEMES
def test_a_surface_with_the_way_of_the_fit_and_a_click(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    notebook.theme(theme)
    notebook.execute("explorer.start().wait(); explorer.panel = 'surface'")
    notebook.execute("panel = explorer.panels['surface']; panel.second.value = 'V'; panel.start(); panel.wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('33 × 33 points')", 20_000)
    shoot(notebook, pictures, "surface", theme)
    before = notebook.execute("print(explorer.params['ka'], explorer.params['V'])")
    box = page.locator(".nlme .bqplot:visible image").last.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    notebook.settle()
    after = notebook.execute("print(explorer.params['ka'], explorer.params['V'])")
    was, now = ([float(v) for v in text.split()] for text in (before, after))
    axes = notebook.execute("print(*[a[k] for a in panel.surface.axes for k in (0, -1)])")
    low, high, bottom, top = (float(v) for v in axes.split())
    assert was != now
    assert now[0] == pytest.approx(low * (high / low) ** 0.25, rel=0.02)
    assert now[1] == pytest.approx(bottom * (top / bottom) ** 0.75, rel=0.02)
