"""Simulation and estimation on a model whose answers are known, in its short form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.studies.simest import simest


@pytest.fixture(scope="module")
def study() -> nw.studies.SimulationStudy:
    level = sp.Symbol("a", positive=True)
    model = nw.Model(level + 0 * nw.time, {level: nw.Normal(5.0, sd=1.0)}, residual=nw.Additive(0.5))
    frame = pd.DataFrame({"ID": np.repeat(range(30), 4), "TIME": np.tile(range(4), 30), "DV": 1.0})
    methods = {"focei": {}, "saem": {"explore": 30, "smooth": 20}}
    return simest(model, nw.Data.from_frame(frame), 8, methods, starts=2, start_sets=4, seed=2)


def test_bias_and_error_are_those_of_the_mean(study: nw.studies.SimulationStudy) -> None:
    """The estimate of a is the mean of 30 subjects: unbiased, with variance (1 + 0.25/4)/30."""
    exact = 100 * np.sqrt((1 + 0.25 / 4) / 30) / 5
    for method in ("focei", "saem"):
        row = study.parameters.loc[(method, "a")]
        assert row["truth"] == 5.0
        assert abs(row["bias_%"]) < 4 * exact / np.sqrt(8)
        assert row["rmse_%"] == pytest.approx(exact, rel=4 / np.sqrt(2 * 8))
        assert row["bias_error_%"] == pytest.approx(exact / np.sqrt(8), rel=4 / np.sqrt(2 * 8))
        found = study.estimates.query("method == @method")["a"]
        assert row["bias_%"] == pytest.approx(100 * (found.mean() / 5 - 1))
        # Of 8 intervals at 95 %, about 4 in 10,000 times do 4 or more miss.
        assert row["coverage_%_R"] > 100 * 4 / 8
        assert row["fits"] == 8


def test_fits_are_counted_with_their_optima(study: nw.studies.SimulationStudy) -> None:
    assert study.fits["data sets"].tolist() == [8, 8]
    assert study.fits["random starts"].tolist() == [8, 2]
    assert study.fits.loc["focei", "at_best_%"] == 100.0
    assert study.fits.loc["focei", "converged_%"] == 100.0
    assert "coverage_%_R" in repr(study)
    assert "<table" in study._repr_html_()


def test_wrong_numbers_and_methods_are_refused(theophylline: nw.Data, oral_model) -> None:
    with pytest.raises(nw.MethodError, match="is not a whole number of data sets"):
        simest(oral_model(), theophylline, 0)
    with pytest.raises(nw.MethodError, match="There is no method 'foo'"):
        simest(oral_model(), theophylline, 1, ["foo"])


def test_failures_have_their_cause() -> None:
    level = sp.Symbol("a", real=True)
    model = nw.Model(sp.log(level) + 0 * nw.time, {level: nw.Normal(0.5, sd=0.05)}, residual=nw.Additive(0.2))
    frame = pd.DataFrame({"ID": np.repeat(range(6), 3), "TIME": np.tile(range(3), 6), "DV": 1.0})
    found = simest(model, nw.Data.from_frame(frame), 2, ["fo"], starts=6, start_sets=2, spread=2.0, seed=1)
    assert found.fits.loc["fo", "random starts"] == 12
    assert found.failures["cause"].str.contains("The prediction for subject").any()
    assert found.fits.loc["fo", "at_best_%"] < 100


def test_another_optimum_is_a_failure_with_its_cause() -> None:
    """Absorption and elimination can change places; searches kept where they start end at either."""
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.0, sd=0.3), CL=nw.LogNormal(6.0, sd=0.3), V=nw.LogNormal(10.0, sd=0.3),
        residual=nw.Additive(0.3),
    )  # fmt: skip
    times = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    frame = pd.DataFrame({"ID": np.repeat(range(15), 6), "TIME": times * 15, "DV": 1.0})
    frame["AMT"], frame["EVID"] = np.where(frame["TIME"] == 0, 100.0, 0.0), (frame["TIME"] == 0).astype(int)
    methods = {"fo": {"orient": False}}
    found = simest(model, nw.Data.from_frame(frame), 1, methods, starts=12, start_sets=1, seed=2)
    elsewhere = found.failures.set_index("cause")["fits"]["from a random start: converged at another optimum"]
    assert elsewhere >= 1
    assert found.fits.loc["fo", "at_best_%"] <= 100 * (1 - elsewhere / 12) + 1e-9
