"""NONMEM's objective of warfarin kinetics and effect: two outputs, transit absorption, indirect response (ADVAN13)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw

CASE = "warfarin_pkpd_turnover_ode"


def test_objective_at_nonmems_estimates(shared: Path) -> None:
    expected = json.loads((shared / "reference" / CASE / "expected.json").read_text())
    final = expected["results"]["pk.turnover.emax3"]["steps"][-1]["final"]
    theta, omega = final["theta"], np.sqrt(np.diag(final["omega"]))
    logs = {"ktr": 0, "ka": 1, "cl": 2, "v": 3, "ec50": 7, "kout": 8, "e0": 9}
    sds = dict(zip(("ktr", "ka", "cl", "v", "emax", "ec50", "kout", "e0"), omega.tolist(), strict=True))
    ktr, ka, cl, v, emax, ec50, kout, e0 = (sp.Symbol(name, positive=True) for name in sds)
    depot, gut, center, effect = nw.states("depot gut center effect")
    cp = center / v
    model = nw.Model(
        {"cp": cp, "pca": effect},
        {
            **{name: nw.LogNormal(float(np.exp(theta[k])), sd=sds[name]) for name, k in logs.items()},
            "emax": nw.LogitNormal(float(1 / (1 + np.exp(-theta[6]))), sd=sds["emax"]),
        },
        odes={
            depot: -ktr * depot,
            gut: ktr * depot - ka * gut,
            center: ka * gut - cl / v * center,
            effect: e0 * kout * (1 - emax * cp / (ec50 + cp)) - kout * effect,
        },
        initial={effect: e0},
        residual={"cp": nw.Combined(additive=theta[5], proportional=theta[4]), "pca": nw.Additive(theta[10])},
    )
    data = nw.Data.read_csv(shared / "reference" / CASE / "data.csv")
    # NONMEM integrates with TOL=6: 1e-6 of each prediction, times 483 observations' residuals over their SD.
    assert model.ofv(data) == pytest.approx(final["ofv"], abs=0.01)
