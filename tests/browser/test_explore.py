"""The environment as a person meets it: keys, clicks, threads, themes."""

from __future__ import annotations

import json
import re

import pytest

from tests.browser import lab, pages

clipped, unreadable = pages.clipped, pages.unreadable

SETUP = lab.theophylline("nw.Combined(additive=0.3, proportional=0.1)")

PATHS = "[...document.querySelectorAll('.nlme .bqplot path.line')].map(p => p.getAttribute('d')).join('|')"


def button(notebook, name: str):
    return notebook.page.locator(".nlme").first.get_by_role("button", name=name)


PAGES = {
    "1 Data": ("Profiles",),
    "2 Model": ("Equations", "Change structure"),
    "3 Initial estimates": ("Population", "Individuals"),
    "4 Fit": ("Convergence", "SAEM", "Estimates", "Race"),
    "5 Judge": ("Covariates", "Shrinkage", "Diagnostics", "Pictures", "Runs"),
    "Out": ("Code", "Link and tables"),
}
WITHOUT_AXES = (
    "Equations",
    "Change structure",
    "SAEM",
    "Estimates",
    "Race",
    "Pictures",
    "Runs",
    "Code",
    "Link and tables",
)


def turn(notebook, tab: str) -> None:
    """Go to a panel as a person does: its step, its tab."""
    step = next(step for step, tabs in PAGES.items() if tab in tabs)
    notebook.page.locator(".nlme").first.get_by_role("button", name=step, exact=True).click()
    notebook.page.get_by_role("tab", name=tab, exact=True).click()


def objective(notebook) -> str:
    return notebook.page.locator(".nlme-number").first.inner_text()


