"""Warfarin PKPD by differential equations: NONMEM's FOCEI objective at its final estimates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw


@pytest.mark.slow
def test_focei_objective_of_nonmem_advan13(shared: Path) -> None:
    # pk.turnover.emax3 of babelmixr2 (NONMEM 7.4.3, ADVAN13 TOL=6): 1326.910 at the final estimates.
    folder = shared / "reference" / "warfarin_pkpd_turnover_ode"
    expected = json.loads((folder / "expected.json").read_text())
    final = expected["results"]["pk.turnover.emax3"]["steps"][0]["final"]
    theta, sd = final["theta"], np.sqrt(np.diag(final["omega"]))
    depot, gut, center, effect = nw.states("depot gut center effect")
    names = sp.symbols("ktr ka cl v emax ec50 kout e0", positive=True)
    ktr, ka, cl, v, emax, ec50, kout, e0 = names
    medians = [*theta[:4], *theta[6:10]]
    parameters = {
        name: nw.LogitNormal(1 / (1 + np.exp(-m)), sd=s) if name == emax else nw.LogNormal(np.exp(m), sd=s)
        for name, m, s in zip(names, medians, sd, strict=True)
    }
    model = nw.Model(
        odes={
            depot: -ktr * depot,
            gut: ktr * depot - ka * gut,
            center: ka * gut - cl / v * center,
            effect: e0 * kout * (1 - emax * (center / v) / (ec50 + center / v)) - kout * effect,
        },
        initial={effect: e0},
        prediction={"cp": center / v, "pca": effect},
        residual={"cp": nw.Combined(theta[5], theta[4]), "pca": nw.Additive(theta[10])},
        parameters=parameters,
    )
    data = nw.Data.read_csv(folder / "data.csv")
    # The listing has six digits of each estimate and TOL=6: 1e-6 of 1327, and as much again from the data's rounding.
    assert model.ofv(data, method="focei") == pytest.approx(final["ofv"], abs=3e-3)
