"""The report: one file, complete, with nothing fetched from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nlmewidgets as nw
from nlmewidgets.report.examples import counts, theophylline
from nlmewidgets.report.gallery import EXAMPLES, Shown, gallery
from nlmewidgets.report.tables import TABLES, Table


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
    page = gallery({"Counts": (make, (Shown("eta-distribution"),))}, TABLES[:1])
    assert page.count("<figure>") == page.count("<b>Reading.</b>") == page.count("<b>Beware.</b>") == 2
    assert {own.name for _, pictures in EXAMPLES.values() for own in pictures} == set(nw.pictures.PICTURES)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title)
def test_a_table_of_the_gallery_is_made(table: Table, fit: nw.Fit) -> None:
    made = table.make(fit)
    assert len(made)
    assert made.notna().any().any()


def test_the_gallery_has_every_diagnostic_of_a_fit() -> None:
    code = " ".join(table.code for table in TABLES) + " ".join(f"{name} " for name in nw.pictures.PICTURES)
    for name in nw.diagnostics.__all__:
        own = getattr(nw.diagnostics, name)
        if (
            callable(own)
            and not isinstance(own, type)
            and name != "flip_flop"  # one of the notes
            and "fit" in own.__code__.co_varnames[:1]
        ):
            assert name in code, f"{name} has no example in the gallery"
