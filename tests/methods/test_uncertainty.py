"""Covariance of the estimates against published matrices, the normal likelihood, and each kind against the others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.information import expected_information
from nlmewidgets.methods.natural import natural
from nlmewidgets.methods.uncertainty import uncertainty
from tests.reference.test_reference import read, values_at

A, K, B, C = sp.symbols("A k b c", positive=True)
LINEAR = sp.Symbol("a", real=True)


def grid(subjects: int, times: list[float], dv: float = 1.0) -> nw.Data:
    table = pd.DataFrame({"ID": np.repeat(np.arange(subjects), len(times)), "TIME": np.tile(times, subjects)})
    return nw.Data.from_frame(table.assign(DV=dv))


def simulated(model: nw.Model, subjects: int, times: list[float], seed: int) -> nw.Data:
    design = grid(subjects, times)
    frame = design.records[["ID", "TIME"]].assign(DV=model.simulate(design, seed=seed)["DV"].to_numpy())
    return nw.Data.from_frame(frame)


@pytest.fixture(scope="module")
def decay() -> nw.Fit:
    model = nw.Model(
        A * sp.exp(-K * nw.time),
        {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.25)},
        residual=nw.Proportional(0.1),
        correlation={(A, K): 0.3},
    )
    return model.fit(simulated(model, 60, [0.5, 1, 2, 4, 8], 3), "focei")


# -------------------------------------------------------------------------- published


def warfarin(shared: Path, error: object) -> tuple[nw.Problem, dict]:
    folder = shared / "reference" / "warfarin_fisher_information_FO"
    times = pd.read_csv(folder / "data.csv")["time"].tolist()
    rows = [{"TIME": 0.0, "AMT": 70.0, "EVID": 1}] + [{"TIME": t, "AMT": 0.0, "EVID": 0, "DV": 1.0} for t in times]
    data = nw.Data.from_frame(pd.concat([pd.DataFrame(rows).assign(ID=i) for i in range(32)]))
    ka, cl, v = sp.symbols("KA CL V", positive=True)
    f = nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * nw.time) - sp.exp(-ka * nw.time))
    parameters = {
        cl: nw.LogNormal(0.15, sd=0.07**0.5),
        v: nw.LogNormal(8.0, sd=0.02**0.5),
        ka: nw.LogNormal(1.0, sd=0.6**0.5),
    }
    model = nw.Model(f, parameters, residual=error)
    return model.problem(data), json.loads((folder / "expected.json").read_text())


@pytest.mark.parametrize(("number", "full"), [(0, True), (1, False)])
def test_expected_information_is_that_of_optimal_design_software(shared: Path, number: int, full: bool) -> None:
    """PopED's determinants, and the RSEs of Nyberg et al. (2015), on the scale of variances."""
    problem, expected = warfarin(shared, nw.Proportional(0.1))
    check = expected["checks"][number]
    values = problem.space.initial
    here = natural(problem.space, values, "variance")
    matrix = expected_information(problem, values, full=full)
    back = np.linalg.inv(here.jacobian)
    information = back.T @ matrix @ back
    assert np.linalg.det(information) == pytest.approx(check["expected"], rel=check["rel_tol"])
    rse = 100 * np.sqrt(np.diag(np.linalg.inv(information))) / here.numbers
    np.testing.assert_allclose(rse, check["rse_percent"], atol=6e-4)  # three printed decimals


def test_expected_information_of_lognormal_errors(shared: Path) -> None:
    """Errors additive on log(concentration): log det 53.8955 (Pumas)."""
    problem, expected = warfarin(shared, nw.LogNormalError(0.1))
    values = problem.space.initial
    jacobian = natural(problem.space, values, "variance").jacobian
    log_det = np.linalg.slogdet(expected_information(problem, values))[1] - 2 * np.linalg.slogdet(jacobian)[1]
    assert log_det == pytest.approx(expected["checks"][3]["expected"], rel=expected["checks"][3]["rel_tol"])


