"""The least change that takes the curve to a point is that of a general optimiser under a constraint."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.optimize import minimize

import nlmewidgets as nw
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics import single_dose, typical_curve
from nlmewidgets.fit.pull import pull


def at(model: nw.Model, data: nw.Data, time: float):
    return model.problem(data.on_grid(times=np.array([time])))


@pytest.mark.parametrize(("time", "level"), [(1.0, 9.0), (3.5, 12.0), (24.0, 0.2), (9.0, 4.9), (7.15, 9.0)])
@pytest.mark.parametrize("fixed", [(), ("ka",), ("CL", "V")])
def test_it_is_the_point_nearest_in_logarithms(theophylline, oral_model, time, level, fixed) -> None:
    model = oral_model()
    problem, values = at(model, theophylline, time), model.values
    names = [p.name for p in problem.space.theta]
    free = [k for k, name in enumerate(names) if name not in fixed]

    def curve(u):
        theta = values.theta.copy()
        theta[free] *= np.exp(u)
        return typical_curve(problem, Values(theta, values.omega, values.sigma))[0]

    try:
        found = pull(problem, values, level, fixed)
    except ModelError:
        # With CL and V fixed no ka may do: none on the side where the curve comes nearer at first.
        assert free == [names.index("ka")]
        here, up = curve(np.zeros(1)), curve(np.full(1, 1e-4))
        side = np.sign((up - here) * (level - here))
        reach = [curve(np.full(1, side * u)) for u in np.linspace(0.0, 7.0, 401)]
        assert not min(reach) < level < max(reach)
        return
    u = np.log(found.values.theta / values.theta)[free]
    assert curve(u) == pytest.approx(level, rel=1e-8)
    np.testing.assert_array_equal(
        found.values.theta[[k for k in range(3) if k not in free]], values.theta[[k for k in range(3) if k not in free]]
    )
    constraint = {"type": "eq", "fun": lambda v: np.log(curve(v) / level)}
    best = minimize(lambda v: v @ v, 0.5 * u, constraints=constraint, method="SLSQP", options={"ftol": 1e-10})
    assert curve(best.x) == pytest.approx(level, rel=1e-5)
    # u is told to 1e-5, and SLSQP differentiates numerically: its point is right to the root of its precision.
    np.testing.assert_allclose(u, best.x, atol=1e-4)


def test_covariates_doses_and_parameters_of_either_sign(theophylline, oral_model) -> None:
    weight = nw.power(nw.covariate("WT"), 70, nw.theta("b", 0.75))
    model = oral_model(CL=nw.LogNormal(2.8, sd=0.3, effect=weight))
    problem, per = at(model, theophylline, 12.0), single_dose(theophylline)
    found = pull(problem, model.values, 0.02, ("ka",), per)
    assert typical_curve(problem, found.values, per)[0] == pytest.approx(0.02, rel=1e-8)
    assert found.kept == ("ka",)
    assert "ka" not in found.changes
    assert {"CL", "V", "b"} >= set(found.changes)
    words = found.words("mg/L per mg", "h")
    assert words.startswith("To pass 0.02 mg/L per mg at 12 h (before: ")
    assert words.endswith("; fixed: ka.")


def test_a_curve_of_either_sign_is_pulled_across_zero() -> None:
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0, 2.0, 3.0], "DV": 0.0}))
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(a + b * nw.time, {a: nw.Normal(1.0, sd=1.0), b: nw.Normal(2.0, sd=1.0)}, residual=nw.Additive(1.0))
    found = pull(at(model, data, 2.0), model.values, -3.0)
    # a + 2b = −3 nearest to (1, 2) in units of (1, 2): u = −8/(1 + 16)·(1, 4).
    np.testing.assert_allclose(found.values.theta, [1.0 - 8.0 / 17.0, 2.0 - 2.0 * 32.0 / 17.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("level", "fixed", "says"),
    [
        (5.0, ("ka", "CL", "V"), "No free parameter moves the typical curve at 3; free one of ka, CL, V"),
        (-1.0, (), "No values of ka, CL, V near these"),
        (500.0, ("CL", "V"), "No values of ka near these"),
        (float("nan"), (), "give another time or level"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(theophylline, oral_model, level, fixed, says) -> None:
    model = oral_model()
    with pytest.raises(ModelError, match=says):
        pull(at(model, theophylline, 3.0), model.values, level, fixed)


def test_where_it_passes_already_nothing_moves(theophylline, oral_model) -> None:
    model = oral_model()
    problem = at(model, theophylline, 3.0)
    found = pull(problem, model.values, float(typical_curve(problem, model.values)[0]))
    assert found.changes == {}
    assert "nothing had to move" in found.words()
