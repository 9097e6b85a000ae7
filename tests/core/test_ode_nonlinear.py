"""Integrated nonlinear equations over random dosing histories, against SciPy from event to event.

Largest errors in units of the tolerance (rtol, atol = rtol/100), of the largest prediction or derivative of a history:

================  =========  =====  =====  ======  =====  =====  ====  ====
system            histories  value               first         second
                             1e-6   1e-8   1e-10   1e-6   1e-8   1e-6  1e-8
================  =========  =====  =====  ======  =====  =====  ====  ====
Michaelis-Menten  55         1.26   0.38   0.27    0.60   0.04   1.4   0.1
turnover          25         0.11   0.10   0.18    0.003  0.004  0.02  0.02
binding           5          0.10   0.01   0.02    0.04   0.23   20    255
================  =========  =====  =====  ======  =====  =====  ====  ====

A step is right relative to what the derivatives are then.  Where an event's time depends on a parameter and rates of
up to λ per hour follow it, second derivatives are λ times what they are later, for the time 1/λ: hence the last line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.integrate import ode

import nlmewidgets as nw
from nlmewidgets.core.structure.ode import Ode
from tests.core.dosing import simulate
from tests.core.test_linear import histories, record

QUICK: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}
WT = nw.covariate("WT")
ROUTE = {"lag": 0.713, "F": 0.83, "R": 41.3, "D": 2.37}


@dataclass(frozen=True)
class System:
    """One system twice: as expressions for the package, and as a function of floats for SciPy.

    `of` makes the equations of a lookup of parameters; WT acts on the parameter `scaled`.
    """

    values: Mapping[str, float]
    scaled: str
    states: str
    of: Callable[[Any], Callable[..., list[Any]]]
    start: Callable[[Any], list[Any]]
    seen: Callable[..., Any]
    random: frozenset[str] = frozenset({"ka", "V", "F", "lag", "D"})
    """Parameters that vary between subjects: second derivatives are theirs with every other."""
    fastest: float = 1.0
    """The largest rate of return to equilibrium, where it is much above 1 per hour."""

    def model(self, tolerance: nw.Tolerance) -> nw.Model:
        states = nw.states(self.states)
        p = {name: sp.Symbol(name, positive=True) for name in {**self.values, **ROUTE}}
        arriving = {"bioavailability": p["F"], "rate": p["R"], "duration": p["D"]}
        effect = {self.scaled: sp.Rational(3, 4) * sp.log(WT / 70)}
        return nw.Model(
            odes=dict(zip(states, self.of(p)(*states), strict=True)),
            initial={s: x for s, x in zip(states, self.start(p), strict=True) if x != 0},
            doses={states[0]: nw.Route(lag=p["lag"], **arriving), states[1]: nw.Route(**arriving)},
            prediction=self.seen(p, *states),
            parameters={
                p[name]: nw.LogNormal(value, sd=0.2 if name in self.random else 0.0, effect=effect.get(name, 0))
                for name, value in {**self.values, **ROUTE}.items()
            },
            residual=nw.Additive(1.0),
            tolerance=tolerance,
        )

    def oracle(self, rows: list[dict[str, Any]], shift: Mapping[str, float]) -> np.ndarray:
        """Return the predictions, each parameter multiplied by e^shift."""
        fixed = {name: v * np.exp(shift.get(name, 0.0)) for name, v in {**self.values, **ROUTE}.items()}

        def at(row: Mapping[str, Any]) -> dict[str, Any]:
            p = {**fixed, self.scaled: fixed[self.scaled] * (row["WT"] / 70.0) ** 0.75}
            n = len(self.states.split())
            return {
                **tightly(self.of(p)),
                "x0": self.start(p),
                "lag": [p["lag"], 0.0, 0.0],
                "F": [p["F"], p["F"], 1.0],
                "rate": [p["R"]] * n,
                "duration": [p["D"]] * n,
            }

        states = simulate(rows, at)
        return np.array([self.seen(fixed, *x) for x, row in zip(states, rows, strict=True) if row["EVID"] == 0])


def tightly(rhs: Callable[..., list[float]]) -> dict[str, Any]:
    """Return `flow` and `rest` of x' = rhs(x) + inflow: Hairer's DOP853 at 1e-13."""

    def flow(x: np.ndarray, inflow: np.ndarray, dt: float) -> np.ndarray:
        into = inflow.tolist()
        solver = ode(lambda t, y: [f + r for f, r in zip(rhs(*y), into, strict=True)])
        solver.set_integrator("dop853", rtol=1e-13, atol=1e-13, nsteps=999)
        pieces = int(np.ceil(dt))  # it looks for stiffness, and gives up, after 1,000 steps
        for _ in range(pieces):
            x = np.array(solver.set_initial_value(x, 0.0).integrate(dt / pieces))
            assert solver.successful()
        return x

    def rest(inflow: np.ndarray) -> np.ndarray:
        x, before = flow(inflow, inflow, 20.0), inflow
        while np.abs(x - before).max() > 1e-14 * np.abs(x).max():
            x, before = flow(x, inflow, 20.0), x
        return x

    return {"flow": flow, "rest": rest}


def michaelis_menten(p: Any) -> Callable[..., list[Any]]:
    ka, vm, room = p["ka"], p["Vm"], p["Km"] * p["V"]
    return lambda d, c: [-ka * d, ka * d - vm * c / (room + c)]


def turnover(p: Any) -> Callable[..., list[Any]]:
    ka, k, kin, kout, half = p["ka"], p["CL"] / p["V"], p["kin"], p["kout"], p["IC50"] * p["V"]
    return lambda d, c, e: [-ka * d, ka * d - k * c, kin * half / (half + c) - kout * e]


def binding(p: Any) -> Callable[..., list[Any]]:
    ka, k, koff, kd, sites = p["ka"], p["CL"] / p["V"], p["koff"], p["Kd"], p["sites"]

    def rhs(d: Any, c: Any, b: Any) -> list[Any]:
        bound = koff * (c * (sites - b) / kd - b)
        return [-ka * d, ka * d - k * c - bound, bound]

    return rhs


SYSTEMS = {
    "Michaelis-Menten": System(
        {"ka": 1.1, "Vm": 90.0, "Km": 3.0, "V": 20.0},
        "Vm",
        "depot central",
        michaelis_menten,
        lambda p: [0, 0],
        lambda p, d, c: c / p["V"],
    ),
    "turnover": System(
        {"ka": 1.1, "CL": 6.0, "V": 20.0, "kin": 8.0, "kout": 0.4, "IC50": 1.2},
        "CL",
        "depot central effect",
        turnover,
        lambda p: [0, 0, p["kin"] / p["kout"]],
        lambda p, d, c, e: e,
    ),
    # Sites fill and empty within seconds: rates of 40 to some 500 beside one of 0.3.
    "binding": System(
        {"ka": 1.1, "CL": 6.0, "V": 20.0, "koff": 40.0, "Kd": 30.0, "sites": 50.0},
        "CL",
        "depot central bound",
        binding,
        lambda p: [0, 0, 0],
        lambda p, d, c, b: c / p["V"],
        fastest=500.0,
    ),
}


def bound(system: System, rows: list[dict[str, Any]], tolerance: nw.Tolerance) -> nw.Problem:
    frame = pd.DataFrame([{"ID": 1, **row} for row in rows])
    frame["DV"] = np.where(frame["EVID"] == 0, 1.0, np.nan)
    problem = system.model(tolerance).problem(nw.Data.from_frame(frame))
    assert isinstance(problem.structure, Ode)
    return problem


H = 5e-4
ROMBERG = {1: 64 / 90, 2: -20 / 180, 4: 1 / 360}
"""Weights of (f(jh) − f(−jh))/h: two Richardson steps upon central differences, wrong by O(h⁶)."""


def differences(f: Callable[[float], np.ndarray]) -> np.ndarray:
    """Return f'(0)."""
    return sum((w * (f(j * H) - f(-j * H)) / H for j, w in ROMBERG.items()), np.zeros(1))


