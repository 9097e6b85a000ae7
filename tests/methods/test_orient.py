"""Searches that begin where the data contradict the initial values: each case once crawled, or ended elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.orient import contradicted, oriented

Case = tuple[nw.Model, nw.Data]


def simulated(model: nw.Model, times: list[float], dose: float = 0.0, subjects: int = 40) -> Case:
    """Return a model at its truth and data simulated from it."""
    rows = []
    for i in range(1, subjects + 1):
        if dose:
            rows.append({"ID": i, "TIME": 0.0, "AMT": dose, "EVID": 1, "DV": np.nan})
        rows += [{"ID": i, "TIME": t, "AMT": 0.0, "EVID": 0, "DV": 1.0} for t in times]
    frame = pd.DataFrame(rows)
    frame.loc[frame.EVID == 0, "DV"] = model.simulate(nw.Data.from_frame(frame), seed=1)["DV"].to_numpy()
    return model, nw.Data.from_frame(frame)


@pytest.fixture(scope="module")
def oral() -> Case:
    ka, cl, v = sp.symbols("ka CL V", positive=True)
    model = nw.Model(
        nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * nw.time) - sp.exp(-ka * nw.time)),
        {ka: nw.LogNormal(1.5, sd=0.4), cl: nw.LogNormal(2.8, sd=0.25), v: nw.LogNormal(32.0, sd=0.2)},
        residual=nw.Additive(0.3),
    )
    return simulated(model, [0.25, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0], dose=320.0)


@pytest.fixture(scope="module")
def decay() -> Case:
    a, k = sp.symbols("A k", positive=True)
    model = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(10.0, sd=0.3), k: nw.LogNormal(0.2, sd=0.3)},
        residual=nw.Proportional(0.1),
    )
    return simulated(model, [0.5, 2.0, 5.0, 10.0])


FAR = {
    "a residual error of a twentieth": {"A": 18.0, "k": 0.22, "omega_A": 0.58, "omega_k": 0.08, "proportional": 0.005},
    "a typical value of a twentieth": {"A": 0.5, "k": 0.27, "omega_A": 0.03, "omega_k": 0.04, "proportional": 0.11},
}


@pytest.mark.parametrize(("start", "orient"), [*((start, True) for start in FAR), (next(iter(FAR)), False)])
def test_far_searches_do_not_crawl(decay: Case, start: str, orient: bool) -> None:
    """500 iterations with full steps of a Hessian a thousand times too large once moved the residual error by half."""
    model, data = decay
    best = model.fit(data, "focei")
    far = model.with_values(FAR[start]).fit(data, "focei", orient=orient)
    assert far.converged, far.message
    assert far.ofv == pytest.approx(best.ofv, abs=1e-4)
    if orient:
        assert far.last_iteration.k <= 2 * best.last_iteration.k + 10
        assert "The data contradict the initial values" in far.message


def test_steps_have_the_unit_of_their_parameter() -> None:
    """A typical value without bounds, in hundreds, once moved by 1 at a time."""
    asym, mid, scale = sp.symbols("asym mid scale", positive=True)

    def growth(size: float) -> nw.Model:
        return nw.Model(
            size * asym / (1 + sp.exp(-(nw.time - mid) / scale)),
            {asym: nw.Normal(95.0 / size, sd=15.0 / size), mid: nw.Normal(350.0), scale: nw.Normal(175.0)},
            residual=nw.Additive(4.0),
        )

    data = nw.datasets.load("orange")
    fits = [growth(size).fit(data, "focei", orient=False) for size in (1.0, 100.0)]
    # Pinheiro & Bates (2000), §8.2: log-likelihood −131.58 of this model's Laplacian.
    for fit in fits:
        assert fit.converged, fit.message
        assert fit.ofv == pytest.approx(198.8181, abs=1e-3)
        assert fit.last_iteration.k < 150


FLIPPED = {
    "fast elimination": {"ka": 1.4, "CL": 2.7, "V": 1.6},
    "far from both": {"ka": 0.56, "CL": 4.5, "V": 35.0, "omega_V": 0.04, "additive": 0.05},
}


@pytest.mark.parametrize("start", FLIPPED)
@pytest.mark.parametrize("method", ["focei", "laplace", "saem"])
def test_of_two_optima_the_better_is_found(oral: Case, start: str, method: str) -> None:
    """Absorption and elimination changed places: a curve that fits as well with variances that do not."""
    model, data = oral
    options = {"explore": 60, "smooth": 30} if method == "saem" else {}
    best = model.fit(data, "focei" if method == "saem" else method)
    far = model.with_values(FLIPPED[start]).fit(data, method, seed=1, **options)
    assert far.converged, far.message
    assert far.estimates["ka"] == pytest.approx(best.estimates["ka"], rel=0.05)
    assert far.estimates["V"] == pytest.approx(best.estimates["V"], rel=0.05)
    if method != "saem":
        assert far.ofv == pytest.approx(best.ofv, abs=1e-3)


def test_of_two_optima_about_as_good_the_nearer_is_meant() -> None:
    """Theophylline with ka and ke exchanged has −2LL 6.5 lower and a volume of 1.7 l."""
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(0.75, sd=0.3), CL=nw.LogNormal(1.4, sd=0.15), V=nw.LogNormal(16.0, sd=0.1),
        residual=nw.Additive(0.35),
    )  # fmt: skip
    fit = model.fit(nw.datasets.load("theophylline"), "focei")
    assert fit.ofv == pytest.approx(116.8034, abs=1e-3)


def test_a_variance_far_too_small_contradicts_the_data(decay: Case) -> None:
    """SAEM once left it there: draws from a narrow prior do not show how wide it should be."""
    model, data = decay
    far = {"A": 16.6, "k": 0.087, "omega_A": 0.44, "omega_k": 0.026, "proportional": 0.16}
    fit = model.with_values(far).fit(data, "saem", seed=1, explore=60, smooth=30)
    assert fit.estimates["omega_k"] == pytest.approx(0.3, rel=0.4)
    assert fit.ofv < model.fit(data, "saem", seed=1, explore=60, smooth=30).ofv + 0.5


def test_a_simulation_that_had_not_arrived_is_not_called_converged(decay: Case) -> None:
    model, data = decay
    far = model.with_values({"k": 0.1, "omega_k": 0.02, "proportional": 0.4})
    short = {"seed": 1, "explore": 150, "smooth": 10, "orient": False}
    fit = far.fit(data, "saem", **short)
    assert fit.ofv > model.fit(data, "saem", **short).ofv + 5
    assert not fit.converged
    assert "It is not at a maximum: −2 log L falls along log k and log chol eta_k" in fit.message
    assert model.fit(data, "saem", **short).converged


@pytest.mark.parametrize("method", ["focei", "saem", "imp"])
def test_initial_values_that_suit_are_kept(oral: Case, method: str) -> None:
    model, data = oral
    short = {"focei": {"max_iterations": 1}, "saem": {"explore": 2, "smooth": 1}, "imp": {"max_iterations": 1}}[method]
    kept = model.fit(data, method, seed=1, **short)
    alone = model.fit(data, method, seed=1, orient=False, **short)
    assert "contradict" not in kept.message
    assert kept.estimates.tolist() == alone.estimates.tolist()
    problem = model.problem(data)
    eta = METHODS["focei"]().evaluate(problem, model.values).eta
    assert not contradicted(problem, model.values, eta)


def test_importance_sampling_begins_well(decay: Case) -> None:
    model, data = decay
    best = model.fit(data, "imp", seed=1, draws=64, stages=1)
    far = model.with_values(FAR["a typical value of a twentieth"]).fit(data, "imp", seed=1, draws=64, stages=1)
    assert far.converged, far.message
    assert far.ofv == pytest.approx(best.ofv, abs=0.2)


def test_fixed_parameters_stay(oral: Case) -> None:
    model, data = oral
    far = model.fix("ka", "additive").with_values({"V": 2.0}).fit(data, "focei")
    assert "The data contradict the initial values" in far.message
    assert (far.estimates["ka"], far.estimates["additive"]) == (1.5, 0.3)
    assert far.estimates["V"] == pytest.approx(32.0, rel=0.2)


def test_the_search_for_places_can_be_stopped(oral: Case) -> None:
    """It works in parts, and between them shows the start again."""
    model, data = oral
    assert len(list(oriented(model.problem(data), model.values))) >= 4


def test_a_search_can_be_kept_where_it_is(oral: Case) -> None:
    """Whoever studies optima asks for orient=False."""
    model, data = oral
    near = model.with_values(FLIPPED["fast elimination"])
    assert near.fit(data, "focei", orient=False).estimates["V"] < 4.0


def test_no_iteration_leaves_the_declared_values(oral: Case) -> None:
    model, data = oral
    far = model.with_values(FLIPPED["fast elimination"])
    fit = far.fit(data, "focei", max_iterations=0)
    assert fit.estimates.to_dict() == pytest.approx(far.space.to_dict(far.values))


def test_a_search_that_silenced_a_part_of_the_error_is_repeated(shared: Path) -> None:
    """A lag without random effect has an optimum between any two samples: here one without proportional error."""
    table = pd.read_csv(shared / "data" / "check-only" / "warfarin.csv").rename(columns=str.upper)
    data = nw.Data.from_frame(table[table["DVID"] == "cp"].drop(columns="DVID"))
    model = nw.library.oral_lag_1cpt(
        Tlag=nw.LogNormal(1.05),
        ka=nw.LogNormal(2.0, sd=0.97),
        CL=nw.LogNormal(0.063, sd=0.54),
        V=nw.LogNormal(7.05, sd=0.34),
        residual=nw.Combined(0.24, 0.1),
    )
    there = model.fit(data, "focei", orient=False)
    assert there.theta["Tlag"] > 1.5
    fit = model.fit(data, "focei")
    assert fit.converged
    assert fit.ofv < there.ofv - 200.0
    assert fit.theta["Tlag"] < 1.0
