"""Censored observations by M3 against NONMEM (Bauer 2019, doi:10.1002/psp4.12422, supplement 3)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.methods import METHODS

CASE = "reference/bauer_blq_M3_laplace_imp"
LLOQ = -3.5


def two_compartments() -> nw.Model:
    """Return the closed form with lognormal errors: NONMEM's data are logarithms, with a normal error."""
    t, dose = nw.time, nw.dose
    symbols = sp.symbols("CL V1 Q V2", positive=True)
    cl, v1, q, v2 = symbols
    k10, k12, k21 = cl / v1, q / v1, q / v2
    total = k10 + k12 + k21
    fast = (total + sp.sqrt(total**2 - 4 * k10 * k21)) / 2
    slow = k10 * k21 / fast
    decay = (fast - k21) * sp.exp(-fast * t) + (k21 - slow) * sp.exp(-slow * t)
    start = (1.7, 1.65, 0.8, 2.45)
    parameters = {
        x: sp.exp(nw.theta(f"th{i}", v) + nw.eta(f"eta{i}", sd=0.3))
        for i, (x, v) in enumerate(zip(symbols, start, strict=True), 1)
    }
    block = {(f"eta{i}", f"eta{i + 1}"): 0.01 for i in (1, 2, 3)}
    return nw.Model(dose / v1 * decay / (fast - slow), parameters, residual=nw.LogNormalError(0.3), correlation=block)


def logarithms_as_concentrations(folder: Path) -> nw.Data:
    table = pd.read_csv(folder / "data.csv")
    observed = table["EVID"] == 0
    table["CENS"] = (observed & (table["DV"] < LLOQ)).astype(int)
    table["DV"] = np.where(observed, np.exp(np.where(table["CENS"] == 1, LLOQ, table["DV"])), np.nan)
    return nw.Data.from_frame(table[["ID", "TIME", "DV", "AMT", "EVID", "MDV", "CENS"]])


def test_the_laplace_objective_of_m3_is_nonmems(shared: Path) -> None:
    folder = shared / CASE
    expected = json.loads((folder / "expected.json").read_text())
    final = expected["results"]["ad3tr4_loqb_lap"]["steps"][0]["final"]
    problem = two_compartments().problem(logarithms_as_concentrations(folder))
    assert problem.n_obs == 500
    assert problem.n_normal == 396
    values = Values(np.array(final["theta"][:4]), np.array(final["omega"]), np.array(final["theta"][4:]))
    result = METHODS["laplace"](least_curvature=0.0).evaluate(problem, values)
    # The density of y instead of log y has the Jacobian 1/y, of measured observations only.
    jacobian = problem.subjects(np.where(problem.data.cens == 0, 2 * np.log(problem.y), 0.0))
    reference = pd.read_csv(folder / "ad3tr4_loqb_lap_individual.csv")["OBJ"].to_numpy()
    # NONMEM ends in another mode of subject 10 (the case's own note).
    kept = np.arange(100) != expected["tolerance"]["exclude_subject"] - 1
    difference = np.abs(result.per_subject - jacobian - reference)[kept]
    assert difference.max() < 2e-4  # NONMEM's inner search stops at about 1e-4
    total = float((result.per_subject - jacobian).sum())
    assert total == pytest.approx(final["ofv"], abs=expected["tolerance"]["total_ofv_abs"])
    assert METHODS["laplace"]().ofv(problem, values) == pytest.approx(result.ofv, abs=1e-9)


