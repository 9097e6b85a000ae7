"""Correlated residuals of two outputs, against SciPy's bivariate normal density and exact linear models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from nlmewidgets.methods.marginal import precision_of

TIMES = (0.5, 1.0, 2.0, 4.0, 8.0)


def design(subjects: int = 4, *, gap: bool = True) -> nw.Data:
    """Return two outputs at the same times; `gap`: the second is missing at some, and once measured alone."""
    rows = []
    for i in range(1, subjects + 1):
        for k, t in enumerate(TIMES):
            rows.append((i, t, "one", 10.0 + i - t))
            if not (gap and (i + k) % 3 == 0):
                rows.append((i, t, "two", 5.0 + 0.5 * i + t))
        if gap:
            rows.append((i, 9.0, "two", 14.0))
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DVID", "DV"]))


def model(one: object = None, two: object = None, rho: float = 0.4, **options: object) -> nw.Model:
    a, b, k = sp.symbols("a b k", positive=True)
    return nw.Model(
        {"one": a * sp.exp(-k * nw.time), "two": b + a * nw.time / 10},
        {a: nw.LogNormal(11.0, sd=0.3), b: nw.LogNormal(6.0, sd=0.2), k: nw.LogNormal(0.1, sd=0.3)},
        residual={"one": one or nw.Additive(0.8), "two": two or nw.Proportional(0.1)},
        residual_correlation={("one", "two"): rho},
        **options,
    )


def linear(rho: float = 0.5) -> nw.Model:
    """Return a model that is Gaussian in its random effects: every method is exact."""
    a, b = sp.symbols("a b", real=True)
    return nw.Model(
        {"one": a + b * nw.time / 5, "two": 2 * b - a},
        {a: nw.Normal(9.0, sd=1.0), b: nw.Normal(7.0, sd=0.7)},
        residual={"one": nw.Additive(0.8), "two": nw.Additive(1.1)},
        residual_correlation={("one", "two"): rho},
    )


def joint(problem: nw.core.problem.Problem, values: nw.core.parameters.Values, eta: np.ndarray) -> np.ndarray:
    """Return −2 log p(y | eta) without log 2π by SciPy, a bivariate density for each pair found here again."""
    f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
    sd = problem.residual_sd(f, values.sigma)
    data, rho = problem.data, values.sigma[-1]
    out = np.zeros(problem.n_subjects)
    for i in range(problem.n_subjects):
        rows = np.flatnonzero(data.subject == i)
        cov = np.diag(sd[rows] ** 2)
        for p, r in enumerate(rows):
            for q, s in enumerate(rows):
                if r != s and data.time[r] == data.time[s]:
                    cov[p, q] = rho * sd[r] * sd[s]
        normal = multivariate_normal(f[rows], cov)
        out[i] = -2 * normal.logpdf(data.dv[rows]) - len(rows) * np.log(2 * np.pi)
    return out


@pytest.mark.parametrize("residual", [None, nw.Combined(0.3, 0.1), nw.Power(0.4, 0.6)])
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4])
def test_the_density_of_pairs_is_bivariate_normal(residual, rho):
    own = model(residual, rho=rho)
    problem = own.problem(design())
    eta = 0.1 * np.arange(problem.n_eta * problem.n_subjects).reshape(problem.n_eta, -1) - 0.4
    f = problem.predict(problem.slots(problem.typical(own.values.theta).slots, eta))
    np.testing.assert_allclose(problem.minus2ll(f, own.values.sigma), joint(problem, own.values, eta), rtol=1e-11)


def test_a_transform_of_both_sides_is_correlated_on_its_own_scale():
    own = model(nw.LogNormalError(0.2), nw.LogNormalError(0.1), rho=0.6)
    problem = own.problem(design())
    f = problem.predict(problem.typical(own.values.theta).slots)
    logs = nw.Model(
        {"one": sp.log(own.outputs["one"]), "two": sp.log(own.outputs["two"])},
        dict(own.parameters),
        residual={"one": nw.Additive(0.2), "two": nw.Additive(0.1)},
        residual_correlation={("one", "two"): 0.6},
    )
    table = design().records
    other = logs.problem(nw.Data.from_frame(table.assign(DV=np.log(table["DV"]))[["ID", "TIME", "DVID", "DV"]]))
    jacobian = other.subjects(2 * np.log(problem.y))
    expected = other.minus2ll(np.log(f), other.space.initial.sigma) + jacobian
    np.testing.assert_allclose(problem.minus2ll(f, own.values.sigma), expected, rtol=1e-11)


def test_derivatives_of_pairs_are_those_of_the_density():
    own = model(nw.Combined(0.3, 0.1), nw.Power(0.4, 0.6))
    problem = own.problem(design(2))
    sigma = own.values.sigma
    f = problem.predict(problem.typical(own.values.theta).slots)

    def total(x: np.ndarray, s: np.ndarray) -> float:
        return float(problem.minus2ll_each(x, s).sum())

    second, third = problem.newton_terms(f, sigma, gradient=True), problem.third_terms(f, sigma)
    first = problem.first_terms(f, sigma)
    h, n = 1e-4, problem.n_obs
    steps = h * np.eye(n)
    slope = [(total(f + d, sigma) - total(f - d, sigma)) / (2 * h) for d in steps]
    for terms in (first, second, third):
        np.testing.assert_allclose(terms.f, slope, rtol=1e-6, atol=1e-6)
    hessian = [(problem.first_terms(f + d, sigma).f - problem.first_terms(f - d, sigma).f) / (2 * h) for d in steps]
    for terms in (second, third):
        np.testing.assert_allclose(np.array([terms.curved(e) for e in np.eye(n)]), hessian, rtol=1e-6, atol=1e-6)
    h = 1e-5  # of the sigmas, the smallest of which is 0.1
    along = np.array([(total(f, sigma + h * e) - total(f, sigma - h * e)) / (2 * h) for e in np.eye(len(sigma))])
    np.testing.assert_allclose(np.sum(first.sigma, axis=-1), along, rtol=1e-6, atol=1e-6)


def test_the_information_of_pairs_is_the_mean_curvature():
    """Of ½L over data drawn from the model, within five of its Monte Carlo standard errors."""
    own = model(nw.Proportional(0.2), nw.Combined(0.4, 0.1), rho=0.6)
    problem = own.problem(design(1, gap=False))
    sigma = own.values.sigma
    f = problem.predict(problem.typical(own.values.theta).slots)
    rng = np.random.default_rng(2)
    slots = problem.typical(own.values.theta).slots
    many = problem.draw(slots, np.broadcast_to(f, (4000, len(f))), sigma, rng.standard_normal((4000, len(f))))
    scores = np.zeros_like(many)  # of ½L: their covariance is its information
    for g in problem.groups:
        part = replace(g, y=many[:, g.rows])
        scores[:, g.rows] += part("first", np.broadcast_to(f[g.rows], many[:, g.rows].shape), sigma)[1]
    for g in problem.pairs:
        a, b = g.rows
        part = replace(g, y=(many[:, a], many[:, b]))
        _, one, two, _ = part("first", np.broadcast_to(f, many.shape), sigma)
        scores[:, a] += one
        scores[:, b] += two
    products = 0.25 * scores[:, :, None] * scores[:, None, :]
    terms = problem.newton_terms(f, sigma)
    expected = np.array([terms.expected(e) for e in np.eye(problem.n_obs)])
    error = products.std(axis=0) / np.sqrt(len(many))
    assert (np.abs(products.mean(axis=0) - expected) < 5 * error + 1e-12).all()


def test_modes_are_the_minimum_of_the_joint_density():
    own = model()
    problem = own.problem(design(2))
    precision, _ = precision_of(own.values.omega)
    modes = find_modes(problem, problem.typical(own.values.theta).slots, precision, own.values.sigma)
    assert modes.converged.all()
    for i in range(problem.n_subjects):

        def function(eta: np.ndarray, i: int = i) -> float:
            every = np.zeros((problem.n_eta, problem.n_subjects))
            every[:, i] = eta
            return float(joint(problem, own.values, every)[i] + eta @ precision @ eta)

        found = minimize(function, np.zeros(problem.n_eta), options={"gtol": 1e-6})
        assert modes.value[i] == pytest.approx(found.fun, abs=1e-7)
        np.testing.assert_allclose(modes.eta[:, i], found.x, atol=1e-4)


def exact(own: nw.Model, data: nw.Data) -> float:
    """Return −2 log L of the linear model, without log 2π, by SciPy."""
    values, total = own.values, 0.0
    (a, b), (s1, s2, rho) = values.theta, values.sigma
    for i in range(data.n_subjects):
        rows = np.flatnonzero(data.subject == i)
        first = data.dvid[rows] == "one"
        t = data.time[rows]
        g = np.array([np.where(first, 1.0, -1.0), np.where(first, t / 5, 2.0)])
        sd = np.where(first, s1, s2)
        same = (t[:, None] == t) & (first[:, None] != first)
        cov = g.T @ values.omega @ g + np.diag(sd**2) + np.where(same, rho * sd[:, None] * sd, 0.0)
        normal = multivariate_normal(a * g[0] + b * g[1], cov)
        total += -2 * normal.logpdf(data.dv[rows]) - len(rows) * np.log(2 * np.pi)
    return total


@pytest.mark.parametrize("method", ["focei", "laplace", "agq"])
def test_every_method_is_exact_for_a_linear_model(method):
    own, data = linear(), design()
    assert own.ofv(data, method) == pytest.approx(exact(own, data), rel=1e-11)


@pytest.mark.parametrize("method", ["focei", "laplace", "agq"])
def test_scores_are_the_derivatives_of_the_objective(method):
    own = model(nw.Combined(0.3, 0.1), rho=-0.5)
    problem = own.problem(design())
    approximation = nw.methods.METHODS[method](**({"nodes": 3} if method == "agq" else {}))
    space = own.space
    x = space.pack(own.values)
    found = approximation.evaluate(problem, own.values, gradient=True)
    slope = found.scores.along(space, own.values).sum(axis=0)
    h = 1e-4
    moved = [
        (approximation.ofv(problem, space.unpack(x + d)) - approximation.ofv(problem, space.unpack(x - d))) / (2 * h)
        for d in h * np.eye(len(x))
    ]
    np.testing.assert_allclose(slope, moved, rtol=2e-5, atol=2e-5)
    assert space.x_names[-1] == "logit rho_one_two"


def simulated(own: nw.Model, subjects: int) -> nw.Data:
    plan = design(subjects, gap=False)
    table = plan.records[["ID", "TIME", "DVID", "DV"]].copy()
    table["DV"] = own.simulate(plan, seed=4)["DV"].to_numpy()
    return nw.Data.from_frame(table)


def test_simulated_residuals_have_the_correlation():
    own = model(rho=0.6)
    plan = design(2000, gap=False)
    drawn = own.simulate(plan, seed=1)
    z = (drawn["DV"] - drawn["IPRED"]).to_numpy()
    z = z / own.problem(plan).residual_sd(drawn["IPRED"].to_numpy(), own.values.sigma)
    one, two = z[plan.dvid == "one"], z[plan.dvid == "two"]
    # 10,000 pairs: the standard error of a correlation is (1 − ρ²)/√n = 0.0064.
    assert np.corrcoef(one, two)[0, 1] == pytest.approx(0.6, abs=0.026)
    assert one.std() == pytest.approx(1.0, abs=0.03)
    assert two.std() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("method", "options"), [("focei", {}), ("saem", {"explore": 150, "smooth": 60})])
def test_a_fit_recovers_the_correlation(method, options):
    truth = linear(0.6)
    data = simulated(truth, 60)
    fit = truth.with_values({"rho_one_two": 0.0, "additive_one": 1.2}).fit(data, method, seed=1, **options)
    best = truth.fit(data, "laplace")
    # The same maximum by another method; the truth within three standard errors of 300 pairs.
    assert fit.estimates["rho_one_two"] == pytest.approx(best.estimates["rho_one_two"], abs=0.02)
    assert fit.estimates["rho_one_two"] == pytest.approx(0.6, abs=3 * 0.045)
    assert fit.estimates["additive_one"] == pytest.approx(0.8, rel=0.15)


def test_conditional_residuals_take_the_correlation_away():
    """CWRES of a linear model, where they are exact: the decorrelated residuals of SciPy's covariance matrix."""
    own, data = linear(), design(2)
    fit = own.fit(data, "focei", max_iterations=0)
    table = fit.table()
    values = fit.values
    (a, b), (s1, s2, rho) = values.theta, values.sigma
    rows = np.flatnonzero(data.subject == 0)
    first, t = data.dvid[rows] == "one", data.time[rows]
    g = np.array([np.where(first, 1.0, -1.0), np.where(first, t / 5, 2.0)])
    sd = np.where(first, s1, s2)
    same = (t[:, None] == t) & (first[:, None] != first)
    cov = g.T @ values.omega @ g + np.diag(sd**2) + np.where(same, rho * sd[:, None] * sd, 0.0)
    size, vectors = np.linalg.eigh(cov)
    expected = vectors @ ((vectors.T @ (data.dv[rows] - a * g[0] - b * g[1])) / np.sqrt(size))
    np.testing.assert_allclose(table["CWRES"].to_numpy()[rows], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["WRES"].to_numpy()[rows], expected, rtol=1e-9, atol=1e-12)