def test_linearised_information_is_monolixs(shared: Path) -> None:
    """FIM_covarianceEstimatesLin.csv to its five printed digits, zeros included."""
    name = "monolix_theophylline"
    model, data = read(name)
    problem, values = model.problem(data), values_at(name, "monolix")
    modes = METHODS["laplace"]().evaluate(problem, values).eta
    found = uncertainty(problem, values, "saem", modes, kind="linearised")
    folder = shared / "reference" / name
    theirs = pd.read_csv(folder / "FIM_covarianceEstimatesLin.csv", index_col=0)
    theirs.index = theirs.columns = ["ka", "V", "Cl", "omega_ka", "omega_V", "omega_Cl", "additive", "proportional"]
    ours = found.covariance.loc[theirs.index, theirs.index]
    scale = np.sqrt(np.outer(np.diag(theirs), np.diag(theirs)))
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=6e-5)
    correlation = pd.read_csv(folder / "FIM_correlationEstimatesLin.csv", index_col=0).to_numpy()
    ours = found.correlation.loc[theirs.index, theirs.index]
    np.testing.assert_allclose(ours, correlation, atol=6e-5)


def test_covariance_of_two_compartments_is_nonmems(shared: Path) -> None:
    """Bauer's example 402, FOCEI: NONMEM's second differences are good to about one per cent of a standard error."""
    folder = shared / "reference" / "bauer_2cpt_iv_FOCEI"
    name = "bauer_2cpt_nonmem"
    model, data = read(name)
    problem, values = model.problem(data), values_at(name, "final")
    modes = METHODS["focei"]().evaluate(problem, values).eta
    found = uncertainty(problem, values, "focei", modes)
    theirs = pd.read_csv(folder / "covariance_matrix.csv", index_col=0)
    kept = [c for c in theirs if theirs.loc[c, c] > 0]
    theirs = theirs.loc[kept, kept].to_numpy()
    ours = found.covariance_on("variance")
    assert list(ours)[4:8] == ["omega_V1^2", "omega_CL^2", "omega_V2^2", "omega_Q^2"]
    order = [*list(ours)[:4], list(ours)[8], *list(ours)[4:8]]
    ours = ours.loc[order, order].to_numpy()
    scale = np.sqrt(np.outer(np.diag(theirs), np.diag(theirs)))
    se_rel = json.loads((folder / "expected.json").read_text())["tolerance"]["se_rel"]
    np.testing.assert_allclose(np.sqrt(np.diag(ours)), np.sqrt(np.diag(theirs)), rtol=se_rel)
    np.testing.assert_allclose(ours / scale, theirs / scale, atol=2 * se_rel)


def test_standard_errors_of_phenobarbital_are_monolixs(shared: Path) -> None:
    """Observed information by stochastic approximation, a simulated matrix, at Monolix's estimates.

    These are not the maximum: k is half a standard error off it (the gradient says so), and there the curvature along k
    and omega_k depends on the scale it is taken on.  The others agree to the noise of the simulation.
    """
    folder = shared / "reference" / "monolix_phenobarbital"
    printed = json.loads((folder / "expected.json").read_text())["result"]["population_parameters"]
    frame = pd.read_csv(folder / "data.csv", na_values=".")
    frame["HIGH"], frame["LOW"] = (frame["APGAR"] >= 8).astype(float), (frame["APGAR"] <= 3).astype(float)
    data = nw.Data.from_frame(
        frame.rename(columns={"CONC": "DV", "DOSE": "AMT"})[["ID", "TIME", "AMT", "DV", "HIGH", "LOW"]]
    )
    v, k = sp.symbols("V k", positive=True)
    number = {name: entry["value"] for name, entry in printed.items()}
    effect = nw.theta("high", number["beta_V_tAPGAR_High"]) * nw.covariate("HIGH")
    effect += nw.theta("low", number["beta_V_tAPGAR_Low"]) * nw.covariate("LOW")
    model = nw.Model(
        nw.dose / v * sp.exp(-k * nw.time),
        {
            v: nw.LogNormal(number["V_pop"], sd=number["omega_V"], effect=effect),
            k: nw.LogNormal(number["k_pop"], sd=number["omega_k"]),
        },
        residual=nw.Proportional(number["b"]),
    )
    problem = model.problem(data)
    assert (problem.n_subjects, problem.n_obs) == (59, 155)
    found = METHODS["laplace"]().evaluate(problem, model.values)
    modes = found.eta
    # The folder's own oracle at these estimates, and Monolix's modes, which it prints to six digits.
    constant = problem.n_obs * np.log(2 * np.pi)
    assert found.ofv + constant == pytest.approx(971.8204, abs=1e-4)
    assert model.ofv(data, "agq", nodes=31) + constant == pytest.approx(971.2071, abs=1e-4)
    printed_modes = pd.read_csv(folder / "random_effects.csv")[["eta_V_mode", "eta_k_mode"]]
    np.testing.assert_allclose(modes.T, printed_modes, rtol=0, atol=1e-4)
    names = dict(zip(["V", "high", "low", "k", "omega_V", "omega_k", "proportional"], number, strict=True))
    exact, louis = (uncertainty(problem, model.values, "saem", modes, kind=kind) for kind in ("R", "louis"))
    slope = dict(zip(problem.space.x_names, exact.curvature.scores.sum(axis=0), strict=True))
    assert 0.5 * slope["log k"] * exact.se["k"] / number["k_pop"] > 0.3
    for ours, theirs in names.items():
        if ours not in ("k", "omega_k"):
            assert exact.se[ours] == pytest.approx(printed[theirs]["se_sa"], rel=0.04), ours
            assert louis.se[ours] == pytest.approx(exact.se[ours], rel=0.03), ours


