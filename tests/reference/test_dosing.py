"""NONMEM's predictions over its dosing records, from their own files (see README.md in this folder)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw

KA, CL, V = sp.symbols("KA CL V", positive=True)
depot, central = nw.states("depot central")


def oral(route: nw.Route, effect: sp.Expr = sp.S.Zero) -> nw.Model:
    return nw.Model(
        central / (V / 1000),
        {CL: nw.LogNormal(1.1, sd=0.1, effect=effect), V: nw.LogNormal(20.0, sd=0.1), KA: nw.LogNormal(1.5, sd=0.1)},
        odes={depot: -KA * depot, central: KA * depot - CL / V * central},
        doses={central: route},
        residual=nw.Additive(1.0),
    )


def test_every_dosing_scenario(shared: Path) -> None:
    file = shared / "reference" / "nmtest_dosing_events" / "data.csv"
    data = nw.Data.read_csv(file, dv="cp")
    lag, f, rate, duration = map(nw.covariate, ("lagt", "bioav", "rat2", "dur2"))
    model = oral(nw.Route(lag=lag, bioavailability=f, rate=rate, duration=duration))
    pred = model.predict(data)["PRED"].to_numpy()
    raw = pd.read_csv(file)
    valid = raw.loc[raw["evid"] == 0, "valid"].to_numpy() == 1
    truth = raw.loc[raw["evid"] == 0, "cp"].to_numpy()
    # Five digits are printed; the case names 1e-4 relative, 0.5 absolute.
    np.testing.assert_allclose(pred[valid], truth[valid], rtol=1e-4, atol=0.5)


def test_a_covariate_that_changes_between_records(shared: Path) -> None:
    data = nw.Data.read_csv(shared / "reference" / "nmtest_timevarying_covariate" / "data.csv", dv="CP_nm")
    table = oral(nw.Route(), sp.Rational(3, 4) * sp.log(nw.covariate("WT") / 70)).predict(data)
    np.testing.assert_allclose(table["PRED"], table["DV"], rtol=1e-4)
