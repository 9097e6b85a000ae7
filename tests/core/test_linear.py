"""Contract of linear compartments: exact over every mixture of dosing records, with exact derivatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.core.structure.linear import Linear
from tests.core.dosing import linear, simulate

QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}
ka, CL, V, Q, V2, lag, F, D, R, kin = sp.symbols("ka CL V Q V2 lag F D R kin", positive=True)
depot, central, peripheral = nw.states("depot central peripheral")
WT = nw.covariate("WT")
NUMBERS = {
    "ka": 1.1,
    "CL": 3.0,
    "V": 20.0,
    "Q": 2.0,
    "V2": 30.0,
    "lag": 0.713,
    "F": 0.83,
    "D": 2.37,
    "R": 41.3,
    "kin": 5.0,
}


def record(time: float, **changes: Any) -> dict[str, Any]:
    """Return an observation at a time, or what `changes` make of it."""
    base = {"TIME": time, "EVID": 0, "AMT": 0.0, "CMT": 2, "RATE": 0.0, "ADDL": 0, "II": 0.0, "SS": 0, "WT": 60.0}
    return base | changes


def model(compartments: int, *, routed: bool, inflow: bool = False) -> nw.Model:
    """Return an oral model of one or two compartments, with everything a route can have or none of it."""
    odes = {depot: -ka * depot, central: ka * depot - CL / V * central}
    names = ["ka", "CL", "V"]
    if compartments == 2:
        odes[central] += Q / V2 * peripheral - Q / V * central
        odes[peripheral] = Q / V * central - Q / V2 * peripheral
        names += ["Q", "V2"]
    if inflow:
        odes[central] += kin
        names += ["kin"]
    routes = {}
    if routed:
        route = nw.Route(lag=lag, bioavailability=F, rate=R, duration=D)
        routes = {depot: route, central: nw.Route(bioavailability=F, rate=R, duration=D)}
        names += ["lag", "F", "D", "R"]
    effects = {"CL": sp.Rational(3, 4) * sp.log(WT / 70)}
    return nw.Model(
        odes=odes,
        doses=routes,
        prediction=central / V,
        parameters={
            sp.Symbol(n, positive=True): nw.LogNormal(NUMBERS[n], sd=0.2, effect=effects.get(n, 0)) for n in names
        },
        residual=nw.Additive(1.0),
    )


def parameters_of(values: Mapping[str, float], compartments: int, routed: bool, inflow: bool):
    """Return the oracle's parameters of a record at slots log(values)."""

    def at(row: Mapping[str, Any]) -> dict[str, Any]:
        v = dict(values)
        clearance = v["CL"] * (row["WT"] / 70.0) ** 0.75
        n = compartments + 1
        a = np.zeros((n, n))
        a[0, 0], a[1, 0], a[1, 1] = -v["ka"], v["ka"], -clearance / v["V"]
        if compartments == 2:
            a[1, 1] -= v["Q"] / v["V"]
            a[1, 2], a[2, 1], a[2, 2] = v["Q"] / v["V2"], v["Q"] / v["V"], -v["Q"] / v["V2"]
        b = np.zeros(n)
        b[1] = v["kin"] if inflow else 0.0
        first, whole = (v["lag"], v["F"]) if routed else (0.0, 1.0)
        return {
            **linear(a, b),
            "x0": np.zeros(n),
            "lag": [first, 0.0, 0.0],
            "F": [whole, whole, 1.0],
            "rate": [v["R"]] * 3,
            "duration": [v["D"]] * 3,
        }

    return at


@st.composite
def histories(draw: Any, routed: bool) -> list[dict[str, Any]]:
    """Return a subject's records: observations among boluses, infusions, repeats, steady states and resets."""
    rows: list[dict[str, Any]] = []
    time = 0.0
    kinds = ["seen", "seen", "seen", "bolus", "infusion", "repeat", "steady", "add steady", "reset", "reset dose", "on"]
    kinds += ["modelled rate", "modelled duration", "steady duration"] if routed else []
    for _ in range(draw(st.integers(3, 9))):
        kind = draw(st.sampled_from(kinds))
        time = time + draw(st.sampled_from([0.0, 0.5, 1.0, 2.25, 7.0]))
        row = record(time, EVID=1, AMT=100.0, CMT=draw(st.sampled_from([1, 2])))
        row |= {
            "seen": {"EVID": 0, "AMT": 0.0},
            "bolus": {},
            "infusion": {"RATE": 30.0},
            "repeat": {"ADDL": 2, "II": 1.75, "RATE": draw(st.sampled_from([0.0, 40.0]))},
            "steady": {"SS": 1, "II": 4.0, "RATE": draw(st.sampled_from([0.0, 50.0, 20.0]))},
            "add steady": {"SS": 2, "II": 6.0, "RATE": draw(st.sampled_from([0.0, 12.0]))},
            "reset": {"EVID": 3, "AMT": 0.0},
            "reset dose": {"EVID": 4},
            "on": {"SS": 1, "AMT": 0.0, "RATE": 15.0},
            "modelled rate": {"RATE": -1.0},
            "modelled duration": {"RATE": -2.0},
            "steady duration": {"RATE": -2.0, "SS": 1, "II": 2.0},
        }[kind]
        rows.append(row)
        if kind in ("reset", "reset dose") and draw(st.booleans()):
            time = rows[-1]["TIME"] = 0.0  # the clock may start again
    rows += [record(time + h) for h in (0.0, 0.3, 5.0)]
    weights = draw(st.lists(st.sampled_from([50.0, 70.0, 90.0]), min_size=len(rows), max_size=len(rows)))
    constant = draw(st.booleans())
    return [row | {"WT": weights[0] if constant else w} for row, w in zip(rows, weights, strict=True)]