def test_condition_number_is_that_of_nonmems_correlation_matrix(shared: Path) -> None:
    """10,855 printed by NONMEM; its R is up to 1.7 % off the exact one (test_nonmem.py), three times that here."""
    name = "theophylline_pred_nonmem"
    model, data = read(name)
    problem, values = model.problem(data), values_at(name, "final")
    modes = METHODS["focei"]().evaluate(problem, values).eta
    assert uncertainty(problem, values, "focei", modes).condition_number == pytest.approx(10855, rel=0.05)


# ----------------------------------------------------------------------- known exactly


def test_kinds_of_a_linear_model_are_those_of_the_normal_density() -> None:
    r"""y_ij = a + η_i + ε_ij: with n each, the variance of â is (ω² + σ²/n)/N, and R, expected and Louis say so."""
    model = nw.Model(LINEAR + 0 * nw.time, {LINEAR: nw.Normal(1.0, sd=0.8)}, residual=nw.Additive(0.5))
    n, subjects = 4, 40
    fit = model.fit(simulated(model, subjects, [1.0, 2, 3, 4], 1), "focei", tolerance=1e-12)
    omega2, sigma2 = fit.values.omega[0, 0], fit.values.sigma[0] ** 2
    total = omega2 + sigma2 / n
    # The marginal information of (ω², σ²): N/2 (t²) for the means, N(n−1)/2σ⁴ within.
    within = subjects * (n - 1) / (2 * sigma2**2)
    between = subjects / (2 * total**2)
    information = np.array([[between, between / n], [between / n, between / n**2 + within]])
    exact = np.linalg.inv(information)
    for kind, rel in (("R", 1e-5), ("expected", 1e-7), ("linearised", 1e-7), ("louis", 0.04)):
        found = fit.covariance(kind, "variance")
        assert found.loc["a", "a"] == pytest.approx(total / subjects, rel=rel), kind
        assert found.loc["omega_a^2", "omega_a^2"] == pytest.approx(exact[0, 0], rel=rel), kind
        assert found.loc["additive^2", "additive^2"] == pytest.approx(exact[1, 1], rel=rel), kind
    # S is the cross-product of the subjects' scores; that of a is (ȳ − a)/t.
    means = pd.Series(fit.data.dv).groupby(fit.data.subject).mean().to_numpy() - fit.theta["a"]
    own = fit.uncertainty_by("S").curvature
    np.testing.assert_allclose(own.scores[:, 0], -2 * means / total, atol=5e-6)  # modes to 1e-7 SD
    np.testing.assert_allclose(own.s, 0.25 * own.scores.T @ own.scores, rtol=1e-12)


def test_the_sandwich_is_made_of_r_and_s(decay: nw.Fit) -> None:
    found = decay.uncertainty
    inverse = np.linalg.inv(found.r)
    j = natural(found.space, found.values).jacobian
    np.testing.assert_allclose(found.covariance, j @ inverse @ found.s @ inverse @ j.T, rtol=1e-8)
    np.testing.assert_allclose(decay.covariance("R"), j @ inverse @ j.T, rtol=1e-8)
    np.testing.assert_allclose(decay.covariance("S"), j @ np.linalg.inv(found.s) @ j.T, rtol=1e-8)
    assert decay.cov.equals(decay.covariance("sandwich"))


def test_the_kinds_agree_where_the_model_is_true(decay: nw.Fit) -> None:
    """Sixty subjects of the model: observed, expected and empirical information within sampling error of each other."""
    exact = decay.uncertainty_by("R").se
    for kind in ("louis", "linearised", "sandwich"):
        ratio = decay.uncertainty_by(kind).se / exact
        assert ratio.between(0.6, 1.6).all(), kind
    saem = decay.start.with_values(decay.values).fit(decay.data, "saem", seed=1, explore=40, smooth=60)
    louis, quadrature = (saem.uncertainty_by(kind) for kind in ("louis", "R"))
    assert quadrature.by == "agq, 9 nodes"
    np.testing.assert_allclose(louis.se, quadrature.se, rtol=0.06)


