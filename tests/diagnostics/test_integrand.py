"""One subject's integral against the methods that approximate it and an independent integrator."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import integrate

import nlmewidgets as nw
from nlmewidgets.diagnostics import integrand
from nlmewidgets.methods import METHODS
from tests.models import Case, make


@pytest.fixture(scope="module")
def case() -> Case:
    return make("oral", "combined", ("block",), seed=3, subjects=5)


@pytest.mark.parametrize("name", ["fo", "foce", "focei", "laplace"])
def test_the_gaussians_integrate_to_what_the_methods_say(case: Case, name: str) -> None:
    problem, values = case.problem, case.model.values
    expected = METHODS[name]().evaluate(problem, values).per_subject
    for place, subject in enumerate(problem.data.ids):
        found = integrand(problem, values, subject, points=5).contributions.loc[name, "minus2ll"]
        assert found == pytest.approx(expected[place], abs=1e-9)


def test_quadrature_is_that_of_the_method(case: Case) -> None:
    problem, values = case.problem, case.model.values
    expected = METHODS["agq"](nodes=5).evaluate(problem, values).per_subject
    for place, subject in enumerate(problem.data.ids):
        found = integrand(problem, values, subject, points=5, nodes=5)
        assert found.contributions.loc["agq, 5 nodes", "minus2ll"] == pytest.approx(expected[place], abs=1e-9)
        assert found.share.sum() == pytest.approx(1.0)
        assert found.nodes.shape == (5**problem.n_eta, 2)


def test_the_exact_surface_integrates_to_the_finest_quadrature() -> None:
    """With one eta the picture is the whole integral: SciPy's quadrature of it is the contribution."""
    case = make("decay", "proportional", (), seed=7, subjects=3)
    k = next(s for s in case.model.parameters if s.name == "k")
    a = next(s for s in case.model.parameters if s.name == "A")
    model = nw.Model(
        case.model.outputs["y"],
        {a: nw.LogNormal(8.0), k: nw.LogNormal(0.25, sd=0.5)},
        residual=nw.Proportional(0.12),
    )
    problem = model.problem(case.data)
    for subject in problem.data.ids:
        found = integrand(problem, model.values, subject, points=8001, reach=12.0)
        least = found.exact.min()
        total = integrate.simpson(np.exp(-0.5 * (found.exact - least)), x=found.axes[0])
        finest = found.contributions["minus2ll"].iloc[-1]
        assert -2 * math.log(total) + least == pytest.approx(finest, abs=1e-5)


def test_in_a_linear_model_all_are_the_same(case: Case) -> None:
    a, b = sp.symbols("a b")
    model = nw.Model(a + b * nw.time, {a: nw.Normal(1.0, sd=0.5), b: nw.Normal(2.0, sd=0.8)}, residual=nw.Additive(0.3))
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0, 3.0], "DV": [1.2, 2.5, 8.0]}))
    found = integrand(model.problem(data), model.values, 1, points=21)
    for surface in found.approximations.values():
        np.testing.assert_allclose(surface, found.exact, rtol=1e-9)
    np.testing.assert_allclose(found.contributions["difference"], 0.0, atol=1e-9)


def test_what_does_not_apply_says_why(case: Case) -> None:
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model({"y": nw.Poisson(rate)}, {rate: nw.LogNormal(4.0, sd=0.5)})
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0], "DV": [3.0, 7.0]}))
    found = integrand(model.problem(data), model.values, 1)
    assert set(found.refused) == {"fo", "foce", "focei"}
    assert list(found.approximations) == ["laplace"]
    with pytest.raises(nw.ModelError, match="no random effect 'eta_x'; there are eta_rate"):
        integrand(model.problem(data), model.values, 1, ["eta_x"])
    fixed = nw.Model(rate, {rate: nw.LogNormal(4.0)}, residual=nw.Additive(1.0))
    with pytest.raises(nw.ModelError, match="no random effects"):
        integrand(fixed.problem(data), fixed.values, 1)
    with pytest.raises(nw.ModelError, match="3 random effects cannot be drawn"):
        integrand(case.problem, case.model.values, 2, list(case.model.space.eta))


@pytest.mark.parametrize("occasions", [2, 5])
def test_kappas_of_many_occasions_are_integrated_exactly_where_that_is_known(occasions) -> None:
    (a,) = sp.symbols("a", seq=True)
    model = nw.Model(a, {a: nw.Normal(1.0, sd=0.5, iov=0.2)}, residual=nw.Additive(0.3))
    rng = np.random.default_rng(5)
    occasion = np.repeat(np.arange(occasions), 3)
    y = rng.normal(1.0, 0.6, len(occasion))
    records = pd.DataFrame({"ID": 1, "TIME": np.arange(len(y), dtype=float), "OCC": occasion + 1, "DV": y})
    problem = model.problem(nw.Data.from_frame(records, occ="OCC"))
    found = integrand(problem, problem.space.initial, 1, points=21)
    same = occasion[:, None] == occasion
    covariance = 0.25 + 0.04 * same + 0.09 * np.eye(len(y))
    exact = (y - 1.0) @ np.linalg.solve(covariance, y - 1.0) + np.linalg.slogdet(covariance)[1]
    assert found.contributions["minus2ll"].iloc[-1] == pytest.approx(exact, abs=1e-9)
    assert found.contributions["difference"].notna().all()