def bound(m: nw.Model, subjects: list[list[dict[str, Any]]]) -> nw.Problem:
    # Doses after everything: one bolus alone would be taken as a closed form.
    late = record(0.0, EVID=1, AMT=1.0)
    subjects = [
        [*rows, *(late | {"TIME": rows[-1]["TIME"] + h, "WT": rows[-1]["WT"]} for h in (100.0, 101.0))]
        for rows in subjects
    ]
    frame = pd.DataFrame([{"ID": k + 1, **row} for k, rows in enumerate(subjects) for row in rows])
    frame["DV"] = np.where(frame["EVID"] == 0, 1.0, np.nan)
    problem = m.problem(nw.Data.from_frame(frame))
    assert isinstance(problem.structure, Linear)
    return problem


def expected(subjects: list[list[dict[str, Any]]], values: Mapping[str, float], *kind: Any) -> np.ndarray:
    out = []
    for rows in subjects:
        states = simulate(rows, parameters_of(values, *kind))
        out += [x[1] / values["V"] for x, row in zip(states, rows, strict=True) if row["EVID"] == 0]
    return np.array(out)


KINDS = [(1, False, False), (2, True, False), (1, True, True)]


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_over_random_histories(kind: tuple[int, bool, bool]) -> None:
    m = model(kind[0], routed=kind[1], inflow=kind[2])

    @settings(max_examples=15, **QUICK)
    @given(st.lists(histories(kind[1]), min_size=1, max_size=3))
    def holds(subjects: list[list[dict[str, Any]]]) -> None:
        problem = bound(m, subjects)
        f = problem.structure(problem.typical(m.values.theta).slots, 0)[0]
        truth = expected(subjects, NUMBERS, *kind)
        # The oracle's matrix exponentials are accurate relative to the largest entry of the state.
        np.testing.assert_allclose(f, truth, rtol=1e-10, atol=1e-11 * (np.abs(truth).max() + 1e-3))

    holds()


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_over_random_histories_are_differences_of_the_oracle(kind: tuple[int, bool, bool]) -> None:
    m = model(kind[0], routed=kind[1], inflow=kind[2])

    @settings(max_examples=4, phases=(Phase.generate,), **QUICK)
    @given(histories(kind[1]))
    def holds(rows: list[dict[str, Any]]) -> None:
        problem = bound(m, [rows])
        names = [s.name.removeprefix("s_") for s in problem.form.symbols]
        _, first, second = problem.structure(problem.typical(m.values.theta).slots, 2)
        truth = expected([rows], NUMBERS, *kind)
        scale = np.abs(truth).max() + 1e-3
        h = 2e-4
        for k, name in enumerate(names):
            at = [expected([rows], {**NUMBERS, name: NUMBERS[name] * np.exp(s * h)}, *kind) for s in (-2, -1, 1, 2)]
            if np.abs(at[3] - at[0]).max() > 0.1 * scale:
                continue  # an event crosses an observation: there is no derivative
            slope = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
            curve = (-at[0] + 16 * at[1] - 30 * truth + 16 * at[2] - at[3]) / (12 * h * h)
            # Five points: h⁴ of truncation, and rounding of 1e-13 over h and over h².
            np.testing.assert_allclose(first[k], slope, rtol=1e-7, atol=1e-8 * scale)
            np.testing.assert_allclose(second[k, k], curve, rtol=1e-4, atol=1e-4 * scale)

    holds()


