"""Starting values, against published estimates and the truth of simulated studies, from declarations orders off."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.studies.from_nca import _absorption


def test_theophylline_is_found_from_declared_values_orders_of_magnitude_off(theophylline):
    # FOCEI estimates (nlmixr2 theo_sd, shared/reference/theophylline_onecmt_nlmixr2): ka 1.59, CL 2.75, V 31.8,
    # omegas 0.63, 0.26, 0.14, additive 0.69.  A start is good within a third of each.
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(0.05, sd=0.3), CL=nw.LogNormal(200, sd=0.3), V=nw.LogNormal(1, sd=0.3), residual=nw.Additive(9)
    )
    guess = model.guess(theophylline)
    published = {
        "ka": 1.59,
        "CL": 2.75,
        "V": 31.8,
        "omega_ka": 0.63,
        "omega_CL": 0.26,
        "omega_V": 0.14,
        "additive": 0.69,
    }
    table = guess.table()
    for name, value in published.items():
        assert table.loc[name, "guessed"] == pytest.approx(value, rel=1 / 3), name
    assert table.loc["CL", "declared"] == 200
    assert table.loc["CL", "how"].startswith("pooled fit from NCA (NCA: 2.9")
    assert guess.model.fit(theophylline, method="focei").ofv == pytest.approx(116.80367, abs=1e-3)


def test_phenobarbital_is_found_without_a_usable_nca():
    # NONMEM's FOCEI (shared/reference/phenobarbital_simple_FOCEI): CL 0.0058, V 1.45, omegas 0.33 and 0.45.
    model = nw.library.iv_bolus_1cpt(
        CL=nw.LogNormal(1, sd=0.3), V=nw.LogNormal(100, sd=0.3), residual=nw.Proportional(0.5)
    )
    values = model.guess(nw.datasets.load("phenobarbital")).table()["guessed"]
    published = {"CL": 0.0058, "V": 1.45, "omega_CL": 0.33, "omega_V": 0.45, "proportional": 0.128}
    for name, value in published.items():
        assert values[name] == pytest.approx(value, rel=1 / 3), name


def test_growth_without_doses_is_found_by_the_global_search():
    # Pinheiro & Bates (2000), §8.1: asymptote 192, midpoint 728, scale 348, SD of the asymptote 31.5, residual 7.8.
    model = nw.library.logistic_growth(
        asym=nw.Normal(1, sd=1), mid=nw.Normal(10, sd=0), scale=nw.Normal(5, sd=0), residual=nw.Additive(1)
    )
    guess = model.guess(nw.datasets.load("orange"))
    values = guess.table()["guessed"]
    published = {"asym": 192.0, "mid": 728.0, "scale": 348.0, "omega_asym": 31.5, "additive": 7.8}
    for name, value in published.items():
        assert values[name] == pytest.approx(value, rel=0.1), name
    assert guess.message.startswith("Global search of the pooled data")


def test_tuning_curves_are_found_though_most_candidates_miss_the_peak():
    truth = nw.datasets.describe("tuning_curves").truth
    base, top, width = sp.symbols("base top width", positive=True)
    preferred = sp.Symbol("preferred", real=True)
    model = nw.Model(
        base + top * sp.exp(-(((nw.time - preferred) / width) ** 2) / 2),
        {
            base: nw.LogNormal(1, sd=0.1),
            top: nw.LogNormal(1, sd=0.1),
            preferred: nw.Normal(10, sd=1),
            width: nw.LogNormal(1, sd=0.1),
        },
        residual=nw.Additive(1),
    )
    values = model.guess(nw.datasets.load("tuning_curves")).table()["guessed"]
    for name in ("base", "top", "preferred", "width"):
        assert values[name] == pytest.approx(truth[name], rel=0.25), name
    assert values["additive"] == pytest.approx(truth["add"], rel=0.25)


def test_fixed_parameters_keep_their_values(theophylline, oral_model):
    model = oral_model().with_values({"V": 40.0, "additive": 1.0, "omega_ka": 0.5}).fix("V", "additive", "omega_ka")
    guess = model.guess(theophylline)
    row = guess.table().loc[["V", "additive", "omega_ka"]]
    assert row["guessed"].tolist() == [40.0, 1.0, 0.5]
    assert row["how"].tolist() == ["fixed"] * 3
    assert guess.model.space.is_fixed("V")


def test_the_same_seed_gives_the_same_guess():
    model = nw.library.iv_bolus_1cpt(
        CL=nw.LogNormal(1, sd=0.3), V=nw.LogNormal(9, sd=0.3), residual=nw.Proportional(0.5)
    )
    data = nw.datasets.load("phenobarbital")
    first, second = model.guess(data, seed=3), model.guess(data, seed=3)
    assert first.table()["guessed"].tolist() == second.table()["guessed"].tolist()


def test_a_search_out_of_time_or_stopped_gives_what_it_has(theophylline, oral_model):
    began = time.monotonic()
    hurried = oral_model().guess(theophylline, seconds=1e-9)
    stopped = oral_model().guess(theophylline, stop=lambda: True)
    assert time.monotonic() - began < 5.0
    for guess in (hurried, stopped):
        assert np.isfinite(guess.table()["guessed"]).all()
        assert guess.table()["guessed"][["ka", "CL", "V"]].tolist() == [1.5, 2.8, 32.0]
        assert "ended by time" in guess.message or "stopped" in guess.message
    assert "default 0.3" in hurried.table().loc["omega_ka", "how"]


def test_the_table_is_shown_as_text_and_html(theophylline, oral_model):
    guess = oral_model().guess(theophylline)
    assert "how" in repr(guess)
    assert "<table" in guess._repr_html_()
    copy = guess.table()
    copy["guessed"] = 0.0
    assert (guess.table()["guessed"] > 0).all()


@pytest.mark.parametrize("seconds", [0, -1, True, "fast", float("nan")])
def test_an_impossible_time_is_refused(theophylline, oral_model, seconds):
    with pytest.raises(nw.MethodError) as error:
        oral_model().guess(theophylline, seconds=seconds)
    assert str(error.value) == f"seconds={seconds!r} is not a time; give a positive number of seconds."


@pytest.mark.parametrize(("ka", "k"), [(1.5, 0.08), (0.3, 0.1), (20.0, 0.5)])
def test_absorption_is_that_of_the_time_of_the_peak(ka, k):
    tmax = math.log(ka / k) / (ka - k)
    assert _absorption(tmax, k) == pytest.approx(ka, rel=1e-9)
    assert _absorption(1.01 / k, k) == 2 * k  # no ka peaks so late


def test_counts_and_events_are_found_without_a_residual():
    # The truth of the simulated studies; a start is good within a third.
    treated = nw.covariate("TRT")
    base, effect, onset, rate, shape = sp.symbols("base effect onset rate shape", positive=True)
    mean = base * sp.exp(-effect * treated * (1 - sp.exp(-nw.time / onset)))
    model = nw.Model(
        {"y": nw.Poisson(mean)},
        {base: nw.LogNormal(0.1, sd=0.3), effect: nw.LogNormal(5, sd=0.3), onset: nw.LogNormal(10, sd=0)},
    )
    values = model.guess(nw.datasets.load("counts")).table()["guessed"]
    truth = nw.datasets.describe("counts").truth
    for name in ("base", "omega_base"):
        assert values[name] == pytest.approx(truth[name], rel=1 / 3), name
    cumulative = (rate * nw.time) ** shape * sp.exp(nw.theta("b_TRT", 0.1) * treated)
    model = nw.Model(
        {"y": nw.Event(hazard=sp.diff(cumulative, nw.time), cumulative=cumulative)},
        {rate: nw.LogNormal(1, sd=0), shape: nw.LogNormal(5, sd=0)},
    )
    values = model.guess(nw.datasets.load("time_to_event")).table()["guessed"]
    truth = nw.datasets.describe("time_to_event").truth
    assert values["rate"] == pytest.approx(truth["lambda"], rel=1 / 3)
    assert values["shape"] == pytest.approx(truth["shape"], rel=1 / 3)
    assert values["b_TRT"] < 0


def test_absorption_is_the_faster_where_the_data_cannot_tell():
    # Swapping ka and CL/V fits a one-compartment curve exactly as well: V alone tells them apart.
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(0.05, sd=0.3), CL=nw.LogNormal(2, sd=0.3), V=nw.LogNormal(1, sd=0.3), residual=nw.Additive(1)
    )
    data = nw.datasets.load("theophylline")
    values = model.guess(data).table()["guessed"]
    assert values["ka"] > values["CL"] / values["V"]