def test_the_model_survives_code_and_json_and_shows_itself():
    own = model(name="Two").fix("rho_one_two")
    data = design()
    namespace: dict[str, object] = {"sp": sp, "nw": nw}
    exec(own.to_code(), namespace)
    for other in (namespace["model"], model_from_dict(model_to_dict(own))):
        assert dict(other.residual_correlation) == {("one", "two"): "rho_one_two"}
        assert other.space == own.space
        assert other.ofv(data) == pytest.approx(own.ofv(data), rel=1e-12)
    assert r"\rho_{\mathrm{one},\mathrm{two}}" in own.equations()
    assert own.table().loc["rho_one_two", "kind"] == "residual correlation"


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        ([("one", "two")], "residual_correlation= is not a mapping"),
        ({"one": 0.3}, "residual_correlation= has the key 'one'; a key is a pair of outputs"),
        ({("one", "x"): 0.3}, "residual_correlation= names 'x', which is no output; there are one, two"),
        ({("one", "two"): 1.0}, "The residual correlation of one and two is 1; a correlation is between -1 and 1"),
        ({("one", "two"): 0.1, ("two", "one"): 0.1}, "has 'two' in two pairs; an output is correlated with one other"),
    ],
)
def test_an_impossible_correlation_is_refused_in_a_sentence(pairs, sentence):
    with pytest.raises(nw.ModelError, match=sentence):
        nw.Model(
            {"one": "a", "two": "a*t"},
            {"a": nw.LogNormal(1.0, sd=0.2)},
            residual={"one": nw.Additive(0.1), "two": nw.Additive(0.1)},
            residual_correlation=pairs,
        )


def test_an_output_that_is_not_normal_has_no_residual_to_correlate():
    with pytest.raises(nw.ModelError, match="The residual of 'two' is not normal and has no correlation"):
        model(two=nw.Student(0.3, 5.0))


def test_data_that_cannot_be_paired_are_refused_in_a_sentence():
    table = design(2, gap=False).records[["ID", "TIME", "DVID", "DV"]]
    doubled = pd.concat([table.iloc[:2], table.iloc[1:]])
    with pytest.raises(nw.DataError, match=r"^Subject 1 has 2 observations of 'two' at TIME 0\.5; a residual corr"):
        model().problem(nw.Data.from_frame(doubled))
    censored = table.assign(CENS=[0, 1, *[0] * (len(table) - 2)])
    with pytest.raises(nw.DataError, match=r"^The observation of 'two' of subject 1 at TIME 0\.5 is censored; a res"):
        model().problem(nw.Data.from_frame(censored))


@pytest.mark.parametrize("method", ["fo", "foi", "foce"])
def test_methods_that_need_independent_residuals_refuse(method):
    with pytest.raises(nw.NlmeError, match=rf"^{method.upper()} does not treat correlated residuals; use method='"):
        model().ofv(design(), method)
