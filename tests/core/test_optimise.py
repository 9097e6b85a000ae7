"""Contract of the quasi-Newton generator, with SciPy as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import optimize

from nlmewidgets.core.optimise import Point, Step, quasi_newton


def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
    return float(optimize.rosen(x)), optimize.rosen_der(x)


def quadratic(x: np.ndarray) -> tuple[float, np.ndarray]:
    scale = 10.0 ** np.arange(len(x))
    return float((scale * (x - 1) ** 2).sum()), 2 * scale * (x - 1)


def powell(x: np.ndarray) -> tuple[float, np.ndarray]:
    """Powell's singular function: the Hessian is singular at the minimum."""
    a, b, c, d = x
    value = (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4
    u, v = 4 * (b - 2 * c) ** 3, 40 * (a - d) ** 3
    gradient = [2 * (a + 10 * b) + v, 20 * (a + 10 * b) + u, 10 * (c - d) - 2 * u, -10 * (c - d) - v]
    return float(value), np.array(gradient)


def beale(x: np.ndarray) -> tuple[float, np.ndarray]:
    u, v = x
    parts = np.array([1.5 - u + u * v, 2.25 - u + u * v**2, 2.625 - u + u * v**3])
    slopes = np.array([[-1 + v, -1 + v**2, -1 + v**3], [u, 2 * u * v, 3 * u * v**2]])
    return float(parts @ parts), 2 * slopes @ parts


def log_cosh(x: np.ndarray) -> tuple[float, np.ndarray]:
    shift = x - np.arange(1.0, len(x) + 1)
    return float(np.log(np.cosh(shift)).sum()), np.tanh(shift)


FUNCTIONS: dict[str, tuple[Callable, np.ndarray]] = {
    "rosenbrock": (rosenbrock, np.array([-1.2, 1.0])),
    "rosenbrock in 5": (rosenbrock, np.array([-1.2, 1.0, -0.5, 0.8, 2.0])),
    "ill-conditioned quadratic": (quadratic, np.array([4.0, -3.0, 2.0, -1.0, 0.5])),
    "powell singular": (powell, np.array([3.0, -1.0, 0.0, 1.0])),
    "beale": (beale, np.array([1.0, 1.0])),
    "log cosh": (log_cosh, np.array([5.0, -5.0, 0.0])),
}


def drain(function: Callable, x: np.ndarray, **options: object) -> list[Step]:
    return list(quasi_newton(lambda v, extra: Point(*function(v)), x, **options))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_minimum_is_scipys(name: str) -> None:
    function, start = FUNCTIONS[name]
    oracle = optimize.minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    steps = drain(function, start, tolerance=1e-14)
    last = steps[-1]
    assert last.reason in ("converged", "rounding")
    assert last.point.value <= oracle.fun + 1e-11
    if name != "powell singular":
        np.testing.assert_allclose(last.x, oracle.x, atol=1e-4)
    assert last.evaluations <= 3 * oracle.nfev + 20


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_step_is_a_decrease_along_one_path(name: str) -> None:
    function, start = FUNCTIONS[name]
    steps = drain(function, start, tolerance=1e-12)
    values = [s.point.value for s in steps]
    np.testing.assert_array_equal(steps[0].x, start)
    assert steps[0].length == 0.0
    assert all(b <= a + 1e-12 * max(1, abs(a)) for a, b in zip(values, values[1:], strict=False))
    assert all(s.reason == "" for s in steps[:-1])
    assert steps[-1].reason
    assert [s.evaluations for s in steps] == sorted(s.evaluations for s in steps)
    for step in steps:
        assert function(step.x)[0] == step.point.value


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"powell singular"}))  # where no quadratic model holds
def test_the_promised_decrease_at_convergence_is_kept(name: str) -> None:
    function, start = FUNCTIONS[name]
    tolerance = 1e-6
    best = optimize.minimize(function, start, jac=True, method="BFGS", options={"gtol": 1e-10}).fun
    last = drain(function, start, tolerance=tolerance)[-1]
    assert last.reason == "converged"
    # The decrement of a quasi-Newton model may be off by a factor; an order of magnitude is a wrong Hessian.
    assert last.point.value - best <= 10 * tolerance


