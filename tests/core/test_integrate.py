"""The integrator against SciPy's tightest solvers, matrix exponentials and finite differences of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from nlmewidgets.core import radau
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.integrate import Intervals, integrate
from nlmewidgets.core.runge_kutta import VERNER, Explicit
from nlmewidgets.core.symbols import time
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Variational

TIGHT = Tolerance(1e-11, 1e-13)
S = sp.symbols("s0:8", real=True)
E = [sp.exp(s) for s in S]
G, C, R, P = sp.symbols("g c r p", real=True)


@dataclass(frozen=True)
class Case:
    """Equations in states and log-parameters, where they start and what is a usual parameter."""

    states: tuple[sp.Symbol, ...]
    rhs: tuple[sp.Expr, ...]
    usual: tuple[float, ...]
    start: tuple[float, ...]
    times: tuple[float, ...]

    @property
    def slots(self) -> tuple[sp.Symbol, ...]:
        return S[: len(self.usual)]

    def system(self, n_random: int | None = None) -> Variational:
        n = len(self.slots)
        return Variational(self.states, self.rhs, self.slots, n if n_random is None else n_random)

    def oracle(self, values: Any, method: str = "DOP853") -> Any:
        f = sp.lambdify((time, *self.states, *self.slots), self.rhs, "math")
        solved = solve_ivp(
            lambda t, y: f(t, *y, *values),
            (0.0, self.times[-1]),
            self.start,
            method=method,
            rtol=1e-12,
            atol=1e-13,
            t_eval=self.times,
        )
        return solved.y


CASES = {
    "Michaelis-Menten": Case(
        (G, C),
        (-E[0] * G, E[0] * G - E[1] * (C / E[3]) / (E[2] + C / E[3])),
        (1.5, 10.0, 2.0, 30.0),
        (100.0, 0.0),
        (0.25, 1, 4, 12, 24),
    ),
    "turnover": Case(
        (G, C, R),
        (-E[0] * G, E[0] * G - E[1] / E[2] * C, E[3] * (1 - E[6] * C / E[2] / (E[5] + C / E[2])) - E[4] * R),
        (1.0, 0.13, 8.0, 5.0, 0.05, 1.2, 0.95),
        (100.0, 0.0, 100.0),
        (1, 6, 24, 72, 120),
    ),
    "circadian": Case(
        (R,),
        (E[0] * (1 + sp.cos(2 * sp.pi * time / 24) / 2) - E[1] * R,),
        (5.0, 0.2),
        (10.0,),
        (1, 7, 30),
    ),
}
STIFF = {
    # Target-mediated disposition: binding is a thousand times faster than elimination.
    "TMDD": Case(
        (C, R, P),
        (
            -E[0] * C - E[1] * C * R + E[2] * P,
            E[3] - E[4] * R - E[1] * C * R + E[2] * P,
            E[1] * C * R - (E[2] + E[5]) * P,
        ),
        (0.1, 200.0, 20.0, 1.0, 0.5, 0.3),
        (20.0, 2.0, 0.0),
        (0.01, 1, 10, 40, 80),
    ),
    "van der Pol": Case((G, C), (C, E[0] * (1 - G**2) * C - G), (1000.0,), (2.0, 0.0), (0.5, 5, 20)),
}


def histories(
    system: Variational, order: int, case: Case, values: Any, length: Callable[[int], Any] | None = None
) -> Intervals:
    """Every lane starts at the case's state and is read at its times."""
    lanes, size = values.shape[1], len(case.times) + 1
    ends = np.array([0.0, *case.times])[:, None].repeat(lanes, 1)
    start = np.vstack([ends[:1], ends[:-1]])
    read = np.full((size, lanes), -1)
    read[1:] = np.arange((size - 1) * lanes).reshape(-1, lanes)
    jump = np.full((size, lanes), -1)
    jump[0] = np.arange(lanes)
    state = np.repeat(np.array(case.start)[:, None], lanes, 1)
    clock = None
    if system.clock:
        clock = np.zeros((system.rows(order), size, lanes))
        clock[0] = start
    return Intervals(
        steps=np.full(lanes, size),
        start=start,
        length=ends - start,
        block=np.tile(np.arange(lanes), (size, 1)),
        read=read,
        jump=jump,
        shift=np.full((size, lanes), -1),
        constants=system.constants(tuple(values), (), (lanes,)),
        keep=np.zeros((system.n, lanes)),
        add=system.pack(order, state),
        stretch=None,
        clock=clock,
        n_read=(size - 1) * lanes,
    )