def test_scales_are_related_by_the_delta_method(decay: nw.Fit) -> None:
    sd, variance = decay.uncertainty.se_on("sd"), decay.uncertainty.se_on("variance")
    assert list(variance.index)[2:5] == ["omega_A^2", "omega_k^2", "cov_A_k"]
    np.testing.assert_allclose(variance["omega_A^2"], 2 * decay.estimates["omega_A"] * sd["omega_A"], rtol=1e-6)
    np.testing.assert_allclose(variance["A"], sd["A"], rtol=1e-9)
    np.testing.assert_allclose(np.diag(decay.uncertainty.correlation), 1.0)
    with pytest.raises(nw.MethodError, match="There is no scale 'log'; there are sd and variance"):
        decay.covariance(scale="log")


# --------------------------------------------------------------------------- intervals


def test_intervals_are_wald_where_parameters_are_free(decay: nw.Fit) -> None:
    table, z = decay.intervals(0.95), 1.959963984540054
    relative = decay.se["A"] / decay.estimates["A"]
    assert table.loc["A", "upper"] == pytest.approx(decay.estimates["A"] * np.exp(z * relative), rel=1e-9)
    rho, se = decay.estimates["corr_A_k"], decay.se["corr_A_k"]
    low = np.tanh(np.arctanh(rho) - z * se / (1 - rho**2))
    assert table.loc["corr_A_k", "lower"] == pytest.approx(low, rel=1e-9)
    narrow = decay.intervals(0.5)
    assert (narrow["lower"] > table["lower"]).all()
    assert (narrow["upper"] < table["upper"]).all()
    with pytest.raises(nw.MethodError, match="is not between 0 and 1"):
        decay.intervals(95)


def test_intervals_stay_where_parameters_can_be() -> None:
    model = nw.Model(
        A * sp.exp(-K * nw.time) + nw.theta("shift", 0.4, lower=0.0, upper=0.5),
        {A: nw.LogNormal(5.0, sd=0.4), K: nw.LogNormal(0.4, sd=0.3)},
        residual=nw.Additive(0.3),
        correlation={(A, K): 0.9},
    )
    fit = model.fit(simulated(model, 8, [0.5, 2.0, 8.0], 2), "focei")
    table = fit.intervals(0.999, kind="R").dropna()
    assert len(table) >= 5
    assert (table["lower"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["upper"]).all()
    assert table["lower"].drop(["corr_A_k"], errors="ignore").ge(0).all()
    assert table.loc[table.index.isin(["shift"]), "upper"].le(0.5).all()
    assert table.loc[table.index.isin(["corr_A_k"])].abs().le(1).all().all()


# ----------------------------------------------------------------------- unidentified


def of_products(prediction: sp.Expr, parameters: dict) -> nw.Fit:
    model = nw.Model(prediction, parameters, residual=nw.Additive(0.3))
    return model.fit(simulated(model, 12, [0.5, 1.0, 2.0, 4.0], 5), "focei")


@pytest.mark.parametrize(
    ("prediction", "sentence"),
    [
        (10 * sp.exp(-A / B * nw.time), r"The data fix A/b, not A and b apart; fix one of them, or observe more\."),
        (10 * sp.exp(-A * B * nw.time), r"The data fix A·b, not A and b apart"),
        (10 * sp.exp(-A * B**2 * nw.time), r"The data fix A·b\^2, not A and b apart"),
        (
            10 * sp.exp(-A * B / C * nw.time),
            r"The data fix combinations of A, b and c only: fix 2 of them, or observe more\.",
        ),
    ],
)
def test_a_direction_the_data_do_not_fix_is_named(prediction: sp.Expr, sentence: str) -> None:
    symbols = sorted(prediction.free_symbols & {A, B, C}, key=str)
    shared = nw.eta("eta_shared", sd=0.3)
    parameters = {s: nw.theta(f"{s}", 0.5, lower=0) * (sp.exp(shared) if s == A else 1) for s in symbols}
    renamed = {s: sp.Symbol(f"p_{s}", positive=True) for s in symbols}
    fit = of_products(prediction.xreplace(renamed), {renamed[s]: e for s, e in parameters.items()})
    found = fit.uncertainty
    assert not found.usable
    assert re.search(sentence, found.message), found.message
    assert found.se[[s.name for s in symbols]].isna().all()
    # What the data do fix keeps its standard error, in any kind made of R.
    assert found.se[["omega_shared", "additive"]].gt(0).all()
    assert fit.uncertainty_by("R").se[["omega_shared", "additive"]].gt(0).all()


def test_a_variance_at_zero_is_said_and_the_others_keep_their_errors() -> None:
    model = nw.Model(
        A * sp.exp(-K * nw.time), {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.3)}, residual=nw.Additive(1)
    )
    truth = nw.Model(
        A * sp.exp(-K * nw.time), {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3)}, residual=nw.Additive(1)
    )
    fits = [m.fit(simulated(truth, 15, [0.5, 1, 2, 4], 4), "focei") for m in (model, truth)]
    assert fits[0].estimates["omega_k"] < 1e-3
    found = fits[0].uncertainty_by("R")
    assert found.message.startswith("omega_k is at zero and has no standard error; the others are given as if")
    assert np.isnan(found.se["omega_k"])
    assert fits[0].intervals(kind="R").loc["omega_k", ["lower", "upper"]].isna().all()
    # As if it were fixed: the errors of the model without it.
    smaller = fits[1].uncertainty_by("R").se
    np.testing.assert_allclose(found.se[["A", "omega_A", "additive"]], smaller[["A", "omega_A", "additive"]], rtol=1e-2)


