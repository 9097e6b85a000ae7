"""NONMEM's EBE variances, shrinkages and residuals by simulation, from its own tables in shared/reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics import ebe_covariance, ebe_table, npde, residual_table, shrinkage_table
from nlmewidgets.diagnostics.replicates import Source
from nlmewidgets.methods import METHODS
from tests.reference.test_blq import logarithms_as_concentrations, two_compartments
from tests.reference.test_reference import read, values_at

CASES = {
    "theophylline_pred_nonmem": "theophylline_pred_FOCEI",
    "bauer_2cpt_nonmem": "bauer_2cpt_iv_FOCEI",
    "phenobarbital_nonmem": "phenobarbital_simple_FOCEI",
}


def at_the_end(name: str) -> tuple[nw.Problem, Values, np.ndarray]:
    model, data = read(name)
    problem, values = model.problem(data), values_at(name, "final")
    return problem, values, METHODS["focei"]().evaluate(problem, values).eta


@pytest.mark.parametrize("name", CASES)
def test_variances_of_the_ebes_are_those_of_the_phi_file(name: str, shared: Path) -> None:
    problem, values, eta = at_the_end(name)
    theirs = pd.read_csv(shared / "reference" / CASES[name] / "individual.csv").set_index("ID")
    ours = ebe_table(problem, values, eta)
    columns = [c for c in theirs if c.startswith("ETC")]
    # Six printed digits, of parameters that are themselves printed to six; covariances may cancel to little.
    sd = {
        c: np.sqrt(theirs[f"ETC({i},{i})"] * theirs[f"ETC({j},{j})"]) for c in columns for i, j in [c[4:-1].split(",")]
    }
    assert len(columns) == problem.n_eta * (problem.n_eta + 1) // 2
    for c in columns:
        assert (np.abs(ours[c] - theirs[c]) / sd[c]).max() < 2e-5, c


def test_variances_around_laplaces_modes_are_those_of_the_phi_file(shared: Path) -> None:
    folder = shared / "reference" / "bauer_blq_M3_laplace_imp"
    expected = json.loads((folder / "expected.json").read_text())
    final = expected["results"]["ad3tr4_loqb_lap"]["steps"][0]["final"]
    problem = two_compartments().problem(logarithms_as_concentrations(folder))
    values = Values(np.array(final["theta"][:4]), np.array(final["omega"]), np.array(final["theta"][4:]))
    eta = METHODS["laplace"]().evaluate(problem, values).eta
    ours = ebe_covariance(problem, values, eta, "laplace")
    theirs = pd.read_csv(folder / "ad3tr4_loqb_lap_individual.csv")
    kept = np.arange(100) != expected["tolerance"]["exclude_subject"] - 1
    variance = theirs[[f"ETC({k},{k})" for k in range(1, 5)]].to_numpy()
    worst = np.abs(np.diagonal(ours, axis1=1, axis2=2) / variance - 1)[kept]
    # NONMEM's second derivatives are differences: a typical element is right to 1e-3, and none is off by a tenth.
    assert np.median(worst) < 2e-3
    assert worst.max() < 0.1


@pytest.mark.parametrize("name", CASES)
def test_shrinkages_are_those_of_the_listing(name: str, shared: Path) -> None:
    problem, values, eta = at_the_end(name)
    folder = shared / "reference" / CASES[name]
    listing = json.loads((folder / "expected.json").read_text())["result"]["listing"]["diagnostics"]
    table = 100 * shrinkage_table(problem, values, eta)
    of_eta = table.loc[list(problem.space.eta)]
    for column, key in (
        ("SD", "ETASHRINKSD"),
        ("VR", "ETASHRINKVR"),
        ("EBV_SD", "EBVSHRINKSD"),
        ("EBV_VR", "EBVSHRINKVR"),
    ):
        # Five digits, of numbers up to 100, at a point printed to six.
        np.testing.assert_allclose(of_eta[column], listing[f"{key}_pct"], rtol=0, atol=1e-3)
    # NONMEM's epsilons are in its own order: proportional, additive.
    sigmas = ["proportional", "additive"] if len(problem.space.sigma) > 1 else ["epsilon"]
    np.testing.assert_allclose(table.loc[sigmas, "SD"], listing["EPSSHRINKSD_pct"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(table.loc[sigmas, "VR"], listing["EPSSHRINKVR_pct"], rtol=0, atol=1e-3)


def test_bauers_residuals_are_those_of_the_table(shared: Path) -> None:
    problem, values, eta = at_the_end("bauer_2cpt_nonmem")
    theirs = pd.read_csv(shared / "reference" / "bauer_2cpt_iv_FOCEI" / "table.csv").query("AMT == 0").reset_index()
    ours = residual_table(problem, values, eta)
    for own, other in {"IPRED": "IPRE", "IWRES": "IWRE"}.items() | {
        (c, c) for c in ("PRED", "RES", "WRES", "IRES", "CWRES")
    }:
        # Six printed digits, at parameters of seven.
        np.testing.assert_allclose(ours[own], theirs[other], rtol=1e-5, atol=1e-5, err_msg=own)


def test_residuals_by_simulation_agree_with_nonmems_within_its_monte_carlo_error(shared: Path) -> None:
    r"""NONMEM drew 300 replicates for each subject (ESAMPLE's default; its NPDE are Φ⁻¹ of whole 300ths).

    A mean of 300 has the standard error SD/√300: of f for EPRED, of Φ(score) for PD; the covariance behind EWRES and
    ECWRES adds its own, a relative 1/√600 of the part that f has in it. Ours, of 20,000 draws, add an eighth of that.
    """
    name = "wang2007_table_nonmem"
    model, data = read(name)
    problem, values = model.problem(data), values_at(name, "only")
    eta = METHODS["focei"]().evaluate(problem, values).eta
    theirs = pd.read_csv(shared / "reference" / "wang2007_prop_focei_nonmem_table" / "nonmem_table.csv")
    np.testing.assert_allclose(300 * _phi(theirs["NPDE"]), np.round(300 * _phi(theirs["NPDE"])), atol=2e-3)
    ours = npde(Source(problem, values), n=20_000, seed=1, eta=eta)
    start = (theirs["TIME"] == 0).to_numpy()
    exact = ["EPRED", "ERES", "EWRES", "ECWRES", "NPD"]
    # Where f is a constant nothing is drawn, and the printed digits hold.
    np.testing.assert_allclose(ours.loc[start, exact], theirs.loc[start, exact], rtol=5e-5, atol=5e-6)
    k = np.sqrt(1 / 300 + 1 / 20_000)
    f = 10 * np.exp(-0.5 * np.exp(0.2 * np.random.default_rng(1).standard_normal(100_000)))
    of_f, total = f.std(), np.sqrt(f.var() + 0.1 * (f**2).mean())
    late, bound = theirs[~start], 4.5  # 10 subjects, five numbers each: one in 3,000 by chance
    own = ours[~start]
    assert (np.abs(own["EPRED"] - late["EPRED"]) < bound * k * of_f).all()
    assert (np.abs(own["ERES"] - late["ERES"]) < bound * k * of_f).all()
    share = f.var() / total**2
    for column in ("EWRES", "ECWRES"):
        se = np.hypot(k * of_f / total, 0.5 * share * k * np.sqrt(2) * np.abs(late[column]))
        # R(f̂) is up to a tenth smaller than its mean.
        assert (np.abs(own[column] - late[column]) < 1.1 * bound * se).all(), column
    slope = np.exp(-0.5 * own["NPD"] ** 2) / np.sqrt(2 * np.pi)
    scores = (late["DV"].to_numpy()[:, None] - f[:5000]) / (np.sqrt(0.1) * f[:5000])
    assert (np.abs(own["NPD"] - late["NPD"]) < bound * k * _phi(scores).std(axis=1) / slope).all()
    assert (
        np.abs(ours["NPDE"] - theirs["NPDE"])
        < bound
        * k
        * np.sqrt(_phi(ours["NPDE"]) * (1 - _phi(ours["NPDE"])))
        / (np.exp(-0.5 * ours["NPDE"] ** 2) / np.sqrt(2 * np.pi))
    ).all()


def _phi(x: pd.Series | np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(np.asarray(x, dtype=float))