def test_mixed_second_derivatives_are_differences_of_first():
    rows = [
        record(0.0, EVID=1, AMT=100.0, CMT=1, RATE=-2.0, ADDL=2, II=6.0, SS=1),
        *[record(h, WT=60.0 + h) for h in (0.5, 3.3, 9.0, 20.0)],
    ]
    m = model(2, routed=True)
    problem = bound(m, [rows])
    slots = problem.typical(m.values.theta).slots
    second = problem.structure(slots, 2)[2]
    h = 1e-4
    for b in range(len(slots)):
        step = np.zeros_like(slots)
        step[b] = h
        up, down = problem.structure(slots + step, 1)[1], problem.structure(slots - step, 1)[1]
        # h² of truncation; the largest derivative sets the scale.
        np.testing.assert_allclose(second[:, b], ((up - down) / (2 * h))[: len(second)], atol=3e-7 * np.abs(up).max())


def test_chains_of_several_batches_are_evaluated_like_one_by_one():
    rows = [
        record(0.0, EVID=1, AMT=100.0, CMT=1, ADDL=3, II=6.0),
        *[record(h) for h in (0.5, 3.3, 9.0, 20.0)],
    ]
    for routed in (False, True):
        m = model(1, routed=routed)
        problem = bound(m, [rows, rows[:3], rows])
        eta = np.random.default_rng(1).normal(scale=0.4, size=(problem.n_eta, 5, 3))
        typical = problem.typical(m.values.theta).slots
        together = problem.predict(problem.slots(typical, eta))
        for k in range(5):
            np.testing.assert_array_equal(together[k], problem.predict(problem.slots(typical, eta[:, k])))


@pytest.mark.parametrize("residual", [nw.Additive(0.7), nw.Combined(0.3, 0.1)])
def test_the_same_model_as_closed_form_and_as_compartments(theophylline: nw.Data, residual: Any) -> None:
    parts = {ka: nw.LogNormal(1.5, sd=0.6), CL: nw.LogNormal(2.8, sd=0.3), V: nw.LogNormal(32.0, sd=0.2)}
    t, dose = nw.time, nw.dose
    closed = dose * ka / (V * ka - CL) * (sp.exp(-CL / V * t) - sp.exp(-ka * t))
    one = nw.Model(closed, parts, residual=residual)
    other = nw.Model(
        central / V, parts, residual=residual, odes={depot: -ka * depot, central: ka * depot - CL / V * central}
    )
    for method in ("fo", "focei", "laplace"):
        # Both are exact: what differs is rounding, in units of the objective.
        assert one.ofv(theophylline, method=method) == pytest.approx(other.ofv(theophylline, method=method), abs=1e-9)
    assert one.fit(theophylline).ofv == pytest.approx(other.fit(theophylline).ofv, abs=1e-7)


@pytest.mark.parametrize("equal", [True, False])
def test_equal_and_nearly_equal_rates_lose_no_digit(equal: bool) -> None:
    import mpmath

    rate = 0.15 if equal else 0.15 * (1 + 1e-9)
    m = nw.Model(
        central / V,
        {ka: nw.LogNormal(rate, sd=0.3), CL: nw.LogNormal(3.0, sd=0.3), V: nw.LogNormal(20.0, sd=0.2)},
        residual=nw.Additive(1.0),
        odes={depot: -ka * depot, central: ka * depot - CL / V * central},
    )
    rows = [record(0.0, EVID=1, AMT=100.0, CMT=1, WT=70.0)]
    rows += [record(h, WT=70.0) for h in (0.1, 4.0, 60.0)]
    problem = bound(m, [rows])
    _, first, second = problem.structure(problem.typical(m.values.theta).slots, 2)
    with mpmath.workdps(60):
        for o, t in enumerate((0.1, 4.0, 60.0)):

            def f(a: Any, b: Any, c: Any, t: float = t) -> Any:
                k, ke, v = mpmath.exp(a), mpmath.exp(b) / mpmath.exp(c), mpmath.exp(c)
                return 100 * k / v / (k - ke) * (mpmath.exp(-ke * t) - mpmath.exp(-k * t))

            point = (mpmath.log(mpmath.mpf(rate)), mpmath.log(3), mpmath.log(20))
            point = (point[0] + mpmath.mpf("1e-25"), *point[1:])  # beside the 0/0 of the textbook formula
            for a in range(3):
                order = tuple(int(a == i) for i in range(3))
                assert first[a, o] == pytest.approx(
                    float(mpmath.diff(f, point, order, h=mpmath.mpf("1e-12"))), rel=1e-9
                )
                order = tuple(2 * int(a == i) for i in range(3))
                wanted = float(mpmath.diff(f, point, order, h=mpmath.mpf("1e-12")))
                assert second[a, a, o] == pytest.approx(wanted, rel=1e-8, abs=1e-10)
