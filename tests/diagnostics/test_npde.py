"""Residuals by simulation and by distribution functions: against definitions, SciPy, and the truth they must show."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import npde, npde_test, quantile_residuals, residual_table
from nlmewidgets.diagnostics.cumulative import cumulative
from nlmewidgets.diagnostics.npde import limits
from nlmewidgets.diagnostics.replicates import Source
from nlmewidgets.diagnostics.whiten import inverse_roots
from tests.models import make


def line(residual: object = None, **options: object) -> nw.Model:
    """Return a model that is linear in its random effects: every distribution is known."""
    a, b = sp.symbols("a b", real=True)
    return nw.Model(
        a + b * nw.time,
        {a: nw.Normal(5.0, sd=1.0), b: nw.Normal(-0.4, sd=0.3)},
        residual=nw.Additive(0.5) if residual is None else residual,
        **options,
    )


def design(subjects: int, times: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"ID": np.repeat(np.arange(subjects), len(times)), "TIME": np.tile(times, subjects), "DV": 1.0})


def simulated(model: nw.Model, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    return table.assign(DV=model.simulate(nw.Data.from_frame(table), seed=seed)["DV"].to_numpy())


# ------------------------------------------------------------------------- roots


@pytest.mark.parametrize("root", ["symmetric", "cholesky"])
def test_inverse_roots_make_the_covariance_one(root: str) -> None:
    rng = np.random.default_rng(1)
    g = rng.standard_normal((5, 4, 6))
    m = g @ g.transpose(0, 2, 1)
    m[2, 0, 0] = np.nan
    m[3] = -np.eye(4)
    w = inverse_roots(m, root)
    good = [0, 1, 4]
    np.testing.assert_allclose(w[good] @ m[good] @ w[good].transpose(0, 2, 1), np.tile(np.eye(4), (3, 1, 1)), atol=1e-9)
    assert np.isnan(w[2]).all()
    assert np.isnan(w[3]).any()
    if root == "symmetric":
        np.testing.assert_allclose(w[good], w[good].transpose(0, 2, 1), atol=1e-12)
    else:
        assert (np.triu(w[good], 1) == 0).all()


# -------------------------------------------------------------------------- npde


@pytest.mark.parametrize("decorrelation", ["symmetric", "cholesky"])
def test_residuals_of_a_linear_model_are_those_of_its_normal_distribution(decorrelation: str) -> None:
    """With f linear in eta, y_i ~ N(m, GΩG' + σ²): EWRES, NPD and NPDE are known."""
    model = line()
    times = [0.0, 1.0, 3.0, 6.0]
    data = nw.Data.from_frame(simulated(model, design(40, times), 3))
    n = 20_000
    found = npde(model, data, n=n, seed=1, decorrelation=decorrelation)
    g = np.stack([np.ones(4), times], axis=1)
    v = g @ np.diag([1.0, 0.09]) @ g.T + 0.25 * np.eye(4)
    error = data.dv.reshape(-1, 4) - (5.0 - 0.4 * np.array(times))
    values, vectors = np.linalg.eigh(v)
    symmetric = vectors @ np.diag(values**-0.5) @ vectors.T
    chosen = symmetric if decorrelation == "symmetric" else np.linalg.inv(np.linalg.cholesky(v))
    # 5 standard errors of means and covariances of n draws, and of ranks: p(1-p)/n over the normal density squared.
    size = np.abs(error @ symmetric.T)
    tolerance = 5 * np.sqrt((4 + size.max() ** 2) / n)
    np.testing.assert_allclose(
        found["EPRED"].to_numpy().reshape(-1, 4)[0], 5 - 0.4 * np.array(times), atol=5 * np.sqrt(3.5 / n)
    )
    np.testing.assert_allclose(found["EWRES"].to_numpy().reshape(-1, 4), error @ symmetric.T, atol=tolerance)
    npd = error / np.sqrt(np.diag(v))
    se = np.sqrt(stats.norm.cdf(npd) * stats.norm.sf(npd) / n) / stats.norm.pdf(npd)
    assert (np.abs(found["NPD"].to_numpy().reshape(-1, 4) - npd) < 5 * se).all()
    z = error @ chosen.T
    se = np.sqrt(stats.norm.cdf(z) * stats.norm.sf(z) / n) / stats.norm.pdf(z)
    assert (np.abs(found["NPDE"].to_numpy().reshape(-1, 4) - z) < 5 * se + tolerance).all()


@pytest.mark.parametrize("case", ["as it is", "log-normal", "censored", "student"])
def test_npde_of_data_from_the_model_are_standard_normal(case: str) -> None:
    residual = {"log-normal": nw.LogNormalError(0.2), "student": nw.Student(0.4, 4)}.get(case, nw.Combined(0.2, 0.1))
    v, k = sp.symbols("v k", positive=True)
    model = nw.Model(
        10 / v * sp.exp(-k * nw.time), {v: nw.LogNormal(1.0, sd=0.3), k: nw.LogNormal(0.3, sd=0.4)}, residual=residual
    )
    times = [0.5, 1.0, 2.0, 4.0, 7.0]
    table = simulated(model, design(400, times), 11)
    if case == "censored":
        table["CENS"] = (table["DV"] < 3.0).astype(int)
        table["DV"] = table["DV"].clip(lower=3.0)
        assert 0.2 < table["CENS"].mean() < 0.6
    data = nw.Data.from_frame(table)
    found = npde(model, data, n=1000, seed=5)
    for column in ("NPD", "NPDE"):
        x = found[column].to_numpy().reshape(-1, len(times))
        assert np.isfinite(x).all()
        # One datum of each subject: independent.  Kolmogorov and Smirnov at a level of 1e-4 for each of five times.
        for j in range(len(times)):
            assert stats.kstest(x[:, j], "norm").pvalue > 1e-4, (column, j)
    white = np.corrcoef(found["NPDE"].to_numpy().reshape(-1, len(times)).T)
    bound = 5 / np.sqrt(400)
    assert (np.abs(white - np.eye(len(times))) < bound).all()
    correlated = np.corrcoef(found["NPD"].to_numpy().reshape(-1, len(times)).T)
    assert correlated[1, 2] > bound  # which the decorrelation is for
    if case == "log-normal":
        assert np.isfinite(found["EWRES"]).all()


def test_npde_flag_a_wrong_model() -> None:
    model = line()
    data = nw.Data.from_frame(simulated(model, design(100, [0.0, 1.0, 3.0, 6.0]), 3))
    wrong = model.with_values({"additive": 1.0})
    right, other = (npde(m, data, n=500, seed=5)["NPDE"] for m in (model, wrong))
    assert stats.kstest(right, "norm").pvalue > 1e-3
    assert stats.kstest(other, "norm").pvalue < 1e-3
    assert other.std() < 0.8


def test_the_tests_of_normality_are_scipys_and_reject_what_they_should() -> None:
    x = np.random.default_rng(4).standard_normal(200)
    found = npde_test(x)
    assert found["mean_p"] == pytest.approx(stats.wilcoxon(x, method="approx").pvalue)
    assert found["normal_p"] == pytest.approx(stats.shapiro(x).pvalue)
    statistic = 199 * x.var(ddof=1)
    assert found["variance_p"] == pytest.approx(2 * min(stats.chi2(199).cdf(statistic), stats.chi2(199).sf(statistic)))
    assert found["global_p"] == min(1.0, 3 * found[["mean_p", "variance_p", "normal_p"]].min())
    assert npde_test(x + 0.5)["mean_p"] < 1e-6
    assert npde_test(1.4 * x)["variance_p"] < 1e-6
    assert npde_test(x**3)["normal_p"] < 1e-6
    with pytest.raises(nw.DataError, match="There are 2 residuals to test"):
        npde_test(np.array([1.0, np.nan, 2.0]))


def test_the_same_seed_gives_the_same_and_progress_stops() -> None:
    case = make("oral", "combined", seed=4)
    one, two = (npde(case.model, case.data, n=50, seed=8) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    seen: list[float] = []
    found = npde(case.model, case.data, n=100_000, seed=1, progress=lambda done: seen.append(done) or len(seen) < 3)
    assert len(seen) == 3
    assert seen[-1] < 1
    assert np.isfinite(found["NPDE"]).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n": 1}, "n=1 replicates cannot show a distribution; take 100 or more."),
        ({"decorrelation": "polar"}, "decorrelation='polar' is not known; there are 'symmetric', 'cholesky'."),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict, sentence: str) -> None:
    case = make("decay", "additive", seed=4)
    with pytest.raises(nw.DataError) as error:
        npde(case.model, case.data, **options)
    assert str(error.value) == sentence


def test_limits_are_those_of_the_output_but_not_beyond_a_datum() -> None:
    table = design(1, [0.0, 1.0, 2.0, 3.0]).assign(DV=[5.0, 2.0, 1.0, 1.5], CENS=[0, 1, 0, 0])
    low, high = limits(line().problem(nw.Data.from_frame(table)))
    np.testing.assert_array_equal(low, [2.0, 2.0, -np.inf, -np.inf])
    assert np.isposinf(high).all()


# ------------------------------------------------------- distribution functions


def ends(model: nw.Model, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    problem = model.problem(nw.Data.from_frame(table))
    slots = problem.slots(problem.typical(model.values.theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
    f = problem.predict(slots)
    return f, *cumulative(problem, slots, f, model.values.sigma)


def test_distribution_functions_are_scipys() -> None:
    table = design(1, [0.0, 1.0, 2.0, 3.0]).assign(DV=[5.2, 3.0, 5.0, 4.0])
    table["CENS"], table["LIMIT"] = [0, 1, -1, 1], [np.nan, np.nan, np.nan, 3.0]
    f, low, high = ends(line(), table)
    normal = stats.norm(f, 0.5)
    np.testing.assert_allclose(low, [normal.cdf(5.2)[0], 0.0, normal.cdf(5.0)[2], normal.cdf(3.0)[3]], rtol=1e-12)
    np.testing.assert_allclose(high, [normal.cdf(5.2)[0], normal.cdf(3.0)[1], 1.0, normal.cdf(4.0)[3]], rtol=1e-12)
    f, low, high = ends(line(blq="M4"), table)
    zero = stats.norm(f, 0.5).cdf(0.0)
    np.testing.assert_allclose(high[1], (stats.norm(f, 0.5).cdf(3.0) - zero)[1] / (1 - zero)[1], rtol=1e-12)


def counts(kind: str) -> nw.Model:
    rate = sp.Symbol("rate", positive=True)
    mean = rate * (1 + nw.time)
    observation = {
        "poisson": nw.Poisson(mean),
        "negative binomial": nw.NegativeBinomial(mean, 2.5),
        "bernoulli": nw.Bernoulli(mean / (1 + mean)),
        "ordered": nw.Categorical.ordered(sp.log(mean), [-1, 1], first=1),
    }[kind]
    return nw.Model({"y": observation}, {rate: nw.LogNormal(0.8, sd=0.5)})


@pytest.mark.parametrize("kind", ["poisson", "negative binomial", "bernoulli", "ordered"])
def test_distribution_functions_of_counts_and_classes_are_scipys(kind: str) -> None:
    y = {"bernoulli": [0.0, 1.0, 1.0], "ordered": [1.0, 2.0, 3.0]}.get(kind, [0.0, 2.0, 5.0])
    _, low, high = ends(counts(kind), design(1, [0.0, 1.0, 4.0]).assign(DV=y))
    mean = 0.8 * np.array([1.0, 2.0, 5.0])
    cut = lambda c: 1 / (1 + np.exp(-(c - np.log(mean))))  # noqa: E731
    wanted = {
        "poisson": stats.poisson(mean),
        "negative binomial": stats.nbinom(2.5, 2.5 / (2.5 + mean)),
        "bernoulli": stats.bernoulli(mean / (1 + mean)),
    }
    if kind == "ordered":
        np.testing.assert_allclose(low, [0.0, cut(-1)[1], cut(1)[2]], atol=1e-12)
        np.testing.assert_allclose(high, [cut(-1)[0], cut(1)[1], 1.0], atol=1e-12)
        return
    np.testing.assert_allclose(low, wanted[kind].cdf(np.array(y) - 1), atol=1e-12)
    np.testing.assert_allclose(high, wanted[kind].cdf(y), atol=1e-12)


@pytest.mark.parametrize("kind", ["poisson", "bernoulli", "ordered"])
def test_npd_and_quantile_residuals_of_counts_are_standard_normal_under_the_model(kind: str) -> None:
    model = counts(kind)
    data = nw.Data.from_frame(simulated(model, design(600, [0.0, 2.0]), 2))
    found = npde(model, data, n=300, seed=1)
    assert found["NPDE"].isna().all()
    for j in range(2):  # independent between subjects
        assert stats.kstest(found["NPD"].to_numpy()[j::2], "norm").pvalue > 1e-4
    problem = model.problem(data)
    # At the etas that made them (not at the EBEs, which shrink) they are exactly so.
    eta = 0.5 * np.random.default_rng(5).standard_normal((1, 600))
    slots = problem.slots(problem.typical(model.values.theta).slots, eta)
    drawn = problem.draw(
        slots, problem.predict(slots), model.values.sigma, np.random.default_rng(6).standard_normal(1200)
    )
    records = data.records.assign(DV=drawn)
    problem = model.problem(nw.Data.from_frame(records[["ID", "TIME", "DV"]]))
    r = quantile_residuals(problem, model.values, eta, seed=3)
    assert stats.kstest(r, "norm").pvalue > 1e-4


def test_a_quantile_residual_is_iwres_where_there_is_one() -> None:
    case = make("oral", "combined", seed=4)
    eta = np.zeros((case.problem.n_eta, case.problem.n_subjects))
    table = residual_table(case.problem, case.model.values, eta)
    r = quantile_residuals(case.problem, case.model.values, eta)
    np.testing.assert_allclose(r, table["IWRES"], rtol=1e-12)


def test_two_outputs_are_told_apart() -> None:
    a = sp.Symbol("a", real=True)
    model = nw.Model(
        {"x": a + nw.time, "y": 2 * a},
        {a: nw.Normal(3.0, sd=0.5)},
        residual={"x": nw.Additive(0.3), "y": nw.Additive(0.6)},
    )
    table = design(30, [0.0, 1.0, 2.0, 3.0]).assign(DVID=np.tile([1, 2], 60))
    data = nw.Data.from_frame(simulated(model, table, 1))
    found = npde(Source(model.problem(data), model.values), n=200, seed=1)
    assert found["OUTPUT"].tolist() == ["x", "y"] * 60
    assert np.isfinite(found["NPDE"]).all()
