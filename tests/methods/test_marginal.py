"""Contract of the approximations: exact where they must be, and the same whatever the order of subjects."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

import nlmewidgets as nw
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.quadrature import evaluate_quadrature, nodes_within
from tests.models import Case, cases, make

DETERMINISTIC = ("fo", "foi", "foce", "focei", "laplace", "agq")


# ---------------------------------------------------------------- linear models


def linear_case(seed: int, *, block: bool, covariate: bool) -> Case:
    """Return y = a + b·t (+ an effect on a) + ε with random intercept and slope, simulated."""
    a, b = sp.symbols("a b", real=True)
    effect = nw.theta("beta", 0.05) * (nw.covariate("WT") - 70) if covariate else 0
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(5.0, sd=1.2, effect=effect), b: nw.Normal(-0.4, sd=0.3)},
        correlation={(a, b): -0.5} if block else {},
        residual=nw.Additive(0.7),
    )
    rng = np.random.default_rng(seed)
    rows = [(i, t, 0.0, w) for i in range(7) for w in (rng.uniform(50, 90),) for t in np.sort(rng.uniform(0, 6, i + 1))]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "DV", "WT"])
    table["DV"] = model.simulate(nw.Data.from_frame(table), seed=seed)["DV"].to_numpy()
    return Case(model, nw.Data.from_frame(table), "linear")


def exact_minus2ll(case: Case) -> float:
    """Return −2 log L without n·log 2π from SciPy's multivariate normal density."""
    values = case.model.values
    records = case.data.records
    beta = dict(zip([p.name for p in case.model.space.theta], values.theta, strict=True))
    total = 0.0
    for _, subject in records.groupby("ID"):
        t, y = subject["TIME"].to_numpy(), subject["DV"].to_numpy()
        z = np.stack([np.ones_like(t), t], axis=1)
        mean = beta["a"] + beta["b"] * t
        if "beta" in beta:
            mean = mean + beta["beta"] * (subject["WT"].to_numpy() - 70)
        covariance = z @ values.omega @ z.T + values.sigma[0] ** 2 * np.eye(len(t))
        total += -2 * stats.multivariate_normal.logpdf(y, mean, covariance)
    return total - len(records) * math.log(2 * math.pi)


@pytest.mark.parametrize("method", DETERMINISTIC)
@settings(max_examples=7, deadline=None)
@given(seed=st.integers(0, 10_000), block=st.booleans(), covariate=st.booleans())
def test_for_a_linear_model_every_method_is_the_normal_density(method: str, seed: int, block: bool, covariate: bool):
    case = linear_case(seed, block=block, covariate=covariate)
    assert case.model.ofv(case.data, method) == pytest.approx(exact_minus2ll(case), abs=1e-8)


def test_for_a_linear_model_fo_and_focei_end_at_the_same_estimates():
    case = linear_case(3, block=True, covariate=True)
    fits = [case.model.fit(case.data, m) for m in ("fo", "focei")]
    assert fits[0].ofv == pytest.approx(fits[1].ofv, abs=1e-6)
    # Both within the tolerance 1e-6 of the minimum, a distance of 1e-3 standard errors.
    off = ((fits[0].estimates - fits[1].estimates) / fits[0].se).abs()
    # One variance went to zero: it has no standard error, nor has its correlation, and the reason is given.
    assert list(off.index[off.isna()]) == ["omega_a", "corr_a_b"]
    assert fits[0].uncertainty.message.startswith("omega_a is at zero and has no standard error")
    assert (off.dropna() < 0.01).all()


# --------------------------------------------------------------------- identity


