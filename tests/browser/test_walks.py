"""The five steps from an uploaded file to a report: four studies, in JupyterLab and in Voilà, in light and dark.

One kernel serves the four studies of an environment: a person goes back to the start page and uploads the next file.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from tests.browser import access, lab, pages

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


OTHERS = ("Error: <rect> attribute", "shared module is not a function")
"""Errors that are not ours: bqplot's of a figure in a hidden tab (see conftest), Voilà's of an extension of its own."""
THEMES = Path(sysconfig.get_path("data")) / "share/jupyter/lab/themes/@jupyterlab"


# ------------------------------------------------------------------------------------ studies


def theophylline() -> pd.DataFrame:
    records = nw.datasets.load("theophylline").records[["ID", "TIME", "DV", "AMT", "WT"]]
    return records.rename(columns={"ID": "Subject", "TIME": "Hours", "DV": "Conc", "AMT": "Dose"})


def phenobarbital() -> pd.DataFrame:
    return nw.datasets.load("phenobarbital").records[["ID", "TIME", "AMT", "EVID", "DV", "WT", "APGAR"]]


def counts() -> pd.DataFrame:
    records = nw.datasets.load("counts").records[["ID", "TIME", "DV", "TRT"]]
    return records[records["ID"] <= 20].astype({"DV": int})


def warfarin_like() -> pd.DataFrame:
    """Concentration and effect after one oral dose, simulated: the warfarin study may not be shipped."""
    times = {"cp": (2.0, 6.0, 12.0, 24.0, 48.0, 96.0), "effect": (0.0, 24.0, 48.0, 96.0, 144.0)}
    rows: list[dict[str, Any]] = []
    for i in range(1, 7):
        rows.append({"ID": i, "TIME": 0.0, "EVID": 1, "AMT": 100.0, "DVID": "cp", "DV": np.nan, "WT": 60.0 + 5 * i})
        rows += [
            {"ID": i, "TIME": t, "EVID": 0, "AMT": 0.0, "DVID": output, "DV": 1.0, "WT": 60.0 + 5 * i}
            for output, own in times.items()
            for t in own
        ]
    plan = pd.DataFrame(rows).sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False], ignore_index=True)
    model = nw.library.indirect_response_1(ka=0.6, CL=0.14, V=8.0, base=96.0, kout=0.05, Imax=0.9, IC50=1.2)
    data = nw.Data.from_frame(plan)
    plan.loc[plan["EVID"] == 0, "DV"] = model.simulate(data, seed=3)["DV"].to_numpy().round(2)
    return plan


def lines_of_the_guide() -> list[str]:
    """Return the code of docs/guides/walk.md that does the same as the walk."""
    text = (ROOT / "docs" / "guides" / "walk.md").read_text("utf-8").split("## In nine lines")[1]
    block = text.split("```python\n")[1].split("```")[0]
    return [line for line in block.splitlines() if line]


@dataclass(frozen=True)
class Study:
    """What a person does with one file."""

    table: Callable[[], pd.DataFrame]
    read: str
    """What the page says of the file."""
    search: str
    found: str
    """Title of the structure that the search finds first."""
    method: str = "FOCEI"
    quick: bool = True
    """Else the fit is stopped by hand after the first iterations, and tables are taken instead of the report, which
    simulates and would take minutes."""


STUDIES = {
    "theophylline": Study(
        theophylline, "12 subjects, 132 observations, 12 doses", "oral 1 compartment", "first-order absorption"
    ),
    "phenobarbital": Study(phenobarbital, "59 subjects, 155 observations", "iv bolus 1 compartment", "IV bolus"),
    "pkpd": Study(
        warfarin_like,
        "6 subjects, 66 observations, 6 doses",
        "indirect response production inhibited",
        "production inhibited",
        quick=False,
    ),  # fmt: skip
    "counts": Study(counts, "20 subjects, 240 observations", "counts poisson", "Poisson", "Laplace"),
}


# -------------------------------------------------------------------------------- environments


@dataclass
class Place:
    """A page with the start page in it, and how it changes its theme."""

    name: str
    page: Any
    theme: Callable[[str], None]
    errors: list[str]


def listen(page: Any, errors: list[str], own: str) -> None:
    """Collect the errors of a page, but those of what others would fetch from the network."""

    def said(message: Any) -> None:
        elsewhere = message.location.get("url", "").startswith("http") and not message.location["url"].startswith(own)
        if message.type == "error" and not elsewhere and not any(known in message.text for known in OTHERS):
            errors.append(message.text)

    page.on("console", said)
    page.on("pageerror", lambda error: errors.append(str(error)))


@pytest.fixture(scope="module")
def jupyterlab(browser: Any, server: Any) -> Iterator[Place]:
    page = browser.new_page(viewport={"width": 1280, "height": 1900})
    errors: list[str] = []
    listen(page, errors, server.url)
    notebook = lab.Notebook.open(page, server, ["import nlmewidgets as nw\n\nnw.explore()"], "walks.ipynb")
    notebook.hide_side()
    notebook.run()
    yield Place("lab", page, lambda theme: notebook.theme(f"JupyterLab {theme.capitalize()}"), errors)
    errors += notebook.errors
    notebook.close()
    page.close()
    assert errors == []


@pytest.fixture(scope="module")
def voila(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if find_spec("voila") is None:
        pytest.skip("needs Voilà: pip install 'nlmewidgets[app]'")
    folder = tmp_path_factory.mktemp("voila")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | folders | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "nlmewidgets", "app", f"--port={port}", "--no-browser"]
    process = subprocess.Popen(command, env=environment, cwd=folder)
    deadline = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    page = browser.new_page(viewport={"width": 1280, "height": 1900})
    errors: list[str] = []
    listen(page, errors, f"http://127.0.0.1:{port}")
    page.goto(f"http://127.0.0.1:{port}/")

    def theme(name: str) -> None:
        """Give the page the other style sheet, as starting the app with --theme does."""
        sheet = (THEMES / f"theme-{name}-extension" / "index.css").read_text("utf-8")
        page.evaluate(
            """([name, sheet]) => {
                let own = document.getElementById('walk-theme');
                if (!own) { own = document.createElement('style'); own.id = 'walk-theme'; document.head.append(own); }
                own.textContent = sheet;
                document.body.dataset.jpThemeLight = String(name === 'light');
                document.body.dataset.jpThemeName = name === 'light' ? 'JupyterLab Light' : 'JupyterLab Dark';
            }""",
            [name, sheet],
        )

    yield Place("voila", page, theme, errors)
    page.close()
    process.terminate()
    process.wait(20)
    assert errors == []


@pytest.fixture(scope="session")
def axe() -> Path:
    """Return where axe-core is."""
    return access.find_axe()


# ----------------------------------------------------------------------------------- the walk


@dataclass
class Walk:
    """One person with one file."""

    place: Place
    study: str
    axe: Path
    pictures: Path
    problems: list[str] = field(default_factory=list)
    """Of all steps: a walk goes on to its end."""

    @property
    def page(self) -> Any:
        return self.place.page

    def button(self, name: str) -> Any:
        return self.page.locator(".nlme").first.get_by_role("button", name=name).first

    def settle(self) -> None:
        """Wait until nothing on the page has changed for a third of a second."""
        self.page.evaluate(
            """() => new Promise(done => {
                let last = performance.now(); const began = last;
                const seen = new MutationObserver(() => { last = performance.now(); });
                seen.observe(document.body, {childList: true, subtree: true, characterData: true});
                const look = () => {
                    const now = performance.now();
                    if (now - last < 350 && now - began < 8000) { setTimeout(look, 50); return; }
                    seen.disconnect();
                    done();
                };
                look();
            })"""
        )

    def check(self, step: str) -> None:
        """Look at the page in both themes, and at what only a machine sees."""
        self.settle()
        for theme in ("dark", "light"):  # each step ends in light, where the next one begins
            self.place.theme(theme)
            self.settle()
            name = f"walk-{self.place.name}-{self.study}-{step}-{theme}.png"
            self.page.locator(".nlme").first.screenshot(path=self.pictures / name)
            rules = ("color-contrast",) if theme == "dark" else ()
            found = access.violations(self.page, self.axe, rules)
            found += pages.unreadable(self.page)
            self.problems += [f"{step}, {theme}: {text}" for text in found]
        found = [*pages.clipped(self.page), *access.collisions(self.page), *access.unnamed(self.page)]
        self.problems += [f"{step}: {text}" for text in found]

    def turn(self, step: str, tab: str) -> None:
        self.button(step).click()
        self.page.get_by_role("tab", name=tab, exact=True).click()


def download(page: Any, link: str) -> str:
    with page.expect_download() as file:
        page.get_by_text(link).first.click()
    return Path(file.value.path()).read_text("utf-8")


LONG = {("voila", "pkpd"), ("voila", "phenobarbital")}
"""Walked by `make walks` only: each takes a minute and is walked in JupyterLab by every run."""


@pytest.mark.parametrize(
    ("where", "study"),
    [
        pytest.param(where, study, marks=[pytest.mark.slow] if (where, study) in LONG else [])
        for where in ("jupyterlab", "voila")
        for study in STUDIES
    ],
)
def test_the_five_steps_from_a_file_to_a_report(where, study, request, axe, pictures, tmp_path) -> None:
    place: Place = request.getfixturevalue(where)
    walk, own, page = Walk(place, study, axe, pictures), STUDIES[study], place.page
    page.set_default_timeout(90_000)
    file = tmp_path / f"{study}.csv"
    own.table().to_csv(file, index=False, na_rep=".")
    back = page.get_by_role("button", name="Other data or structure")
    if back.count():
        back.click()
    page.get_by_text("1. Data").wait_for()

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload").click()
    chooser.value.set_files(file)
    page.get_by_text(own.read).first.wait_for()
    page.get_by_placeholder("e.g. oral").fill(own.search)
    page.locator("h4", has_text=own.found).first.wait_for()
    walk.check("0-start")
    walk.button("Start").click()
    page.get_by_text("Starting values by").wait_for()

    walk.turn("1 Data", "Profiles")
    walk.check("1-data")
    walk.turn("2 Model", "Equations")
    walk.check("2-model")
    walk.turn("3 Initial estimates", "Population")
    walk.check("3-initial")

    walk.turn("4 Fit", "Convergence")
    page.get_by_label("Method").select_option(label=own.method)
    walk.button("Start").click()
    if not own.quick:
        page.get_by_text("Iteration 1").first.wait_for()
        walk.button("Stop").click()
    page.get_by_text("Why did it stop?").wait_for()
    walk.check("4-fit")

    walk.turn("5 Judge", "Diagnostics")
    page.get_by_text("On the dotted line").wait_for()
    if own.quick:
        page.get_by_text("Simulating …").wait_for(state="hidden")
    walk.check("5-judge")
    walk.turn("5 Judge", "Pictures")
    page.locator(".nlme-picture").locator("svg, .nlme-empty").first.wait_for()  # or why there is none
    if own.quick:
        walk.button("Report").click()
        report = download(page, "download report.html")
        assert "<svg" in report
        assert own.found in report
    walk.check("6-report")
    walk.turn("Out", "Code")
    assert "nw.explore(model, data" in page.locator(".nlme-code textarea").first.input_value()
    if not own.quick:
        page.get_by_role("tab", name="Link and tables", exact=True).click()
        walk.button("Make tables").click()
        assert "CL" in download(page, "download estimates.csv")
    walk.check("7-out")
    assert not walk.problems, "\n".join(walk.problems)
    assert place.errors == []


def test_the_same_in_under_ten_lines(open_notebook, server, pictures) -> None:
    theophylline().to_csv(server.root / "theophylline.csv", index=False)
    lines = lines_of_the_guide()
    assert len(lines) < 10
    # One cell a step, as a person would run them.
    cells = ["\n".join(lines[:2]) + "\ndata", lines[2], "\n".join(lines[3:5]), lines[5], "\n".join(lines[6:])]
    notebook = open_notebook(*cells)
    page = notebook.page
    page.set_viewport_size({"width": 1000, "height": 1780})
    page.locator(".nlme .bqplot path.line").first.wait_for(state="attached")
    notebook.settle()
    page.locator(".jp-Notebook").first.screenshot(path=pictures / "walk-code.png")
    printed = page.locator(".jp-OutputArea-output pre").all_text_contents()
    assert any("One compartment, first-order absorption by FOCEI: converged" in text for text in printed)
    assert (server.root / "report.html").exists()
