"""Where fits came from, and what two of them differ in."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.lineage import data_words, difference, origins


def declared(residual: object) -> nw.Model:
    return nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2), residual=residual
    )


@pytest.fixture(scope="module")
def fits() -> dict[str, nw.Fit]:
    data = nw.datasets.load("theophylline")
    model = declared(nw.Additive(0.7))
    first = model.fit(data, "focei")
    short = model.fit(data, "focei", max_iterations=2)
    left = data.exclude(ids=[9]).exclude(records=[20])
    return {
        "first": first,
        "fo": model.fit(data, "fo"),
        "after": first.model.fit(data, "laplace"),
        "short": short,
        "resumed": short.resume(max_iterations=500),
        "without": model.fit(left, "focei"),
        "larger": declared(nw.Combined(0.7, 0.1)).with_values(first.estimates.to_dict()).fit(data, "focei"),
        "held": model.fix("omega_V").fit(data, "focei"),
    }


def test_every_run_knows_where_it_began(fits: dict[str, nw.Fit]) -> None:
    expected = {
        "first": "own values",
        "fo": "start of 1",
        "after": "estimates of 1",
        "short": "start of 1",
        "resumed": "goes on from 4",
        "without": "start of 1",
        "larger": "estimates of 1 where shared",
        "held": "start of 1",
    }
    assert dict(zip(fits, origins(list(fits.values())), strict=True)) == expected
    assert [data_words(fits[n]) for n in ("first", "without")] == ["all", "without ID 9 and 1 observation"]


def test_changes_are_in_standard_errors_of_the_first(fits: dict[str, nw.Fit]) -> None:
    one, two = fits["first"], fits["held"]
    table = difference(one, two).estimates
    expected = (two.estimates - one.estimates) / one.se
    np.testing.assert_allclose(table["SEs"], expected)
    assert "SEs" not in difference(one, two, errors=False).estimates
    back = difference(fits["held"], one).estimates
    assert np.isnan(back.loc["omega_V", "SEs"])  # fixed there: no standard error


def test_a_test_is_made_only_where_it_may_be(fits: dict[str, nw.Fit]) -> None:
    one = fits["first"]
    found = difference(one, fits["larger"])
    test = nw.compare({"a": one, "b": fits["larger"]}).tests.iloc[0]
    assert f"likelihood ratio {test['statistic']:.2f}, {test['reference']}, p = {test['p']:.2g}" in found.verdict
    assert "The first is a special case of the second (proportional)" in found.verdict
    assert found.facts.loc["AIC", "change"] == f"{fits['larger'].aic - one.aic:+.2f}"
    assert [line[0] for line in found.code] == ["-", "+"]
    assert "Additive" in found.code[0]
    assert "Combined" in found.code[1]
    assert "The second is a special case of the first (omega_V)" in difference(one, fits["held"]).verdict
    for other, why in (
        ("fo", "different methods"),
        ("without", "different data"),
        ("short", "different methods or opt"),
    ):
        found = difference(one, fits[other], errors=False)
        assert why in found.verdict
        assert "AIC" not in found.facts.index
    assert difference(one, fits["fo"], errors=False).code == ()
    assert difference(one, fits["resumed"], errors=False).verdict.startswith("Both are of the same model")
