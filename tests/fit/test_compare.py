"""Fits on one scale: worked numbers, printed criteria of other programs, and comparisons that must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit.compare import parameter_counts
from nlmewidgets.fit.criteria import akaike_weights
from nlmewidgets.fit.nesting import nesting
from tests.reference.test_reference import read

A, K = sp.symbols("A k", positive=True)
WT = nw.covariate("WT")
DECAY = A * sp.exp(-K * nw.time)


def model(**changes: object) -> nw.Model:
    parameters = {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.25)} | changes.pop("parameters", {})
    return nw.Model(DECAY, parameters, **{"residual": nw.Proportional(0.1)} | changes)


def records(subjects: int = 20, seed: int = 1) -> pd.DataFrame:
    times = [0.5, 1.0, 2.0, 4.0, 8.0]
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"ID": np.repeat(np.arange(subjects), 5), "TIME": np.tile(times, subjects), "DV": 1.0})
    frame["WT"] = np.repeat(rng.uniform(50, 90, subjects), 5)
    return frame.assign(DV=model().simulate(nw.Data.from_frame(frame), seed=seed)["DV"].to_numpy())


@pytest.fixture(scope="module")
def data() -> nw.Data:
    return nw.Data.from_frame(records())


@pytest.fixture(scope="module")
def fits(data: nw.Data) -> dict[str, nw.Fit]:
    b = nw.theta("b", 0.1)
    larger = {
        "base": model(),
        "one eta": model(parameters={K: nw.LogNormal(0.3)}),
        "block": model(correlation={(A, K): 0.1}),
        "weight": model(parameters={A: nw.LogNormal(10.0, sd=0.3, effect=b * sp.log(WT / 70))}),
        "combined": model(residual=nw.Combined(0.1, 0.1)),
        "held": model(parameters={A: nw.LogNormal(9.0, sd=0.3, fixed=True)}),
    }
    return {name: m.fit(data, "focei") for name, m in larger.items()}


# ----------------------------------------------------------------------------- numbers


def test_worked_numbers() -> None:
    assert nw.aic(-1450.3, 8) == pytest.approx(2916.6)
    assert nw.aic(-1438.7, 10) == pytest.approx(2897.4)
    assert nw.bic(-1450.3, 8, 120) == pytest.approx(2938.9, abs=0.05)
    assert nw.bic(-1438.7, 10, 120) == pytest.approx(2925.3, abs=0.05)
    test = nw.lrt(-1450.3, -1438.7, 2)
    assert (test.statistic, test.p) == (pytest.approx(23.2), pytest.approx(stats.chi2.sf(23.2, 2), rel=1e-10))


@pytest.mark.parametrize(("name", "random", "fixed"), [("monolix_theophylline", 3, 5), ("monolix_phenobarbital", 4, 3)])
def test_criteria_are_those_monolix_prints(shared: Path, name: str, random: int, fixed: int) -> None:
    """Phenobarbital has two covariate effects on V, which has a random effect: they count as random."""
    expected = json.loads((shared / "reference" / name / "expected.json").read_text())
    printed, n = expected["result"]["loglik"], expected["data"]
    loglik = -0.5 * printed.get("-2LL", printed.get("OFV"))
    # Monolix prints three decimals of theophylline's, rounded −2LL included.
    assert nw.aic(loglik, random + fixed) == pytest.approx(printed["AIC"], abs=1e-3)
    assert nw.bic(loglik, random + fixed, n["n_subjects"]) == pytest.approx(printed["BIC"], abs=1e-3)
    corrected = nw.bicc(loglik, random, fixed, n["n_subjects"], n["n_obs"])
    assert corrected == pytest.approx(printed["BICc"], abs=1e-3)


def test_parameters_are_counted_as_monolix_counts_them(shared: Path, fits: dict[str, nw.Fit]) -> None:
    assert parameter_counts(read("monolix_theophylline")[0]) == (3, 5)
    assert parameter_counts(fits["weight"].start) == (3, 3)
    assert parameter_counts(fits["one eta"].start) == (1, 3)
    assert parameter_counts(fits["block"].start) == (3, 3)
    level = nw.theta("pop", 10.0, lower=0) * sp.exp(nw.theta("slope", 0.1) * WT + nw.eta("eta_A", sd=0.3))
    assert parameter_counts(nw.Model(DECAY, {A: level, K: nw.LogNormal(0.3)}, residual=nw.Additive(1))) == (2, 3)


def test_weights_are_relative_likelihoods() -> None:
    weights = akaike_weights(np.array([2916.6, 2897.4]))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] / weights[1] == pytest.approx(np.exp(-0.5 * 19.2))


@pytest.mark.parametrize(("df", "boundary"), [(1, 0), (3, 0), (1, 1), (2, 1), (2, 2), (4, 2)])
def test_p_values_are_tails_of_mixtures_of_chi_squares(df: int, boundary: int) -> None:
    """Drawn: each parameter at a boundary contributes a squared normal number where it is positive."""
    z = np.random.default_rng(df).standard_normal((400_000, df))
    z[:, :boundary] = np.maximum(z[:, :boundary], 0.0)
    statistic = (z**2).sum(axis=1)
    for x in (0.5, 2.7, 6.0):
        share = (statistic >= x).mean()
        error = np.sqrt(share * (1 - share) / len(z))
        assert nw.lrt(0.0, x / 2, df, boundary).p == pytest.approx(share, abs=4 * error)


def test_a_variance_has_half_the_p_value() -> None:
    assert nw.lrt(0.0, 1.5, 1, 1).p == pytest.approx(0.5 * stats.chi2.sf(3.0, 1))
    assert nw.lrt(0.0, 0.0, 1, 1).p == 1.0
    with pytest.raises(nw.MethodError, match="leave nothing to test"):
        nw.lrt(0.0, 1.0, 0)


# ----------------------------------------------------------------------------- nesting


def test_nested_models_are_found_with_their_boundaries(fits: dict[str, nw.Fit]) -> None:
    found = {(a, b): nesting(fits[a], fits[b]) for a in fits for b in fits if a != b}
    found = {pair: (n.extra, n.boundary) for pair, n in found.items() if n is not None}
    assert found[("one eta", "base")] == (("omega_k",), 1)
    assert found[("one eta", "block")] == (("omega_k", "corr_A_k"), 1)
    assert found[("base", "block")] == (("corr_A_k",), 0)
    assert found[("base", "weight")] == (("b",), 0)
    assert found[("base", "combined")] == (("additive",), 1)
    assert found[("held", "base")] == (("A",), 0)
    assert ("base", "one eta") not in found
    assert ("block", "weight") not in found
    assert ("combined", "block") not in found


def test_a_different_structure_is_not_nested_whatever_its_names(data: nw.Data, fits: dict[str, nw.Fit]) -> None:
    shift = sp.Symbol("c", positive=True)
    parameters = {A: nw.LogNormal(10.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.25), shift: nw.LogNormal(1.5)}
    power = nw.Model(A * sp.exp(-((K * nw.time) ** shift)), parameters, residual=nw.Proportional(0.1))
    added = nw.Model(DECAY + shift, parameters, residual=nw.Proportional(0.1))
    fitted = {n: m.fit(data, "focei", max_iterations=3) for n, m in (("power", power), ("added", added))}
    # An exponent is no effect that is zero in the smaller model; a baseline is, at the end of its range.
    assert nesting(fits["base"], fitted["power"]) is None
    assert nesting(fits["base"], fitted["added"]).boundary == 1


# --------------------------------------------------------------------------- the table


def test_the_table_has_one_scale(fits: dict[str, nw.Fit], data: nw.Data) -> None:
    chosen = {n: fits[n] for n in ("base", "one eta", "block")} | {"saem": model().fit(data, "saem", seed=1)}
    compared = nw.compare(chosen)
    table = compared.table
    assert table["AIC"].is_monotonic_increasing
    assert table.loc["saem", "-2LL"] == pytest.approx(table.loc["base", "-2LL"], abs=0.5)
    row, fit = table.loc["base"], fits["base"]
    stick = fit.yardstick()
    full = stick.ofv + fit.n_obs * np.log(2 * np.pi)
    assert row["-2LL"] == pytest.approx(full)
    assert (row["k"], row["OFV"], row["method"]) == (5, fit.ofv, "focei")
    assert row["AIC"] == pytest.approx(full + 10)
    assert row["BIC"] == pytest.approx(full + 5 * np.log(20))
    assert row["BICc"] == pytest.approx(full + 2 * np.log(20) + 3 * np.log(100))
    assert row["error"] < 0.05
    assert table["weight"].sum() == pytest.approx(1.0)
    tests = compared.tests.set_index(["smaller", "larger"])
    own = tests.loc[("one eta", "base")]
    assert own["statistic"] == pytest.approx(fits["one eta"].ofv - fits["base"].ofv)
    assert own["p"] == pytest.approx(0.5 * stats.chi2.sf(own["statistic"], 1))
    assert (own["by"], own["reference"]) == ("focei", "0.5·χ²(0) + 0.5·χ²(1)")
    assert "Nested models" in repr(compared)
    assert "<table" in compared._repr_html_()


def test_fits_may_be_listed_and_pairs_declared(fits: dict[str, nw.Fit]) -> None:
    one, two = fits["one eta"], fits["base"]
    compared = nw.compare([one, two], nested=[("model 1, focei", "model 2, focei")])
    assert sorted(compared.table.index) == ["model 1, focei", "model 2, focei"]
    assert compared.tests["df"].tolist() == [1]
    assert list(nw.compare(one, two).table.index) == list(compared.table.index)
    with pytest.raises(NlmeError, match="nested= names 'a', which is no fit here"):
        nw.compare(one, two, nested=[("a", "b")])
    with pytest.raises(NlmeError, match="cannot be nested"):
        nw.compare({"a": one, "b": two}, nested=[("b", "a")])


def test_a_stopped_fit_is_marked(data: nw.Data, fits: dict[str, nw.Fit]) -> None:
    far = model(correlation={(A, K): 0.1}).with_values({"omega_A": 1.0, "omega_k": 1.0, "proportional": 0.4})
    early = far.fit(data, "focei", max_iterations=1, orient=False)
    compared = nw.compare({"base": fits["base"], "early": early})
    assert any(note.startswith("Not converged: early") for note in compared.notes)
    assert any("'early' fits worse than 'base', which it contains" in note for note in compared.notes)


# --------------------------------------------------------------------------- refusals


def quick(frame: pd.DataFrame, own: nw.Model | None = None) -> nw.Fit:
    return (own or model()).fit(nw.Data.from_frame(frame), "fo", max_iterations=1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.iloc[:-1], "The fits are of different data .20 subjects with 100 observations, 20 with 99."),
        (lambda f: f[f["ID"] > 0], "The fits are of different data"),
        (lambda f: f.assign(DV=np.log(f["DV"])), "The DV of the other fit is the logarithm of that of the other"),
        (lambda f: f.assign(DV=f["DV"] * 1000), "The DV of one fit is 0.001 times that of the other"),
        (lambda f: f.assign(DV=np.sqrt(f["DV"])), "The fits have different DV: a transformed response or other data"),
        (lambda f: f.assign(TIME=f["TIME"] + 1), "The fits are of observations of different subjects, times or kinds"),
        (lambda f: f.assign(CENS=(f["DV"] < 2).astype(int)), "The fits treat different observations as censored"),
    ],
)
def test_other_data_are_refused(change, sentence: str) -> None:
    frame = records()
    changed = change(frame)
    own = model(residual=nw.Additive(1.0))
    other = own.fit(nw.Data.from_frame(changed), "laplace", max_iterations=1) if "CENS" in changed else None
    with pytest.raises(NlmeError, match=sentence):
        nw.compare(quick(frame, own), other or quick(changed, own))


def test_covariates_that_no_model_uses_may_differ() -> None:
    frame = records()
    assert len(nw.compare(quick(frame), quick(frame.drop(columns="WT"))).table) == 2


def test_priors_against_none_and_subjects_left_out_are_refused(fits: dict[str, nw.Fit], data: nw.Data) -> None:
    with_prior = model(priors={"A": nw.priors.LogNormal(10.0, 0.2)}).fit(data, "fo", max_iterations=1)
    with pytest.raises(NlmeError, match="One fit has priors and the other none"):
        nw.compare(fits["base"], with_prior)
    effect = nw.theta("b", 0.1) * sp.log(WT - 55)  # no number for the lightest subjects
    heavy = model(parameters={A: nw.LogNormal(10.0, sd=0.3, effect=effect)}).fit(data, "fo", max_iterations=1)
    assert heavy.excluded
    with pytest.raises(NlmeError, match="The fits left out different subjects .* in one only"):
        nw.compare(fits["base"], heavy)


def test_probabilities_and_densities_are_not_on_one_scale() -> None:
    rate = sp.Symbol("rate", positive=True)
    frame = records(8)[["ID", "TIME"]].assign(DV=lambda f: 1.0 + (f["ID"] % 3) + (f["TIME"] > 1))
    data = nw.Data.from_frame(frame)
    counts = nw.Model(prediction={"y": nw.Poisson(rate)}, parameters={rate: nw.LogNormal(2.0, sd=0.3)})
    normal = nw.Model(rate + 0 * nw.time, {rate: nw.LogNormal(2.0, sd=0.3)}, residual=nw.Additive(1))
    options = {"max_iterations": 1}
    with pytest.raises(NlmeError, match="a probability .a discrete likelihood., the other a density"):
        nw.compare(counts.fit(data, "laplace", **options), normal.fit(data, "laplace", **options))
    # Two densities of the same y are on one scale, also where one of its logarithms: the Jacobian is in it.
    lognormal = nw.Model(rate + 0 * nw.time, {rate: nw.LogNormal(2.0, sd=0.3)}, residual=nw.LogNormalError(0.3))
    compared = nw.compare({"normal": normal.fit(data, "focei"), "lognormal": lognormal.fit(data, "focei")})
    logs = nw.Model(sp.log(rate) + 0 * nw.time, {rate: nw.LogNormal(2.0, sd=0.3)}, residual=nw.Additive(0.3))
    exact = logs.fit(nw.Data.from_frame(frame.assign(DV=np.log(frame["DV"]))), "focei")
    jacobian = 2 * np.log(frame["DV"]).sum()
    assert compared.table.loc["lognormal", "-2LL"] == pytest.approx(-2 * exact.loglik + jacobian, abs=1e-3)