def test_saem_with_m3_finds_nonmems_importance_sampling_estimates(shared: Path) -> None:
    """With the default options, from a start that is not NONMEM's end: few data a subject (docs/decisions/0017)."""
    folder = shared / CASE
    final = json.loads((folder / "expected.json").read_text())["results"]["ad3tr4_loqb_imp"]["steps"][-1]["final"]
    data = logarithms_as_concentrations(folder)
    values = Values(np.array(final["theta"][:4]), np.array(final["omega"]), np.array(final["theta"][4:]))
    model = two_compartments()
    fit = model.fit(data, "saem", seed=3)
    assert fit.converged
    quadrature = {"method": "agq", "nodes": 5}
    # The excess of −2 log L is the sum over 15 parameters of (Monte Carlo error / standard error)²; 0.2 each.
    assert fit.model.ofv(data, **quadrature) <= model.with_values(values).ofv(data, **quadrature) + 15 * 0.2**2
    np.testing.assert_allclose(fit.values.theta, values.theta, atol=0.02)  # standard errors are 0.05
    np.testing.assert_allclose(fit.values.sigma, values.sigma, atol=0.015)  # its standard error is 0.02


def test_saem_with_m3_finds_the_maximum_of_the_exact_likelihood() -> None:
    a, k = sp.symbols("A k", positive=True)
    truth = nw.Model(
        a * sp.exp(-k * nw.time), {a: nw.LogNormal(5.0, sd=0.3), k: nw.LogNormal(0.4)}, residual=nw.Additive(0.3)
    )
    table = pd.DataFrame({"ID": np.repeat(np.arange(60), 5), "TIME": np.tile([0.5, 1.0, 2.0, 4.0, 6.0], 60), "DV": 1.0})
    drawn = truth.simulate(nw.Data.from_frame(table), seed=8)["DV"].to_numpy()
    table["CENS"], table["DV"] = (drawn < 1.0).astype(int), np.maximum(drawn, 1.0)
    assert 0.25 < table["CENS"].mean() < 0.5
    data = nw.Data.from_frame(table)
    fit = truth.fit(data, "saem", seed=1, explore=100, smooth=100)

    def objective(**changes: float) -> float:
        return fit.model.with_values({n: fit.estimates[n] * c for n, c in changes.items()}).ofv(data, "agq", nodes=9)

    own = objective()
    for name in ("A", "k", "omega_A", "additive"):
        # A parabola through three points says how much the maximum along each parameter would gain.
        low, high = objective(**{name: 0.97}), objective(**{name: 1.03})
        gain = (high - low) ** 2 / (8 * (high + low - 2 * own))
        assert 0 <= gain < 0.05
    # Left out (M1), the observations say more than they know: the rate is biased towards slow elimination.
    without = truth.fit(data.filter("CENS == 0"), "focei")
    assert without.theta["k"] < fit.theta["k"]


@pytest.mark.parametrize(("method", "options"), [("laplace", {}), ("agq", {"nodes": 3})])
def test_fits_with_m3_converge_where_curvatures_vanish(shared: Path, method: str, options: dict[str, int]) -> None:
    """Subject 41's density has two modes on the way: log|H| would have no lower bound there."""
    folder = shared / CASE
    final = json.loads((folder / "expected.json").read_text())["results"]["ad3tr4_loqb_lap"]["steps"][0]["final"]
    data = logarithms_as_concentrations(folder)
    model = two_compartments()
    problem = model.problem(data)
    jacobian = 2 * np.log(problem.y[problem.data.cens == 0]).sum()
    fit = model.fit(data, method, **options)
    assert fit.converged
    if method == "laplace":
        # NONMEM stopped at -131.094, in the lesser mode of subject 10, with a gradient of 34.
        assert fit.ofv - jacobian < final["ofv"] - 1.0
        assert "subjects 5, 10, 53 and others is nearly flat, or has two modes" in fit.message
    # Standard errors of the thetas are about 0.05, those of the SDs of the random effects 0.05.
    np.testing.assert_allclose(fit.values.theta, final["theta"][:4], atol=0.1)
    # From NONMEM's own initial values, far away (OFV 617.6), the same optimum.
    away = Values(np.full(4, 2.0), np.full((4, 4), 0.01) + 0.14 * np.eye(4), np.array([0.2]))
    again = model.with_values(away).fit(data, method, **options)
    assert again.ofv == pytest.approx(fit.ofv, abs=1e-4)
