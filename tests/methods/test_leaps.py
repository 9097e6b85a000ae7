"""Parameters that run to a bound are put there at once, and come back where that was wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.arrays import Array
from nlmewidgets.core.optimise import Point, Step
from nlmewidgets.core.parameters import Parameter, ParameterSpace
from nlmewidgets.methods.leaps import Leaps

BASE, TOP, HALF = sp.symbols("E0 Emax ED50", positive=True)


@pytest.fixture(scope="module")
def inhibited() -> tuple[nw.Model, nw.Data]:
    """Return a response that the dose takes down to nothing, so that Emax belongs at its bound of 1."""
    dose = nw.covariate("X")
    model = nw.Model(
        BASE * (1 - TOP * dose / (HALF + dose)),
        {BASE: nw.LogNormal(100.0, sd=0.1), TOP: nw.LogitNormal(0.9, sd=0.3), HALF: nw.LogNormal(3.0, sd=0.4)},
        residual=nw.Additive(2.0),
    )
    x = [0.0, 1.0, 3.0, 10.0, 100.0, 1000.0]
    table = pd.DataFrame({"ID": np.repeat(np.arange(20), 6), "TIME": np.tile(np.arange(6.0), 20)})
    table = table.assign(X=np.tile(x, 20), DV=1.0)
    truth = model.with_values({"Emax": 1 - 1e-9, "omega_Emax": 1e-3})
    rng = np.random.default_rng(3)
    table["DV"] = truth.simulate(nw.Data.from_frame(table), seed=3)["DV"].to_numpy()
    table.loc[table.X > 50, "DV"] -= rng.uniform(0.5, 1.0, 40)  # below zero on average: beyond the bound
    return model, nw.Data.from_frame(table)


@pytest.mark.parametrize("method", ["focei", "laplace"])
def test_a_parameter_that_belongs_at_its_bound_is_there_at_once(inhibited: Any, method: str) -> None:
    model, data = inhibited
    fit = model.fit(data, method, orient=False)
    held = model.with_values({"Emax": 1 - 1e-12, "omega_Emax": 1e-3}).fix("Emax", "omega_Emax").fit(data, method)
    assert fit.converged
    assert "Emax ended at a bound" in fit.message
    assert 1 - fit.theta["Emax"] < 1e-7
    assert fit.ofv == pytest.approx(held.ofv, abs=1e-4)
    assert len(fit.history) < 20  # steps of the logit alone took 60


def test_a_parameter_near_its_bound_but_not_at_it_ends_where_the_slope_vanishes(inhibited: Any) -> None:
    model, data = inhibited
    near = model.with_values({"Emax": 0.985, "omega_Emax": 0.05})
    table = data.records.copy()
    table["DV"] = near.simulate(data, seed=5)["DV"].to_numpy()
    data = nw.Data.from_frame(table)
    fit = model.fit(data, "focei", orient=False)
    assert fit.converged
    assert 0.95 < fit.theta["Emax"] < 0.999
    step = 1e-5
    here = fit.model
    sides = [here.with_values({"Emax": fit.theta["Emax"] + s}).ofv(data, "focei") for s in (-step, step)]
    assert min(sides) >= fit.ofv - 1e-5


def one_share(best: float) -> tuple[ParameterSpace, Any]:
    """Return a space of one share, and (p - best)² with its slope along the logit."""
    space = ParameterSpace((Parameter("p", 0.5, 0.0, 1.0),), (), (), (), (), ())

    def function(x: Array, extra: Any) -> Point:
        p = 1 / (1 + np.exp(-x[0]))
        return Point((p - best) ** 2, np.array([2 * (p - best) * p * (1 - p)]), None, (np.zeros((0, 1)), None, x, ()))

    return space, function


@pytest.mark.parametrize(("best", "stays"), [(1.0, True), (1.5, True), (0.9985, False)])
def test_the_slope_beside_the_bound_decides_whether_a_leap_was_right(best: float, stays: bool) -> None:
    space, function = one_share(best)
    leaps, leap = Leaps(space), None
    for logit in (3.5, 4.0, 4.5):
        x = np.array([logit])
        leap = leaps.of(function, Step(x, function(x, None), 1.0, 0.0, 1, "", np.eye(1)))
    assert leap is not None
    assert leap.x[0] == 20.0
    there = Step(leap.x, function(leap.x, None), 0.0, 0.0, 1, "converged", leap.hessian)
    back = leaps.back(function, there)
    if stays:
        assert back is None
    else:
        assert back is not None
        assert back.x[0] == 7.0
        assert leaps.of(function, Step(back.x, function(back.x, None), 1.0, 0.0, 1, "", np.eye(1))) is None


def test_nobody_leaps_who_is_far_from_a_bound_or_goes_the_other_way() -> None:
    space, function = one_share(0.3)
    for path in ((1.0, 2.0, 3.0), (6.0, 5.5, 5.0), (4.5, 4.5, 4.5)):
        leaps = Leaps(space)
        for logit in path:
            x = np.array([logit])
            assert leaps.of(function, Step(x, function(x, None), 1.0, 0.0, 1, "", np.eye(1))) is None
