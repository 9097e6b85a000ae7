"""Some parameters optimised with all others held: a likelihood profile, followed while something else moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.optimise import Point, quasi_newton
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.fit.live import stand_in

__all__ = ["Refit", "refit"]

_TOLERANCE = 1e-4
"""What the objective may still promise to fall at the end: less than is shown of it."""

_STEPS = 50


@dataclass(frozen=True, eq=False)
class Refit:
    """Where a search for some parameters is.

    Attributes
    ----------
    values : Values
    eta : (etas, subjects) float
    done : bool
        Whether it came to its end.
    """

    values: Values
    eta: Array
    done: bool


def refit(
    problem: Problem,
    values: Values,
    names: Sequence[str],
    method: str = "focei",
    start: Array | None = None,
    seconds: float = 1.0,
    stop: Callable[[], bool] | None = None,
) -> Refit:
    """Return values with the named parameters optimised and all others as they are.

    The objective is that of `look`, priors added, and the steps are those of a fit that follows its modes; it ends
    after some seconds at the latest: go on from what is returned.

    Parameters
    ----------
    problem, values
    names : sequence of str
        The correlations of a block go together, as in a fit.
    method : str
    start : (etas, subjects) float, optional
        Etas to begin the search for modes at; zero by default.
    seconds : float
        After which the search ends with what it has, at least one step.
    stop : callable, optional
        Asked between steps; true ends the search as well.

    Raises
    ------
    MethodError
        If the objective is not finite at `values`.
    """
    space = problem.space.starting_at(values).with_fixed(problem.space.names).with_fixed(names, fixed=False)
    held, approximation = replace(problem, space=space), stand_in(problem, method)
    ended = time.monotonic() + seconds
    eta = np.zeros((problem.n_eta, problem.n_subjects)) if start is None else start

    def function(x: Array, extra: Any) -> Point:
        return approximation.point(held, values, x, extra, start)

    reached = Refit(values, eta, done=True)
    for step in quasi_newton(function, space.pack(values), tolerance=_TOLERANCE, max_iterations=_STEPS):
        if step.point.extra is None:
            raise MethodError(f"The {approximation.title} objective is not finite here, so nothing can be refitted.")
        reached = Refit(space.unpack(step.x, values), step.point.extra[0], done=bool(step.reason))
        if time.monotonic() > ended or (stop is not None and stop()):
            break
    return reached