def test_a_point_that_is_no_minimum_is_said(decay: nw.Fit) -> None:
    away = Values(decay.values.theta * [1.0, 8.0], decay.values.omega, decay.values.sigma * 8.0)
    modes = METHODS["focei"]().evaluate(decay.problem, away).eta
    found = uncertainty(decay.problem, away, "focei", modes, kind="R")
    assert found.message.startswith("No standard errors: the estimates are not a minimum of the objective")
    assert "resume()" in found.message
    assert found.se.isna().all()


def test_fixed_parameters_have_no_errors_and_all_fixed_says_so(decay: nw.Fit) -> None:
    held = decay.model.fix("A", "omega_k").fit(decay.data, "focei")
    assert held.se[["A", "omega_k"]].isna().all()
    assert held.cov.loc["A"].eq(0).all()
    assert held.uncertainty.usable
    nothing = decay.model.fix(*decay.model.names).fit(decay.data, "focei")
    assert nothing.uncertainty.message == "Every parameter is fixed: there is nothing to estimate."


# ------------------------------------------------------------------------------ others


def test_unknown_kinds_are_refused(decay: nw.Fit) -> None:
    with pytest.raises(nw.MethodError, match="There is no covariance of kind 'white'; there are sandwich, R, S"):
        decay.covariance("white")
    with pytest.raises(nw.MethodError, match="There are no posterior draws in this fit"):
        decay.covariance("posterior")


def test_counts_have_errors_by_laplace_but_no_linearised_information() -> None:
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model(prediction={"y": nw.Poisson(rate)}, parameters={rate: nw.LogNormal(3.0, sd=0.4)})
    data = simulated(model, 40, [1.0, 2.0, 3.0], 1)
    values = model.values
    problem = model.problem(data)
    modes = METHODS["laplace"]().evaluate(problem, values).eta
    se = uncertainty(problem, values, "laplace", modes, kind="R").se
    # About: each subject tells its log rate with variance ω² + 1/(3·λ).
    assert se["rate"] / 3.0 == pytest.approx(np.sqrt((0.16 + 1 / 9) / 40), rel=0.2)
    with pytest.raises(nw.MethodError, match="does not treat a likelihood that is not normal; take the kind"):
        uncertainty(problem, values, "laplace", modes, kind="linearised")


def test_posterior_draws_are_summarised(decay: nw.Fit) -> None:
    rng = np.random.default_rng(1)
    names = decay.start.space.names
    draws = rng.multivariate_normal(decay.estimates, decay.cov, size=(4, 500))
    found = uncertainty(
        decay.problem, decay.values, "focei", decay.etas.T, kind="posterior", arrays={"posterior": draws}
    )
    flat = pd.DataFrame(draws.reshape(-1, len(names)), columns=list(names))
    pd.testing.assert_series_equal(found.se, flat.std(), check_names=False)
    assert found.intervals(0.9).loc["A", "lower"] == pytest.approx(flat["A"].quantile(0.05))
