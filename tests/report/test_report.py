"""The report: one file, complete, with nothing fetched from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nlmewidgets as nw
from nlmewidgets.report.gallery import EXAMPLES, counts, gallery, theophylline


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    return theophylline()


@pytest.fixture(scope="module")
def text(fit: nw.Fit, tmp_path_factory: pytest.TempPathFactory) -> str:
    seen: list[float] = []
    path = fit.report(
        tmp_path_factory.mktemp("report") / "report.html", pictures=["residuals", "influence"], progress=seen.append
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    return path.read_text(encoding="utf-8")


def test_it_holds_what_a_reviewer_asks_for(fit: nw.Fit, text: str) -> None:
    for heading in ("Model", "Data", "Estimates", "Diagnostics", "Covariates", "Influential subjects", "Provenance"):
        assert f"<h2>{heading}</h2>" in text
    assert fit.data.fingerprint in text
    assert f"{fit.ofv:.4f}" in text
    assert nw.__version__ in text
    for name, value in fit.estimates.items():
        assert f"<th class='text'>{name}</th>" in text
        assert f"<td>{value:.4g}</td>" in text
    assert text.count("<math ") >= 2 * 6
    assert text.count("<svg ") == 2
    assert "&lt;" not in re.findall(r"<svg.*?</svg>", text, re.DOTALL)[0][:200]


def test_nothing_is_fetched_from_elsewhere(text: str) -> None:
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", text)
    assert links
    assert all(link.startswith("#") for link in links)
    assert "<script" not in text
    assert "@import" not in text


def test_a_count_model_has_one_too_and_hostile_names_stay_text(tmp_path: Path) -> None:
    fit = counts()
    path = fit.report(
        tmp_path / "a.html", title="<script>alert(1)</script>", pictures=["residuals", "eta-distribution"]
    )
    text = path.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "Not drawn: No observation is measured and normal" in text


def test_what_cannot_be_written_is_said(fit: nw.Fit, tmp_path: Path) -> None:
    with pytest.raises(nw.NlmeError, match="there are observed-predicted"):
        fit.report(tmp_path / "a.html", pictures=["gof"])
    with pytest.raises(nw.NlmeError, match="cannot be written"):
        fit.report(tmp_path / "none" / "a.html", pictures=[])


def test_the_gallery_shows_an_example_with_both_sentences() -> None:
    make, _ = EXAMPLES["Counts"]
    page = gallery({"Counts": (make, ("eta-distribution",))})
    assert page.count("<figure>") == page.count("<b>Reading.</b>") == page.count("<b>Beware.</b>") == 1
    shown = {name for _, names in EXAMPLES.values() for name in names}
    assert shown == set(nw.pictures.PICTURES)
