"""Looking at data as a person does: tabs, clicks, both themes."""

from __future__ import annotations

import re

import pytest

from tests.browser import pages

clipped, unreadable = pages.clipped, pages.unreadable

TABS = ("Profiles", "Covariates", "Summary", "NCA")


def setup(name: str, more: str = "") -> str:
    return f"import nlmewidgets as nw\ndata = nw.datasets.load({name!r}){more}\nlook = nw.look(data)\nlook\n"


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_tab_is_readable_in_both_themes(open_notebook, pictures, theme) -> None:
    left_out = ".filter('TIME < 24.3', reason='late samples').exclude(ids=[9], reason='other dose')"
    notebook = open_notebook(setup("theophylline", left_out))
    notebook.theme(theme)
    short = "dark" if "Dark" in theme else "light"
    notebook.execute("look.selected_ids = (5,); look.panels['profiles'].by.value = 'WT'")
    for tab in TABS:
        notebook.page.get_by_role("tab", name=tab).click()
        notebook.settle()
        notebook.page.locator(".nlme").first.screenshot(path=pictures / f"look-{tab.lower()}-{short}.png")
        assert unreadable(notebook.page) == []
        assert clipped(notebook.page) == []


def test_clicking_a_point_lights_its_subject_up_in_every_tab(open_notebook) -> None:
    notebook = open_notebook(setup("theophylline"))
    notebook.settle()
    notebook.page.locator(".nlme .bqplot .element:visible").first.click()
    notebook.settle()
    chosen = notebook.execute("print(look.selected_ids)").strip()
    assert re.fullmatch(r"\(\d+,\)", chosen)
    notebook.page.get_by_role("tab", name="NCA").click()
    notebook.wait_for("document.querySelectorAll('.nlme tr.picked').length === 1")


@pytest.mark.parametrize("name", ["quinidine", "remifentanil", "orange", "pkpd_turnover", "soybean"])
def test_studies_of_every_kind_are_drawn_without_an_error(open_notebook, pictures, name) -> None:
    notebook = open_notebook(setup(name))
    states = {
        "log": "p = look.panels['profiles']; p.log.value = True; p.by.value = p.by.options[-1][1]",
        "dose": "p = look.panels['profiles']; p.per_dose.value = p.after_dose.value = bool(data.dosed.any())",
        "covariates": "look.tabs.selected_index = 1",
        "summary": "look.tabs.selected_index = 2",
        "nca": "look.tabs.selected_index = 3",
    }
    for state, code in states.items():
        notebook.execute(code)
        notebook.settle()
        notebook.page.locator(".nlme").first.screenshot(path=pictures / f"look-{name}-{state}.png")
        assert clipped(notebook.page) == []
