"""The code of every guide runs, from top to bottom, with what its text presupposes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.panels.explore import Explorer

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
SLOW = {"bayes", "walk"}  # the walk is made in tests/browser/test_walks.py, too


def blocks(guide: str) -> list[str]:
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    return [block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "await" not in block]


def written() -> list[Any]:
    found = sorted(path.stem for path in GUIDES.glob("*.md") if blocks(path.stem))
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in found]


@pytest.fixture(scope="module")
def presupposed() -> dict[str, Any]:
    """Theophylline, a model of it and its fit."""
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    fit = model.fit(data)
    names = {name: sp.Symbol(name, positive=True) for name in ("ka", "CL", "V", "F1")}
    covariates = {"WT": nw.covariate("WT")}
    return (
        {"nw": nw, "data": data, "model": model, "fit": fit, "fit1": fit, "fit2": fit, "fit3": fit} | names | covariates
    )


@pytest.mark.parametrize("guide", written())
@pytest.mark.filterwarnings("ignore:More than 20 figures")
def test_the_code_of_a_guide_runs(guide: str, presupposed, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nlmewidgets.exercises._shown", {})
    mpl.use("agg")
    rows = [
        "ID,TIME,DV,AMT",
        *(f"{i},{t},{0 if t == 0 else 8 - t},{300 if t == 0 else 0}" for i in (1, 2) for t in (0, 2, 5)),
    ]
    (tmp_path / "study.csv").write_text("\n".join(rows))
    named = [row.replace("ID,TIME,DV,AMT", "patient,TIME,conc,dose_mg,where").replace("\n", "") for row in rows]
    (tmp_path / "other.csv").write_text("\n".join(named[:1] + [f"{row},1" for row in named[1:]]))
    given = dict(presupposed)
    for block in blocks(guide):
        if "import arviz" in block:
            pytest.importorskip("arviz", reason="ArviZ is not installed")
        code = block.replace('"study.csv", id=', '"other.csv", id=')
        exec(compile(code, f"{guide}.md", "exec"), given)
        for value in given.values():
            if isinstance(value, Explorer):
                value.close()
