"""FO, FOCE and FOCEI of fifty residual error models: ten subjects of Wang (2007), at fixed parameters.

Source: nlmixr2est (github.com/nlmixr2/nlmixr2est, commit 01d15ebf), tests/testthat/test-focei-wang2007.R, of which
`prop` and `add` are NONMEM's own values, doi:10.1007/s10928-007-9060-6.  They are printed to three digits.  FO's and
FOCE's are those of the closed form; with the curve as a differential equation that version had another FOCE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.library.residual import Residual

KE = sp.Symbol("ke", positive=True)
S = sp.sqrt(sp.Rational(1, 10))
log, half = sp.log, sp.Rational(1, 2)
SD = Callable[[sp.Expr], sp.Expr]


@dataclass(frozen=True)
class Of(Residual):
    """An SD without parameters: any function of f."""

    sd: SD
    fixed: tuple[str, ...] = ()

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        return self.sd(f)


def h(f: sp.Expr) -> sp.Expr:
    return f / (f + 5)


def constant(f: sp.Expr) -> sp.Expr:
    return S


def one(*parts: SD) -> SD:
    """SDs add."""
    return lambda f: sum((part(f) for part in parts), sp.S.Zero)


def two(*parts: SD) -> SD:
    """Variances add."""
    return lambda f: sp.sqrt(sum((part(f) ** 2 for part in parts), sp.S.Zero))


def prop(f: sp.Expr) -> sp.Expr:
    return S * f


def root(f: sp.Expr) -> sp.Expr:
    return S * f**half


LOGIT, PROBIT = ({"transform": t, "lower": 0.0, "upper": 12.0} for t in ("logit", "probit"))
YEO = {"transform": "yeo-johnson", "power": 0.5}

PLAIN: dict[str, tuple[SD, float, float, float]] = {
    "prop": (prop, 39.458, 39.207, 39.213),
    "h·f": (lambda f: h(f) * f, 63.353, 63.063, 63.063),
    "s·h": (lambda f: S * h(f), 6.496, 6.275, 9.262),
    "h·log f": (lambda f: log(f) * h(f), 19.177, 18.202, 18.333),
    "add": (constant, -2.059, -2.059, 0.026),
    "h": (h, 3.238, 2.438, 3.311),
    "power": (root, 9.966, 9.331, 9.651),
    "h·√f": (lambda f: h(f) * f**half, 27.301, 26.854, 26.888),
    "s·f^h": (lambda f: S * f ** h(f), 17.831, 16.617, 16.852),
    "log f·f^h": (lambda f: log(f) * f ** h(f), 79.733, 79.448, 79.448),
    "s·√h": (lambda f: S * h(f) ** half, 0.776, 0.580, 3.200),
    "log f·√h": (lambda f: log(f) * h(f) ** half, 24.877, 24.518, 24.554),
    # From eta = 0 a whole Newton step of the first subject's search goes 11 prior SDs, into another mode's basin.
    "s·h^log f": (lambda f: S * h(f) ** log(f), 49.312, 49.296, 52.603),
    "log f·h^3h": (lambda f: log(f) * h(f) ** (3 * h(f)), 10.848, 9.446, 9.960),
    "combined2": (two(constant, prop), 39.735, 39.499, 39.505),
    "combined2, h and 3h·f": (two(h, lambda f: 3 * h(f) * f), 106.308, 106.079, 106.079),
    "combined1": (one(constant, prop), 43.554, 43.394, 43.398),
    "combined1, power": (one(constant, root), 16.231, 16.008, 16.093),
    "combined2, power": (two(constant, root), 10.886, 10.417, 10.662),
    "combined2, h and log f·3h": (two(h, lambda f: log(f) * 3 * h(f)), 54.317, 54.165, 54.166),
    "combined2, s and s·h": (two(constant, lambda f: S * h(f)), -2.321, -2.454, -0.650),
}

BOTH: dict[str, tuple[dict[str, object], SD, float, float, float]] = {
    "log": ({"transform": "log"}, constant, 40.039, 40.039, 40.055),
    "log, prop": ({"transform": "log"}, prop, 118.419, 118.311, 118.311),
    "log, prop of log f": ({"transform": "log"}, lambda f: S * log(f), 65.886, 65.832, 65.832),
    "log, h": ({"transform": "log"}, lambda f: S * h(f), 27.293, 26.643, 27.035),
    "log, power": ({"transform": "log"}, root, 77.870, 77.836, 77.836),
    "log, combined1": ({"transform": "log"}, one(constant, prop), 123.318, 123.240, 123.240),
    "log, combined2": ({"transform": "log"}, two(constant, prop), 118.777, 118.676, 118.676),
    "Box-Cox 1, prop of f - 1": ({"transform": 1.0}, lambda f: S * (f - 1), 35.132, 34.694, 34.709),
    "Box-Cox 1, power of f - 1": ({"transform": 1.0}, lambda f: S * (f - 1) ** half, 9.110, 8.215, 8.644),
    "Box-Cox ½": ({"transform": 0.5}, constant, 10.402, 10.402, 11.078),
    "Box-Cox ½, prop": ({"transform": 0.5}, prop, 77.857, 77.732, 77.732),
    "Box-Cox ½, h": ({"transform": 0.5}, lambda f: S * h(f), 4.243, 3.537, 6.584),
    "Box-Cox ½, power": ({"transform": 0.5}, root, 39.674, 39.563, 39.573),
    "Box-Cox ½, combined1": ({"transform": 0.5}, one(constant, prop), 82.622, 82.534, 82.534),
    "Box-Cox ½, combined2": ({"transform": 0.5}, two(constant, prop), 78.202, 78.084, 78.084),
    "Yeo-Johnson": (YEO, constant, 11.279, 11.279, 11.738),
    "Yeo-Johnson, prop": (YEO, prop, 80.257, 80.136, 80.136),
    "Yeo-Johnson, power": (YEO, root, 41.644, 41.552, 41.559),
    "Yeo-Johnson, combined1": (YEO, one(constant, prop), 85.048, 84.961, 84.962),
    "Yeo-Johnson, combined2, power": (YEO, two(constant, root), 43.704, 43.641, 43.645),
    "logit": (LOGIT, constant, 0.612, 0.612, 0.786),
    "logit, prop": (LOGIT, prop, 67.882, 67.765, 67.765),
    "logit, power": (LOGIT, root, 29.055, 28.987, 28.989),
    "logit, combined1": (LOGIT, one(constant, prop), 72.699, 72.615, 72.615),
    "logit, combined1, power": (LOGIT, one(constant, root), 40.053, 40.028, 40.029),
    "probit": (PROBIT, constant, 12.827, 12.827, 12.847),
    "probit, prop": (PROBIT, prop, 88.875, 88.766, 88.766),
    "probit, power": (PROBIT, root, 48.625, 48.587, 48.587),
    "probit, combined1": (PROBIT, one(constant, prop), 93.761, 93.682, 93.682),
    "probit, combined1, power": (PROBIT, one(constant, root), 60.418, 60.401, 60.401),
}


def objectives(shared: Path, residual: Residual) -> list[float]:
    data = nw.Data.read_csv(shared / "reference" / "wang2007_error_models" / "data.csv")
    model = nw.Model(10 * sp.exp(-KE * nw.time), {KE: nw.LogNormal(0.5, sd=0.2)}, residual=residual)
    return [model.ofv(data, method) for method in ("focei", "foce", "fo")]


@pytest.mark.parametrize("name", PLAIN)
def test_the_sd_is_a_function_of_the_prediction(name: str, shared: Path) -> None:
    sd, *printed = PLAIN[name]
    np.testing.assert_allclose(objectives(shared, Of(sd)), printed, rtol=0, atol=5.1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_both_sides_are_transformed(name: str, shared: Path) -> None:
    how, sd, *printed = BOTH[name]
    residual = nw.TransformBothSides(residual=Of(sd), **how)  # type: ignore[arg-type]
    np.testing.assert_allclose(objectives(shared, residual), printed, rtol=0, atol=5.1e-4)
