"""Contract of a problem: predictions, densities, derivatives and simulations against plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.problem import Segments
from nlmewidgets.core.symbols import Covariate, Eta, Sigma, Theta
from tests.models import Case, cases, make

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# --------------------------------------------------------------- the plain loop


def parameters_by_hand(model: nw.Model, theta: Mapping[str, float], eta: Mapping[str, float], row: Mapping) -> dict:
    """Return every individual parameter at one record, straight from the declaration."""
    values = {}
    for symbol, value in model.parameters.items():
        if not isinstance(value, Distribution):
            values[symbol] = _number(value, theta, eta, row)
            continue
        typical = theta[symbol.name]
        s = _number(sp.sympify(value.effect), theta, eta, row) + eta.get(f"eta_{symbol.name}", 0.0)
        if isinstance(value, nw.LogNormal):
            values[symbol] = typical * math.exp(s)
        elif isinstance(value, nw.Normal):
            values[symbol] = typical + s
        elif isinstance(value, nw.ProbitNormal):
            low, width, normal = value.lower, value.upper - value.lower, NormalDist()
            values[symbol] = low + width * normal.cdf(normal.inv_cdf((typical - low) / width) + s)
        else:
            low, high = value.lower, value.upper
            odds = (typical - low) / (high - typical) * math.exp(s)
            values[symbol] = low + (high - low) * odds / (1 + odds)
    return values


@cache
def _function(expression: sp.Expr) -> tuple[list[sp.Symbol], Callable[..., float]]:
    symbols = sorted(expression.free_symbols, key=str)
    return symbols, sp.lambdify(symbols, expression, "math")


def _number(expression: sp.Expr, theta: Mapping, eta: Mapping, row: Mapping) -> float:
    symbols, function = _function(expression)
    source = {Theta: theta, Eta: eta, Covariate: row}
    return float(function(*(source[type(s)][s.name] for s in symbols)))


def predict_by_hand(case: Case, theta: Mapping[str, float], etas: pd.DataFrame) -> list[float]:
    """Return the prediction at every observation, one record and one dose at a time."""
    model = case.model
    terms = sp.Add.make_args(model.prediction)
    symbols = (*model.parameters, nw.time, nw.dose)
    with_dose = sp.lambdify(symbols, sum((x for x in terms if x.has(nw.dose)), sp.S.Zero), "math")
    without = sp.lambdify(symbols, sum((x for x in terms if not x.has(nw.dose)), sp.S.Zero), "math")
    out = []
    for label, subject in case.data.records.groupby("ID", sort=False):
        doses: list[tuple[float, float]] = []
        for row in subject.to_dict("records"):
            if row["EVID"] == 1:
                doses.append((row["TIME"], row["AMT"]))
            if row["EVID"] != 0 or row["MDV"] != 0:
                continue
            phi = parameters_by_hand(model, theta, etas.loc[label].to_dict(), row)
            values = [phi[symbol] for symbol in model.parameters]
            f = without(*values, row["TIME"], 0.0)
            for when, amount in doses:
                f += with_dose(*values, row["TIME"] - when, amount)
            out.append(float(f))
    return out


def etas_of(case: Case, seed: int) -> pd.DataFrame:
    names = list(case.model.space.eta)
    draws = np.random.default_rng(seed).normal(0, 0.4, (case.data.n_subjects, len(names)))
    return pd.DataFrame(draws, index=list(case.data.ids), columns=names)


@QUICK
@given(cases)
def test_predictions_equal_a_plain_loop_over_records_and_doses(case: Case) -> None:
    problem, etas = case.problem, etas_of(case, 1)
    typical = problem.typical(problem.space.initial.theta).slots
    f = problem.predict(problem.slots(typical, etas.to_numpy().T))
    theta = {p.name: p.value for p in problem.space.theta}
    np.testing.assert_allclose(f, predict_by_hand(case, theta, etas), rtol=1e-11)


@QUICK
@given(cases)
def test_individual_parameters_are_those_of_the_declaration(case: Case) -> None:
    problem, etas = case.problem, etas_of(case, 2)
    found = problem.individual_parameters(problem.space.initial.theta, etas.to_numpy().T)
    theta = {p.name: p.value for p in problem.space.theta}
    first = case.data.records.drop_duplicates("ID")
    block = np.searchsorted(problem.block_subjects.label, np.arange(problem.n_subjects))
    for k, row in enumerate(first.to_dict("records")):
        wanted = parameters_by_hand(case.model, theta, etas.loc[row["ID"]].to_dict(), row)
        for symbol, value in wanted.items():
            assert found[symbol.name][block[k]] == pytest.approx(value, rel=1e-12)


@QUICK
@given(cases, st.integers(0, 100))
def test_the_density_is_the_normal_density(case: Case, seed: int) -> None:
    problem = case.problem
    rng = np.random.default_rng(seed)
    f = rng.uniform(0.5, 9.0, (2, problem.n_obs))
    sigma = problem.space.initial.sigma
    names = {p.name: v for p, v in zip(problem.space.sigma, sigma, strict=True)}
    sd_of = case.model.sd.subs({s: names[s.name] for s in case.model.sd.atoms(Sigma)})
    sd = np.vectorize(lambda v: float(sd_of.subs(nw.f, v)))(f)
    wanted = -2 * stats.norm.logpdf(problem.y, f, sd) - math.log(2 * math.pi)
    per_subject = np.stack([wanted[:, problem.data.subject == i].sum(axis=1) for i in range(problem.n_subjects)], -1)
    np.testing.assert_allclose(problem.minus2ll(f, sigma), per_subject, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.abs(problem.residual_sd(f, sigma)), sd, rtol=1e-13)
    np.testing.assert_allclose(np.broadcast_to(problem.variance(f, sigma).value, f.shape), sd**2, rtol=1e-12)


# ------------------------------------------------------------------ derivatives


def extrapolated(function, x: np.ndarray, k: int, h: float) -> np.ndarray:
    """Return ∂function/∂x_k by central differences, extrapolated: error O(h⁴)."""

    def quotient(step: float) -> np.ndarray:
        up, down = x.copy(), x.copy()
        up[k] += step
        down[k] -= step
        return (function(up) - function(down)) / (2 * step)

    return (4 * quotient(h / 2) - quotient(h)) / 3


@QUICK
@given(cases)
def test_derivatives_along_slots_equal_differences(case: Case) -> None:
    problem = case.problem
    typical = problem.typical(problem.space.initial.theta).slots
    slots = problem.slots(typical, etas_of(case, 3).to_numpy().T * 0.5)
    f, first, second = problem.structure(slots, 2)
    assert first is not None
    assert second is not None
    np.testing.assert_allclose(f, problem.structure(slots, 0)[0], rtol=1e-13)
    np.testing.assert_allclose(first, problem.structure(slots, 1)[1], rtol=1e-12, atol=1e-13)
    for k in range(len(slots)):
        # h = 1e-3: truncation h⁴ ~ 1e-12, rounding eps/h ~ 1e-13, both relative to the prediction (~5).
        moved = extrapolated(lambda s: problem.structure(s, 0)[0], slots, k, 1e-3)
        np.testing.assert_allclose(first[k], moved, rtol=1e-7, atol=1e-9)
        moved = extrapolated(lambda s: problem.structure(s, 1)[1], slots, k, 1e-3)
        np.testing.assert_allclose(second[:, k], moved[: len(second)], rtol=1e-7, atol=1e-9)


@QUICK
@given(cases)
def test_the_jacobian_of_the_typical_slots_equals_differences(case: Case) -> None:
    problem = case.problem
    theta = np.array(problem.space.initial.theta)
    slots, jacobian = problem.typical(theta, jacobian=True)
    assert jacobian is not None
    assert slots.shape == (jacobian.shape[0], problem.blocks.n)
    for k in range(len(theta)):
        moved = extrapolated(lambda v: problem.typical(v).slots, theta, k, 1e-3 * max(1.0, abs(theta[k])))
        np.testing.assert_allclose(jacobian[:, k], moved, rtol=1e-8, atol=1e-10)


@QUICK
@given(cases)
def test_derivatives_of_the_density_equal_differences(case: Case) -> None:
    problem = case.problem
    sigma = np.array(problem.space.initial.sigma)
    f = np.random.default_rng(4).uniform(1.0, 8.0, problem.n_obs)
    terms = problem.newton_terms(f, sigma, gradient=True)

    def full(x: object) -> np.ndarray:
        return np.zeros_like(f) if x is None else np.broadcast_to(np.asarray(x), f.shape)

    def along_f(get) -> np.ndarray:
        return extrapolated(lambda shift: full(get(f + shift[0])), np.zeros(1), 0, 1e-3)

    def second(g: np.ndarray, s: np.ndarray = sigma):
        return problem.newton_terms(g, s, gradient=True)

    np.testing.assert_allclose(full(terms.f), along_f(lambda g: second(g).value), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(full(terms.ff), along_f(lambda g: second(g).f), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(full(terms.info_f), along_f(lambda g: second(g).info), rtol=1e-7, atol=1e-7)
    r = problem.variance(f, sigma)
    np.testing.assert_allclose(full(terms.info), 1 / full(r.value) + 0.5 * (full(r.f) / full(r.value)) ** 2, rtol=1e-11)
    for k in range(len(sigma)):
        for name, source in (("sigma", "value"), ("f_sigma", "f"), ("info_sigma", "info")):
            found = getattr(terms, name)
            moved = extrapolated(lambda s, source=source: full(getattr(second(f, s), source)), sigma, k, 1e-4)
            np.testing.assert_allclose(full(None if found is None else found[k]), moved, rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------------- records


def bolus(residual=None) -> nw.Model:
    return nw.library.iv_bolus_1cpt(
        CL=nw.LogNormal(2.0, sd=0.3), V=nw.LogNormal(20.0, sd=0.2), residual=residual or nw.Additive(0.3)
    )


def frame(rows: list[tuple]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV"])


def test_doses_add_up_and_an_observation_before_any_dose_is_zero():
    rows = [
        (1, 0.0, 0, 0.0, 0.1),
        (1, 1.0, 1, 100.0, np.nan),
        (1, 1.0, 0, 0.0, 5.0),
        (1, 2.0, 1, 50.0, np.nan),
        (1, 2.5, 1, 25.0, np.nan),
        (1, 4.0, 0, 0.0, 5.0),
        (2, 3.0, 0, 0.0, 0.2),
        (2, 4.0, 1, 10.0, np.nan),
    ]
    pred = bolus().predict(nw.Data.from_frame(frame(rows)))["PRED"].to_numpy()
    later = 5 * math.exp(-0.1 * 3) + 2.5 * math.exp(-0.1 * 2) + 1.25 * math.exp(-0.1 * 1.5)
    np.testing.assert_allclose(pred, [0.0, 5.0, later, 0.0], rtol=1e-14)


def test_superposition_is_linear_in_the_doses():
    both = [(1, 0.0, 1, 70.0, np.nan), (1, 3.0, 1, 30.0, np.nan)]
    seen = [(1, t, 0, 0.0, 1.0) for t in (3.5, 6.0, 9.0)]
    predict = lambda rows: bolus().predict(nw.Data.from_frame(frame(rows)))["PRED"].to_numpy()  # noqa: E731
    np.testing.assert_allclose(predict(both + seen), predict(both[:1] + seen) + predict(both[1:] + seen), rtol=1e-14)


def test_terms_without_dose_follow_the_clock_and_terms_with_it_the_time_since():
    k, base, slope = sp.symbols("k base slope", positive=True)
    model = nw.Model(
        base + slope * nw.time + nw.dose * sp.exp(-k * nw.time),
        {k: nw.LogNormal(0.5, sd=0.1), base: nw.Normal(3.0), slope: nw.Normal(0.2)},
        residual=nw.Additive(1.0),
    )
    rows = [(1, 1.0, 0, 0.0, 1.0), (1, 2.0, 1, 4.0, np.nan), (1, 5.0, 0, 0.0, 1.0)]
    pred = model.predict(nw.Data.from_frame(frame(rows)))["PRED"].to_numpy()
    np.testing.assert_allclose(pred, [3.2, 4.0 + 4.0 * math.exp(-1.5)], rtol=1e-14)


def test_a_record_is_predicted_with_its_own_covariates():
    case = make("oral", "additive", ("varying",), seed=5)
    problem = case.problem
    assert problem.blocks.n > problem.n_subjects
    first = case.model.parameters[sp.Symbol("ka", positive=True)]
    assert first.effect.has(Covariate)
    # Blocks are runs of equal covariates within a subject, in the order of the records.
    weight = case.data.records["WT"].to_numpy()
    changes = (np.diff(weight, prepend=np.nan) != 0) | (np.diff(case.data.record_subject, prepend=-1) != 0)
    np.testing.assert_array_equal(problem.blocks.label, (np.cumsum(changes) - 1)[case.data.observed])


@pytest.mark.parametrize("silent", [1, 2, 3])
@pytest.mark.parametrize("method", ["fo", "focei", "laplace", "agq"])
def test_a_subject_without_observations_adds_nothing_and_has_zero_etas(silent: int, method: str) -> None:
    case = make("oral", "combined", ("covariate",), seed=6, subjects=3)
    records = case.data.records
    muted = records[(records["ID"] != silent) | (records["EVID"] == 1)]
    rest = nw.Data.from_frame(muted.drop(columns="MDV"))
    assert rest.n_subjects == 3
    without = rest.subset([i for i in rest.ids if i != silent])
    assert case.model.ofv(rest, method) == pytest.approx(case.model.ofv(without, method), abs=1e-9)
    problem = case.model.problem(rest)
    parameters = problem.individual_parameters(problem.space.initial.theta, np.zeros((3, 3)))
    assert all(len(v) == problem.blocks.n for v in parameters.values())
    np.testing.assert_array_equal(np.unique(problem.block_subjects.label), [0, 1, 2])


def test_segments_sum_and_spread():
    label = np.array([0, 0, 2, 3, 3, 3])
    s = Segments(label, 5)
    x = np.arange(12.0).reshape(2, 6)
    np.testing.assert_array_equal(s(x), [[1, 0, 2, 12, 0], [13, 0, 8, 30, 0]])
    np.testing.assert_array_equal(s.spread(np.array([5.0, 6.0, 7.0, 8.0, 9.0])), [5, 5, 7, 8, 8, 8])
    np.testing.assert_array_equal(s.counts, [2, 0, 1, 3, 0])


@QUICK
@given(cases)
def test_chains_are_computed_as_if_one_by_one(case: Case) -> None:
    problem = case.problem
    typical = problem.typical(problem.space.initial.theta).slots
    eta = np.random.default_rng(7).normal(0, 0.3, (problem.n_eta, 3, problem.n_subjects))
    f = problem.predict(problem.slots(typical, eta))
    assert f.shape == (3, problem.n_obs)
    density = problem.minus2ll(f, problem.space.initial.sigma)
    for c in range(3):
        one = problem.predict(problem.slots(typical, eta[:, c]))
        np.testing.assert_array_equal(f[c], one)
        # Sums of a few numbers, in another order at most.
        np.testing.assert_allclose(density[c], problem.minus2ll(one, problem.space.initial.sigma), rtol=1e-13)


def test_a_covariate_and_a_theta_may_share_a_name():
    """They were one input of the compiled function once."""
    k = sp.Symbol("k", positive=True)
    weight, slope = nw.covariate("WT"), nw.theta("WT", 0.75)
    model = nw.Model(
        sp.exp(-k * nw.time),
        {k: nw.LogNormal(0.5, sd=0.2, effect=slope * sp.log(weight / 70))},
        residual=nw.Additive(1),
    )
    table = pd.DataFrame({"ID": [1, 2], "TIME": [1.0, 1.0], "DV": [0.5, 0.5], "WT": [70.0, 90.0]})
    pred = model.predict(nw.Data.from_frame(table))["PRED"].to_numpy()
    np.testing.assert_allclose(pred, np.exp(-0.5 * np.array([1.0, (90 / 70) ** 0.75])), rtol=1e-14)


# -------------------------------------------------------------------- simulation


def linear_case(residual: object, times: tuple[float, ...] = (0.0, 1.0, 3.0)) -> tuple[nw.Model, nw.Data]:
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(5.0, sd=1.0), b: nw.Normal(-0.4, sd=0.3)},
        correlation={(a, b): 0.5},
        residual=residual,
    )
    rows = [(i, t, 0, 0.0, 1.0) for i in (1, 2) for t in times]
    return model, nw.Data.from_frame(frame(rows))


@pytest.mark.parametrize("residual", [nw.Additive(0.5), nw.Combined(0.3, 0.2)])
def test_simulated_mean_and_variance_are_those_of_theory(residual: object) -> None:
    """Var(Y) = E[Var(Y|η)] + Var(E[Y|η]), within 5 standard errors of 40,000 replicates."""
    model, data = linear_case(residual)
    n = 40_000
    y = model.simulate(data, n, seed=3)["DV"].to_numpy().reshape(n, -1)
    t = data.time
    mean = 5.0 - 0.4 * t
    spread = 1.0 + 2 * t * 0.15 + t**2 * 0.09
    additive = getattr(residual, "sd", None) or residual.additive
    proportional = getattr(residual, "proportional", 0.0)
    noise = additive**2 + proportional**2 * (mean**2 + spread)
    np.testing.assert_array_less(np.abs(y.mean(axis=0) - mean) / np.sqrt((spread + noise) / n), 5.0)
    variance = y.var(axis=0, ddof=1)
    fourth = ((y - y.mean(axis=0)) ** 4).mean(axis=0)
    np.testing.assert_array_less(np.abs(variance - spread - noise) / np.sqrt((fourth - variance**2) / n), 5.0)
    # Two observations of one subject share its etas; those of two subjects share nothing.
    within = np.cov(y[:, 0], y[:, 2])[0, 1]
    assert within == pytest.approx(1.0 + 3.0 * 0.15, abs=5 * np.sqrt(variance[0] * variance[2] * 2 / n))
    assert np.corrcoef(y[:, 0], y[:, 3])[0, 1] == pytest.approx(0.0, abs=5 / np.sqrt(n))


def test_a_log_normal_theta_is_the_median_and_the_mean_is_larger():
    k = sp.Symbol("k", positive=True)
    model = nw.Model(k + 0 * nw.time, {k: nw.LogNormal(2.0, sd=0.8)}, residual=nw.Additive(1e-9))
    data = nw.Data.from_frame(pd.DataFrame({"ID": range(1000), "TIME": 0.0, "DV": 1.0}))
    draws = model.simulate(data, 100, seed=2)["IPRED"].to_numpy()
    n = len(draws)
    # The median's standard error is sqrt(pi/2)·sd/sqrt(n) on the log scale.
    assert np.median(np.log(draws)) == pytest.approx(math.log(2.0), abs=5 * 1.2533 * 0.8 / math.sqrt(n))
    assert draws.mean() == pytest.approx(2.0 * math.exp(0.32), abs=5 * draws.std() / math.sqrt(n))


def test_the_same_seed_gives_the_same_observations():
    case = make("oral", "combined", ("block",), seed=3)
    once, twice, other = (case.model.simulate(case.data, 2, seed=s)["DV"] for s in (4, 4, 5))
    np.testing.assert_array_equal(once, twice)
    assert (once != other).all()


# ---------------------------------------------------------------------- refusals


def test_what_is_missing_from_the_data_is_named():
    case = make("oral", "additive", ("covariate",), seed=1)
    records = case.data.records.drop(columns=["WT", "MDV"])
    with pytest.raises(nw.DataError, match="covariate 'WT', which is not in the data"):
        case.model.problem(nw.Data.from_frame(records))
    observations = records[records["EVID"] == 0].drop(columns="AMT")
    with pytest.raises(nw.DataError, match="uses dose, but the data have no dose records; name the amounts with amt="):
        bolus().problem(nw.Data.from_frame(observations))


def test_a_prediction_not_proportional_to_dose_takes_one_dose_only():
    k, half = sp.symbols("k half", positive=True)
    f = nw.dose / (half + nw.dose) * sp.exp(-k * nw.time)
    model = nw.Model(f, {k: nw.LogNormal(0.5, sd=0.1), half: nw.LogNormal(5.0)}, residual=nw.Additive(1.0))
    rows = [(7, 0.0, 1, 10.0, np.nan), (7, 1.0, 0, 0.0, 1.0)]
    pred = model.predict(nw.Data.from_frame(frame(rows)))["PRED"][0]
    assert pred == pytest.approx(10 / 15 * math.exp(-0.5), rel=1e-14)
    rows += [(7, 2.0, 1, 10.0, np.nan), (7, 3.0, 0, 0.0, 1.0)]
    with pytest.raises(nw.DataError, match="cannot be summed over doses; subject 7 has 2 doses before TIME 3"):
        model.problem(nw.Data.from_frame(frame(rows)))


def test_a_term_that_does_not_vanish_without_dose_is_refused():
    k = sp.Symbol("k", positive=True)
    with pytest.raises(nw.ModelError, match="contains dose but does not vanish at dose = 0"):
        nw.Model(sp.exp(-k * nw.time) * (1 + nw.dose), {k: nw.LogNormal(0.5, sd=0.1)}, residual=nw.Additive(1.0))


def test_a_subject_whose_objective_is_not_a_number_is_named_with_the_reason():
    k = sp.Symbol("k", positive=True)
    model = nw.Model(1 / (nw.time - 2) + k, {k: nw.LogNormal(0.5, sd=0.1)}, residual=nw.Additive(1.0))
    data = nw.Data.from_frame(pd.DataFrame({"ID": ["x", "y"], "TIME": [1.0, 2.0], "DV": [0.5, 0.5]}))
    with pytest.raises(nw.DataError, match="The prediction for subject y at TIME 2 is inf; change"):
        model.ofv(data)
    rows = [(1, 0.0, 0, 0.0, 1.0), (1, 1.0, 1, 100.0, np.nan), (1, 2.0, 0, 0.0, 4.0)]
    with pytest.raises(nw.DataError, match=r"standard deviation is 0 for subject 1 \(a prediction of 0 under"):
        bolus(nw.Proportional(0.1)).ofv(nw.Data.from_frame(frame(rows)))