def solve(
    case: Case, values: Any, order: int = 0, tolerance: Tolerance = TIGHT, method: str = "auto", **kw: Any
) -> Any:
    system = case.system(**kw)
    rows, failures = integrate(system, order, histories(system, order, case, values), tolerance, method=method)
    assert not failures
    return system.unpack(order, rows.reshape(len(rows), len(case.times), -1))


def lanes_of(case: Case, lanes: int, spread: float = 0.3) -> Any:
    rng = np.random.default_rng(4)
    return np.log(case.usual)[:, None] + spread * rng.standard_normal((len(case.usual), lanes))


# ------------------------------------------------------------------- the methods


def test_order_conditions_of_the_explicit_pair() -> None:
    # Butcher's conditions on every rooted tree of up to five nodes, and the quadrature conditions to order 7.
    a, b = VERNER.a[:-1, :-1], VERNER.a[-1, :-1]
    lower = b - VERNER.error[:-1]
    c, one = a.sum(axis=1), np.ones(len(b))
    trees = {
        "1": (one, 1),
        "c": (c, 1 / 2),
        "c2": (c**2, 1 / 3),
        "ac": (a @ c, 1 / 6),
        "c3": (c**3, 1 / 4),
        "cac": (c * (a @ c), 1 / 8),
        "ac2": (a @ c**2, 1 / 12),
        "aac": (a @ a @ c, 1 / 24),
        "c4": (c**4, 1 / 5),
        "c2ac": (c**2 * (a @ c), 1 / 10),
        "acac": ((a @ c) ** 2, 1 / 20),
        "cac2": (c * (a @ c**2), 1 / 15),
        "ac3": (a @ c**3, 1 / 20),
        "caac": (c * (a @ a @ c), 1 / 30),
        "a(cac)": (a @ (c * (a @ c)), 1 / 40),
        "aac2": (a @ a @ c**2, 1 / 60),
        "aaac": (a @ a @ a @ c, 1 / 120),
        "c5": (c**5, 1 / 6),
        "ac4": (a @ c**4, 1 / 30),
        "aac3": (a @ a @ c**3, 1 / 120),
    }
    for name, (tree, density) in trees.items():
        for weights in (b, lower):  # the embedded solution is of order 6
            assert weights @ tree == pytest.approx(density, abs=2e-13), name
    assert b @ c**6 == pytest.approx(1 / 7, abs=2e-13)
    assert abs(lower @ c**6 - 1 / 7) > 1e-6


def test_the_stiff_method_is_collocation_at_its_nodes() -> None:
    # Radau IIA is the collocation method whose nodes are the zeros of the derivative of x²(x − 1)³.
    np.testing.assert_allclose(np.sort(np.roots([10, -8, 1])), radau.NODES[:2], rtol=1e-14)
    for power in range(3):
        np.testing.assert_allclose(radau.A @ radau.NODES**power, radau.NODES ** (power + 1) / (power + 1), atol=1e-15)
    assert np.min(np.abs(np.linalg.eigvals(np.linalg.inv(radau.A)) - radau.REAL)) < 1e-13


@pytest.mark.parametrize(("method", "order"), [("explicit", 7), ("stiff", 5)])
def test_observed_order_of_convergence(method: str, order: int) -> None:
    case = Case((G, C), (C, E[0] * (1 - G**2) * C - G), (1.0,), (2.0, 0.0), (1.0,))
    system = case.system()
    values = np.log(case.usual)[:, None]
    constants = system.constants(tuple(values), (), (1,))
    solver = Explicit(system, 0) if method == "explicit" else radau.Radau(system, 0)
    exact = solve(case, values, tolerance=Tolerance(1e-13, 1e-14))[0][:, 0, 0]
    errors = []
    with np.errstate(all="ignore"):
        for n in (8, 16):
            x = np.array(case.start)[:, None]
            for _ in range(n):
                slope = np.empty_like(x)
                solver.rhs(constants, x, slope)
                x = solver.attempt(constants, x, slope, np.full(1, 1 / n), np.full_like(x, 1e-12)).rows.copy()
            errors.append(np.abs(x[:, 0] - exact).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.6)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["explicit", "stiff"])
