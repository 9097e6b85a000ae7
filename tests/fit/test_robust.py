"""Data and starts that are hard: every method ends with a truthful status and a usable fit, or says why not."""

from __future__ import annotations

import threading
import time
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods import METHODS

A, K = sp.symbols("A k", positive=True)
SHORT = {"explore": 25, "smooth": 15, "nodes": 3, "iterations": 10, "draws": 20, "warmup": 10, "chains": 2}
TIMES = [0.5, 1.0, 2.0, 4.0]


def options(name: str) -> dict[str, object]:
    have = {f.name for f in fields(METHODS[name])}
    return {k: v for k, v in SHORT.items() if k in have} | (
        {"max_iterations": 60} if "max_iterations" in have else {"max_depth": 6} if "max_depth" in have else {}
    )


def model(**changes: float) -> nw.Model:
    parameters = {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.25)}
    own = nw.Model(A * sp.exp(-K * nw.time), parameters, residual=nw.Additive(0.5))
    return own.with_values(own.space.from_dict(changes)) if changes else own


def records(subjects: int = 8, seed: int = 3) -> pd.DataFrame:
    frame = pd.DataFrame({"ID": np.repeat(range(subjects), 4), "TIME": np.tile(TIMES, subjects), "DV": 1.0})
    return frame.assign(DV=model().simulate(nw.Data.from_frame(frame), seed=seed)["DV"].to_numpy())


def check(fit: nw.Fit) -> nw.Fit:
    """A fit that can be used: finite numbers, a status that is true, a message in words."""
    assert fit.status in ("converged", "limit", "stopped")
    assert np.isfinite([fit.ofv, *fit.estimates, *fit.etas.ravel()]).all()
    assert fit.message.strip().endswith(".")
    assert fit.shrinkage.index[-1] == "epsilon"
    assert len(fit.table()) == fit.n_obs
    return fit


def run(name: str, own: nw.Model, frame: pd.DataFrame, **more: object) -> nw.Fit:
    return check(own.fit(nw.Data.from_frame(frame), name, seed=1, **options(name) | more))


each = pytest.mark.parametrize("name", METHODS)


@each
def test_poor_starting_values(name: str) -> None:
    poor = model(A=100.0, k=3.0, omega_A=1.5, omega_k=0.02, additive=20.0)
    fit = run(name, poor, records())
    if fit.converged and name not in ("saem", "imp", "bayes"):
        # A minimum: no worse than where the truth leads, or the message says what went to the edge.
        other = run(name, model(), records())
        assert fit.ofv <= other.ofv + 0.01 or "went to zero" in fit.message


@each
def test_subjects_with_one_observation_and_without_any(name: str) -> None:
    frame = records()
    frame = frame[(frame["ID"] > 1) | (frame["TIME"] == 1.0)]
    frame.loc[frame["ID"] == 2, "DV"] = np.nan
    fit = run(name, model(), frame)
    assert fit.n_obs == 2 + 5 * 4
    # Where nothing was observed the mode is that of the prior.
    if 2 in fit.eta.index:
        np.testing.assert_allclose(fit.eta.loc[2], 0.0, atol=1e-5)


@each
def test_one_observation_each(name: str) -> None:
    frame = records(12)
    run(name, model().fix("omega_A", "omega_k"), frame[frame["TIME"] == np.array(TIMES)[frame["ID"] % 4]])


@each
def test_variances_that_are_zero(name: str) -> None:
    truth = nw.Model(A * sp.exp(-K * nw.time), {A: nw.LogNormal(10.0), K: nw.LogNormal(0.3)}, residual=nw.Additive(0.5))
    frame = records()
    frame["DV"] = truth.simulate(nw.Data.from_frame(frame), seed=1)["DV"].to_numpy()
    fit = run(name, model(), frame)
    assert fit.estimates[["omega_A", "omega_k"]].max() < 0.25
    # A model without any random effect is a fit, or a refusal with the remedy.
    try:
        run(name, truth, frame)
    except nw.MethodError as error:
        assert "random effects" in str(error)  # noqa: PT017


@each
def test_an_outlier(name: str) -> None:
    frame = records()
    frame.loc[5, "DV"] = 500.0
    run(name, model(), frame)


@each
def test_a_likelihood_that_is_nearly_flat(name: str) -> None:
    start = pd.DataFrame({"ID": np.repeat(range(6), 3), "TIME": np.tile([1e-4, 2e-4, 3e-4], 6)})
    frame = start.assign(DV=model().simulate(nw.Data.from_frame(start.assign(DV=1.0)), seed=2)["DV"].to_numpy())
    run(name, model(), frame)


