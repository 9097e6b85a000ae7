"""Places that suit the data: where the pooled data have an optimum each, with the variances that suit there.

Typical values are sought with all random effects zero, by many candidates at once.  Those that are apart are each
bettered on their own, so that distinct optima stay apart (absorption and elimination that can change places, for one);
a few steps of two-stage estimation give each the variances to begin a search with.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.methods.pooled import Axis, Pooled, some_subjects
from nlmewidgets.methods.spread import spread

__all__ = ["Effort", "places"]

_DAMPING = (1e-3, 0.1, 1.0, 10.0)
"""Of the steps that are tried at once: from Gauss and Newton's to a short one along the gradient."""

_STEP, _LONGEST = 1e-4, 2.0
"""Of differences along a coordinate; of a step (e-folds of a positive parameter)."""

_SETTLED = 0.01
"""No candidate gained more: the pooled data have no more to say."""

_EQUAL = 0.1
"""Per observation: pooled objectives so close may belong to the best optimum of the population."""

_APART = 0.7
"""Distance of typical values that are two places, not one: a factor of two of a positive parameter."""


class Effort(NamedTuple):
    """How much a search for places does.

    Attributes
    ----------
    observations : int
        Of the data, at most.
    reach : float
        How far around the declared values: 1 is three decades of a positive parameter.
    candidates : int
        For each coordinate.
    survivors, rounds : int
        Candidates that are bettered, and steps of each.
    places, steps : int
        Places at most, and steps of two-stage estimation for each.
    """

    observations: int = 400
    reach: float = 1.0
    candidates: int = 48
    survivors: int = 12
    rounds: int = 10
    places: int = 3
    steps: int = 6


_INTEGRATED = Effort(observations=100, reach=1 / 3, candidates=16, survivors=6, rounds=6, places=2, steps=2)
"""Where each prediction is a numerical integration."""


def places(problem: Problem) -> Generator[None, None, list[Values]]:
    """Return values that suit the pooled data, with the variances that suit each; yield between parts of the work."""
    effort = _INTEGRATED if isinstance(problem.structure, Ode) else Effort()
    data = some_subjects(problem.data, effort.observations)
    part = problem if data is problem.data else problem.model.problem(data)
    pooled = Pooled(part, np.inf)
    found = []
    thetas = yield from _distinct(part, pooled, effort)
    for theta in thetas:
        yield
        try:
            found.append(spread(part, pooled, theta, deadline=np.inf, stop=None, steps=effort.steps)[0])
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
            continue
    return found


def _distinct(problem: Problem, pooled: Pooled, effort: Effort) -> Generator[None, None, list[Array]]:
    """Return typical values at which the pooled objective has about its least value, far from each other."""
    space = problem.space
    free = [k for k, p in enumerate(space.theta) if not p.fixed]
    if not free:
        return []
    typical = {s.name for s, v in problem.model.parameters.items() if isinstance(v, Distribution)}
    axes = [Axis(space.theta[k], space.theta[k].name in typical) for k in free]
    start = np.array([axis.free(axis.parameter.value) for axis in axes])
    reach = effort.reach * np.array([axis.reach for axis in axes])

    def thetas(x: Array) -> Array:
        out = np.tile(space.initial.theta, (len(x), 1))
        for place, (k, axis) in enumerate(zip(free, axes, strict=True)):
            out[:, k] = [axis.natural(float(v)) for v in x[:, place]]
        return out

    rng = np.random.default_rng(1)
    d, count = len(free), effort.candidates * (1 + len(free))
    # A Latin hypercube, denser in the middle.
    cube = (rng.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T + rng.random((count, d))) / count
    u = 2.0 * cube - 1.0
    crowd = start + reach * np.sign(u) * np.abs(u) ** 1.6
    crowd[0] = start
    value = pooled(thetas(crowd))
    best = _apart(crowd, value, effort.survivors)
    x, value = crowd[best], value[best]
    moved = np.concatenate([np.zeros((1, d)), _STEP * np.eye(d)])
    for _ in range(effort.rounds):
        yield
        slope, curvature = pooled.gradients(
            thetas((x[:, None] + moved).reshape(-1, d)).reshape(len(x), d + 1, -1), _STEP
        )
        trials = x[:, None] + _damped(slope, curvature)
        reached = pooled(thetas(trials.reshape(-1, d))).reshape(trials.shape[:2])
        best = reached.argmin(axis=1)
        lower = np.take_along_axis(reached, best[:, None], axis=1)[:, 0]
        better = lower < value
        x = np.where(better[:, None], trials[np.arange(len(x)), best], x)
        settled = not (better & (lower < value - _SETTLED)).any()
        value = np.where(better, lower, value)
        if settled:
            break
    near = np.where(value <= value.min() + _EQUAL * problem.n_obs, value, np.inf)
    return list(thetas(x[_apart(x, near, effort.places)]))


def _damped(slope: Array, curvature: Array) -> Array:
    """Return Levenberg and Marquardt's steps at each point, (points, dampings, axes)."""
    good = np.asarray(np.isfinite(slope).all(axis=1) & np.isfinite(curvature).all(axis=(1, 2)))
    slope = np.where(good[:, None], slope, 0.0)
    curvature = np.where(good[:, None, None], curvature, np.eye(slope.shape[1]))
    size = np.diagonal(curvature, axis1=1, axis2=2)
    size = np.maximum(size, 1e-6 * size.max(axis=1, keepdims=True)) + 1e-300
    damped = curvature[:, None] + np.array(_DAMPING)[:, None, None] * (size[:, None, :, None] * np.eye(slope.shape[1]))
    step = -np.linalg.solve(damped, slope[:, None, :, None])[..., 0]
    longest = np.abs(step).max(axis=2, keepdims=True)
    return np.asarray(step * np.minimum(1.0, _LONGEST / np.maximum(longest, 1e-300)))


def _apart(x: Array, value: Array, most: int) -> list[int]:
    """Return the places of the lowest values that are apart from each other."""
    kept: list[int] = []
    for i in np.argsort(value):
        if len(kept) < most and np.isfinite(value[i]) and all(np.abs(x[i] - x[j]).max() > _APART for j in kept):
            kept.append(int(i))
    return kept