def test_no_coordinate_moves_more_than_max_step():
    steps = drain(log_cosh, np.full(3, 40.0), max_step=0.5)
    assert max(np.abs(b.x - a.x).max() for a, b in zip(steps, steps[1:], strict=False)) <= 0.5 + 1e-12
    np.testing.assert_allclose(steps[-1].x, [1, 2, 3], atol=1e-2)


@pytest.mark.parametrize("wall", [np.inf, np.nan])
def test_a_trial_that_is_not_finite_is_refused(wall: float) -> None:
    """-log(x) + x beyond a wall at x <= 0.01, reached by the first full step."""

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        if (x <= 0.01).any():
            return wall, np.full(len(x), np.nan)
        return float((x - np.log(x)).sum()), 1 - 1 / x

    steps = drain(function, np.array([5.0, 0.02]), max_step=10.0)
    assert all(np.isfinite(s.point.value) for s in steps)
    np.testing.assert_allclose(steps[-1].x, 1.0, atol=1e-3)
    assert steps[-1].reason == "converged"


def test_a_function_without_lower_points_stops_at_rounding():
    """The gradient promises what the value does not keep: the search ends, with a reason."""
    steps = drain(lambda x: (1.0, np.ones(2)), np.zeros(2))
    assert steps[-1].reason == "rounding"
    assert len(steps) == 2
    np.testing.assert_array_equal(steps[-1].x, 0.0)