@each
def test_a_subject_without_a_number_is_left_out_and_named(name: str) -> None:
    frame = records().assign(Z=lambda f: np.where(f["ID"] == 4, -1.0, 1.0))
    effect = nw.theta("b", 0.1, fixed=True) * sp.sqrt(nw.covariate("Z"))
    parameters = {A: nw.LogNormal(10.0, sd=0.3, effect=effect), K: nw.LogNormal(0.3, sd=0.25)}
    own = nw.Model(A * sp.exp(-K * nw.time), parameters, residual=nw.Additive(0.5))
    fit = run(name, own, frame)
    assert list(fit.excluded) == [4]
    assert "Subject 4 is left out" in fit.message


@each
@pytest.mark.parametrize("end", ["stop", "time", "interrupt"])
def test_what_ends_a_fit_early_leaves_it_usable(name: str, end: str) -> None:
    stop = threading.Event()
    ended: list[float] = []

    def callback(it: nw.Iteration) -> None:
        if it.k == 1 and not ended:
            ended.append(time.monotonic())
            if end == "interrupt":
                raise KeyboardInterrupt
            stop.set()

    limit = {"time_limit": 0.0} if end == "time" else {"stop": stop, "callback": callback}
    fit = check(model().fit(nw.Data.from_frame(records()), name, seed=1, **limit))
    assert fit.status == "stopped"
    assert len(fit.history) == (1 if end == "time" else 2)
    assert np.isfinite(fit.loglik)
    if ended:
        assert time.monotonic() - ended[0] < 5.0  # a guard for slow machines; a second is the aim


@each
def test_a_large_problem_stops_soon(name: str) -> None:
    """800 subjects: the clock runs from the stop to the fit in hand."""
    frame = records(800)
    stop, asked = threading.Event(), []

    def ask() -> None:
        asked.append(time.process_time())
        stop.set()

    timer = threading.Timer(0.25, ask)
    timer.start()
    fit = check(model().fit(nw.Data.from_frame(frame), name, seed=1, stop=stop))
    spent = time.process_time() - asked[0] if asked else 0.0
    timer.cancel()
    assert fit.status == "stopped" or fit.converged
    assert spent < 2.0, f"{name}: {spent:.2f} s of processor time after the stop"


# ------------------------------------------------------------------- likelihoods without a maximum, other units


def predose(value: float, theophylline: nw.Data) -> nw.Data:
    """Theophylline with this measured before every dose."""
    table = theophylline.records
    before = (table["TIME"] == 0) & (table["EVID"] == 0)
    return nw.Data.from_frame(table.assign(DV=table["DV"].mask(before, value)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["focei", "laplace", "saem"])
def test_data_that_are_predicted_exactly_are_named(name: str, oral_model, theophylline: nw.Data) -> None:
    # 0 before the dose, and a prediction of 0: its density grows without bound as the additive error vanishes.
    combined = oral_model(nw.Combined(0.3, 0.1))
    zeros = predose(0.0, theophylline)
    fit = combined.fit(zeros, name, seed=1, **options(name))
    assert fit.status == "limit"
    assert fit.message.startswith(
        "The likelihood has no maximum: DV = 0 of subject 1 at TIME 0 is predicted exactly (12 such observations), so "
        "that its density grows without bound as additive goes to 0;"
    )


def test_data_that_are_predicted_exactly_do_no_harm_where_all_share_one_error(
    oral_model, theophylline: nw.Data
) -> None:
    fit = oral_model(nw.Additive(500.0)).fit(predose(0.0, theophylline), "focei")
    assert fit.converged
    assert "no maximum" not in fit.message


def test_initial_values_of_another_unit_of_time(oral_model, theophylline: nw.Data) -> None:
    # Seconds, and rates per hour: at the initial values every prediction is 0, and so is a proportional error.
    seconds = nw.Data.from_frame(theophylline.records.assign(TIME=3600.0 * theophylline.records["TIME"]))
    model = oral_model(nw.Combined(0.3, 0.1))
    hours, fit = model.fit(theophylline, "focei"), model.fit(seconds, "focei")
    assert fit.converged
    assert fit.ofv == pytest.approx(hours.ofv, abs=1e-5)
    assert 3600.0 * fit.theta["CL"] == pytest.approx(hours.theta["CL"], rel=1e-3)
