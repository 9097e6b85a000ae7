"""Contract of the diagnostic tables: each number against its definition, written out plainly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from scipy import linalg, stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import (
    covariate_summary,
    ebe_covariance,
    ebe_covariates,
    individual_curves,
    population_band,
    residual_table,
    shrinkage,
    typical_curve,
)
from nlmewidgets.methods import METHODS
from tests.models import Case, cases, make

QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def modes(case: Case) -> np.ndarray:
    return METHODS["focei"]().evaluate(case.problem, case.model.values).eta


# -------------------------------------------------------------------- residuals


@QUICK
@given(cases)
def test_residuals_are_their_definitions_subject_by_subject(case: Case) -> None:
    problem, values, eta = case.problem, case.model.values, modes(case)
    table = residual_table(problem, values, eta)
    typical = problem.typical(values.theta).slots
    rows = case.data.subject
    y = case.data.dv

    def at(e: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return f, G by differences (extrapolated) and R at etas."""

        def f(shift: np.ndarray) -> np.ndarray:
            return problem.predict(problem.slots(typical, e + shift[:, None]))

        h, columns = 1e-3, []
        for k in range(problem.n_eta):
            u = np.eye(problem.n_eta)[k]
            rough, fine = ((f(s * u) - f(-s * u)) / (2 * s) for s in (h, h / 2))
            columns.append((4 * fine - rough) / 3)
        base = f(np.zeros(problem.n_eta))
        return base, np.stack(columns, axis=1), problem.residual_sd(base, values.sigma) ** 2

    f0, g0, r0 = at(np.zeros_like(eta))
    f1, g1, r1 = at(eta)
    np.testing.assert_allclose(table["PRED"], f0, rtol=1e-12)
    np.testing.assert_allclose(table["IPRED"], f1, rtol=1e-12)
    np.testing.assert_allclose(table["RES"], y - f0, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["IRES"], y - f1, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["IWRES"], (y - f1) / np.sqrt(r1), rtol=1e-9, atol=1e-12)
    curvature = 1e-3
    for i in range(problem.n_subjects):
        own = rows == i
        conditional = g1[own] @ values.omega @ g1[own].T + np.diag(r1[own])
        wanted = linalg.inv(linalg.sqrtm(conditional)) @ (y[own] - f1[own] + g1[own] @ eta[:, i])
        # Differences are good to 1e-9, and the inverse root has the condition number of the covariance.
        condition = np.linalg.cond(conditional)
        np.testing.assert_allclose(table["CWRES"][own], wanted, rtol=1e-6, atol=1e-9 * condition)
        spread = np.diag(g0[own] @ values.omega @ g0[own].T)
        sd = [problem.residual_sd(f0 + s, values.sigma)[own] ** 2 for s in (-curvature, 0.0, curvature)]
        averaged = r0[own] + 0.5 * (sd[0] - 2 * sd[1] + sd[2]) / curvature**2 * spread
        first_order = g0[own] @ values.omega @ g0[own].T + np.diag(averaged)
        wanted = linalg.inv(linalg.sqrtm(first_order)) @ (y[own] - f0[own])
        np.testing.assert_allclose(table["WRES"][own], wanted, rtol=1e-5, atol=1e-7 * np.linalg.cond(first_order))


def test_weighted_residuals_of_the_true_linear_model_are_standard_normal():
    """For a linear model WRES and CWRES are the same, white, and of variance one."""
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(5.0, sd=1.0), b: nw.Normal(-0.4, sd=0.3)},
        correlation={(a, b): 0.5},
        residual=nw.Additive(0.5),
    )
    times = [0.0, 1.0, 3.0, 6.0]
    table = pd.DataFrame([(i, t, 0.0) for i in range(2000) for t in times], columns=["ID", "TIME", "DV"])
    table["DV"] = model.simulate(nw.Data.from_frame(table), seed=1)["DV"].to_numpy()
    case = Case(model, nw.Data.from_frame(table), "linear")
    found = residual_table(case.problem, model.values, modes(case))
    np.testing.assert_allclose(found["WRES"], found["CWRES"], atol=1e-9)
    white = found["CWRES"].to_numpy().reshape(-1, len(times))
    n = len(white)
    assert (np.abs(white.mean(axis=0)) < 5 / np.sqrt(n)).all()
    assert (np.abs(np.cov(white.T) - np.eye(4)) < 5 * np.sqrt(2 / n)).all()


