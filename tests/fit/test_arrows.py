"""Arrows: exact gradients along the sliders, and promises that are kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.arrows import NOTHING, arrows, slope
from nlmewidgets.fit.live import look
from nlmewidgets.fit.scale import bounds, is_log, moved
from tests.models import make

CASES = {
    "one of everything": make("oral", "combined", ("covariate", "logit"), subjects=8),
    "a block": make("emax", "proportional", ("block",), subjects=8, seed=3),
    "occasions": make("oral", "additive", ("iov",), subjects=6, seed=1),
    "a shared random effect": make("decay", "custom", ("shared eta",), subjects=8, seed=2),
}


@pytest.mark.parametrize("method", ["fo", "focei", "laplace"])
@pytest.mark.parametrize("name", list(CASES))
def test_the_gradient_is_that_of_the_objective_along_the_slider(name: str, method: str) -> None:
    case = CASES[name]
    initial = case.problem.space.to_dict(case.problem.space.initial)
    numbers = {
        n: v if n.startswith("corr") else v * (1.0 + 0.05 * math.sin(k)) for k, (n, v) in enumerate(initial.items())
    }
    space, step = case.problem.space, 1e-4
    found = arrows(case.problem, space.from_dict(numbers), method)
    assert tuple(found) == case.model.names
    for parameter, value in numbers.items():

        def objective(shift: float, parameter: str = parameter, value: float = value) -> float:
            there = value * math.exp(shift) if is_log(space, parameter) else value + shift
            return case.model.with_values({**numbers, parameter: there}).ofv(case.data, method=method)

        # Four points: the error is of the fourth order in the step, beside the rounding of modes (1e-13 of the OFV).
        d = (8 * (objective(step) - objective(-step)) - objective(2 * step) + objective(-2 * step)) / (12 * step)
        assert found[parameter].gradient == pytest.approx(d, rel=1e-4, abs=1e-4), parameter


@pytest.fixture(scope="module")
def theophylline() -> tuple[nw.Model, nw.Data]:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    return model, nw.datasets.load("theophylline")


def test_what_an_arrow_promises_is_kept(theophylline) -> None:
    model, data = theophylline
    problem = model.problem(data)
    space, rng = problem.space, np.random.default_rng(0)
    kept = []
    for _ in range(6):
        numbers = {n: v * math.exp(rng.normal(0.0, 0.3)) for n, v in space.to_dict(space.initial).items()}
        before = model.with_values(numbers).ofv(data)
        for arrow in arrows(problem, space.from_dict(numbers)).values():
            if arrow.size > 1:  # where a quadratic promises a decrease of 1 or more
                after = model.with_values({**numbers, arrow.name: arrow.target}).ofv(data)
                kept.append((before - after) / arrow.gain)
    assert len(kept) >= 15
    assert min(kept) > 0  # every one points downhill
    assert 0.7 < np.median(kept) < 1.4


def test_at_the_estimates_no_arrow_promises_anything(theophylline) -> None:
    model, data = theophylline
    fit = model.fit(data, method="focei")
    found = arrows(fit.problem, fit.values)
    assert {name: arrow.size for name, arrow in found.items()} == dict.fromkeys(model.names, 0)
    assert not any(arrow.silent for arrow in found.values())
    assert found["CL"].words() == "CL is as good as it gets with the others as they are."


def test_an_arrow_says_what_it_means(theophylline) -> None:
    model, data = theophylline
    problem = model.problem(data)
    arrow = arrows(problem, problem.space.from_dict({"CL": 2.0}))["CL"]
    assert arrow.up
    assert arrow.size == 2  # between 1 and 10
    assert arrow.target == pytest.approx(2.2)  # ten per cent at most
    assert arrow.words() == f"Raising CL by 10 % lowers the OFV by about {arrow.gain:.2g}."


def test_a_parameter_the_data_say_nothing_about_is_silent() -> None:
    """Sampled after absorption is over: e^(-20·ka) has nothing left of ka."""
    case = make("oral", "additive", subjects=6)
    records = case.data.records.assign(TIME=lambda r: np.where(r["EVID"] == 0, r["TIME"] + 60.0, r["TIME"]))
    records = records.sort_values(["ID", "TIME"], ignore_index=True)
    numbers = case.problem.space.from_dict({"ka": 40.0})
    found = arrows(case.model.problem(nw.Data.from_frame(records)), numbers)
    assert found["ka"].silent
    assert found["ka"].size == 0
    assert "say nothing about ka" in found["ka"].words()
    assert abs(found["ka"].gradient) * math.log(1.1) < NOTHING
    assert not found["additive"].silent


def test_no_arrows_where_the_objective_is_not_finite(theophylline) -> None:
    model, data = theophylline
    problem = model.problem(data)
    assert arrows(problem, problem.space.from_dict({"V": 1e-300, "CL": 1e300})) == {}


def test_moves_stay_within_bounds() -> None:
    case = make("oral", "combined", ("logit", "block"))
    space = case.problem.space
    for name, value in space.to_dict(space.initial).items():
        low, high = bounds(space, name)
        for share in (-3.0, -0.1, 0.1, 3.0):
            there = moved(space, name, value, share)
            assert low < there < high
            assert (there > value) == (share > 0)
    assert moved(space, "additive", 0.5, 0.1) == pytest.approx(0.55)
    assert moved(space, "additive", 0.55, -0.1) == pytest.approx(0.5)


@pytest.mark.parametrize("method", ["foce", "focei", "laplace"])
def test_modes_nearby_are_predicted_along_tangents(theophylline, method: str) -> None:
    """The error of a tangent falls with the square of the way, and beyond 0.3 nobody relies on one."""
    model, data = theophylline
    problem, values = model.problem(data), model.values
    found, space = slope(problem, values, method), problem.space
    assert found is not None
    last = np.zeros_like(found.eta)

    def error(step: float) -> float:
        x = found.origin.copy()
        x[0] += step
        there = space.unpack(x, values)
        return np.abs(found.predicted(space, there, last) - look(problem, there, method).eta).max()

    assert error(0.1) / error(0.05) == pytest.approx(4.0, rel=0.25)
    x = found.origin + np.eye(len(found.origin))[0] * 0.31
    assert found.predicted(space, space.unpack(x, values), last) is last
