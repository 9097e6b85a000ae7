"""Searches from far away end at the optimum, or say that they did not."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods.ending import ending

KA, CL, V = sp.symbols("ka CL V", positive=True)


def theophylline(ka: float, cl: float, v: float) -> nw.Model:
    k = CL / V
    curve = nw.dose * KA / (V * (KA - k)) * (sp.exp(-k * nw.time) - sp.exp(-KA * nw.time))
    parameters = {KA: nw.LogNormal(ka, sd=0.6), CL: nw.LogNormal(cl, sd=0.3), V: nw.LogNormal(v, sd=0.2)}
    return nw.Model(curve, parameters, residual=nw.Additive(0.7))


@pytest.mark.parametrize("method", ["fo", "focei", "laplace"])
def test_starts_in_the_wrong_unit_reach_the_same_optimum(method: str) -> None:
    data = nw.datasets.load("theophylline_per_kg")
    near = theophylline(1.5, 0.04, 0.45).fit(data, method)
    assert near.converged
    for start in ((1.5, 2.8, 32.0), (1.5, 0.04, 32.0), (15.0, 0.4, 4.5)):
        far = theophylline(*start).fit(data, method)
        assert far.converged, far.message
        # Both stop where the objective promises to fall by less than 1e-6.
        assert far.ofv == pytest.approx(near.ofv, abs=1e-4)


def test_what_is_not_an_optimum_is_not_called_converged() -> None:
    space = theophylline(1.5, 0.04, 0.45).space
    values = space.initial
    n = len(space.x_names)
    assert ending(space, values, np.eye(n)) == ("converged", "")
    singular = np.eye(n)
    singular[:2, :2] = 1.0  # ka and CL by their product
    status, text = ending(space, values, singular)
    assert status == "limit"
    assert "ka" in text
    assert "CL" in text
    x = space.pack(values)
    x[0] += np.log(1e7)
    status, text = ending(space, space.unpack(x))
    assert status == "limit"
    assert "ka went from 1.5 to 1.5e+07" in text


def test_a_variance_at_zero_is_an_estimate() -> None:
    space = theophylline(1.5, 0.04, 0.45).space
    x = space.pack(space.initial)
    k = next(i for i, name in enumerate(space.x_names) if "V" in name and "sd" in name or "chol eta_V" in name)
    x[k] -= 20.0
    information = np.eye(len(x))
    information[k, k] = 0.0
    status, text = ending(space, space.unpack(x), information)
    assert status == "converged"
    assert "omega_V went to zero" in text