def test_the_columns_are_those_of_the_field_in_the_order_of_the_records():
    case = make("oral", "combined", ("varying",), seed=2)
    table = residual_table(case.problem, case.model.values, modes(case))
    columns = "ID TIME DV PRED IPRED RES IRES WRES IWRES CWRES NWRES CPRED CRES CWRESI"
    assert list(table) == columns.split()
    observed = case.data.records[case.data.observed]
    for column in ("ID", "TIME", "DV"):
        np.testing.assert_array_equal(table[column], observed[column])


def test_a_subject_that_fails_does_not_spoil_the_rest():
    k = sp.Symbol("k", positive=True)
    model = nw.Model(
        sp.exp(-k * nw.time) + 1 / (nw.time - 2), {k: nw.LogNormal(0.5, sd=0.4)}, residual=nw.Additive(0.1)
    )
    table = pd.DataFrame({"ID": [1, 1, 2, 2], "TIME": [1.0, 3, 1, 2], "DV": [-0.3, 1.3, -0.5, 0]})
    problem = model.problem(nw.Data.from_frame(table))
    found = residual_table(problem, model.values, np.zeros((1, 2)))
    assert np.isfinite(found.loc[found["ID"] == 1, "CWRES"]).all()
    assert found.loc[found["ID"] == 2, "CWRES"].isna().all()


# -------------------------------------------------------------------- shrinkage


@QUICK
@given(cases)
def test_shrinkage_is_its_definition(case: Case) -> None:
    problem, values, eta = case.problem, case.model.values, modes(case)
    found = shrinkage(problem, values, eta)
    assert list(found.index) == [*problem.space.eta, "epsilon"]
    for k, name in enumerate(problem.space.eta):
        assert found[name] == pytest.approx(1 - np.std(eta[k], ddof=1) / values.omega[k, k] ** 0.5, rel=1e-12)
    iwres = residual_table(problem, values, eta)["IWRES"]
    assert found["epsilon"] == pytest.approx(1 - np.sqrt((iwres**2).mean()), abs=1e-12)


@pytest.mark.parametrize("structure", ["decay", "oral", "emax", "growth"])
def test_shrinkage_tends_to_one_as_the_residual_error_grows(structure: str) -> None:
    case = make(structure, "additive", (), seed=3, subjects=12)
    found = []
    for sd in (0.01, 0.1, 1.0, 10.0, 1e3, 1e5):
        model = case.model.with_values({"additive": sd})
        found.append(shrinkage(case.problem, model.values, modes(Case(model, case.data, ""))).drop("epsilon"))
    table = pd.DataFrame(found)
    assert (table.iloc[-1] > 1 - 1e-6).all()
    assert (table.iloc[3:].diff().iloc[1:] > 0).all().all()
    assert (table.iloc[0] < table.iloc[-1]).all()


def test_shrinkage_of_a_linear_model_is_what_theory_says():
    """With one random intercept: SD(EBE)/ω = ω²·n/(ω²·n + σ²) · SD(mean deviation)/ω, here from the moments of y."""
    a = sp.Symbol("a", real=True)
    model = nw.Model(a + 0 * nw.time, {a: nw.Normal(0.0, sd=1.0)}, residual=nw.Additive(2.0))
    table = pd.DataFrame([(i, float(t), 0.0) for i in range(5000) for t in range(3)], columns=["ID", "TIME", "DV"])
    table["DV"] = model.simulate(nw.Data.from_frame(table), seed=4)["DV"].to_numpy()
    case = Case(model, nw.Data.from_frame(table), "")
    reliability = 3 / (3 + 4.0)
    found = shrinkage(case.problem, model.values, modes(case))
    # Var(EBE) = ω²·reliability at the truth; the SD of 5000 normal draws is known to 1 % (5 standard errors: 5 %).
    assert found["eta_a"] == pytest.approx(1 - reliability**0.5, abs=5 * reliability**0.5 / np.sqrt(2 * 5000))


