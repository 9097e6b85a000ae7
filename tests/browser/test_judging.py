"""The linked diagnostics as a person meets them: one subject lit up everywhere, in both themes."""

from __future__ import annotations

import pytest

from tests.browser import lab, pages

SETUP = lab.theophylline("nw.Additive(0.7)")


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
