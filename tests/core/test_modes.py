"""Contract of the modes: each subject's own minimum, found for all of them together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from scipy import optimize

import nlmewidgets as nw
from nlmewidgets.core.modes import Modes, find_modes
from tests.models import Case, cases, make


def modes_of(case: Case, start: np.ndarray | None = None, **options: object) -> tuple[nw.Problem, Modes]:
    problem = case.problem
    values = problem.space.initial
    with np.errstate(all="ignore"):
        found = find_modes(
            problem, problem.typical(values.theta).slots, np.linalg.inv(values.omega), values.sigma, start, **options
        )
    return problem, found


def joint(problem: nw.Problem, subject: int, eta: np.ndarray) -> float:
    """Return l_i(η) of one subject, the others at zero."""
    values = problem.space.initial
    etas = np.zeros((problem.n_eta, problem.n_subjects))
    etas[:, subject] = eta
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(problem.typical(values.theta).slots, etas))
        data = problem.minus2ll(f, values.sigma)[subject]
    return float(data + eta @ np.linalg.inv(values.omega) @ eta)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases)
def test_modes_are_the_minima_scipy_finds_subject_by_subject(case: Case) -> None:
    problem, modes = modes_of(case)
    assert modes.converged.all()
    for i in range(problem.n_subjects):
        reached = joint(problem, i, modes.eta[:, i])
        assert reached == pytest.approx(modes.value[i], rel=1e-12, abs=1e-12)
        # From our mode SciPy finds nothing lower; from zero neither, unless it is another mode, far away.
        again = optimize.minimize(lambda e, i=i: joint(problem, i, e), modes.eta[:, i], method="BFGS")
        assert again.fun >= reached - 1e-11 * (1 + abs(reached))
        other = optimize.minimize(lambda e, i=i: joint(problem, i, e), np.zeros(problem.n_eta), method="BFGS")
        assert other.fun >= reached - 1e-11 * (1 + abs(reached)) or np.abs(other.x - modes.eta[:, i]).max() > 0.1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases)
def test_what_is_evaluated_at_the_modes_belongs_to_them(case: Case) -> None:
    problem, modes = modes_of(case, gradient=True)
    values = problem.space.initial
    f, first, _ = problem.structure(problem.slots(problem.typical(values.theta).slots, modes.eta), 2)
    np.testing.assert_array_equal(modes.f, f)
    np.testing.assert_array_equal(modes.first, first)
    h, q = 1e-3, problem.n_eta
    for i in range(problem.n_subjects):
        hessian = np.empty((q, q))
        for a in range(q):
            for b in range(q):
                u, v = np.eye(q)[a] * h, np.eye(q)[b] * h
                four = [
                    joint(problem, i, modes.eta[:, i] + s * u + t * v) for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1))
                ]
                hessian[a, b] = (four[0] - four[1] - four[2] + four[3]) / (4 * h * h)
        scale = np.abs(modes.hessian[i]).max()
        # Truncation h² = 1e-6, rounding 1e-16·|l|/h² = 1e-10·|l|, relative to the largest element.
        np.testing.assert_allclose(modes.hessian[i], hessian, atol=1e-4 * scale)
        assert np.linalg.eigvalsh(modes.information[i])[0] > 0


def test_the_tolerance_bounds_what_is_left_to_gain():
    case = make("oral", "combined", ("block",), seed=4)
    _, exact = modes_of(case, tolerance=1e-20)
    for tolerance in (1e-1, 1e-3, 1e-6):
        _, rough = modes_of(case, tolerance=tolerance)
        assert (rough.decrement <= tolerance).all()
        # Half the decrement is the gain a quadratic promises; near the mode it is within a factor of two.
        assert (rough.value - exact.value <= 2 * tolerance + 1e-11).all()
        assert rough.iterations <= exact.iterations


def test_a_warm_start_saves_iterations_and_changes_nothing():
    case = make("oral", "combined", (), seed=4)
    _, cold = modes_of(case)
    _, warm = modes_of(case, cold.eta + 1e-4)
    assert warm.iterations < cold.iterations
    np.testing.assert_allclose(warm.eta, cold.eta, atol=1e-7)
    _, there = modes_of(case, cold.eta)
    assert there.iterations <= 1


@pytest.mark.parametrize("shift", [-4.0, -2.0, 2.0, 4.0])
@pytest.mark.parametrize("structure", ["decay", "oral", "emax"])
def test_hard_starts_end_in_a_minimum(structure: str, shift: float) -> None:
    case = make(structure, "combined", (), seed=8, most=8)
    problem, near = modes_of(case)
    _, far = modes_of(case, np.full((problem.n_eta, problem.n_subjects), shift))
    assert far.converged.all()
    assert (np.linalg.eigvalsh(far.hessian)[:, 0] > 0).all()
    # Every subject may end in a mode of its own, but none above where it started.
    for i in range(problem.n_subjects):
        assert far.value[i] <= joint(problem, i, np.full(problem.n_eta, shift))
        if np.abs(far.eta[:, i] - near.eta[:, i]).max() < 1e-3:
            assert far.value[i] == pytest.approx(near.value[i], abs=1e-9)


def test_a_start_that_is_not_finite_is_replaced_by_zero():
    case = make("oral", "combined", (), seed=4)
    _, good = modes_of(case)
    start = good.eta.copy()
    start[:, 2] = np.nan
    start[0, 3] = 1e6
    _, modes = modes_of(case, start)
    assert modes.converged.all()
    np.testing.assert_allclose(modes.value, good.value, atol=1e-9)


def test_an_indefinite_hessian_at_the_start_is_treated_by_fisher_scoring():
    """A Gaussian bump far from its data: curvature of f is negative where Newton would climb."""
    m = sp.Symbol("m", real=True)
    model = nw.Model(5 * sp.exp(-((nw.time - m) ** 2) / 2), {m: nw.Normal(0.0, sd=3.0)}, residual=nw.Additive(0.5))
    times = np.linspace(1.0, 5.0, 9)
    table = pd.DataFrame({"ID": 1, "TIME": times, "DV": 5 * np.exp(-((times - 2.0) ** 2) / 2)})
    case = Case(model, nw.Data.from_frame(table), "bump")
    problem, modes = modes_of(case)
    values = problem.space.initial
    _, start = modes_of(case, max_iterations=0)
    assert start.hessian[0, 0, 0] < 0
    assert start.information[0, 0, 0] > 0
    assert not start.converged[0]
    grid = np.linspace(-10, 10, 4001)
    best = min(grid, key=lambda v: joint(problem, 0, np.array([v])))
    assert modes.converged[0]
    assert modes.eta[0, 0] == pytest.approx(best, abs=grid[1] - grid[0])
    assert values.omega[0, 0] == 9.0


def test_a_subject_that_is_not_finite_does_not_spoil_the_others():
    k = sp.Symbol("k", positive=True)
    model = nw.Model(
        sp.exp(-k * nw.time) + 1 / (nw.time - 2), {k: nw.LogNormal(0.5, sd=0.4)}, residual=nw.Additive(0.1)
    )
    table = pd.DataFrame({"ID": [1, 1, 2, 2, 3, 3], "TIME": [1, 3, 1, 2, 3, 4.0], "DV": [-0.3, 1.3, -0.5, 0, 1.4, 0.7]})
    both = Case(model, nw.Data.from_frame(table), "")
    good = Case(model, nw.Data.from_frame(table[table["ID"] != 2]), "")
    _, modes = modes_of(both)
    _, wanted = modes_of(good)
    assert modes.converged.tolist() == [True, False, True]
    np.testing.assert_allclose(modes.eta[:, [0, 2]], wanted.eta, atol=1e-9)
    np.testing.assert_allclose(modes.value[[0, 2]], wanted.value, rtol=1e-12)


def test_a_finite_value_without_finite_derivatives_is_not_called_converged():
    """sqrt(|η|) has no derivative at η = 0, where the search starts."""
    m = sp.Symbol("m", real=True)
    model = nw.Model(sp.sqrt(sp.Abs(m)) + nw.time, {m: nw.Normal(0.0, sd=1.0)}, residual=nw.Additive(0.5))
    table = pd.DataFrame({"ID": 1, "TIME": [1.0, 2.0], "DV": [1.5, 2.5]})
    _, modes = modes_of(Case(model, nw.Data.from_frame(table), ""))
    assert np.isfinite(modes.value[0])
    assert not modes.converged[0]
    assert modes.iterations == 0


def test_an_omega_near_singular_is_no_reason_to_go_on_for_ever():
    """The decrement is then rounding above the tolerance: the search ran to its 200 iterations once."""
    case = make("emax", "combined", ("block",), seed=4, subjects=40, most=8)
    model = case.model.with_values({"corr_Emax_T50": 0.99999997})
    _, modes = modes_of(Case(model, case.data, ""))
    assert modes.converged.all()
    assert modes.iterations < 60


def test_scouting_with_first_derivatives_leads_to_the_same_modes() -> None:
    depot, central = nw.states("depot central")
    ka, vm, km, v = sp.symbols("ka Vm Km V", positive=True)
    model = nw.Model(
        odes={depot: -ka * depot, central: ka * depot - vm * central / (km * v + central)},
        prediction=central / v,
        parameters={
            ka: nw.LogNormal(1.5, sd=0.4),
            vm: nw.LogNormal(10.0, sd=0.4),
            km: nw.LogNormal(2.0),
            v: nw.Normal(30.0, sd=6.0),
        },
        residual=nw.Combined(additive=0.1, proportional=0.1),
    )
    times = [0.5, 1, 3, 8, 16]
    records = pd.DataFrame(
        [(i, t, 100.0 if t == 0 else 0.0, int(t == 0), 1.0) for i in range(6) for t in (0.0, *times)],
        columns=["ID", "TIME", "AMT", "EVID", "DV"],
    )
    empty = nw.Data.from_frame(records)
    y = model.problem(empty).simulate(model.values, 1, np.random.default_rng(1))[1][0]
    records.loc[records["EVID"] == 0, "DV"] = y
    data = nw.Data.from_frame(records)
    problem = model.problem(data)
    values = problem.space.initial
    call = (problem, problem.typical(values.theta).slots, np.linalg.inv(values.omega), values.sigma)
    cold = find_modes(*call)
    newton = find_modes(*call, np.zeros((problem.n_eta, problem.n_subjects)))
    assert cold.converged.all()
    assert newton.converged.all()
    np.testing.assert_allclose(cold.eta, newton.eta, atol=1e-5)
    np.testing.assert_allclose(cold.value, newton.value, rtol=1e-9)
    np.testing.assert_allclose(cold.hessian, newton.hessian, rtol=1e-4, atol=1e-4 * np.abs(newton.hessian).max())


def test_a_mode_on_a_kink_is_left_where_it_is() -> None:
    """|η|-like data: the density of y ~ N(max(η, 0), 0.1²) at y < 0 has its mode where the prediction has a kink."""
    a = sp.Symbol("a")
    model = nw.Model(sp.Max(a, 0) + sp.Max(-3 * a, 0), {a: nw.Normal(0.4, sd=1.0)}, residual=nw.Additive(0.1))
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2], "TIME": 0.0, "DV": [-0.5, 1.0]}))
    problem = model.problem(data)
    modes = find_modes(problem, problem.typical(model.values.theta).slots, np.eye(1), model.values.sigma)
    assert modes.iterations <= 60
    assert modes.converged.tolist() == [False, True]
    assert modes.eta[0, 0] == pytest.approx(-0.4, abs=0.01)