def test_states_agree_with_scipy(name: str, method: str) -> None:
    case = CASES[name]
    values = lanes_of(case, 3)
    tolerance = TIGHT if method == "explicit" else Tolerance(1e-8, 1e-10)
    x, _, _ = solve(case, values, tolerance=tolerance, method=method)
    for lane in range(3):
        expected = case.oracle(values[:, lane])
        scale = np.abs(expected).max(axis=1, keepdims=True)
        assert np.abs(x[: len(case.states), :, lane] - expected).max(initial=0) <= 100 * tolerance.rtol * scale.max()


@pytest.mark.parametrize("name", STIFF)
def test_stiff_lanes_change_their_method(name: str) -> None:
    case = STIFF[name]
    values = lanes_of(case, 2, 0.1)
    x, _, _ = solve(case, values, tolerance=Tolerance(1e-8, 1e-11))
    for lane in range(2):
        expected = case.oracle(values[:, lane], "LSODA")
        # Steps are right to rtol each; twenty times that, as in the test below, is what all of them may add up to.
        np.testing.assert_allclose(x[:, :, lane], expected, rtol=2e-7, atol=2e-9)


def test_the_error_asked_for_is_the_error_made() -> None:
    case = CASES["turnover"]
    values = lanes_of(case, 20)
    exact = solve(case, values, tolerance=Tolerance(1e-12, 1e-13))[0]
    for rtol in (1e-4, 1e-6, 1e-8):
        x = solve(case, values, 1, Tolerance(rtol, rtol))[0]
        assert (np.abs(x - exact) / (1 + np.abs(exact))).max() < 20 * rtol


# -------------------------------------------------------------- derivatives


@pytest.mark.parametrize("name", [*CASES, "TMDD"])
def test_sensitivities_agree_with_differences_of_scipy(name: str) -> None:
    case = (CASES | STIFF)[name]
    values = lanes_of(case, 1, 0.1)
    method = "LSODA" if name in STIFF else "DOP853"
    x, first, second = solve(case, values, 2, Tolerance(1e-6, 1e-9) if name in STIFF else TIGHT)
    n, k = len(case.states), len(case.usual)
    scale = 1 + np.abs(x[:n, :, 0]).max(axis=1, keepdims=True)
    h = 5e-3
    for a in (0, k - 1):
        shift = np.zeros(k)
        shift[a] = h
        near = [case.oracle(values[:, 0] + j * shift, method) for j in (-2, -1, 0, 1, 2)]
        # Fourth-order differences leave out O(h⁴), 6e-10, and the oracle's error, about 1e-11, over h and over h².
        slope = (near[0] - 8 * near[1] + 8 * near[3] - near[4]) / (12 * h)
        curve = (-near[0] + 16 * near[1] - 30 * near[2] + 16 * near[3] - near[4]) / (12 * h * h)
        assert (np.abs(first[a, :n, :, 0] - slope) / scale).max() < (1e-7 if name in STIFF else 1e-8)
        assert (np.abs(second[a, a, :n, :, 0] - curve) / scale).max() < 1e-6


@pytest.mark.parametrize("name", [*CASES, "TMDD"])
def test_second_derivatives_are_those_of_the_first_and_both_methods_agree(name: str) -> None:
    case = (CASES | STIFF)[name]
    values = lanes_of(case, 1, 0.1)
    h, k = 1e-3 if name in STIFF else 1e-4, len(case.usual)
    n_random = max(1, k - 2)
    tight = Tolerance(1e-6, 1e-9) if name in STIFF else Tolerance(1e-11, 1e-13)
    _, first, second = solve(case, values, 2, tight, n_random=n_random)
    assert second.shape[:2] == (n_random, k)
    shifts = h * np.eye(k)
    scale = 1 + np.abs(first).max()
    for b in (k - 1,):
        up, down = (solve(case, values + sign * shifts[b][:, None], 1, tight)[1] for sign in (1, -1))
        # Differences of what is right to rtol are right to rtol/h, where the steps of both ends are alike (the stiff
        # method's at loose tolerances) to a hundredth of it.
        allowed = tight.rtol / h * (0.01 if name in STIFF else 1.0)
        np.testing.assert_allclose(second[:, b], (up - down)[:n_random] / (2 * h), rtol=0, atol=allowed * scale)
    stiff = solve(case, values, 2, Tolerance(1e-6, 1e-8), "stiff", n_random=n_random)
    np.testing.assert_allclose(stiff[1], first, rtol=0, atol=1e-6 * scale)
    np.testing.assert_allclose(stiff[2], second, rtol=0, atol=1e-6 * (1 + np.abs(second).max()))


