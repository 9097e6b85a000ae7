"""Laplace and quadrature have exact gradients whatever the likelihood and the structure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from tests.methods.test_gradients import check_gradient
from tests.models import Case

TIMES = [0.5, 1.0, 2.0, 4.0, 6.0]


def table(subjects: int = 5) -> pd.DataFrame:
    return pd.DataFrame({"ID": np.repeat(np.arange(subjects), len(TIMES)), "TIME": np.tile(TIMES, subjects), "DV": 1.0})


def drawn(model: nw.Model, frame: pd.DataFrame, label: str) -> Case:
    frame["DV"] = model.simulate(nw.Data.from_frame(frame), seed=3)["DV"].to_numpy()
    return Case(model, nw.Data.from_frame(frame), label)


def decay(residual: object = None) -> tuple[sp.Expr, dict, object]:
    a, k = sp.symbols("A k", positive=True)
    return a * sp.exp(-k * nw.time), {a: nw.LogNormal(5.0, sd=0.3), k: nw.LogNormal(0.4, sd=0.3)}, residual


def censored() -> Case:
    f, parameters, _ = decay()
    model = nw.Model(f, parameters, residual=nw.Combined(0.3, 0.1))
    case = drawn(model, frame := table(), "censored")
    frame["CENS"], frame["DV"] = (frame["DV"] < 1.0).astype(int), np.maximum(frame["DV"], 1.0)
    assert 0 < frame["CENS"].sum() < len(frame)
    return Case(case.model, nw.Data.from_frame(frame), "censored")


def counts() -> Case:
    f, parameters, _ = decay()
    return drawn(nw.Model({"y": nw.Poisson(f)}, parameters), table(), "counts")


def binary() -> Case:
    b, c = sp.symbols("b c", real=True)
    own = nw.LogLikelihood(nw.dv * (b + c * nw.time) - sp.log(1 + sp.exp(b + c * nw.time)), values=(0, 1))
    return drawn(nw.Model({"y": own}, {b: nw.Normal(0.3, sd=0.8), c: nw.Normal(-0.2, sd=0.2)}), table(8), "pointwise")


def student() -> Case:
    f, parameters, _ = decay()
    return drawn(nw.Model(f, parameters, residual=nw.Student(0.3)), table(), "student")


def compartments() -> Case:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.2, sd=0.4), CL=nw.LogNormal(2.5, sd=0.3), V=nw.LogNormal(20.0), residual=nw.Combined(0.1, 0.1)
    )
    frame = pd.concat([pd.DataFrame({"ID": np.arange(5), "TIME": 0.0}), table()]).sort_values(
        ["ID", "TIME"], kind="stable"
    )
    frame["AMT"] = np.where(frame["TIME"] == 0, 100.0, 0.0)
    frame["EVID"] = (frame["TIME"] == 0).astype(int)
    extra = frame[frame["EVID"] == 1].assign(TIME=3.0, AMT=50.0)
    frame = pd.concat([frame, extra]).sort_values(["ID", "TIME"], kind="stable").reset_index(drop=True)
    simulated = model.simulate(nw.Data.from_frame(frame), seed=3)["DV"].to_numpy()
    frame["DV"] = frame["DV"].astype(float)
    frame.loc[frame["EVID"] == 0, "DV"] = simulated
    return Case(model, nw.Data.from_frame(frame), "linear compartments")


def integrated() -> Case:
    """Saturable elimination, integrated."""
    x = nw.states("x")
    vm, km = sp.symbols("Vm Km", positive=True)
    model = nw.Model(
        odes={x: -vm * x / (km + x)},
        initial={x: 10},
        prediction=x,
        parameters={vm: nw.LogNormal(2.0, sd=0.3), km: nw.LogNormal(3.0)},
        residual=nw.Additive(0.3),
    )
    return drawn(model, table(2), "differential equations")


def outputs() -> Case:
    f, parameters, _ = decay()
    model = nw.Model({"conc": f, "events": nw.Poisson(1 + f / 2)}, parameters, residual={"conc": nw.Combined(0.2, 0.1)})
    frame = pd.concat([table().assign(DVID=1), table().assign(DVID=2)]).sort_values(["ID", "TIME"], kind="stable")
    return drawn(model, frame.reset_index(drop=True), "two outputs")


def psychometric() -> Case:
    """Correct answers of two alternatives by a Weibull function with lapses: curvatures of either sign."""
    threshold, slope, lapse = sp.symbols("threshold slope lapse", positive=True)
    half = sp.Rational(1, 2)
    chance = half + (half - lapse) * (1 - sp.exp(-((nw.time / threshold) ** slope)))
    trials = nw.covariate("N")
    model = nw.Model(
        nw.LogLikelihood(nw.dv * sp.log(chance) + (trials - nw.dv) * sp.log(1 - chance)),
        {
            threshold: nw.LogNormal(8.0, sd=0.35),
            slope: nw.LogNormal(2.2, sd=0.2),
            lapse: nw.LogitNormal(0.03, sd=0.5),
        },
    )
    data = nw.datasets.load("psychometric")
    return Case(model, data.subset(data.ids[:6]), "psychometric")


CASES: dict[str, Callable[[], Case]] = {
    f.__name__: f for f in (censored, counts, binary, student, compartments, integrated, outputs, psychometric)
}


SLOW = ("integrated", "agq")


@pytest.mark.parametrize(("name", "method"), [(n, m) for n in CASES for m in ("laplace", "agq") if (n, m) != SLOW])
def test_gradients_equal_differences(name: str, method: str) -> None:
    check_gradient(CASES[name](), method)