def along(system: System, rows: list[dict[str, Any]], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return predictions and their derivatives along a random direction of all slots, and the direction."""
    names = [*system.values, *ROUTE]
    weights = dict(zip(names, np.random.default_rng(seed).uniform(-1.0, 1.0, len(names)), strict=True))
    truth = system.oracle(rows, {})
    slope = differences(lambda h: system.oracle(rows, {k: h * w for k, w in weights.items()}))
    symbols = bound(system, rows, nw.Tolerance()).form.symbols
    return truth, slope, np.array([weights[s.name.removeprefix("s_")] for s in symbols])


def slots_of(problem: nw.Problem) -> np.ndarray:
    return np.asarray(problem.typical(problem.space.initial.theta).slots)


def curvature(system: System, rows: list[dict[str, Any]], direction: np.ndarray) -> np.ndarray:
    """Return second derivatives, one of them along the direction, as differences of first ones at 1e-11."""
    problem = bound(system, rows, nw.Tolerance(1e-11, 1e-13))
    slots, places = slots_of(problem), [sign * j for j in ROMBERG for sign in (1, -1)]
    batch = np.stack([slots + j * H * direction[:, None] for j in places], axis=1)
    first = problem.structure(batch, 1)[1]
    assert first is not None
    at = {j * H: first[:, k] for k, j in enumerate(places)}
    return differences(at.__getitem__)


def errors(got: np.ndarray, wanted: np.ndarray, truth: np.ndarray, rtol: float) -> float:
    """Return the largest error in tolerances of the largest prediction, or of the largest derivative."""
    return float(np.abs(got - wanted).max() / (rtol * max(np.abs(truth).max(), np.abs(wanted).max(), 1e-3)))


FACTOR = 3.0
"""Tolerances that predictions and derivatives may be wrong by: above twice the largest measured."""


@pytest.mark.parametrize(("name", "examples"), [("Michaelis-Menten", 2), ("turnover", 2), ("binding", 1)])
def test_random_histories_agree_with_scipy(name: str, examples: int) -> None:
    system = SYSTEMS[name]

    @settings(max_examples=examples, derandomize=True, **QUICK)
    @given(histories(True), st.integers(0, 1000))
    def holds(rows: list[dict[str, Any]], seed: int) -> None:
        start = record(0.0, EVID=1, AMT=100.0, CMT=1, WT=rows[0]["WT"])
        rows = [start, start | {"CMT": 2, "RATE": -1.0}, *rows]  # the first history drawn has no doses
        if system.fastest > 1.0:  # a steady state of SciPy's takes seconds
            rows = [row | {"SS": 0} for row in rows if row["AMT"] or row["EVID"] != 1]
        truth, slope, direction = along(system, rows, seed)
        for rtol in (1e-6, 1e-10):
            problem = bound(system, rows, nw.Tolerance(rtol, rtol / 100))
            value = problem.structure(slots_of(problem), 0)[0]
            assert errors(value, truth, truth, rtol) < FACTOR
        problem = bound(system, rows, nw.Tolerance())
        value, first, second = problem.structure(slots_of(problem), 2)
        assert first is not None
        assert second is not None
        assert errors(value, truth, truth, 1e-8) < FACTOR
        assert errors(direction @ first, slope, truth, 1e-8) < FACTOR
        bent = np.einsum("abo,b->ao", second, direction)
        curve = curvature(system, rows, direction)[: len(second)]
        assert errors(bent, curve, truth, 1e-8) < FACTOR * (5.0 if system.fastest > 1.0 else 1.0)  # measured: 7

    holds()
