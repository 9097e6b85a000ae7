"""Importance sampling gives −2 log L and says truthfully by how much it may be wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import integrate, stats

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.proposals import StudentT, scattered
from nlmewidgets.methods.importance import evaluate_importance, regular
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension, nodes_within
from tests.methods.test_marginal import exact_minus2ll, linear_case
from tests.models import EXTRAS, RESIDUALS, STRUCTURES, Case, make
from tests.reference.test_blq import CASE, logarithms_as_concentrations, two_compartments

# ------------------------------------------------------------------- proposals


def test_scattered_points_are_uniform_and_fill_the_cube() -> None:
    u = scattered(np.random.default_rng(1), 3, 6, 50)
    assert u.shape == (3, 64, 50)
    assert 0 < u.min() < u.max() < 1
    # One point of each subject in each of 64 intervals of every coordinate: a (0, 1)-net, however it is shifted.
    np.testing.assert_array_equal(np.sort((u * 64).astype(int), axis=1) - np.arange(64)[:, None], 0)
    # The shift is the subject's own, so first points of subjects are independent uniform numbers.
    assert stats.kstest(u[:, 0].ravel(), "uniform").pvalue > 0.01


def test_draws_and_density_are_scipys_multivariate_t() -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((2, 3, 3))
    covariance = a @ a.transpose(0, 2, 1) + np.eye(3)
    centre = rng.standard_normal((3, 2))
    t = StudentT.around(centre, covariance, 4)
    eta, logs = t.draw(rng.random((t.dimensions, 4000, 2)))
    for i in range(2):
        oracle = stats.multivariate_t(centre[:, i], covariance[i], df=4)
        np.testing.assert_allclose(logs[:, i], oracle.logpdf(eta[:, :, i].T), atol=1e-10)
        # Any direction is a univariate t with 4 degrees of freedom.
        direction = rng.standard_normal(3)
        scale = math.sqrt(direction @ covariance[i] @ direction)
        along = (direction @ (eta[:, :, i] - centre[:, i : i + 1])) / scale
        assert stats.kstest(along, stats.t(4).cdf).pvalue > 0.01
    np.testing.assert_allclose(t.log_density(eta), logs, atol=1e-10)


# ------------------------------------------------------------------- the value


def test_it_is_the_quadrature_of_random_models_within_its_own_error() -> None:
    rng = np.random.default_rng(12)
    z = []
    for seed in range(12):
        extras = tuple(sorted({str(e) for e in rng.choice(EXTRAS, 2)}))
        case = make(str(rng.choice(STRUCTURES)), str(rng.choice(RESIDUALS)), extras, seed=seed)
        problem, values = case.problem, case.model.values
        nodes = nodes_within(grid_dimension(problem), 8_000, 25)
        exact, before = (evaluate_quadrature(problem, values, k).ofv for k in (nodes, nodes - 2))
        if abs(exact - before) > 2e-3:
            continue  # the grid itself has not settled
        found = evaluate_importance(problem, values, error=0.05, seed=seed)
        assert found.ofv_error <= 0.05
        z.append((found.ofv - exact) / math.hypot(found.ofv_error, 1e-3))
    assert len(z) > 6
    assert max(map(abs, z)) < 4.5
    assert stats.chi2(len(z)).ppf(0.001) < sum(x * x for x in z) < stats.chi2(len(z)).ppf(0.999)


@pytest.mark.parametrize("draws", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_stated_error_is_the_spread_over_seeds(draws: int, theophylline: nw.Data, oral_model) -> None:
    problem = oral_model().problem(theophylline)
    values = problem.model.values
    exact = evaluate_quadrature(problem, values, 21).ofv
    found = [evaluate_importance(problem, values, draws=draws, error=0, seed=s) for s in range(24)]
    errors = np.array([x.ofv_error for x in found])
    z = (np.array([x.ofv for x in found]) - exact - 0.25 * errors**2) / errors
    # 12 subjects × 7 degrees of freedom each: z is normal but for a few per cent.
    assert stats.chi2(24).ppf(0.002) < (z**2).sum() < 1.1 * stats.chi2(24).ppf(0.998)
    assert abs(z.mean()) < 3.1 / math.sqrt(40)


def test_even_points_beat_random_ones(theophylline: nw.Data, oral_model) -> None:
    """What independent draws of the same weights would be wrong by follows from the effective sample size."""
    problem = oral_model().problem(theophylline)
    found = evaluate_importance(problem, problem.model.values, draws=16_000, error=0)
    independent = math.sqrt((4.0 * (1.0 / found.ess - 1.0 / found.draws)).sum())
    assert found.ofv_error < 0.25 * independent


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_linear_model_is_exact_with_its_conditional_moments(seed: int) -> None:
    case = linear_case(seed, block=True, covariate=False)
    problem, values = case.problem, case.model.values
    found = evaluate_importance(problem, values, error=0.005, seed=seed)
    assert found.ofv == pytest.approx(exact_minus2ll(case), abs=4 * found.ofv_error)
    for i, subject in enumerate(problem.data.ids):
        own = case.data.records[case.data.records["ID"] == subject]
        t, y = own["TIME"].to_numpy(), own["DV"].to_numpy()
        z = np.stack([np.ones_like(t), t], axis=1)
        s2 = values.sigma[0] ** 2
        covariance = np.linalg.inv(np.linalg.inv(values.omega) + z.T @ z / s2)
        mean = covariance @ z.T @ (y - z @ values.theta[:2]) / s2
        sd = np.sqrt(np.diag(covariance))
        # Some 50,000 even draws: moments to a hundredth of a standard deviation.
        np.testing.assert_allclose((found.mean[:, i] - mean) / sd, 0, atol=0.02)
        np.testing.assert_allclose((found.covariance[i] - covariance) / np.outer(sd, sd), 0, atol=0.05)


def test_theophylline_at_the_published_maximum(theophylline: nw.Data, oral_model) -> None:
    """360.70074 by an independent quadrature, tests/reference/exact_theophylline_mg.toml."""
    problem = oral_model().problem(theophylline)
    log_theta = [0.4592995834890659, 1.0116673141610062, 3.4538498624526532]
    omega = np.diag([0.4050861038679315, 0.07031499370978875, 0.018485503332080256])
    values = Values(np.exp(log_theta), omega, np.sqrt([0.48429223358321577]))
    found = evaluate_importance(problem, values, error=0.005)
    complete = found.ofv + 132 * math.log(2 * math.pi)
    assert found.ofv_error <= 0.005
    assert complete == pytest.approx(360.700740452943, abs=4 * found.ofv_error + 1e-3)


def test_censored_data_at_nonmems_estimates(shared: Path) -> None:
    """Sparse and censored: Laplace is off by 12, and every posterior is skewed."""
    folder = shared / CASE
    expected = json.loads((folder / "expected.json").read_text())
    problem = two_compartments().problem(logarithms_as_concentrations(folder))
    jacobian = float(np.where(problem.data.cens == 0, 2 * np.log(problem.y), 0.0).sum())
    oracle = expected["verified_by_own_oracle"]
    at = {
        "imp": (oracle["IMP"]["own_importance_sampling"], oracle["IMP"]["se"]),
        "lap": (
            oracle["exact_at_LAPLACE_estimates"]["own_importance_sampling"],
            oracle["exact_at_LAPLACE_estimates"]["se"],
        ),
    }
    for which, (value, error) in at.items():
        final = expected["results"][f"ad3tr4_loqb_{which}"]["steps"][0]["final"]
        values = Values(np.array(final["theta"][:4]), np.array(final["omega"]), np.array(final["theta"][4:]))
        found = evaluate_importance(problem, values, error=0.06)
        assert found.ofv_error <= 0.06
        assert found.message == ""
        assert abs(found.ofv - jacobian - value) < 3.5 * math.hypot(error, found.ofv_error)
        if which == "imp":  # NONMEM does not print its own error; the oracle's draws were as many
            assert abs(found.ofv - jacobian - final["ofv"]) < 3.5 * math.hypot(error, found.ofv_error)


# ------------------------------------------------------------- any likelihood


def settled(problem: nw.Problem, values: Values) -> float:
    q = grid_dimension(problem)
    one, two = (evaluate_quadrature(problem, values, nodes_within(q, points, 41)).ofv for points in (8_000, 40_000))
    assert one == pytest.approx(two, abs=0.01)
    return two


@pytest.mark.parametrize("name", ["counts", "psychometric", "time_to_event"])
def test_likelihoods_that_are_not_normal(name: str) -> None:
    table = pd.DataFrame({"ID": np.repeat(np.arange(1, 13), 6), "TIME": np.tile(np.arange(6.0), 12), "DV": 1.0})
    a, b = sp.symbols("a b", real=True)
    rate = sp.exp(a + b * nw.time)
    parameters = {a: nw.Normal(0.3, sd=0.8), b: nw.Normal(-0.2, sd=0.2)}
    likelihood = {
        "counts": nw.Poisson(rate),
        "psychometric": nw.Bernoulli(1 / (1 + 1 / rate)),
        "time_to_event": nw.LogLikelihood(a + b * nw.time - nw.dv * rate),
    }[name]
    model = nw.Model({"y": likelihood}, parameters)
    rng = np.random.default_rng(5)
    table["DV"] = rng.poisson(1.0, 72) if name == "counts" else rng.integers(0, 2, 72)
    if name == "time_to_event":
        table["DV"] = rng.exponential(1.0, 72)
    problem = model.problem(nw.Data.from_frame(table))
    found = evaluate_importance(problem, model.values, error=0.02)
    assert abs(found.ofv - settled(problem, model.values)) < 4 * found.ofv_error + 0.01


def test_occasions_whose_state_is_carried_over() -> None:
    """Kappas of a compartment model: quadrature has the whole product grid to go through, so few nodes."""
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8, sd=0.3, iov=0.2), V=nw.LogNormal(30.0), residual=nw.Additive(0.5)
    )
    rows = [
        (i, occ, 24.0 * (occ - 1) + t, int(t == 0), 300.0 * (t == 0))
        for i in range(1, 7)
        for occ in (1, 2, 3)[: 1 + i % 3]
        for t in (0.0, 2.0, 7.0, 20.0)
    ]
    table = pd.DataFrame(rows, columns=["ID", "OCC", "TIME", "EVID", "AMT"]).assign(DV=1.0)
    table.loc[table["EVID"] == 0, "DV"] = model.simulate(nw.Data.from_frame(table), seed=3)["DV"].to_numpy()
    problem = model.problem(nw.Data.from_frame(table))
    assert problem.n_eta == 4
    found = evaluate_importance(problem, model.values, error=0.02)
    assert abs(found.ofv - settled(problem, model.values)) < 4 * found.ofv_error + 0.01


def test_differential_equations() -> None:
    x = nw.states("x")
    vm, km = sp.symbols("Vm Km", positive=True)
    model = nw.Model(
        x / 10,
        {vm: nw.LogNormal(8.0, sd=0.3), km: nw.LogNormal(20.0)},
        odes={x: -vm * x / (km + x)},
        residual=nw.Additive(0.4),
    )
    times = [0.0, 1.0, 4.0, 9.0]
    table = pd.DataFrame({"ID": np.repeat([1, 2, 3], 4), "TIME": times * 3, "AMT": [80.0, 0, 0, 0] * 3})
    table["EVID"] = (table["AMT"] > 0).astype(int)
    table["DV"] = [np.nan, 7.1, 5.0, 2.4, np.nan, 7.5, 6.0, 4.1, np.nan, 6.7, 4.1, 1.2]
    problem = model.problem(nw.Data.from_frame(table))
    found = evaluate_importance(problem, model.values, draws=500, error=0)
    assert abs(found.ofv - evaluate_quadrature(problem, model.values, 15).ofv) < 4.5 * found.ofv_error


# ------------------------------------------------------------------- the edges


def test_a_singular_omega_is_the_model_with_fewer_effects() -> None:
    case = make("oral", "additive", (), seed=3)
    values = case.model.values
    half = Values(values.theta, values.omega * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]]), values.sigma)
    found = evaluate_importance(case.problem, half, error=0.01)
    ka, cl, v = case.model.parameters
    fewer = nw.Model(
        case.model.prediction,
        {ka: nw.LogNormal(1.2, sd=0.3), cl: nw.LogNormal(2.5, sd=0.3), v: nw.LogNormal(20.0)},
        residual=nw.Additive(0.4),
    )
    assert abs(found.ofv - settled(fewer.problem(case.data), fewer.values)) < 4 * found.ofv_error


def test_a_correlation_of_one_is_one_effect_less() -> None:
    a, k = sp.symbols("A k", positive=True)
    f, residual = a * sp.exp(-k * nw.time), nw.Additive(0.4)
    two = nw.Model(f, {a: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.25, sd=0.6)}, residual=residual)
    shared = nw.eta("e", sd=0.3)
    one = nw.Model(
        f,
        {a: nw.theta("A0", 8.0) * sp.exp(shared), k: nw.theta("k0", 0.25) * sp.exp(2 * shared)},
        residual=residual,
    )
    data = make("decay", "additive", (), seed=5).data
    values = Values(two.values.theta, np.array([[0.09, 0.18], [0.18, 0.36]]), two.values.sigma)
    found = evaluate_importance(two.problem(data), values, error=0.01)
    assert abs(found.ofv - settled(one.problem(data), one.values)) < 4 * found.ofv_error


def test_a_regular_omega_stays_what_it_is() -> None:
    omega = np.array([[1e-6, 2e-4], [2e-4, 0.09]])
    assert regular(omega) is omega
    zero = regular(np.diag([0.0, 0.0]))
    assert np.linalg.eigvalsh(zero)[0] > 0
    assert zero.max() < 1e-15
    assert regular(np.zeros((0, 0))).shape == (0, 0)


def test_without_random_effects_it_is_the_likelihood(theophylline: nw.Data, oral_model) -> None:
    plain = oral_model(ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0))
    found = evaluate_importance(plain.problem(theophylline), plain.values)
    assert found.ofv == pytest.approx(plain.ofv(theophylline, "laplace"), abs=1e-10)
    assert found.ofv_error == 0


def failing() -> Case:
    """Return a model whose prediction is not a number for half of what its random effect can be."""
    a = sp.Symbol("a", real=True)
    model = nw.Model(sp.sqrt(a), {a: nw.Normal(1.0, sd=1.0)}, residual=nw.Additive(0.5))
    return Case(
        model, nw.Data.from_frame(pd.DataFrame({"ID": [1, 1, 2], "TIME": [0.0, 1, 0], "DV": [1.1, 0.7, 0.3]})), ""
    )


def test_predictions_that_fail_have_no_weight() -> None:
    case = failing()
    found = evaluate_importance(case.problem, case.model.values, error=0.01)
    exact = []
    for y in ([1.1, 0.7], [0.3]):
        grid = np.linspace(0.0, 9.0, 400_001)
        density = stats.norm.pdf(grid, 1, 1)
        for value in y:
            density = density * stats.norm.pdf(value, np.sqrt(grid), 0.5) * math.sqrt(2 * math.pi)
        exact.append(-2 * math.log(integrate.trapezoid(density, grid)))
    np.testing.assert_array_less(np.abs(found.per_subject - exact), 4.5 * found.error)


def test_data_that_are_impossible_are_named() -> None:
    k = sp.Symbol("k", positive=True)
    model = nw.Model({"y": nw.Poisson(k)}, {k: nw.LogNormal(2.0, sd=0.3)})
    data = nw.Data.from_frame(pd.DataFrame({"ID": ["x", "y", "y"], "TIME": [0.0, 0, 1], "DV": [2.0, -1.0, 3.0]}))
    found = evaluate_importance(model.problem(data), model.values, draws=100)
    assert found.ofv == np.inf
    assert np.isfinite(found.per_subject[0])
    assert found.message.startswith("No draw of the random effects of subject y makes the data possible.")


def test_a_poor_value_says_so(theophylline: nw.Data, oral_model) -> None:
    problem = oral_model().problem(theophylline)
    found = evaluate_importance(problem, problem.model.values, draws=16, error=0.001, most=20)
    assert "are worth fewer than 30 independent ones" in found.message
    assert "above the 0.001 asked for after" in found.message
    assert "subjects 1, 2, 3, 4, 5 and 7 more" in found.message


def test_the_same_seed_gives_the_same_value(theophylline: nw.Data, oral_model) -> None:
    problem = oral_model().problem(theophylline)
    values = problem.model.values
    one, two, other = (evaluate_importance(problem, values, draws=100, error=0, seed=s).ofv for s in (1, 1, 2))
    assert one == two != other


@pytest.mark.parametrize("options", [{"df": 3}, {"df": 0}, {"draws": 0}, {"replicates": 1}, {"error": -1.0}])
def test_options_out_of_range_are_refused(options: dict, theophylline: nw.Data, oral_model) -> None:
    problem = oral_model().problem(theophylline)
    with pytest.raises(nw.MethodError, match="degrees of freedom|draws ≥ 1"):
        evaluate_importance(problem, problem.model.values, **options)