def test_structural_zeros_are_no_rows() -> None:
    system = CASES["turnover"].system()
    assert len(system.first) == 1 + 3 + 7  # a depot knows its own rate only
    assert (0, 1) not in system.first
    assert all(b < 3 for i, a, b in system.second if i < 2)
    unused = Variational((G,), (-E[0] * G,), S[:4], 4)
    assert unused.first == [(0, 0)]


def test_moving_ends_follow_the_chain_rule() -> None:
    # x' = −k x from t = 0 to T = e^{s1}, k = e^{s0}: everything is known in closed form.
    system = Variational((G,), (-E[0] * G,), S[:2], 2, moving={1})
    s = np.array([[np.log(0.7)], [np.log(1.3)]])
    k, t = np.exp(s[:, 0])
    first, second = np.zeros((2, 1)), np.zeros((2, 2, 1))
    first[1], second[1, 1] = t, t
    zero = np.zeros((2, 1))
    intervals = Intervals(
        steps=np.array([2]),
        start=zero,
        length=np.array([[0.0], [t]]),
        block=np.zeros((2, 1), int),
        read=np.array([[-1], [0]]),
        jump=np.array([[0], [-1]]),
        shift=np.array([[-1], [0]]),
        constants=system.constants(tuple(s), (), (1,)),
        keep=np.zeros((1, 1)),
        add=system.pack(2, np.full((1, 1), 5.0)),
        stretch=(first, second),
        clock=None,
        n_read=1,
    )
    rows, _ = integrate(system, 2, intervals, TIGHT)
    x, f, h = system.unpack(2, rows)
    u = k * t  # x = 5 e^{−u}, ∂u/∂s0 = ∂u/∂s1 = u
    assert x[0, 0] == pytest.approx(5 * np.exp(-u), rel=1e-10)
    assert f is not None
    assert h is not None
    np.testing.assert_allclose(f[:, 0, 0], -u * x[0, 0], rtol=1e-9)
    np.testing.assert_allclose(h[:, :, 0, 0], (u * u - u) * x[0, 0], rtol=1e-8)


# -------------------------------------------------------------------- lanes


def test_lanes_do_not_notice_each_other() -> None:
    case = CASES["Michaelis-Menten"]
    values = lanes_of(case, 40, 0.5)
    together = solve(case, values, 1, Tolerance(1e-6, 1e-8))
    alone = [solve(case, values[:, [k]], 1, Tolerance(1e-6, 1e-8)) for k in (0, 17, 39)]
    for place, k in enumerate((0, 17, 39)):
        for part in (0, 1):
            np.testing.assert_allclose(together[part][..., k], alone[place][part][..., 0], rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 10_000), lanes=st.integers(1, 5))
@settings(max_examples=6, deadline=None)
def test_linear_chains_agree_with_matrix_exponentials(seed: int, lanes: int) -> None:
    rng = np.random.default_rng(seed)
    n = 3
    x = sp.symbols("x0:3", real=True)
    matrix = rng.standard_normal((n, n)) - 2.5 * np.eye(n)
    rhs = tuple(sum((float(matrix[i, j]) * E[0] * x[j] for j in range(n)), sp.Integer(0)) for i in range(n))
    case = Case(x, rhs, (1.0,), tuple(rng.uniform(0, 10, n)), tuple(np.cumsum(rng.uniform(0.0, 2.0, 4))))
    values = 0.5 * rng.standard_normal((1, lanes))
    state, first, _ = solve(case, values, 1)
    for lane in range(lanes):
        k = np.exp(values[0, lane])
        for place, t in enumerate(case.times):
            expected = expm(matrix * k * t) @ case.start
            np.testing.assert_allclose(state[:, place, lane], expected, rtol=1e-8, atol=1e-10)
            np.testing.assert_allclose(first[0, :, place, lane], k * t * matrix @ expected, rtol=1e-7, atol=1e-9)


# ----------------------------------------------------------------- failures


