"""Refit: the profile of a likelihood is the fit with everything else fixed."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.errors import MethodError
from nlmewidgets.fit.live import look
from nlmewidgets.fit.refit import refit
from tests.models import make

ORAL = make("oral", "combined", ("covariate",), subjects=12)
BLOCK = make("emax", "proportional", ("block",), subjects=20, seed=3)
SETS = [
    (ORAL, ("CL",), "focei"),
    (ORAL, ("V", "omega_CL", "proportional"), "focei"),
    (ORAL, ("ka", "beta"), "fo"),
    (BLOCK, tuple(n for n in BLOCK.model.names if n.startswith("corr")), "laplace"),
]


@pytest.mark.parametrize(("case", "names", "method"), SETS)
def test_it_is_the_fit_with_all_others_fixed(case, names: tuple[str, ...], method: str) -> None:
    space = case.problem.space
    moved = {space.names[-1]: 1.2 * space.to_dict(space.initial)[space.names[-1]]}
    held = [name for name in case.model.names if name not in names]
    fit = case.model.with_values(moved).fix(*held).fit(case.data, method=method)
    found = refit(case.problem, space.from_dict(moved), names, method)
    assert found.done
    # Both ends promise less than 1e-4 more; twice that is what they may differ by.
    assert look(case.problem, found.values, method).ofv == pytest.approx(fit.ofv, abs=2e-4)
    numbers, expected = space.to_dict(found.values), space.to_dict(fit.values)
    for name in held:
        assert numbers[name] == pytest.approx(expected[name], rel=1e-12)
    for name in names:
        assert numbers[name] == pytest.approx(expected[name], rel=0.02, abs=0.01)


def test_a_search_that_ends_early_says_so_and_goes_on_from_there() -> None:
    space = ORAL.problem.space
    values = space.from_dict({"V": 35.0, "CL": 5.0})
    names = ("V", "omega_CL", "proportional")
    whole = refit(ORAL.problem, values, names)
    part = refit(ORAL.problem, values, names, seconds=0.0)
    assert not part.done
    for _ in range(40):
        if part.done:
            break
        part = refit(ORAL.problem, part.values, names, start=part.eta, stop=lambda: False)
    assert part.done
    assert space.to_dict(part.values)["V"] == pytest.approx(space.to_dict(whole.values)["V"], rel=0.01)
    assert np.isfinite(part.eta).all()


def test_priors_count() -> None:
    a, k = sp.symbols("A k", positive=True)
    parameters = {a: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.25, sd=0.3)}
    model = nw.Model(
        a * sp.exp(-k * nw.time), parameters, residual=nw.Additive(0.4), priors={"k": nw.priors.Normal(0.5, 1e-4)}
    )
    problem = model.problem(make("decay", "additive").data)
    assert problem.space.to_dict(refit(problem, problem.space.initial, ("k",)).values)["k"] == pytest.approx(
        0.5, abs=0.01
    )


def test_where_nothing_is_finite_it_is_refused() -> None:
    with pytest.raises(MethodError, match="not finite"):
        refit(ORAL.problem, ORAL.problem.space.from_dict({"V": 1e-300, "CL": 1e300}), ("CL",))