def test_a_key_on_a_slider_moves_curve_objective_and_number(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    before, paths = objective(notebook), page.evaluate(f"() => {PATHS}")
    handle = page.locator(".nlme .noUi-handle").nth(1)
    handle.focus()
    for _ in range(5):
        handle.press("ArrowRight")
    notebook.wait_for(f"{PATHS} !== {paths!r}")
    notebook.settle()
    assert objective(notebook) != before
    shown = page.locator(".nlme .nlme-parameter input").nth(1).input_value()
    assert shown == notebook.execute("print(f\"{explorer.params['CL']:.5g}\")").strip()
    assert float(shown) > 2.8
    assert "since pin" in notebook.text()


def test_looking_at_the_sliders_changes_nothing(open_notebook) -> None:
    # A front end may round what it shows and send it back, even late, after the next cell has run:
    # the estimates must survive both.
    notebook = open_notebook(SETUP, "explorer.start().wait(); explorer.take_estimates()")
    notebook.settle()
    same = "print(explorer.params == {k: float(v) for k, v in explorer.result.estimates.items()})"
    assert notebook.execute(same).strip() == "True"


def test_a_number_can_be_typed(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    field = notebook.page.locator(".nlme .nlme-parameter input").nth(2)
    field.fill("27.5")
    field.press("Enter")
    notebook.settle()
    assert notebook.execute("print(explorer.params['V'])").strip() == "27.5"


def test_a_fit_is_watched_stopped_and_taken_over_while_sliders_answer(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    page.get_by_label("Method").select_option(label="SAEM")
    notebook.settle()
    notebook.execute("explorer.method_options = {'explore': 200_000}")
    button(notebook, "Start").click()
    notebook.wait_for("/Iteration \\d{2,}/.test(document.querySelector('.nlme').innerText)")
    before = objective(notebook)
    page.locator(".nlme .noUi-handle").nth(1).press("ArrowRight")
    notebook.wait_for(f"document.querySelector('.nlme-number').innerText !== {before!r}")
    assert notebook.execute("print(explorer.running)").strip() == "True"
    button(notebook, "Stop").click()
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('Stopped by the user')", 10_000)
    notebook.settle()
    assert notebook.execute(
        "print(explorer.result.status, explorer.result.table(n=0)[['PRED', 'IPRED', 'CWRES']].notna().all().all())"
    ) == ("stopped True\n")
    button(notebook, "Take estimates").click()
    notebook.settle()
    assert notebook.execute("print(explorer.params['CL'] == explorer.result.theta['CL'])").strip() == "True"


def test_the_curve_is_dragged_by_the_mouse_in_one_step(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    button(notebook, "Drag curve").click()
    notebook.settle()
    box = page.locator(".nlme .bqplot path.dot").nth(-4).bounding_box()  # the handles are drawn last
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(10):
        page.mouse.move(x, y - 4 * k)
        page.wait_for_timeout(20)
    page.mouse.up()
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('To pass')")
    notebook.execute("explorer.wait()")
    notebook.settle()
    assert "mg/L at 5.05 h (before: 6.724): ka 1.5" in notebook.text()
    after = page.locator(".nlme .bqplot path.dot").nth(-4).bounding_box()
    assert after["x"] == pytest.approx(box["x"], abs=15)  # the axis may have grown
    level, first = notebook.execute("print(explorer.pulled.level, explorer.can_undo)").split()
    volume, second = notebook.execute("explorer.undo(); print(explorer.params['V'], explorer.can_undo)").split()
    assert 7.5 < float(level) < 9.0
    assert (first, volume, second) == ("True", "32.0", "False")


def test_ten_double_clicks_on_start_make_one_run(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    notebook.page.get_by_label("Method").select_option(label="SAEM")
    notebook.settle()
    notebook.execute("explorer.method_options = {'explore': 200_000}")
    for _ in range(10):
        button(notebook, "Start").dblclick(force=True)
    threads = "import threading; print([t.name for t in threading.enumerate()].count('nlmewidgets-fit'))"
    notebook.settle()
    assert notebook.execute(threads).strip() == "1"
    button(notebook, "Stop").click()
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('Stopped by the user')", 10_000)
    notebook.settle()
    counted = "print([it.k for it in explorer.trace] == list(range(len(explorer.trace))), len(explorer.fits))"
    assert notebook.execute(counted).strip() == "True 1"
    assert notebook.execute(threads).strip() == "0"


def test_a_kernel_killed_in_the_middle_of_a_fit_loses_nothing(open_notebook, server) -> None:
    """The cell is run again in the kernel that was started instead: sliders, selection, fits and the last iterate."""
    notebook = open_notebook(SETUP.replace("(model, data)", "(model, data, workspace='killed.json')"))
    notebook.execute("explorer.start().wait(); explorer.selected_ids = (5,); explorer.params = {'ka': 1.9}")
    notebook.execute(
        "explorer.fixed = ('V',); explorer.method = 'saem'; explorer.method_options = {'explore': 200_000}"
    )
    button(notebook, "Start").click()
    saved = "import json; print((json.load(open('killed.json'))['running'] or {}).get('ofv'))"
    while notebook.execute(saved).strip() == "None":
        notebook.page.wait_for_timeout(200)
    notebook.kill()
    last = json.loads((server.root / "killed.json").read_text("utf-8"))["running"]
    notebook.run()
    notebook.settle()
    assert "Restored from killed.json: 2 fits." in notebook.text()
    assert "A fit was cut off; its last iterate is the result" in notebook.text()
    state = (
        "print(explorer.params['ka'], explorer.selected_ids, explorer.fixed, explorer.method, explorer.method_options)"
    )
    assert notebook.execute(state).strip() == "1.9 (5,) ('V',) saem {'explore': 200000}"
    fits = "print([(f.method, f.status) for f in explorer.fits])"
    assert notebook.execute(fits).strip() == "[('focei', 'converged'), ('saem', 'stopped')]"
    assert float(notebook.execute("print(repr(float(explorer.result.ofv)))")) == last["ofv"]
    going_on = "fit = explorer.result.resume(explore=1); print(fit.trace[-1].k > explorer.result.trace[-1].k)"
    assert notebook.execute(going_on).strip() == "True"
    before = objective(notebook)
    notebook.page.locator(".nlme .noUi-handle").nth(1).press("ArrowRight")
    notebook.wait_for(f"document.querySelector('.nlme-number').innerText !== {before!r}")


def test_clicking_a_point_lights_its_subject_up(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    turn(notebook, "Covariates")
    notebook.settle()
    notebook.page.locator(".nlme .bqplot .dot_grp path.element:visible, .nlme .bqplot .element:visible").first.click()
    notebook.settle()
    chosen = notebook.execute("print(explorer.selected_ids)").strip()
    assert re.fullmatch(r"\(\d+,\)", chosen)
    turn(notebook, "Individuals")
    notebook.wait_for("document.querySelectorAll('.nlme .nlme-picked').length === 1")


def test_the_exported_cell_prints_the_objective_on_the_screen(open_notebook) -> None:
    notebook = open_notebook(SETUP)
    notebook.page.locator(".nlme .noUi-handle").first.press("ArrowRight")
    turn(notebook, "Code")
    notebook.settle()
    code = notebook.page.locator(".nlme-code textarea").input_value()
    shown = objective(notebook)
    fresh = open_notebook(code)
    printed = fresh.page.locator(".jp-OutputArea-output pre").first.inner_text()
    assert printed.strip().startswith(f"OFV {float(shown):.3f}")
    assert objective(fresh) == shown


def test_a_notebook_restarted_and_run_again_leaves_no_job_behind(open_notebook) -> None:
    notebook = open_notebook(SETUP, "explorer.method = 'saem'; explorer.method_options = {'explore': 200_000}")
    notebook.execute("explorer.start()")
    notebook.run()  # every cell again, while the first explorer's fit is running
    notebook.settle()
    alive = "import threading; print([t.name for t in threading.enumerate() if t.name.startswith('nlmewidgets')])"
    notebook.page.wait_for_timeout(500)
    assert notebook.execute(alive).strip() == "[]"


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_panel_is_readable_in_both_themes(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    notebook.theme(theme)
    short = "dark" if "Dark" in theme else "light"
    notebook.execute("explorer.method = 'saem'; explorer.start().wait(); explorer.selected_ids = (5,)")
    for tab in [tab for tabs in PAGES.values() for tab in tabs]:
        turn(notebook, tab)
        if tab not in WITHOUT_AXES:
            labels = "[...document.querySelectorAll('.nlme .bqplot text.axislabel')]"
            notebook.wait_for(f"{labels}.some(t => t.textContent && t.getClientRects().length)")
        if tab == "Pictures":
            notebook.wait_for("document.querySelector('.nlme-picture svg') !== null")
        if tab == "Runs":
            button(notebook, "One scale").click()
            notebook.wait_for("[...document.querySelectorAll('.nlme-table')].some(t => t.textContent.includes('-2LL'))")
        notebook.settle()
        page.locator(".nlme").first.screenshot(path=pictures / f"{tab.split()[0].lower()}-{short}.png")
        assert unreadable(page) == []
        assert clipped(page) == []
        labels = page.locator(".nlme .bqplot:visible text.axislabel").all_text_contents()
        assert tab in WITHOUT_AXES or any(labels)


UNUSUAL = """\
import numpy as np
import pandas as pd
import sympy as sp
import nlmewidgets as nw
shipped = nw.datasets.load("theophylline")
records = pd.concat([shipped.records.assign(ID=shipped.records["ID"] + 100 * k) for k in range(3)], ignore_index=True)
records["SEX"] = np.where(records["ID"] % 2 == 0, "female", "male")
data = nw.Data.from_frame(records, units=shipped.units)
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(6.0),
    correlation={("CL", "V"): 0.3},
    CL=nw.LogNormal(2.8, sd=0.3, effect=nw.theta("b_CL_WT", 0.75) * sp.log(nw.covariate("WT") / 70)),
)
explorer = nw.explore(model, data, method="fo")
explorer
"""


def test_categories_pages_log_axes_and_failures_are_drawn_without_an_error(open_notebook, pictures) -> None:
    notebook = open_notebook(UNUSUAL)
    states = {
        "boxes": "explorer.panel = 'covariates'; explorer.panels['covariates'].choice.value = 'SEX'",
        "several-selected": "explorer.selected_ids = (5, 106)",
        "second-page": "explorer.panel = 'individuals'; explorer.panels['individuals'].page.value = 2",
        "log-axis": "explorer.panel = 'population'; explorer.log_axis = True",
        "not-a-number": "explorer.params = {'V': 1e-300, 'CL': 1e300}",
        "failed": "explorer.start().wait()",
        "recovered": "explorer.reset()",
    }
    for name, code in states.items():
        notebook.execute(code)
        notebook.settle()
        notebook.page.locator(".nlme").first.screenshot(path=pictures / f"state-{name}.png")
        assert clipped(notebook.page) == []
    assert "Ready" not in notebook.text()
    assert "not a number" not in notebook.text()
