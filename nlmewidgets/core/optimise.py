"""Quasi-Newton minimisation as a generator: the caller pulls one accepted step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["Point", "Step", "quasi_newton"]

_STEEP = 0.9
"""Share of the slope left after a full step from which on a longer one is tried (Wolfe's second condition)."""


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
    """

    x: Array
    point: Point
    length: float
    decrement: float
    evaluations: int
    reason: str = ""


def quasi_newton(
    function: Callable[[Array, Any], Point],
    x: Array,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
    max_step: float | Array = 1.0,
    refresh: bool = False,
    shrink: float = 0.0,
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
        Use the Hessian estimate of each point (Gauss–Newton on scores) until it stops paying, then
        BFGS; without, only the first point's.
    shrink : float
        Share by which the correlations of a Hessian estimate are drawn to zero: they are the noisiest part of it.

    Notes
    -----
    BFGS in the form that updates the inverse Hessian (Nocedal & Wright 2006, eq. 6.17), line search by
    backtracking with cubic interpolation (§3.5) and a curvature check in place of the Wolfe condition; a full step
    after which the slope is nearly the same is lengthened while that pays.
    """
    n = len(x)
    here = function(x, None)
    evaluations = 1
    inverse = _inverse_of(here.hessian, n, shrink)
    decrement = 0.5 * float(here.gradient @ inverse @ here.gradient)
    calm = 0
    done = decrement < 1e-4 * tolerance  # also where there is nothing to move
    yield Step(x, here, 0.0, decrement, evaluations, "converged" if done else "")
    if done:
        return
    for _ in range(max_iterations):
        direction = -inverse @ here.gradient
        slope = float(here.gradient @ direction)
        if not slope < 0:
            inverse = _inverse_of(here.hessian, n, shrink)
            direction = -inverse @ here.gradient
            slope = float(here.gradient @ direction)
        most = 1.0 / max(float(np.abs(direction / max_step).max()), 1e-300)
        length = min(1.0, most)
        trial: Point | None = None
        full = True
        for _attempt in range(30):
            trial = function(x + length * direction, here.extra)
            evaluations += 1
            gain = here.value - trial.value
            if gain > 0 and gain >= -1e-4 * length * slope and np.isfinite(gain):
                break
            # Differences below rounding cannot be told from a decrease: trust the gradient instead.
            close = abs(gain) <= 1e-12 * max(1.0, abs(here.value))
            if close and np.abs(trial.gradient @ direction) < abs(slope):
                break
            length *= _shrink(here.value, slope, trial, length, direction)
            full = False
        else:
            yield Step(x, here, 0.0, decrement, evaluations, "rounding")
            return
        assert trial is not None
        # A slope that has hardly changed shows a Hessian far too large, as that of scores far from the optimum.
        while full and length < most and (end := float(trial.gradient @ direction)) < _STEEP * slope:
            factor = 10.0 if end <= slope else min(slope / (slope - end), 10.0)
            further = min(factor * length, most)
            beyond = function(x + further * direction, trial.extra)
            evaluations += 1
            if not beyond.value < trial.value:
                break
            trial, length = beyond, further
            gain = here.value - trial.value
        s = length * direction
        change = trial.gradient - here.gradient
        curvature = float(s @ change)
        if refresh and gain > 0.5 and trial.hessian is not None:
            inverse = _inverse_of(trial.hessian, n, shrink)
        elif curvature > 1e-10 * float(np.linalg.norm(s) * np.linalg.norm(change)):
            rho = 1.0 / curvature
            left = np.eye(n) - rho * np.outer(s, change)
            inverse = left @ inverse @ left.T + rho * np.outer(s, s)
        x, here = x + s, trial
        decrement = 0.5 * float(here.gradient @ inverse @ here.gradient)
        calm = calm + 1 if decrement < tolerance else 0
        # One small decrement may be an accident of a poor Hessian; a second, after an update, is not.
        done = calm >= 2 or decrement < 1e-4 * tolerance
        yield Step(x, here, length, decrement, evaluations, "converged" if done else "")
        if done:
            return
    yield Step(x, here, 0.0, decrement, evaluations, "iterations")


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


def _inverse_of(hessian: Array | None, n: int, shrink: float) -> Array:
    """Return the inverse of a Hessian estimate with its eigenvalues kept within 10⁶ of the largest."""
    if hessian is None or not n or not np.isfinite(hessian).all():
        return np.eye(n)
    hessian = (1.0 - shrink) * hessian + shrink * np.diag(np.diag(hessian))
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    top = float(values[-1])
    if top <= 0:
        return np.eye(n)
    return (vectors / np.maximum(values, 1e-6 * top)) @ vectors.T  # type: ignore[no-any-return]
