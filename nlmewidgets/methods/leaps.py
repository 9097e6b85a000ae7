r"""Parameters on their way to a bound are put there at once.

Near a bound b the objective is linear in the distance to it, which steps along a logit halve at best: with
:math:`F \approx F_b + c\,|p - b|` what is left to gain falls by a factor a step, for ever.  One evaluation at the bound
tells whether it is lower; another, where the search ends, whether the slope beside the bound still points to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.optimise import Point, Step
from nlmewidgets.core.parameters import ParameterSpace

__all__ = ["Leap", "Leaps"]

_NEAR, _BESIDE, _THERE = 4.0, 7.0, 20.0
"""Logits from which on a parameter may leap (2 % of its range), where the slope is checked, and where it leaps to."""

_ON_ITS_WAY = 0.4
"""How far its logit went there with the last two steps, at least."""


class Leap(NamedTuple):
    """Where a search goes on.

    Attributes
    ----------
    x : (free,) float
    eta : (etas, subjects) float
        The modes there.
    hessian : (free, free) float
        What has been learned of the others.
    """

    x: Array
    eta: Array
    hessian: Array


class Leaps:
    """The parameters with two bounds of one search, and what became of them."""

    def __init__(self, space: ParameterSpace) -> None:
        self._bounded = np.array([name.startswith("logit ") for name in space.x_names], dtype=bool)
        self._path: list[Array] = []
        self._tried = np.zeros(len(self._bounded), dtype=bool)
        self._there = np.zeros(len(self._bounded), dtype=bool)

    def of(self, function: Callable[[Array, Any], Point], step: Step) -> Leap | None:
        """Return where to go on after a step: with parameters at their bounds if it is lower there."""
        self._path = [*self._path[-2:], step.x]
        if not self._bounded.any() or len(self._path) < 3:
            return None
        x, side = step.x, np.sign(step.x)
        going = side * (x - self._path[0]) > _ON_ITS_WAY
        chosen = self._bounded & ~self._tried & (np.abs(x) > _NEAR) & going & (side * step.point.gradient < 0)
        if not chosen.any():
            return None
        self._tried |= chosen
        found = _moved(function, step, chosen, _THERE)
        if found is None or not found[1].value < step.point.value:
            return None
        self._there |= chosen
        return self._landed(step, *found)

    def back(self, function: Callable[[Array, Any], Point], step: Step) -> Leap | None:
        """Return where to go on where a search converged, if the objective is lower away from a bound after all."""
        for k in np.flatnonzero(self._there):
            chosen = np.arange(len(self._there)) == k
            found = _moved(function, step, chosen, _BESIDE)
            if found is not None and np.sign(step.x[k]) * found[1].gradient[k] > 0:
                self._there[k] = False
                return self._landed(step, *found)
        return None

    def _landed(self, step: Step, x: Array, point: Point) -> Leap:
        """Return the leap to `x`; at a bound there is no curvature along the logit."""
        hessian = step.hessian.copy()
        hessian[self._there] = hessian[:, self._there] = 0.0
        hessian[self._there, self._there] = 1.0
        return Leap(x, point.extra[0], hessian)


def _moved(
    function: Callable[[Array, Any], Point], step: Step, chosen: Array, logit: float
) -> tuple[Array, Point] | None:
    """Return coordinates and point with the chosen logits as large as told; None where the objective is not finite."""
    x = np.where(chosen, np.sign(step.x) * logit, step.x)
    # The modes are not expected to go on as they did: what moved them vanishes at a bound.
    point = function(x, (step.point.extra[0], None, *step.point.extra[2:]))
    return (x, point) if np.isfinite(point.value) else None