def test_variances_of_ebes_without_interaction_hold_the_residual_variance_at_its_typical_value() -> None:
    case = make("oral", "additive", ("block",), seed=3, subjects=8)
    plain, frozen = (ebe_covariance(case.problem, case.model.values, modes(case), by) for by in ("focei", "foce"))
    np.testing.assert_allclose(frozen, plain, rtol=1e-9)  # nothing interacts
    case = make("decay", "proportional", (), seed=3, subjects=8)
    values, eta = case.model.values, modes(case)
    found = ebe_covariance(case.problem, values, eta, "foce")
    a, k = (values.theta[:, None] * np.exp(eta))[:, case.data.subject]
    f = a * np.exp(-k * case.data.time)
    g = np.stack([f, -k * case.data.time * f])
    typical = values.theta[0] * np.exp(-values.theta[1] * case.data.time)
    for i in range(case.problem.n_subjects):
        own = case.data.subject == i
        h = g[:, own] / (values.sigma[0] * typical[own]) ** 2 @ g[:, own].T + np.linalg.inv(values.omega)
        np.testing.assert_allclose(found[i], np.linalg.inv(h), rtol=1e-9)


def test_one_subject_has_no_shrinkage():
    case = make("decay", "additive", (), seed=3, subjects=1)
    assert shrinkage(case.problem, case.model.values, modes(case)).drop("epsilon").isna().all()


# ----------------------------------------------------------------------- curves


def test_curves_on_a_grid_are_predictions_at_its_times():
    case = make("oral", "combined", ("covariate",), seed=5)
    times = np.linspace(0, 12, 7)
    grid = case.model.problem(case.data.on_grid(times=times))
    eta = np.random.default_rng(1).normal(0, 0.2, (grid.n_eta, grid.n_subjects))
    curves = individual_curves(grid, case.model.values, eta)
    assert curves.shape == (case.data.n_subjects, len(times))
    flat = grid.predict(grid.slots(grid.typical(case.model.values.theta).slots, eta))
    np.testing.assert_array_equal(curves.ravel(), flat)
    zero = individual_curves(grid, case.model.values, np.zeros_like(eta))
    np.testing.assert_allclose(typical_curve(grid, case.model.values), zero.mean(axis=0), rtol=1e-13)


def test_the_population_band_has_the_quantiles_of_simulated_observations():
    case = make("decay", "combined", ("block",), seed=6, subjects=4)
    times = np.linspace(0, 10, 5)
    design = case.data.on_grid(times=times)
    grid = case.model.problem(design)
    draws, n = 5_000, grid.n_subjects
    rng = np.random.default_rng(2)
    normal = rng.standard_normal((grid.n_eta, draws, n))
    noise = rng.standard_normal((draws, grid.n_obs))
    levels = (0.05, 0.25, 0.5, 0.95)
    band = population_band(grid, case.model.values, normal, noise, levels)
    assert list(band.columns) == list(levels)
    assert (np.diff(band.to_numpy(), axis=1) > 0).all()
    _, y = grid.simulate(case.model.values, draws, np.random.default_rng(3))
    y = y.reshape(draws * n, len(times))
    size = draws * n
    for level in levels:
        wanted = np.quantile(y, level, axis=0)
        # Both quantiles are estimates: their standard error is sqrt(p(1-p)/size)/density each.
        for k in range(len(times)):
            density = stats.gaussian_kde(y[:2000, k])(wanted[k])[0]
            se = np.sqrt(2 * level * (1 - level) / size) / density
            # Draws of one replicate share nothing, but the four subjects of one share no effect either.
            assert abs(band[level].iloc[k] - wanted[k]) < 5 * se


