"""The maximisation step: statistics of weighted draws, and the maximum of the complete-data likelihood."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from nlmewidgets.core.parameters import Values
from nlmewidgets.methods.mstep import Plan, Statistics, maximise
from tests.models import Case, make

CASES = {
    "diagonal": ("decay", "additive", ()),
    "block": ("decay", "proportional", ("block",)),
    "covariate, fixed": ("decay", "combined", ("covariate", "fixed")),
    "no eta": ("growth", "combined1", ("no eta",)),
    "shared eta": ("decay", "custom", ("shared eta",)),
    "occasions": ("decay", "additive", ("iov",)),
}


def draws_of(case: Case, draws: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of the etas, and weights."""
    rng = np.random.default_rng(5)
    problem = case.problem
    chol = np.linalg.cholesky(problem.occasions.expand(case.model.space.initial.omega))
    eta = np.tensordot(chol, rng.standard_normal((problem.n_eta, draws, problem.n_subjects)), 1)
    weights = rng.uniform(0.2, 1.0, (draws, problem.n_subjects))
    return eta, weights / weights.sum(axis=0)


def statistics_of(
    case: Case, values: Values, eta: np.ndarray, weights: np.ndarray | None
) -> tuple[Plan, Statistics, np.ndarray]:
    """Return the plan, the statistics and the typical slots."""
    problem = case.problem
    plan = Plan.of(problem, values)
    typical = problem.typical(values.theta).slots
    f = problem.predict(problem.slots(typical, eta))
    return plan, Statistics.of(problem, plan, values, typical, eta, f, weights), typical


FIELDS = ("u", "uu", "squares", "slope", "information")


@pytest.mark.parametrize("name", CASES)
def test_a_weight_is_a_number_of_repetitions(name: str) -> None:
    case = make(*CASES[name], seed=2, subjects=9)
    values = case.model.space.initial
    eta, _ = draws_of(case, 3)
    times = np.array([1, 3, 4])
    weights = np.broadcast_to(times[:, None] / 8, eta.shape[1:])
    _, weighted, _ = statistics_of(case, values, eta, weights)
    _, repeated, _ = statistics_of(case, values, np.repeat(eta, times, axis=1), None)
    _, first, _ = statistics_of(case, values, eta[:, :1], weights[:1])
    _, others, _ = statistics_of(case, values, eta[:, 1:], weights[1:])
    for field in FIELDS:
        expected = getattr(repeated, field)
        scale = np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(getattr(weighted, field), expected, rtol=1e-9, atol=1e-12 * scale)
        np.testing.assert_allclose(getattr(first + others, field), expected, rtol=1e-9, atol=1e-12 * scale)


@pytest.mark.parametrize("name", CASES)
def test_repeated_steps_reach_the_maximum_of_the_complete_data_likelihood(name: str) -> None:
    """For given individual parameters and weights, against a likelihood written out here and SciPy."""
    case = make(*CASES[name], seed=2, subjects=30, most=8)
    problem, space = case.problem, case.model.space
    eta, weights = draws_of(case)
    values = space.initial
    plan = Plan.of(problem, values)
    individual = eta + plan.mean(problem.typical(values.theta).slots)[:, None, :]  # stay where they are

    def minus2loglik(x: np.ndarray) -> float:
        v = space.unpack(x, space.initial)
        typical = problem.typical(v.theta).slots
        e = individual - plan.mean(typical)[:, None, :]
        omega = problem.occasions.expand(v.omega)
        kept = problem.occasions.present[:, None, :] if problem.occasions.within else 1.0
        data = problem.minus2ll(problem.predict(problem.slots(typical, e)), v.sigma)
        prior = np.einsum("ads,ab,bds->ds", e * kept, np.linalg.inv(omega), e * kept)
        sizes = problem.occasions.draws
        normaliser = sum(sizes[b[0], b[0]] * np.linalg.slogdet(v.omega[np.ix_(b, b)])[1] for b in space.blocks)
        return float((weights * (data + prior)).sum() + normaliser)

    for _ in range(40):
        typical = problem.typical(values.theta).slots
        e = individual - plan.mean(typical)[:, None, :]
        f = problem.predict(problem.slots(typical, e))
        values = maximise(problem, plan, values, Statistics.of(problem, plan, values, typical, e, f, weights)).values
    found = optimize.minimize(minus2loglik, space.pack(values), method="BFGS", options={"gtol": 1e-4})
    # BFGS by differences starts there and finds nothing better than rounding.
    assert minus2loglik(space.pack(values)) - found.fun < 1e-6


def test_draws_without_weight_may_have_any_derivatives() -> None:
    """A draw far out predicts NaN: with weight 0 it changes nothing, and moves are not lost to 0·NaN."""
    case = make("growth", "combined1", ("no eta",), seed=2, subjects=9)
    values = case.model.space.initial
    eta, weights = draws_of(case, 4)
    _, expected, _ = statistics_of(case, values, eta, weights)
    wild = np.concatenate([eta, np.full((len(eta), 1, eta.shape[2]), 1e5)], axis=1)
    none = np.concatenate([weights, np.zeros((1, weights.shape[1]))])
    with np.errstate(all="ignore"):
        plan, found, _ = statistics_of(case, values, wild, none)
    assert len(plan.newton) + len(plan.newton_sigma)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), rtol=1e-12, atol=1e-12)
