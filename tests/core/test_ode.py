"""Differential equations bound to studies: against the exact linear compartments, SciPy and finite differences."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

import nlmewidgets as nw
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.structure.linear import Linear
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.fit.run import unusable_subjects

DEPOT, CENTRAL = nw.states("depot central")
KA, CL, V, F, D, LAG, VM, KM = sp.symbols("ka CL V F D ALAG Vm Km", positive=True)
TIGHT = nw.Tolerance(rtol=1e-10, atol=1e-12)

MIXED = """ID,TIME,DV,AMT,EVID,CMT,RATE,II,ADDL,SS
1,0,.,100,1,1,0,0,0,0
1,1,1,.,0,2,.,.,.,.
1,2,.,50,1,2,20,0,0,0
1,3,1,.,0,2,.,.,.,.
1,6,1,.,0,2,.,.,.,.
1,8,.,100,1,1,0,6,3,0
1,13,1,.,0,2,.,.,.,.
1,30,1,.,0,2,.,.,.,.
1,31,.,.,3,1,.,.,.,.
1,32,1,.,0,2,.,.,.,.
1,33,.,100,4,1,.,.,.,.
1,34,1,.,0,2,.,.,.,.
2,0,1,.,0,2,.,.,.,.
2,0,.,100,1,1,0,12,0,1
2,0,1,.,0,2,.,.,.,.
2,5,1,.,0,2,.,.,.,.
2,12,.,60,1,2,10,8,0,1
2,15,1,.,0,2,.,.,.,.
2,25,.,60,1,1,0,8,0,2
2,26,1,.,0,2,.,.,.,.
2,30,.,60,1,2,4,8,0,1
2,32,1,.,0,2,.,.,.,.
2,50,1,.,0,2,.,.,.,.
2,60,.,0,1,2,10,0,0,1
2,60,1,.,0,2,.,.,.,.
2,65,1,.,0,2,.,.,.,.
"""
ENDLESS = """ID,TIME,DV,AMT,EVID,CMT,RATE,II,ADDL,SS
1,0,.,0,1,2,10,0,0,1
1,0,1,.,0,2,.,.,.,.
1,5,1,.,0,2,.,.,.,.
"""
MODELLED = """ID,TIME,DV,AMT,EVID,CMT,RATE,II,ADDL,SS
1,0,.,100,1,2,-2,0,0,0
1,1,1,.,0,2,.,.,.,.
1,3,1,.,0,2,.,.,.,.
1,5,.,100,1,1,0,0,0,0
1,6,1,.,0,2,.,.,.,.
1,8,1,.,0,2,.,.,.,.
2,0,.,100,1,2,-2,6,0,1
2,1,1,.,0,2,.,.,.,.
2,3,1,.,0,2,.,.,.,.
2,7,.,100,1,1,0,5,0,1
2,7,1,.,0,2,.,.,.,.
2,8,1,.,0,2,.,.,.,.
"""


def read(text: str) -> nw.Data:
    return nw.Data.from_frame(pd.read_csv(io.StringIO(text), na_values="."))


def model(kind: str, nonlinear: bool = False, tolerance: nw.Tolerance = TIGHT) -> nw.Model:
    """Linear oral absorption; nonlinear: with saturable elimination that is as good as linear when Km is large."""
    parts = kind.split()
    parameters: dict[Any, Any] = {KA: nw.LogNormal(1.2, sd=0.3), V: nw.LogNormal(20.0, sd=0.2)}
    if nonlinear:
        parameters |= {VM: nw.LogNormal(40.0, sd=0.2), KM: nw.LogNormal(3.0)}
        out = VM * CENTRAL / (KM * V + CENTRAL)
    else:
        parameters |= {CL: nw.LogNormal(2.0, sd=0.3)}
        out = CL / V * CENTRAL
    routes: dict[Any, dict[str, Any]] = {}
    if "lag" in parts:
        routes.setdefault(DEPOT, {})["lag"] = LAG
        parameters[LAG] = nw.LogNormal(0.4, sd=0.1)
    if "F" in parts:
        routes.setdefault(DEPOT, {})["bioavailability"] = F
        parameters[F] = nw.LogitNormal(0.7, sd=0.1)
    if "duration" in parts:
        routes.setdefault(CENTRAL, {})["duration"] = D
        parameters[D] = nw.LogNormal(1.7, sd=0.2)
    return nw.Model(
        odes={DEPOT: -KA * DEPOT, CENTRAL: KA * DEPOT - out + (KA if "baseline" in parts else 0)},
        initial={CENTRAL: V / 2} if "initial" in parts else None,
        doses={k: nw.Route(**r) for k, r in routes.items()},
        prediction=CENTRAL / V + (nw.time * KA / 10 if "time" in parts else 0),
        parameters=parameters,
        residual=nw.Additive(0.1),
        tolerance=tolerance,
    )


def at_random_etas(problem: Problem, copies: int) -> Any:
    rng = np.random.default_rng(3)
    eta = 0.1 * rng.standard_normal((problem.n_eta, copies, problem.n_subjects))
    return problem.slots(problem.typical(problem.space.initial.theta).slots, eta)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (MIXED, ""),
        (MIXED, "baseline initial time"),
        (MIXED, "lag F"),
        (ENDLESS, ""),
        (MODELLED, "duration"),
        (MODELLED, "duration lag F"),
    ],
)
def test_linear_systems_agree_with_the_exact_solution(text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, declared = read(text), model(kind)
    exact = declared.problem(data)
    assert isinstance(exact.structure, Linear)
    monkeypatch.setattr(Linear, "bind", classmethod(lambda cls, binding: None))
    solved = declared.problem(data)
    assert isinstance(solved.structure, Ode)
    slots = at_random_etas(exact, 2 if kind == "duration" else 1)
    for a, b in zip(exact.structure(slots, 2), solved.structure(slots, 2), strict=True):
        assert a is not None
        assert b is not None
        assert np.isfinite(b).all()
        np.testing.assert_allclose(b, a, rtol=1e-8, atol=1e-9 * np.abs(a).max())


@pytest.mark.parametrize(("text", "kind"), [(MIXED, "lag F initial"), (MODELLED, "duration lag"), (ENDLESS, "")])
def test_derivatives_of_a_nonlinear_system_agree_with_differences(text: str, kind: str) -> None:
    problem = model(kind, nonlinear=True, tolerance=nw.Tolerance(1e-11, 1e-13)).problem(read(text))
    assert isinstance(problem.structure, Ode)
    slots = at_random_etas(problem, 1)
    _, first, second = problem.structure(slots, 2)
    assert first is not None
    assert second is not None
    h, n_random = 1e-3, len(second)
    for a in {0, len(slots) - 2, len(slots) - 1}:
        # Four points in one batch.  They leave out h⁴/30 of a fifth derivative, and add 1e-11/h.
        places = np.array([-2.0, -1.0, 1.0, 2.0])
        batch = np.concatenate([slots] * 4, axis=1)
        batch[a] += h * places[:, None]
        near, near1, _ = problem.structure(batch, 1)
        assert near1 is not None
        weights = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * h)
        slope = np.tensordot(weights, near, 1)
        curve = np.einsum("k,akn->an", weights, near1)[:n_random]
        np.testing.assert_allclose(first[a, 0], slope, atol=1e-8 * np.abs(first).max())
        np.testing.assert_allclose(second[:, a, 0], curve, atol=1e-8 * np.abs(second).max())


@pytest.mark.parametrize("rate", [0.0, 20.0, 5.0])
def test_steady_state_is_what_many_doses_lead_to(rate: float) -> None:
    # SciPy gives 400 doses of 60 every 8 h (infusions of 3 h, or of 12 h, longer than the interval).
    rows = [
        (1, 0.0, np.nan, 60.0, 1, 2, rate, 8.0, 1),
        *((1, t, 1.0, np.nan, 0, 2, 0.0, 0.0, 0) for t in (0.0, 1, 5, 20)),
    ]
    data = nw.Data.from_frame(
        pd.DataFrame(rows, columns=["ID", "TIME", "DV", "AMT", "EVID", "CMT", "RATE", "II", "SS"])
    )
    got = model("", nonlinear=True).predict(data)["PRED"].to_numpy()
    v, vm, km = 20.0, 40.0, 3.0
    length = 60.0 / rate if rate else 0.0
    last = 400 * 8.0
    events = sorted(
        {8.0 * k for k in range(401)} | {8.0 * k + length for k in range(401)} | {last + t for t in (1, 5, 20)}
    )
    x, seen = 0.0, {}
    for begin, end in zip(events, [*events[1:], None], strict=True):
        if rate == 0 and begin % 8.0 == 0 and begin <= last:
            x += 60.0
        seen[begin - last] = x
        if end is None or begin >= last + 20:
            break
        running = sum(1 for k in range(401) if 8.0 * k <= begin + 1e-9 < 8.0 * k + length)
        solved = solve_ivp(
            lambda t, y, r=running: r * rate - vm * y / (km * v + y),
            (begin, end),
            [x],
            rtol=1e-11 if begin > last - 400 else 1e-6,
            atol=1e-12,
            method="DOP853",
        )
        x = solved.y[0, -1]
    np.testing.assert_allclose(got, [seen[t] / v for t in (0.0, 1, 5, 20)], rtol=1e-8)


def test_a_subject_without_a_steady_state_is_not_a_number_and_others_are() -> None:
    # 120 every 2 h is more than 40 per hour can remove.
    text = (
        MIXED.splitlines()[0]
        + "\n"
        + "".join(f"{i},0,.,{amt},1,2,0,2,0,1\n{i},1,1,.,0,2,.,.,.,.\n" for i, amt in ((1, 120), (2, 6)))
    )
    predicted = model("", nonlinear=True).predict(read(text))["PRED"].to_numpy()
    assert np.isnan(predicted[0])
    assert np.isfinite(predicted[1])


def test_a_failure_names_the_subject_the_time_and_the_state() -> None:
    x = nw.states("x")
    k = sp.Symbol("k", positive=True)
    explosive = nw.Model(
        odes={x: k * x**2},
        initial={x: 1},
        prediction=x,
        parameters={k: nw.LogNormal(1.0, sd=0.2)},
        residual=nw.Additive(1),
    )
    data = nw.Data.from_frame(pd.DataFrame({"ID": [7, 7, 9, 9], "TIME": [0.0, 2.0, 0.0, 0.5], "DV": [1.0] * 4}))
    excluded = unusable_subjects(explosive.problem(data))
    assert list(excluded) == [7]
    assert re.search(r"subject 7 could not be solved past TIME 1 \(x = .*\): .*step", excluded[7])


def test_a_tolerance_belongs_to_the_model_and_its_code() -> None:
    declared = model("", nonlinear=True)
    assert "tolerance=nw.Tolerance(rtol=1e-10, atol=1e-12, max_steps=20000)" in declared.to_code()
    with pytest.raises(nw.ModelError, match="is not a tolerance"):
        nw.Model(
            odes={CENTRAL: -KA * CENTRAL},
            prediction=CENTRAL,
            parameters={KA: nw.LogNormal(1.0)},
            residual=nw.Additive(1.0),
            tolerance=1e-6,  # type: ignore[arg-type]
        )
