"""Importance sampling EM ends at the maximum of the likelihood, with an error it states."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.importance import evaluate_importance
from nlmewidgets.methods.quadrature import evaluate_quadrature
from tests.methods.test_saem import declared, maximum
from tests.models import Case, make
from tests.reference.test_blq import CASE, logarithms_as_concentrations, two_compartments

EXACT_THEOPHYLLINE = 360.700740452943 - 132 * np.log(2 * np.pi)
"""An independent quadrature's maximum: tests/reference/exact_theophylline_mg.toml."""


def away(case: Case, distance: float = 0.5) -> nw.Model:
    """Return the model at starting values up to a factor e^distance off."""
    space = case.model.space
    x = space.pack(space.initial)
    return case.model.with_values(
        space.unpack(x + np.random.default_rng(2).uniform(-distance, distance, len(x)), space.initial)
    )


# --------------------------------------------------------------------- the maximum


@pytest.mark.parametrize("seed", [1, 2])
def test_theophylline_is_at_the_published_maximum(seed: int, theophylline: nw.Data, oral_model) -> None:
    fit = oral_model(ka=nw.LogNormal(1.0, sd=0.3), CL=nw.LogNormal(4.0, sd=0.5)).fit(theophylline, "imp", seed=seed)
    assert fit.converged
    reached = fit.yardstick(by="agq", error=0.01)
    # Within the tolerance of the last stage, and what 1,152 draws a subject leave.
    assert -1e-3 < reached.ofv - EXACT_THEOPHYLLINE < 0.02
    assert abs(fit.ofv - reached.ofv) < 4 * fit.arrays["minus2ll_error"][0] + reached.error


@pytest.mark.parametrize("name", ["diagonal", "normal and logit-normal", "a theta of two parameters"])
def test_simulated_problems_are_at_the_maximum_of_quadrature(name: str) -> None:
    case = declared(name)
    fit = away(case).fit(case.data, "imp", seed=1)
    assert fit.converged
    reached = evaluate_quadrature(case.problem, fit.values, 9).ofv
    best = min(maximum(case, fit, 9), reached)
    assert reached - best < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["block", "no eta on one parameter", "shared eta", "time-varying covariate", "a theta used twice over"]
)
def test_every_kind_of_parameter_reaches_its_maximum(name: str) -> None:
    case = declared(name)
    fit = away(case).fit(case.data, "imp", seed=1)
    saem = away(case).fit(case.data, "saem", seed=1)
    own, other = (evaluate_quadrature(case.problem, f.values, 21).ofv for f in (fit, saem))
    assert own < other + 0.05


def test_counts() -> None:
    a, b = sp.symbols("a b", real=True)
    parameters = {a: nw.Normal(1.0, sd=0.5), b: nw.Normal(-0.2, sd=0.3)}
    model = nw.Model({"y": nw.Poisson(sp.exp(a + b * nw.time))}, parameters)
    table = pd.DataFrame({"ID": np.repeat(np.arange(40), 6), "TIME": np.tile(np.arange(6.0), 40), "DV": 1.0})
    table["DV"] = model.simulate(nw.Data.from_frame(table), seed=4)["DV"].to_numpy()
    case = Case(model, nw.Data.from_frame(table), "counts")
    fit = away(case).fit(case.data, "imp", seed=1)
    assert fit.converged
    reached = evaluate_quadrature(case.problem, fit.values, 11).ofv
    assert reached - min(maximum(case, fit, 11), reached) < 0.03


def test_occasions() -> None:
    """Eight random effects and few draws: the objective is not flattered by proposals made of its own draws."""
    case = make("decay", "additive", ("iov",), seed=6, subjects=20, most=6)
    assert case.problem.n_eta == 8
    last = None
    for it in nw.stream(away(case, 0.3), case.data, "imp", seed=1, max_iterations=6):
        quadrature = evaluate_quadrature(case.problem, it.values, 7).ofv
        assert abs(it.ofv - quadrature) < 4.5 * it.details["error"]
        assert last is None or quadrature < last
        last = quadrature


@pytest.mark.slow
def test_occasions_reach_their_maximum() -> None:
    case = make("decay", "additive", ("iov",), seed=6, subjects=30, most=8)
    fit = away(case, 0.3).fit(case.data, "imp", seed=1)
    reached = evaluate_quadrature(case.problem, fit.values, 7).ofv
    # The omega of A goes almost to zero, which EM approaches without ever getting there.
    assert reached - min(maximum(case, fit, 7), reached) < 0.25