def test_the_band_of_a_linear_model_is_the_normal_quantile():
    a = sp.Symbol("a", real=True)
    model = nw.Model(a + nw.time, {a: nw.Normal(3.0, sd=0.8)}, residual=nw.Additive(0.6))
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1], "TIME": [1.0], "DV": [1.0]}))
    grid = model.problem(data.on_grid(times=np.array([0.0, 2.0])))
    draws = 20_001
    z = stats.norm.ppf((np.arange(draws) + 0.5) / draws)
    rng = np.random.default_rng(5)
    normal = rng.permutation(z).reshape(1, draws, 1)
    noise = np.stack([rng.permutation(z), rng.permutation(z)], axis=1)
    band = population_band(grid, model.values, normal, noise, (0.1, 0.5, 0.9))
    wanted = 3.0 + np.array([[0.0], [2.0]]) + stats.norm.ppf([0.1, 0.5, 0.9])
    # 5 standard errors of a quantile of 20,001 draws of variance 1 (density 0.175 at the deciles).
    np.testing.assert_allclose(band, wanted, atol=5 * np.sqrt(0.09 / draws) / 0.175)


# ------------------------------------------------------------------- covariates


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    weight = rng.uniform(50, 100, 40)
    eta = 0.01 * (weight - 75) + rng.normal(0, 0.2, 40)
    return pd.DataFrame({"eta_CL": eta, "WT": weight, "SEX": rng.choice(["F", "M"], 40)})


def test_a_numerical_covariate_is_summarised_by_scipys_regression(table: pd.DataFrame) -> None:
    row = covariate_summary(table, "eta_CL", "WT", categorical=False).loc["trend"]
    line = stats.linregress(table["WT"], table["eta_CL"])
    assert row["slope"] == pytest.approx(line.slope, rel=1e-12)
    assert row["intercept"] == pytest.approx(line.intercept, rel=1e-12)
    assert row["r"] == pytest.approx(line.rvalue, rel=1e-12)
    assert row["r2"] == pytest.approx(line.rvalue**2, rel=1e-12)
    assert row["n"] == 40


def test_missing_values_are_left_out(table: pd.DataFrame) -> None:
    table.loc[3, "WT"] = np.nan
    table.loc[5, "eta_CL"] = np.nan
    row = covariate_summary(table, "eta_CL", "WT", categorical=False).loc["trend"]
    kept = table.dropna()
    assert row["n"] == len(kept) == 38
    assert row["slope"] == pytest.approx(stats.linregress(kept["WT"], kept["eta_CL"]).slope, rel=1e-12)


@pytest.mark.parametrize("constant", ["WT", "eta_CL"])
def test_a_constant_has_no_trend(constant: str, table: pd.DataFrame) -> None:
    table[constant] = 1.0
    row = covariate_summary(table, "eta_CL", "WT", categorical=False).loc["trend"]
    assert row[["slope", "intercept", "r", "r2"]].isna().all()
    assert row["n"] == 40


def test_a_categorical_covariate_is_summarised_by_numpys_quantiles(table: pd.DataFrame) -> None:
    found = covariate_summary(table, "eta_CL", "SEX", categorical=True)
    assert list(found.index) == ["F", "M"]
    for level, row in found.iterrows():
        values = table.loc[table["SEX"] == level, "eta_CL"]
        assert row["n"] == len(values)
        np.testing.assert_allclose(
            row[["min", "q25", "median", "q75", "max"]].to_numpy(float), np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        )


def test_ebes_stand_beside_their_subjects_covariates(theophylline: nw.Data, oral_model) -> None:
    problem = oral_model().problem(theophylline)
    eta = np.arange(36.0).reshape(3, 12)
    found = ebe_covariates(problem, eta)
    assert list(found.index) == list(theophylline.ids)
    np.testing.assert_array_equal(found[["eta_ka", "eta_CL", "eta_V"]], eta.T)
    first = theophylline.records.drop_duplicates("ID").set_index("ID")
    np.testing.assert_array_equal(found["WT"], first["WT"])
