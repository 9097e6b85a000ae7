"""The ribbon of a parameter is its exact first derivative, for formulas, equations, covariates and doses alike."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics import single_dose, typical_curve
from nlmewidgets.fit.ribbon import Ribbon, ribbon, typical_slopes


@pytest.mark.parametrize("per_dose", [False, True])
@pytest.mark.parametrize("kind", ["formula", "covariate", "equations"])
def test_slopes_are_those_of_finite_differences(kind, per_dose, theophylline, oral_model) -> None:
    data = theophylline
    model = oral_model()
    if kind == "covariate":
        weight = nw.power(nw.covariate("WT"), 70, nw.theta("b", 0.75))
        model = oral_model(CL=nw.LogNormal(2.8, sd=0.3, effect=weight))
    elif kind == "equations":
        depot, central = nw.states("depot central")
        ka, CL, V = sp.symbols("ka CL V", positive=True)
        model = nw.Model(
            central / V,
            {ka: nw.LogNormal(1.5, sd=0.6), CL: nw.LogNormal(2.8, sd=0.3), V: nw.LogNormal(32.0, sd=0.2)},
            odes={depot: -ka * depot, central: ka * depot - CL / V * central},
            residual=nw.Additive(0.7),
        )
    grid = model.problem(data.on_grid(7))
    per = single_dose(data) if per_dose else None
    values = model.values
    curve, slopes = typical_slopes(grid, values, per)
    np.testing.assert_allclose(curve, typical_curve(grid, values, per), rtol=1e-6)
    for k, value in enumerate(values.theta):
        # Central differences: their error is of the order h², of the integration's tolerance / h.
        h = 1e-4 * value
        ends = []
        for sign in (1.0, -1.0):
            theta = values.theta.copy()
            theta[k] += sign * h
            ends.append(typical_curve(grid, Values(theta, values.omega, values.sigma), per))
        expected = (ends[0] - ends[1]) / (2.0 * h)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(slopes[k], expected, atol=(2e-3 if kind == "equations" else 1e-6) * scale)


def test_the_words_of_absorption_on_bateman_s_function() -> None:
    """With ka = 1 and k = 0.1, dc/dka is known in closed form: positive before 2.9 h or so, negative after."""
    t = np.linspace(0.0, 24.0, 241)
    ka, k = 1.0, 0.1
    curve = ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
    slope = -k / (ka - k) ** 2 * (np.exp(-k * t) - np.exp(-ka * t)) + ka / (ka - k) * t * np.exp(-ka * t)
    found = Ribbon("ka", "10 %", t, curve, 0.1 * slope)
    inside = np.abs(slope) >= 0.5 * np.abs(slope).max()
    ((first, last),) = found.stretches()
    assert (first, last) == (t[inside][0], t[inside][-1])
    peak, trough = t[np.argmax(slope)], t[np.argmin(slope)]
    words = found.words("mg/L", "h")
    assert words.startswith(f"ka matters between {first:.2g} and {last:.2g} h: 10 % more raises")
    assert f"(at {peak:.2g} h)" in words
    assert f"and lowers the curve by up to {0.1 * abs(slope.min()):.2g} mg/L (at {trough:.2g} h)" in words
    np.testing.assert_allclose(found.high - found.low, 0.2 * np.abs(slope))


def test_what_does_not_move_the_curve_says_so(theophylline, oral_model) -> None:
    grid = oral_model().problem(theophylline.on_grid(5))
    curve, slopes = typical_slopes(grid, oral_model().values)
    assert ribbon(grid, "omega_CL", grid.data.time[:5], curve, slopes, 0.1, "10 %") is None
    nothing = Ribbon("F", "10 %", grid.data.time[:5], curve, 0.0 * curve)
    assert nothing.words() == "F does not move the typical curve."