@pytest.mark.parametrize("method", DETERMINISTIC)
@settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases, seed=st.integers(0, 1000))
def test_the_order_of_subjects_changes_nothing_but_rounding(method: str, case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(case.data.n_subjects)
    records = case.data.records
    ids = list(case.data.ids)
    shuffled = pd.concat([records[records["ID"] == ids[i]] for i in order], ignore_index=True)
    data = nw.Data.from_frame(shuffled)
    assert list(data.ids) == [ids[i] for i in order]
    options = {"nodes": 3} if method == "agq" else {}
    chosen = METHODS[method].with_options(options)
    one = chosen.evaluate(case.problem, case.model.values)
    two = chosen.evaluate(case.model.problem(data), case.model.values)
    np.testing.assert_allclose(two.per_subject, one.per_subject[order], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", DETERMINISTIC)
def test_subjects_add_up(method: str) -> None:
    case = make("oral", "combined", ("block",), seed=2)
    parts = [case.model.ofv(case.data.subset([i]), method) for i in case.data.ids]
    assert case.model.ofv(case.data, method) == pytest.approx(sum(parts), abs=1e-9)


# ------------------------------------------------------------------ interaction


@pytest.mark.parametrize("error", ["additive", "proportional", "combined", "combined1", "power"])
def test_foi_is_the_normal_density_with_the_variance_of_the_linearised_model(error: str) -> None:
    """The moments of y = f + Gη + Σ (h_k + h_k' Gη) ε_k, with G from differences and a dense covariance."""
    case = make("oral", "combined", ("block",), seed=7)
    errors = {
        "additive": (nw.Additive(0.4), [lambda f: 0.4]),
        "proportional": (nw.Proportional(0.2), [lambda f: 0.2 * f]),
        "combined": (nw.Combined(0.3, 0.2), [lambda f: 0.3, lambda f: 0.2 * f]),
        "combined1": (nw.Combined1(0.3, 0.2), [lambda f: 0.3 + 0.2 * f]),
        "power": (nw.Power(0.2, exponent=0.7), [lambda f: 0.2 * f**0.7]),
    }
    residual, sds = errors[error]
    model = nw.Model(case.model.prediction, case.model.parameters, residual=residual)
    problem, values = model.problem(case.data), model.values
    q, n, h = problem.n_eta, problem.n_subjects, 1e-5
    typical = problem.typical(values.theta).slots

    def predict(eta: np.ndarray) -> np.ndarray:
        return problem.predict(problem.slots(typical, np.repeat(eta[:, None], n, axis=1)))

    f = predict(np.zeros(q))
    g = np.stack([(predict(h * e) - predict(-h * e)) / (2 * h) for e in np.eye(q)], axis=1)
    total = 0.0
    for i in range(n):
        rows = problem.data.subject == i
        prior = g[rows] @ values.omega @ g[rows].T
        residuals = sum(
            s(f[rows]) ** 2 + ((s(f[rows] + h) - s(f[rows] - h)) / (2 * h)) ** 2 * np.diag(prior) for s in sds
        )
        covariance = prior + np.diag(residuals * np.ones(rows.sum()))
        total += -2 * stats.multivariate_normal.logpdf(problem.y[rows], f[rows], covariance)
    total -= problem.n_obs * math.log(2 * math.pi)
    assert model.ofv(case.data, "foi") == pytest.approx(total, abs=1e-6)
    assert (model.ofv(case.data, "foi") == pytest.approx(model.ofv(case.data, "fo"), abs=1e-9)) == (error == "additive")


# ------------------------------------------------------------------- quadrature


@pytest.mark.parametrize("error", ["additive", "proportional", "combined"])
def test_quadrature_in_one_dimension_is_scipys_integral(error: str) -> None:
    k = sp.Symbol("k", positive=True)
    model = nw.Model(
        8 * sp.exp(-k * nw.time) + 1, {k: nw.LogNormal(0.4, sd=0.8)}, residual=make("decay", error).model.residual
    )
    t = np.array([0.5, 2.0, 5.0])
    table = pd.DataFrame({"ID": 1, "TIME": t, "DV": [6.9, 5.2, 1.4]})
    data = nw.Data.from_frame(table)
    problem = model.problem(data)
    sd = model.values.omega[0, 0] ** 0.5

    def density(eta: float) -> float:
        f = problem.predict(problem.slots(problem.typical(model.values.theta).slots, np.array([[eta]])))
        minus2 = problem.minus2ll(f, model.values.sigma)[0]
        return math.exp(-0.5 * minus2) * stats.norm.pdf(eta, 0, sd)

    integral, error_bound = integrate.quad(density, -8 * sd, 8 * sd, epsabs=0, epsrel=1e-12, limit=500)
    exact = -2 * math.log(integral)
    assert error_bound < 1e-9 * integral
    errors = [abs(model.ofv(data, "agq", nodes=n) - exact) for n in (1, 5, 15, 41)]
    assert errors[-1] < 1e-6
    assert errors[-1] < errors[1] < errors[0]
    assert model.ofv(data, "laplace") == model.ofv(data, "agq", nodes=1)


def test_quadrature_in_two_dimensions_is_scipys_integral():
    case = make("decay", "combined", ("block",), seed=3, subjects=2, most=4)
    model, problem = case.model, case.problem
    values = model.values
    typical = problem.typical(values.theta).slots
    prior = stats.multivariate_normal(np.zeros(2), values.omega)
    x, w = np.polynomial.legendre.leggauss(160)
    span = 7 * np.sqrt(np.diag(values.omega))
    grid = np.stack(np.meshgrid(x * span[0], x * span[1], indexing="ij")).reshape(2, -1)
    weight = (np.multiply.outer(w, w) * span[0] * span[1]).ravel()
    eta = np.broadcast_to(grid[:, :, None], (2, grid.shape[1], problem.n_subjects))
    f = problem.predict(problem.slots(typical, eta))
    likelihood = np.exp(-0.5 * problem.minus2ll(f, values.sigma)) * prior.pdf(grid.T)[:, None]
    exact = -2 * np.log(weight @ likelihood)

    def density(b: float, a: float) -> float:
        one = np.broadcast_to(np.array([a, b])[:, None], (2, problem.n_subjects))
        g = problem.predict(problem.slots(typical, one))
        return float(np.exp(-0.5 * problem.minus2ll(g, values.sigma)[1]) * prior.pdf([a, b]))

    integral, _ = integrate.dblquad(density, -span[0], span[0], -span[1], span[1], epsrel=1e-7)
    assert -2 * math.log(integral) == pytest.approx(exact[1], abs=1e-5)
    for nodes, allowed in ((9, 1e-2), (31, 1e-5)):
        found = evaluate_quadrature(problem, values, nodes).per_subject
        np.testing.assert_allclose(found, exact, atol=allowed)


def test_quadrature_settles_as_nodes_grow(theophylline: nw.Data, oral_model) -> None:
    model = oral_model()
    ofv = [model.ofv(theophylline, "agq", nodes=n) for n in (1, 3, 7, 15, 21)]
    steps = np.abs(np.diff(ofv))
    assert (np.diff(steps) < 0).all()
    assert steps[-1] < 1e-3


def test_a_grid_that_is_too_large_is_refused_with_the_largest_that_is_not(theophylline: nw.Data, oral_model) -> None:
    with pytest.raises(nw.MethodError, match="131 nodes in 3 dimensions make .* points a subject; use at most"):
        oral_model().ofv(theophylline, "agq", nodes=131)
    assert nodes_within(3) == 15
    assert nodes_within(8) == 1
    assert all(nodes_within(q) ** q <= 5_000 for q in range(1, 9))


# ----------------------------------------------------------------------- minima


@pytest.mark.parametrize("method", ["fo", "focei"])
@pytest.mark.parametrize("error", ["additive", "combined"])
def test_a_fit_is_at_the_minimum_scipy_finds(method: str, error: str) -> None:
    case = make("oral", error, ("covariate",), seed=1, subjects=14)
    fit = case.model.fit(case.data, method)
    assert fit.converged
    space, chosen = case.model.space, METHODS[method]()

    def objective(x: np.ndarray) -> float:
        with np.errstate(all="ignore"):
            return chosen.ofv(case.problem, space.unpack(x))

    again = optimize.minimize(objective, space.pack(fit.values), method="Nelder-Mead", options={"maxfev": 400})
    # The objective promises to fall by less than 1e-6, twice in a row; a quasi-Newton promise is good to a factor.
    assert again.fun >= fit.ofv - 1e-5
    assert fit.ofv < case.model.ofv(case.data, method)


def test_the_start_does_not_decide_where_a_fit_ends(theophylline: nw.Data, oral_model) -> None:
    ends = []
    for scale in (0.4, 1.0, 2.5):
        model = oral_model(
            nw.Combined(0.5, 0.2),
            ka=nw.LogNormal(1.5 * scale, sd=0.6 * scale),
            CL=nw.LogNormal(2.8 / scale, sd=0.3),
            V=nw.LogNormal(32.0 * scale**0.5, sd=0.2 / scale),
        )
        ends.append(model.fit(theophylline).ofv)
    assert max(ends) - min(ends) < 1e-4


def test_a_model_without_random_effects_is_least_squares():
    """With additive error −2 log L = n·log(σ²) + RSS/σ²; its minimum is n·(log(RSS/n) + 1)."""
    case = make("decay", "additive", seed=5, subjects=8)
    a, k = sp.symbols("A k", positive=True)
    model = nw.Model(a * sp.exp(-k * nw.time), {a: nw.LogNormal(8.0), k: nw.LogNormal(0.25)}, residual=nw.Additive(0.4))
    t, y = case.data.time, case.data.dv
    least, _ = optimize.curve_fit(lambda t, a, k: a * np.exp(-k * t), t, y, (8.0, 0.25))
    rss = float(((y - least[0] * np.exp(-least[1] * t)) ** 2).sum())
    for method in ("fo", "focei"):
        fit = model.fit(case.data, method)
        assert fit.ofv == pytest.approx(len(y) * (math.log(rss / len(y)) + 1), abs=1e-5)
        np.testing.assert_allclose(fit.theta, least, rtol=1e-3)
        assert fit.sigma["additive"] == pytest.approx(math.sqrt(rss / len(y)), rel=1e-3)
    assert model.ofv(case.data, "laplace") == pytest.approx(model.ofv(case.data, "focei"), abs=1e-10)


def test_a_variance_the_data_do_not_show_goes_to_zero_and_is_named():
    """Subjects simulated alike: the fit ends, and says which random effect to leave out."""
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(a + b * nw.time, {a: nw.Normal(5.0, sd=1.0), b: nw.Normal(1.0, sd=0.5)}, residual=nw.Additive(0.5))
    table = pd.DataFrame([(i, float(t)) for i in range(12) for t in range(6)], columns=["ID", "TIME"])
    rng = np.random.default_rng(3)
    table["DV"] = 5 + rng.normal(0, 1, 12).repeat(6) + table["TIME"] + rng.normal(0, 0.5, len(table))
    # Slopes made exactly equal: the between-subject variance of b is estimated at its edge.
    slopes = table.groupby("ID").apply(lambda g: np.polyfit(g["TIME"], g["DV"], 1)[0]).to_numpy()
    table["DV"] -= (slopes - 1.0).repeat(6) * (table["TIME"] - 2.5)
    fit = model.fit(nw.Data.from_frame(table), "focei")
    assert fit.omega.loc["eta_b", "eta_b"] < 1e-4
    assert "omega_b went to zero" in fit.message or not fit.converged


def test_starting_values_without_a_finite_objective_are_refused(theophylline: nw.Data, oral_model) -> None:
    model = oral_model(nw.Proportional(0.1))  # the prediction at time 0 is 0
    with pytest.raises(nw.DataError, match="The residual standard deviation is 0"):
        model.ofv(theophylline)


# --------------------------------------------------------------------- two modes


@pytest.mark.parametrize("method", ["focei", "laplace"])
def test_a_converged_fit_has_no_subject_whose_mode_is_lower_from_zero(method: str) -> None:
    """A periodic prediction: a mode followed from a poor start stays in the wrong period."""
    w = sp.Symbol("w", positive=True)
    model = nw.Model(3 * sp.sin(w * nw.time), {w: nw.LogNormal(2.0, sd=0.4)}, residual=nw.Additive(0.5))
    table = pd.DataFrame({"ID": np.repeat(np.arange(12), 4), "TIME": np.tile([0.5, 1.0, 2.0, 3.0], 12), "DV": 1.0})
    table["DV"] = model.simulate(nw.Data.from_frame(table), seed=2)["DV"].to_numpy()
    data = nw.Data.from_frame(table)
    away = model.with_values({"w": 1.2, "omega_w": 0.2})
    chosen, restarted = METHODS[method](), 0
    for start in (model, away):
        steps = list(nw.stream(start, data, method, orient=False))
        assert steps[-1].status in ("converged", "limit")
        ofv = [it.ofv for it in steps]
        restarted += any(it.details["step"] == 0.0 for it in steps[1:])
        problem = start.problem(data)
        warm = chosen.evaluate(problem, steps[-1].values, steps[-1].eta)
        cold = chosen.evaluate(problem, steps[-1].values)
        assert warm.ofv == pytest.approx(ofv[-1], abs=1e-5)
        if steps[-1].status == "converged":
            assert (cold.joint >= warm.joint - 1e-5).all()
    assert restarted
