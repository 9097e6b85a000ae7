"""NONMEM's objectives of warfarin kinetics and effect: two outputs, transit absorption, indirect response (ADVAN13)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods import METHODS

CASE = "reference/warfarin_pkpd_turnover_ode"
NAMES = {"ktr": 0, "ka": 1, "cl": 2, "v": 3, "emax": 6, "ec50": 7, "kout": 8, "e0": 9}
"""In the order of the etas; their places among NONMEM's thetas, which are logarithms and a logit."""
MOVING = {"emax3": tuple(NAMES), "emax4": ("cl", "v", "ec50", "kout", "e0")}


def at_the_end(shared: Path, run: str) -> tuple[nw.Model, nw.Data, float, pd.DataFrame]:
    """Return the model at NONMEM's estimates, the data, the objective and its table of subjects."""
    folder = shared / CASE
    final = json.loads((folder / "expected.json").read_text())["results"][f"pk.turnover.{run}"]["steps"][-1]["final"]
    theta = final["theta"]
    sds = dict(zip(MOVING[run], np.sqrt(np.diag(final["omega"])).tolist(), strict=True))
    symbols = {name: sp.Symbol(name, positive=True) for name in NAMES}
    ktr, ka, cl, v, emax, ec50, kout, e0 = symbols.values()
    depot, gut, center, effect = nw.states("depot gut center effect")
    cp = center / v
    parameters = {
        name: nw.LogitNormal(float(1 / (1 + np.exp(-theta[k]))), sd=sds.get(name, 0.0))
        if name == "emax"
        else nw.LogNormal(float(np.exp(theta[k])), sd=sds.get(name, 0.0))
        for name, k in NAMES.items()
    }
    model = nw.Model(
        {"cp": cp, "pca": effect},
        parameters,
        odes={
            depot: -ktr * depot,
            gut: ktr * depot - ka * gut,
            center: ka * gut - cl / v * center,
            effect: e0 * kout * (1 - emax * cp / (ec50 + cp)) - kout * effect,
        },
        initial={effect: e0},
        residual={"cp": nw.Combined(additive=theta[5], proportional=theta[4]), "pca": nw.Additive(theta[10])},
    )
    file = "data.csv" if run == "emax3" else "data_emax4.csv"
    data = nw.Data.read_csv(folder / file, covariates=[])
    return model, data, final["ofv"], pd.read_csv(folder / f"pk.turnover.{run}_nonmem_individual.csv")


@pytest.mark.parametrize("run", MOVING)
def test_objective_and_modes_at_nonmems_estimates(run: str, shared: Path) -> None:
    model, data, objective, table = at_the_end(shared, run)
    problem = model.problem(data)
    assert (problem.n_subjects, problem.n_obs) == (32, 483)
    found = METHODS["focei"]().evaluate(problem, model.values)
    # NONMEM integrates with TOL=6: 1e-6 of each prediction, times 483 observations' residuals over their SD.
    assert found.ofv == pytest.approx(objective, abs=0.01)
    np.testing.assert_allclose(found.per_subject, table["OBJ"], rtol=0, atol=2e-3)
    etas = table[[f"ETA({k})" for k in range(1, problem.n_eta + 1)]].to_numpy().T
    np.testing.assert_allclose(found.eta, etas, rtol=0, atol=5e-4)
