"""The report of several fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nlmewidgets as nw
from nlmewidgets.report.page import mathematics


def fits() -> dict[str, nw.Fit]:
    data = nw.datasets.load("theophylline")
    start = {"ka": nw.LogNormal(1.5, sd=0.6), "CL": nw.LogNormal(2.8, sd=0.3), "V": nw.LogNormal(32.0, sd=0.2)}
    plain = nw.library.oral_1cpt(**start, residual=nw.Additive(0.7))
    mixed = nw.library.oral_1cpt(**start, residual=nw.Combined(0.5, 0.1))
    return {"additive": plain.fit(data, "fo"), "combined": mixed.fit(data, "fo")}


def test_it_puts_fits_side_by_side(tmp_path: Path) -> None:
    named = fits()
    path = nw.compare(named).report(tmp_path / "runs.html", pictures=["observed-predicted"])
    text = path.read_text(encoding="utf-8")
    for heading in ("Fits on one scale", "Estimates", "Equations that differ", "Who prefers which"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count("<svg ") == 2
    one, two = (fit.estimates for fit in named.values())
    change = f"{100 * (two['CL'] / one['CL'] - 1):.4g}".replace("-", "−")
    assert f"<td>{change}</td>" in text
    assert f"−2 log L changes by {named['combined'].ofv - named['additive'].ofv:.4g};".replace("by -", "by −") in text
    # What both models say is left out: the equations of the doses, not of the residuals.
    equations = re.search(r"<section id='equations'>.*?</section>", text, re.DOTALL).group()
    assert "<math" in equations
    assert equations.count("<tr>") < 8
    assert "<script" not in text


def test_a_name_within_words_is_no_command() -> None:
    model = nw.library.oral_lag_1cpt()
    shown = mathematics(model)
    assert "lag of doses into depot" in shown.replace("&#x000A0;", " ").replace("\u00a0", " ")
    assert "\\text" not in shown


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    one, _ = fits().values()
    other = one.model.fit(one.data.subset(one.data.ids[:6]), "fo")
    with pytest.raises(nw.NlmeError, match="different data"):
        nw.report.runs([one, other], tmp_path / "a.html")
    with pytest.raises(nw.NlmeError, match="There is no picture 'gof'"):
        nw.report.runs([one, one], tmp_path / "a.html", pictures=["gof"])
