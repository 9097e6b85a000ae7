"""The yardstick: two ways to the same number."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.pieces import finish
from nlmewidgets.methods.yardstick import yardstick, yardstick_pieces
from tests.methods.test_saem import NAMES, declared
from tests.models import make

SLOW = {"shared eta", "fixed omega"}  # skewed conditional distributions: 45 nodes in three dimensions


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NAMES])
def test_growing_nodes_and_importance_sampling_agree(name: str) -> None:
    case = declared(name)
    grid = yardstick(case.problem, case.model.values, by="agq")
    sampled = yardstick(case.problem, case.model.values, by="imp", error=0.1)
    assert grid.by.startswith("agq")
    assert sampled.by.startswith("imp")
    assert grid.error < 0.05  # skewed conditional distributions settle slowly
    assert sampled.error <= 0.1
    assert abs(grid.ofv - sampled.ofv) < 4 * sampled.error + grid.error
    assert grid.ofv == pytest.approx(grid.per_subject.sum())
    assert "±" in str(sampled)


def test_many_effects_are_sampled() -> None:
    data = make("decay", "additive", (), seed=20).data
    problem = many().problem(data)
    found = yardstick(problem, many().values, error=0.1)
    with pytest.raises(nw.MethodError, match="takes too many predictions; use by='imp'"):
        yardstick(problem, many().values, by="agq")
    assert found.by.startswith("imp")
    assert found.error <= 0.1
    # Linear in its effects, so Laplace is exact.
    assert abs(found.ofv - many().ofv(data, "laplace")) < 4 * found.error


def many() -> nw.Model:
    """Return a model with nine random effects."""
    symbols = sp.symbols("a:9", real=True)
    f = sum(s * sp.cos(k * nw.time) for k, s in enumerate(symbols))
    return nw.Model(f, {s: nw.Normal(1.0, sd=0.3) for s in symbols}, residual=nw.Additive(0.5))


@pytest.mark.parametrize("by", ["agq", "imp"])
def test_pieces_make_the_whole_and_may_be_left_between_two(by: str) -> None:
    case = make("decay", "additive", (), seed=20)
    pieces = yardstick_pieces(case.problem, case.model.values, by=by)
    next(pieces)  # more than one piece
    whole = yardstick(case.problem, case.model.values, by=by)
    assert finish(pieces).ofv == whole.ofv
    left = yardstick_pieces(case.problem, case.model.values, by=by)
    next(left)
    before = np.geterr()
    left.close()
    assert np.geterr() == before


def test_a_model_without_random_effects_is_exact(theophylline: nw.Data, oral_model) -> None:
    plain = oral_model(ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0))
    found = yardstick(plain.problem(theophylline), plain.values)
    assert found.by == "exact"
    assert found.error == 0
    assert found.ofv == pytest.approx(plain.ofv(theophylline, "laplace"))


def test_a_fit_states_it(theophylline: nw.Data, oral_model) -> None:
    fit = oral_model().fit(theophylline, "focei")
    grid, sampled = fit.yardstick(), fit.yardstick(by="imp", error=0.02)
    # The exact maximum is 360.7007 − 132·log 2π = 118.1009 (tests/reference/exact_theophylline_mg.toml).
    assert fit.ofv < 116.81
    assert 118.1009 - 1e-3 < grid.ofv < 118.14
    assert abs(grid.ofv - sampled.ofv) < 4 * sampled.error
    with pytest.raises(nw.MethodError, match="'auto', 'agq' or 'imp'"):
        fit.yardstick(by="guess")


def test_a_singular_omega_is_sampled(theophylline: nw.Data, oral_model) -> None:
    model = oral_model()
    values = model.values
    flat = type(values)(values.theta, values.omega * np.diag([1.0, 1.0, 0.0]), values.sigma)
    found = yardstick(model.problem(theophylline), flat)
    fewer = oral_model(V=nw.LogNormal(32.0))
    assert found.by.startswith("imp")
    assert abs(found.ofv - yardstick(fewer.problem(theophylline), fewer.values).ofv) < 4 * found.error