def test_differences_below_rounding_do_not_stop_the_search():
    """A large constant hides the last digits of the value; the gradient still leads to the minimum."""

    def function(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = quadratic(x)
        return value + 1e9, gradient

    last = drain(function, np.array([1.01, 0.99, 1.001]), tolerance=1e-10)[-1]
    assert last.reason == "converged"
    np.testing.assert_allclose(last.x, 1.0, atol=1e-5)


def test_iterations_are_limited_and_say_so():
    steps = drain(rosenbrock, np.array([-1.2, 1.0]), max_iterations=3)
    assert len(steps) == 5  # the start, three steps, and the last one again with its reason
    assert steps[-1].reason == "iterations"
    np.testing.assert_array_equal(steps[-1].x, steps[-2].x)


def test_nothing_to_move_is_converged_at_once():
    (only,) = drain(lambda x: (3.0, x), np.zeros(0))
    assert only.reason == "converged"
    assert only.point.value == 3.0
    start_at_minimum = drain(quadratic, np.ones(3))
    assert start_at_minimum[-1].reason == "converged"
    assert start_at_minimum[-1].point.value == 0.0


def test_a_hessian_estimate_at_the_start_replaces_learning_it():
    x = np.array([4.0, -3.0, 2.0, -1.0, 0.5])
    hessian = np.diag(2 * 10.0 ** np.arange(5))
    with_hessian = list(quasi_newton(lambda v, e: Point(*quadratic(v), hessian), x, tolerance=1e-12, max_step=100.0))
    without = drain(quadratic, x, tolerance=1e-12, max_step=100.0)
    assert with_hessian[-1].reason == "converged"
    assert with_hessian[-1].evaluations <= 4 < without[-1].evaluations
    useless = [np.full((5, 5), np.nan), -hessian]
    for bad in useless:
        steps = list(quasi_newton(lambda v, e, bad=bad: Point(*quadratic(v), bad), x, tolerance=1e-12))
        np.testing.assert_allclose(steps[-1].x, 1.0, atol=1e-4)


def test_refreshed_hessians_are_gauss_newton_until_they_stop_paying():
    """A small-residual least-squares problem: Gauss–Newton needs few iterations, then BFGS polishes."""
    t = np.linspace(0, 4, 30)
    y = 3 * np.exp(-0.7 * t) + 0.01 * np.cos(9 * t)

    def point(x: np.ndarray, extra: object) -> Point:
        f = x[0] * np.exp(-x[1] * t)
        slope = np.stack([np.exp(-x[1] * t), -t * f])
        error = f - y
        return Point(1e4 * float(error @ error), 2e4 * slope @ error, 2e4 * slope @ slope.T)

    start = np.array([1.0, 2.0])
    refreshed = list(quasi_newton(point, start, refresh=True))
    plain = list(quasi_newton(point, start))
    assert refreshed[-1].reason == plain[-1].reason == "converged"
    assert len(refreshed) <= len(plain)
    np.testing.assert_allclose(refreshed[-1].x, plain[-1].x, atol=1e-5)


# -------------------------------------------------------------------- generator


def test_it_is_a_generator_that_computes_only_what_is_pulled():
    calls: list[np.ndarray] = []

    def function(x: np.ndarray, extra: object) -> Point:
        calls.append(x)
        return Point(*rosenbrock(x))

    path = quasi_newton(function, np.array([-1.2, 1.0]))
    assert isinstance(path, Iterator)
    assert not calls
    next(path)
    assert len(calls) == 1
    step = next(path)
    assert len(calls) == step.evaluations


def test_what_is_attached_to_a_point_is_given_to_the_next_evaluation():
    seen: list[object] = []

    def function(x: np.ndarray, extra: object) -> Point:
        seen.append(extra)
        return Point(*rosenbrock(x), None, ("from", tuple(x)))

    steps = list(quasi_newton(function, np.array([-1.2, 1.0]), max_iterations=5))
    assert seen[0] is None
    accepted = [s.point.extra for s in steps]
    assert set(seen[1:]) <= set(accepted)


def test_five_steps_are_five_states():
    steps = drain(rosenbrock, np.array([-1.2, 1.0]), max_iterations=5)
    copies = [s.x.copy() for s in steps]
    assert len({tuple(x) for x in copies}) >= 5
    assert all(a is not b for k, a in enumerate(s.x for s in steps) for b in (s.x for s in steps[k + 2 :]))


def test_a_direction_of_which_nothing_is_known_does_not_shorten_the_others() -> None:
    """A flat coordinate goes as far as it may, and the others where the model has its minimum given that."""
    hessian = np.array([[1e-4, 1e-4, 0.0], [1e-4, 2.0, 0.5], [0.0, 0.5, 1.0]])
    goal = np.array([0.0, 0.3, -0.2])

    def function(x: np.ndarray, extra: object) -> Point:
        away = x - goal
        return Point(0.5 * away @ hessian @ away - x[0], hessian @ away - np.array([1.0, 0.0, 0.0]), hessian)

    start = np.zeros(3)
    first = list(quasi_newton(function, start, refresh=True, max_iterations=1))[1]
    oracle = optimize.minimize(
        lambda x: function(x, None).value, start, jac=lambda x: function(x, None).gradient, bounds=[(-1.0, 1.0)] * 3
    )
    np.testing.assert_allclose(first.x, oracle.x, atol=1e-5)


def test_a_refused_trial_teaches_the_model() -> None:
    """An estimate of the curvature a thousand times too small: the second step is the right one, not a fraction."""

    def function(x: np.ndarray, extra: object) -> Point:
        return Point(50.0 * float(x @ x), 100.0 * x, 0.1 * np.eye(len(x)))

    steps = list(quasi_newton(function, np.array([0.4]), max_step=1000.0))
    assert steps[1].evaluations == 3
    np.testing.assert_allclose(steps[1].x, 0.0, atol=1e-12)


def test_a_trial_of_incredible_curvature_does_not_spoil_the_model() -> None:
    """As where a residual variance nears zero: the first trial lands where the function is 10^30 times as curved."""

    def cliff(x: np.ndarray, _: object) -> Point:
        beyond = np.array([max(x[0] - 1.0, 0.0), 0.0, 0.0])
        value = float((x * x - x).sum() + 1e30 * (beyond * beyond).sum())
        return Point(value, 2.0 * x - 1.0 + 2e30 * beyond, 0.5 * np.eye(3))

    *_, last = quasi_newton(cliff, np.zeros(3), max_step=5.0)
    assert last.reason == "converged"
    assert last.x == pytest.approx(0.5, abs=1e-3)
    assert last.evaluations < 30


def test_a_model_of_the_curvature_that_is_singular_ends_no_search():
    """Updates can leave a Hessian that is singular to rounding; the search goes on from the nearest that is not."""
    centre = np.array([0.3, -0.2, 0.5])

    def bowl(x, extra):
        return Point(float(((x - centre) ** 2).sum()), 2.0 * (x - centre))

    last = list(quasi_newton(bowl, np.zeros(3), hessian=np.ones((3, 3))))[-1]
    assert last.reason == "converged"
    np.testing.assert_allclose(last.x, centre, atol=1e-3)
