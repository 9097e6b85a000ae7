"""Distributions of individual parameters: their quantiles, laws and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import special, stats

import nlmewidgets as nw
from nlmewidgets.core.distributions import DISTRIBUTIONS

X = sp.Symbol("X", real=True)
Z = np.linspace(-2.5, 2.5, 11)
"""Random effects in units of their SD."""


def individual(distribution: nw.Normal, z: np.ndarray = Z) -> np.ndarray:
    """Return X at these standardised random effects, one subject each, with the covariate W = 2."""
    frame = pd.DataFrame({"ID": np.arange(len(z)), "TIME": 0.0, "DV": 1.0, "W": 2.0})
    model = nw.Model(X, {X: distribution}, residual=nw.Additive(1.0))
    problem = model.problem(nw.Data.from_frame(frame))
    sd = np.sqrt(model.values.omega[0, 0])
    return problem.individual_parameters(model.values.theta, sd * z[None, :])["X"]


EFFECT = nw.theta("b", 0.3) * nw.covariate("W")
SHIFT = 0.6


def student(z: np.ndarray, nu: float) -> np.ndarray:
    return stats.t.ppf(stats.norm.cdf(z), nu)


EXACT = {
    "normal": (nw.Normal(4.0, sd=0.5, effect=EFFECT), 4.0 + SHIFT + 0.5 * Z),
    "lognormal": (nw.LogNormal(4.0, sd=0.5, effect=EFFECT), 4.0 * np.exp(SHIFT + 0.5 * Z)),
    "logitnormal": (
        nw.LogitNormal(4.0, sd=0.5, effect=EFFECT, lower=1.0, upper=6.0),
        1 + 5 * special.expit(special.logit(0.6) + SHIFT + 0.5 * Z),
    ),
    "probitnormal": (
        nw.ProbitNormal(4.0, sd=0.5, effect=EFFECT, lower=1.0, upper=6.0),
        1 + 5 * stats.norm.cdf(stats.norm.ppf(0.6) + SHIFT + 0.5 * Z),
    ),
    "boxcoxnormal": (
        nw.BoxCoxNormal(4.0, sd=0.5, effect=EFFECT, shape=0.7),
        4.0 * np.exp(SHIFT + special.boxcox(np.exp(0.5 * Z), 0.7)),
    ),
}


@pytest.mark.parametrize("kind", EXACT)
def test_individual_parameters_are_the_transform_scipy_computes(kind):
    distribution, wanted = EXACT[kind]
    assert distribution.kind == kind
    np.testing.assert_allclose(individual(distribution), wanted, rtol=1e-13)


def test_every_distribution_is_compared():
    assert {*EXACT, "studentlognormal"} == set(DISTRIBUTIONS)


@pytest.mark.parametrize(("nu", "tolerance"), [(3.0, 2e-2), (5.0, 2e-3), (10.0, 1e-4), (50.0, 2e-7)])
def test_heavy_tails_are_students(nu, tolerance):
    # The first term left out of the expansion is of order z^9/ν^4 with a coefficient near 1/1200.
    z = np.linspace(-1.5, 1.5, 7)
    found = np.log(individual(nw.StudentLogNormal(4.0, sd=0.5, df=nu), z) / 4.0) / 0.5
    np.testing.assert_allclose(found, student(z, nu), atol=tolerance)
    assert abs(found[-1]) > 1.5


def test_box_cox_is_smooth_at_zero():
    near = [individual(nw.BoxCoxNormal(4.0, sd=0.5, shape=v)) for v in (-1e-9, 0.0, 1e-9)]
    np.testing.assert_allclose(near[1], 4.0 * np.exp(0.5 * Z), rtol=1e-14)
    np.testing.assert_allclose(near[0] + near[2], 2 * near[1], rtol=1e-14)


def test_shapes_are_population_parameters():
    model = nw.Model(X, {X: nw.BoxCoxNormal(4.0, sd=0.5, shape=0.7)}, residual=nw.Additive(1.0))
    assert model.names == ("X", "lambda_X", "omega_X", "additive")
    heavy = nw.Model(X, {X: nw.StudentLogNormal(4.0, sd=0.5)}, residual=nw.Additive(1.0))
    assert heavy.names == ("X", "scale_X", "df_X", "omega_X", "additive")
    assert list(heavy.table()["fixed"]) == [False, False, True, True, False]
    assert list(heavy.problem(data()).individual_parameters(heavy.values.theta, np.zeros((1, 2)))) == ["X"]
    # Without a random effect there is nothing to shape.
    assert nw.Model(X, {X: nw.BoxCoxNormal(4.0)}, residual=nw.Additive(1.0)).names == ("X", "additive")


def data() -> nw.Data:
    return nw.Data.from_frame(pd.DataFrame({"ID": [1, 1, 2], "TIME": [0.0, 1, 0], "DV": [1.0, 2, 3]}))


def test_the_shape_of_a_skewed_population_is_found():
    # 400 subjects, 3 precise observations each: λ from a sample of 400 has an SE of about sqrt(3/2/400)/0.6 = 0.1
    # (the skewness of the normal has the variance 6/n, and e^{λη} bends η by λω/2·η² of it).
    frame = pd.DataFrame({"ID": np.repeat(np.arange(400), 3), "TIME": np.tile([0.0, 1, 2], 400), "DV": 1.0})
    model = nw.Model(X, {X: nw.BoxCoxNormal(4.0, sd=0.6, shape=0.8)}, residual=nw.Proportional(0.05))
    frame["DV"] = model.simulate(nw.Data.from_frame(frame), seed=1)["DV"]
    fit = model.with_values({"lambda_X": 0.1}).fit(nw.Data.from_frame(frame), "focei")
    assert fit.converged
    assert fit.estimates["lambda_X"] == pytest.approx(0.8, abs=0.4)
    assert fit.ofv < model.ofv(nw.Data.from_frame(frame))


@pytest.mark.parametrize(
    ("distribution", "sentence"),
    [
        (nw.ProbitNormal(0.5, sd=1.0, upper=None), "is ProbitNormal without a finite lower= and upper="),
        (nw.ProbitNormal(2.0, sd=1.0), "starts at 2, not below its upper bound 1"),
        (nw.StudentLogNormal(1.0), "is StudentLogNormal, which needs an sd and takes no iov"),
        (nw.StudentLogNormal(1.0, sd=0.1, df=2.0), "has df=2, but Student's t has a variance only above 2"),
        (nw.BoxCoxNormal(1.0, sd=0.1, shape=float("inf")), "The shape of parameter 'X' has the initial value inf"),
    ],
)
def test_impossible_distributions_are_refused(distribution, sentence):
    with pytest.raises(nw.ModelError, match=sentence):
        nw.Model(X, {X: distribution}, residual=nw.Additive(1.0))