@pytest.mark.slow
def test_nonmems_importance_sampling_estimates(shared: Path) -> None:
    folder = shared / CASE
    final = json.loads((folder / "expected.json").read_text())["results"]["ad3tr4_loqb_imp"]["steps"][-1]["final"]
    data = logarithms_as_concentrations(folder)
    fit = two_compartments().fit(data, "imp", seed=1)
    nonmem = Values(np.array(final["theta"][:4]), np.array(final["omega"]), np.array(final["theta"][4:]))
    assert fit.converged
    own, other = (evaluate_importance(fit.problem, v, error=0.05) for v in (fit.values, nonmem))
    # At least as likely as NONMEM's, within the Monte Carlo error; a standard error is 0.05 (sigma: 0.02).
    assert own.ofv < other.ofv + 3 * np.hypot(own.ofv_error, other.ofv_error)
    np.testing.assert_allclose(fit.values.theta, nonmem.theta, atol=0.025)
    np.testing.assert_allclose(fit.values.sigma, nonmem.sigma, atol=0.01)


# --------------------------------------------------------------------- what it leaves


def test_conditional_moments_and_error_are_those_of_the_evaluation(theophylline: nw.Data, oral_model) -> None:
    fit = oral_model().fit(theophylline, "imp", seed=1, stages=1)
    found = evaluate_importance(fit.problem, fit.values)
    np.testing.assert_array_equal(fit.arrays["conditional_mean"], found.mean)
    sd = np.sqrt(np.einsum("naa->an", found.covariance))
    np.testing.assert_allclose(fit.arrays["conditional_sd"], sd, rtol=1e-12)
    np.testing.assert_array_equal(fit.arrays["ess"], found.ess)
    assert fit.arrays["minus2ll_error"][0] == found.ofv_error <= 0.05
    assert fit.ofv == found.ofv
    assert fit.ofv_by == f"imp, {found.draws} draws"
    modes = METHODS["laplace"]().evaluate(fit.problem, fit.values).eta
    np.testing.assert_allclose(fit.etas, modes.T, atol=1e-3)


def test_within_a_stage_the_objective_falls(theophylline: nw.Data, oral_model) -> None:
    start = oral_model(ka=nw.LogNormal(0.8, sd=0.3), CL=nw.LogNormal(4.0, sd=0.5), V=nw.LogNormal(45.0, sd=0.5))
    history = start.fit(theophylline, "imp", seed=1, tolerance=1e-3).history
    stages = [group["ofv"].to_numpy() for _, group in history.groupby("phase", sort=False)]
    assert len(stages) == 2
    for ofv in stages:
        assert (np.diff(ofv) < 0.02).all()  # proposals change, and with them what the same numbers say
    # The first stages end where the last one's draws find little to improve.
    assert stages[1][0] - stages[1][-1] < 0.1


def test_resuming_goes_on_in_the_stage_reached(theophylline: nw.Data, oral_model) -> None:
    model, method = oral_model(), METHODS["imp"]()
    problem = model.problem(theophylline)
    last = list(nw.stream(model, theophylline, "imp", seed=1))[-1]
    again = list(method.resume(problem, last, np.random.default_rng(5)))
    assert last.arrays["stage"][0] == again[0].arrays["stage"][0] == 1
    assert again[0].values == last.values
    assert again[-1].status == "converged"
    assert len(again) <= 5
    found = [evaluate_quadrature(problem, it.values, 11).ofv for it in (last, again[-1])]
    assert abs(found[0] - found[1]) < 0.02


def test_too_few_iterations_are_said(theophylline: nw.Data, oral_model) -> None:
    fit = oral_model(ka=nw.LogNormal(0.8, sd=0.3)).fit(theophylline, "imp", seed=1, max_iterations=2)
    assert fit.status == "limit"
    assert fit.message.startswith("Stopped after 2 iterations, the largest number allowed, before convergence.")


def test_refusals_are_sentences(theophylline: nw.Data, oral_model) -> None:
    plain = oral_model(ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0))
    with pytest.raises(nw.MethodError, match="draws random effects and this model has none; use method='focei'"):
        plain.fit(theophylline, "imp")
    with pytest.raises(nw.MethodError, match="at least 1 and an even df"):
        oral_model().fit(theophylline, "imp", df=5)
