"""Quasi-Newton minimisation as a generator: the caller pulls one accepted step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["Point", "Step", "quasi_newton"]

_STEEP = 0.9
"""Share of the slope left after a full step from which on a longer one is tried (Wolfe's second condition)."""

_LEARNED, _TRUSTED = 0.5, 3
"""How far at most a box shrinks where a refused trial has taught the model, and how many such trials are trusted."""

_CREDIBLE = 1e4
"""How many times the curvature of the model a trial may have to be learnt from; beyond, the function is not quadratic
from here to there, and the model would be lost (a residual variance near zero has a curvature of 10^29)."""

_LEAST = 0.05
"""Eigenvalue of a Hessian estimate's correlations: what it says of flatter directions is noise."""


class Point(NamedTuple):
    """A function at x: value, gradient, an estimate of its Hessian (or None), and anything the caller attached."""

    value: float
    gradient: Array
    hessian: Array | None = None
    extra: Any = None


class Step(NamedTuple):
    """An accepted point of the path.

    Attributes
    ----------
    x : (n,) float
    point : Point
    length : float
        Step length taken along the direction (0 at the start).
    decrement : float
        Half the quasi-Newton decrement: the decrease the model still promises.
    evaluations : int
        Function evaluations so far.
    reason : str
        '' while running; at the last step 'converged', 'rounding' or 'iterations'.
    hessian : (n, n) float
        The estimate that the next step is made with.
    """

    x: Array
    point: Point
    length: float
    decrement: float
    evaluations: int
    reason: str = ""
    hessian: Array = np.zeros((0, 0))


def quasi_newton(
    function: Callable[[Array, Any], Point],
    x: Array,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    max_step: float | Array = 1.0,
    refresh: bool = False,
    shrink: float = 0.0,
    hessian: Array | None = None,
) -> Iterator[Step]:
    """Minimise a smooth function, yielding every accepted step.

    Parameters
    ----------
    function : callable (x, extra) -> Point
        `extra` is that of the last accepted point (a warm start); a value that is not finite is a
        refused trial.
    x : (n,) float
        Starting point, where the function must be finite.
    tolerance : float
        Stop when half the decrement g'H⁻¹g/2 falls below it, twice in a row.
    max_iterations : int
    max_step : float or (n,) float
        Largest change of each coordinate in one step.
    refresh : bool
        Use the Hessian estimate of each point (expected, or Gauss–Newton on scores) until it stops paying, then
        BFGS; without, only the first point's.
    shrink : float
        Share by which the correlations of a Hessian estimate are drawn to zero: they are the noisiest part of it.
    hessian : (n, n) float, optional
        A positive definite estimate to begin with, in the place of the first point's.

    Notes
    -----
    BFGS (Nocedal & Wright 2006, eq. 6.19).  The step is the minimum of the quadratic model in a box, which
    a refused trial shrinks by cubic interpolation (§3.5); its gradient teaches the model as that of an accepted one
    does.  A full step after which the slope is nearly the same is lengthened while that pays.
    """
    n, limit = len(x), np.asarray(max_step, dtype=float)
    here = function(x, None)
    evaluations, calm, reach = 1, 0, 1.0
    # A model that knows nothing of curvature yet is no reason to go to the corner of a box.
    within = _scaled if hessian is None and here.hessian is None else _within
    if hessian is None:
        hessian = _positive(here.hessian, n, shrink)
    decrement = _decrement(hessian, here.gradient)
    done = decrement < 1e-4 * tolerance  # also where there is nothing to move
    yield Step(x, here, 0.0, decrement, evaluations, "converged" if done else "", hessian)
    if done:
        return
    for _ in range(max_iterations):
        for attempt in range(30):
            step = within(hessian, here.gradient, reach * limit)
            slope = float(here.gradient @ step)
            trial = function(x + step, here.extra)
            evaluations += 1
            gain = here.value - trial.value
            if gain > 0 and gain >= -1e-4 * slope and np.isfinite(gain):
                break
            # Differences below rounding cannot be told from a decrease: trust the gradient instead.
            close = abs(gain) <= 1e-12 * max(1.0, abs(here.value))
            if close and np.abs(trial.gradient @ step) < abs(slope):
                break
            shorter = _shrink(here.value, slope, trial, 1.0, step)
            change = trial.gradient - here.gradient
            if np.isfinite(trial.value) and change @ step <= _CREDIBLE * (step @ hessian @ step):
                # What the trial says of the curvature may be enough to turn the step; then it need not be so short.
                hessian = _updated(hessian, step, change)
                shorter = max(shorter, _LEARNED) if attempt < _TRUSTED else shorter
            reach = shorter * float(np.max(np.abs(step) / limit))
        else:
            yield Step(x, here, 0.0, decrement, evaluations, "rounding", hessian)
            return
        # A slope that has hardly changed shows a Hessian far too large, as that of scores far from the optimum.
        length, most = 1.0, 1.0 / max(float(np.max(np.abs(step) / limit)), 1e-300)
        while not attempt and length < most and (end := float(trial.gradient @ step)) < _STEEP * slope:
            factor = 10.0 if end <= slope else min(slope / (slope - end), 10.0)
            further = min(factor * length, most)
            beyond = function(x + further * step, trial.extra)
            evaluations += 1
            if not beyond.value < trial.value:
                break
            trial, length = beyond, further
            gain = here.value - trial.value
        step = length * step
        reach = min(1.0, 4.0 * reach) if gain > -0.25 * slope else reach
        if refresh and gain > 0.5 and trial.hessian is not None:
            hessian = _positive(trial.hessian, n, shrink)
        else:
            hessian = _updated(hessian, step, trial.gradient - here.gradient)
        x, here = x + step, trial
        decrement = _decrement(hessian, here.gradient)
        calm = calm + 1 if decrement < tolerance else 0
        # One small decrement may be an accident of a poor Hessian; a second, after an update, is not.
        done = calm >= 2 or decrement < 1e-4 * tolerance
        yield Step(x, here, min(length, reach), decrement, evaluations, "converged" if done else "", hessian)
        if done:
            return
    yield Step(x, here, 0.0, decrement, evaluations, "iterations", hessian)


def _decrement(hessian: Array, gradient: Array) -> float:
    """Return half the Newton decrement, the decrease that the model promises."""
    return 0.5 * float(gradient @ _solved(hessian, gradient)) if len(gradient) else 0.0


def _solved(hessian: Array, gradient: Array) -> Array:
    """Return H⁻¹g; of an H that updates left singular or indefinite to rounding, that of a positive one near it."""
    try:
        found = np.linalg.solve(hessian, gradient)
        if not gradient @ found < 0.0:
            return found
    except np.linalg.LinAlgError:
        pass
    return np.linalg.solve(_positive(hessian, len(hessian), 0.0), gradient)


def _updated(hessian: Array, step: Array, change: Array) -> Array:
    """Return the Hessian by the BFGS formula, or as it is where the function does not curve up along the step."""
    curvature = float(step @ change)
    if not curvature > 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return hessian
    pulled = hessian @ step
    return np.asarray(hessian - np.outer(pulled, pulled) / float(step @ pulled) + np.outer(change, change) / curvature)


def _scaled(hessian: Array, gradient: Array, most: Array) -> Array:
    """Return the step to the minimum of the model, or as much of it as is within the box |step| ≤ `most`."""
    step = -_solved(hessian, gradient)
    return np.asarray(step * min(1.0, float(np.min(most / np.maximum(np.abs(step), 1e-300)))))


def _within(hessian: Array, gradient: Array, most: Array) -> Array:
    """Return the step to the minimum of the model within the box |step| ≤ `most`, by a plain active set.

    Coordinates that the model would send too far stop there, and the others go where that takes them: a direction of
    which the data say little does not shorten the step along all others.
    """
    step = -_solved(hessian, gradient)
    most = np.broadcast_to(most, step.shape)
    free = np.ones(len(step), dtype=bool)
    while (far := free & (np.abs(step) > most)).any():
        worst = int(np.argmax(np.where(far, np.abs(step) / most, 0.0)))
        free[worst] = False
        step[worst] = np.copysign(most[worst], step[worst])
        rest = gradient[free] + hessian[np.ix_(free, ~free)] @ step[~free]
        step[free] = -_solved(hessian[np.ix_(free, free)], rest)
    return step if gradient @ step < 0 else _scaled(hessian, gradient, most)


def _shrink(value: float, slope: float, trial: Point, length: float, direction: Array) -> float:
    """Return the factor (0.1 to 0.5) to the minimum of the cubic through both ends."""
    if not np.isfinite(trial.value):
        return 0.1
    end = float(trial.gradient @ direction)
    if np.isfinite(end):
        d1 = slope + end - 3.0 * (value - trial.value) / -length
        root = d1 * d1 - slope * end
        if root >= 0:
            d2 = float(np.sqrt(root))
            below = end - slope + 2.0 * d2
            if below != 0:
                return float(np.clip(1.0 - (end + d2 - d1) / below, 0.1, 0.5))
    return 0.5


def _positive(hessian: Array | None, n: int, shrink: float) -> Array:
    """Return a positive definite Hessian: with the eigenvalues of its correlations kept above `_LEAST`."""
    if hessian is None or not n or not np.isfinite(hessian).all():
        return np.eye(n)
    diagonal = np.diag(hessian)
    top = float(diagonal.max())
    if top <= 0:
        return np.eye(n)
    size = np.sqrt(np.maximum(diagonal, 1e-6 * top))
    hessian = (1.0 - shrink) * hessian + shrink * np.diag(diagonal)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T) / (size[:, None] * size))
    vectors = size[:, None] * vectors
    return np.asarray((vectors * np.maximum(values, _LEAST)) @ vectors.T)
