"""Small studies of the kinds that are not one normal output of a closed form: equations, counts, occasions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw

__all__ = ["KINDS", "classes", "events"]


def _filled(model: nw.Model, frame: pd.DataFrame) -> tuple[nw.Model, nw.Data]:
    """Return the model with a design whose observations are simulated from it."""
    design = nw.Data.from_frame(frame)
    records = design.records.copy()
    records.loc[design.observed, "DV"] = model.simulate(design, seed=1)["DV"].to_numpy()
    return model, nw.Data.from_frame(records)


def equations() -> tuple[nw.Model, nw.Data]:
    """Return saturable elimination after a bolus, by a differential equation."""
    central = nw.states("central")
    top, half, v = sp.symbols("Vm Km V", positive=True)
    model = nw.Model(
        odes={central: -top * central / v / (half + central / v)},
        prediction=central / v,
        parameters={top: nw.LogNormal(10.0, sd=0.2), half: nw.LogNormal(2.0), v: nw.LogNormal(10.0, sd=0.2)},
        residual=nw.Proportional(0.1),
    )
    rows = []
    for i in range(1, 5):
        rows.append((i, 0.0, 100.0, 1, np.nan))
        rows += [(i, t, 0.0, 0, 1.0) for t in (1.0, 4.0, 8.0, 12.0)]
    return _filled(model, pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]))


def counts() -> tuple[nw.Model, nw.Data]:
    """Return Poisson counts."""
    base, drift = sp.symbols("base drift", positive=True)
    model = nw.Model(
        {"y": nw.Poisson(base * sp.exp(-drift * nw.time))},
        {base: nw.LogNormal(6.0, sd=0.4), drift: nw.LogNormal(0.1, sd=0.2)},
    )
    rows = [(i, t, 1.0) for i in range(1, 7) for t in (0.0, 2.0, 4.0, 8.0)]
    return _filled(model, pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


def occasions() -> tuple[nw.Model, nw.Data]:
    """Return a decay whose rate varies between subjects and between two occasions of each."""
    a, k = sp.symbols("a k", positive=True)
    model = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(10.0, sd=0.2), k: nw.LogNormal(0.2, sd=0.3, iov=0.2)},
        residual=nw.Additive(0.5),
    )
    rows = [(i, t, 1 + (t > 5.0), 1.0) for i in range(1, 7) for t in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)]
    return _filled(model, pd.DataFrame(rows, columns=["ID", "TIME", "OCC", "DV"]))


def classes() -> tuple[nw.Model, nw.Data]:
    """Return one of three classes at each of four times."""
    score = sp.Symbol("score")
    model = nw.Model({"y": nw.Categorical.ordered(score, (-1, 1))}, {score: nw.Normal(0.2, sd=0.5)})
    rows = [(i, t, 1.0) for i in range(1, 7) for t in (0.0, 2.0, 4.0, 8.0)]
    return _filled(model, pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


def events() -> tuple[nw.Model, nw.Data]:
    """Return the time of one event or of the end of follow-up, which cannot be simulated at given times."""
    scale = sp.Symbol("scale", positive=True)
    model = nw.Model(nw.Event(hazard=1 / scale, cumulative=nw.time / scale), {scale: nw.LogNormal(10.0)})
    rows = [(i, 2.0 * i, float(i % 3 > 0)) for i in range(1, 9)]
    return model, nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


KINDS: dict[str, Callable[[], tuple[nw.Model, nw.Data]]] = {
    "equations": equations,
    "counts": counts,
    "occasions": occasions,
    "classes": classes,
}
"""Maker of each by its name."""