def test_a_lane_that_explodes_fails_alone() -> None:
    case = Case((G,), (E[0] * G**2,), (1.0,), (1.0,), (0.5, 2.0))  # x = 1/(1 − k t)
    values = np.log(np.array([[0.1, 1.0, 0.2]]))
    system = case.system()
    rows, failures = integrate(system, 1, histories(system, 1, case, values), Tolerance())
    read = rows[0].reshape(2, 3)
    np.testing.assert_allclose(read[0], 1 / (1 - np.array([0.1, 1.0, 0.2]) * 0.5), rtol=1e-7)
    assert np.isnan(read[1, 1])
    assert np.isfinite(read[1, [0, 2]]).all()
    (failure,) = failures
    assert failure.lane == 1
    assert failure.time == pytest.approx(1.0, abs=1e-3)
    assert failure.state[0] > 1e3
    assert "step" in failure.reason


def test_too_many_steps_are_a_failure() -> None:
    case = Case((G, C), (C, -E[0] * G), (1e4,), (1.0, 0.0), (100.0,))
    system = case.system()
    values = np.log(np.array([case.usual])).T
    rows, failures = integrate(system, 0, histories(system, 0, case, values), Tolerance(max_steps=50))
    assert np.isnan(rows).all()
    assert "too many steps" in failures[0].reason


@pytest.mark.parametrize("wrong", [{"rtol": 0.0}, {"rtol": 1e-16}, {"atol": -1.0}, {"max_steps": float("nan")}])
def test_impossible_tolerances_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="Tolerance has"):
        Tolerance(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------ one after the other, or abreast


@pytest.mark.parametrize("name", [*CASES, "TMDD"])
def test_derivatives_made_afterwards_are_those_that_keep_up_with_their_states(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both are right to some tolerances of one step each; the first is what few lanes get, the second many.
    case = (CASES | STIFF)[name]
    values = lanes_of(case, 4, 0.1)
    tolerance = Tolerance(1e-7, 1e-9)
    found = []
    for many in (1000, 0):
        monkeypatch.setattr("nlmewidgets.core.integrate._MANY", many)
        found.append(solve(case, values, 2, tolerance))
    for mine, theirs in zip(*found, strict=True):
        assert np.abs(mine - theirs).max() <= 20 * tolerance.rtol * np.abs(theirs).max()
        assert np.abs(mine - theirs).max() > 0.0  # they are made in two ways


# ------------------------------------------------------- what errors are compared with


def test_what_only_passes_on_is_as_right_as_what_it_makes() -> None:
    # Absorption dies away while the effect goes on: it may be wrong by what the effect may be wrong by.
    case = CASES["turnover"]
    values = lanes_of(case, 10, 0.2)
    system = case.system()
    exact = solve(case, values, 2, Tolerance(1e-12, 1e-13))
    plain = histories(system, 2, case, values)
    measured = plain._replace(unit=np.ones_like(values))
    for rtol in (1e-6, 1e-8):
        rows, _ = integrate(system, 2, measured, Tolerance(rtol, rtol / 100), seen=(2,))
        got = system.unpack(2, rows.reshape(len(rows), len(case.times), -1))
        size = np.abs(exact[0][2])
        for mine, theirs in zip(got, exact, strict=True):
            assert (np.abs(mine - theirs)[..., 2, :, :] / size).max() < rtol
    assert [i for i, _, _ in system.fading] == [2, 1, 0]
    assert not CASES["Michaelis-Menten"].system().fading[1:]  # saturable elimination has no constant rate


@pytest.mark.parametrize("sign", [1, -1])
def test_only_what_decays_is_set_to_zero(sign: int) -> None:
    # A seed far below atol grows; a rest as small does not come back.
    times = tuple(float(t) for t in range(1, 31))
    case = Case((G, C), (sign * E[0] * G, E[0] * G - E[1] * C), (1.0, 5.0), (1e-16, 1.0), times)
    values = np.log(np.array([case.usual])).T
    system = case.system()
    own, rows = histories(system, 1, case, values), system.rows(1)
    # Something happens every hour, if only nothing: steps of 1 follow growth however small.
    own = own._replace(
        jump=np.arange(31)[:, None],
        keep=np.hstack([own.keep, np.ones((system.n, 30))]),
        add=np.hstack([own.add, np.zeros((rows, 30))]),
    )
    found, failures = integrate(system, 1, own, Tolerance(1e-8, 1e-10))
    assert not failures
    x = system.unpack(1, found.reshape(rows, 30, 1))[0]
    expected = 1e-16 * np.exp(sign * np.array(times))
    np.testing.assert_allclose(x[0, :, 0], expected, rtol=1e-4 if sign > 0 else 0.0, atol=1e-16 * (sign < 0))
