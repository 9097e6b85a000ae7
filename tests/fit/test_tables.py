"""Tables out of a fit: CSV with every digit, LaTeX with every special character escaped."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.tables import escaped


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    model = nw.Model(
        "asym/(1 + exp(-(t - mid_t)/scale))",
        {"asym": nw.Normal(190, sd=30), "mid_t": nw.LogNormal(700), "scale": nw.LogNormal(340, fixed=True)},
        residual=nw.Additive(8),
        name="Growth & 100 %",
    )
    return model.fit(nw.datasets.load("orange"), "focei")


def test_csv_gives_back_the_summary_to_the_last_digit(fit, tmp_path) -> None:
    text = fit.to_csv(tmp_path / "e.csv")
    assert (tmp_path / "e.csv").read_text(encoding="utf-8") == text
    read = pd.read_csv(io.StringIO(text), index_col="parameter")
    numbers = ["initial", "estimate", "se", "rse_%", "shrinkage_%"]
    pd.testing.assert_frame_equal(read[numbers], fit.summary()[numbers], rtol=1e-15, atol=0, check_names=False)
    assert read["fixed"].tolist() == fit.summary()["fixed"].tolist()


def test_latex_has_a_row_per_parameter_and_escapes(fit) -> None:
    text = fit.to_latex()
    assert r"Growth \& 100 \%" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(fit.summary())
    assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {6}
    assert rf"mid\_t & 700 & {fit.theta['mid_t']:.4g} & {fit.se['mid_t']:.4g} & {fit.rse['mid_t']:.1f} & --" in text
    assert "scale & 340 & 340 & fixed & -- & --" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    # Nothing special is left bare, but for the separators of a table and its one comment.
    body = re.sub(r"\\[&%$#_{}]", "", "\n".join(rows))
    assert not re.search(r"[%#_]", body)


def test_special_characters_are_themselves() -> None:
    assert escaped(r"a\b^c~d{e}") == r"a\textbackslash{}b\textasciicircum{}c\textasciitilde{}d\{e\}"


def test_all_tables_go_into_a_folder(fit, tmp_path) -> None:
    files = {file.name: file for file in fit.save_tables(tmp_path / "out" / "run 1")}
    assert {"estimates.csv", "estimates.tex", "residuals.csv", "eta.csv", "history.csv"} <= set(files)
    residuals = pd.read_csv(files["residuals.csv"])
    pd.testing.assert_frame_equal(residuals, fit.table(), check_dtype=False, rtol=1e-15, atol=0)
    assert len(pd.read_csv(files["history.csv"])) == len(fit.iterations)


def test_a_place_that_cannot_be_written_is_named(fit, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(nw.NlmeError, match="cannot be made"):
        fit.save_tables(tmp_path / "file" / "folder")
    with pytest.raises(nw.NlmeError, match="cannot be written"):
        fit.to_csv(tmp_path / "nowhere" / "e.csv")
