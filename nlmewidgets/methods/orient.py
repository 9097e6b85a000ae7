r"""A search that begins well: where the initial values contradict the data, from others that suit them.

At the modes :math:`\hat\eta_i` of initial values near the truth :math:`\overline{\hat\eta^2}/\omega^2` is at most about
1 for each random effect.  Where it is beyond 4 in one, or 2.25 on average, individuals far from the typical one are the
rule: scores say nothing about curvature there, variances grow instead of typical values moving, and a search ends in
whichever of several optima is next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.base import Iteration
from nlmewidgets.methods.ending import doubtful
from nlmewidgets.methods.places import places
from nlmewidgets.methods.pooled import Axis

__all__ = ["contradicted", "oriented", "well_begun"]

_MOVED = " The data contradict the initial values, so the search began from others (orient=False: from these)."
"""What the message of a fit says then."""

_OFF, _ALL, _RESIDUAL = 2.0, 1.5, 3.0
"""Standard deviations that contradict: of individuals from the typical one in an effect, in all, of residuals."""

_MARGIN, _HOPELESS = 10.0, 3
"""A repeated search ends where even so many times the decrease that is promised would be above the end of the first,
so many steps in a row."""

_PATIENCE = 0.5
"""Seconds after which a search for a better start shows that it is at work, and can be stopped."""


def well_begun(
    problem: Problem,
    start: Values,
    search: Callable[[Values], Iterator[Iteration]],
    moments: Callable[[Iteration], tuple[Array, Array | None]],
    *,
    repeat: bool = False,
) -> Iterator[Iteration]:
    """Yield the iterations of a search from `start`, or from a better one where the data contradict it.

    Parameters
    ----------
    search : callable (Values) -> iterator of Iteration
        Its iterations are numbered from 0, the start.
    moments : callable (Iteration) -> eta, sd
        What `contradicted` looks at, from the first iteration.
    repeat : bool
        Begin anew from a better start where a search ends in doubt (`doubtful`: astray, or with a variance at zero,
        where there is no slope to leave by); the better of two ends counts.
    """
    steps = search(start)
    last = next(steps)
    yield last
    if last.status == "running" and contradicted(problem, start, *moments(last)):
        better = yield from _shown(oriented(problem, start), last)
        for last in search(better):
            if last.status != "running":
                yield replace(last, message=last.message + _MOVED)
            elif last.k:
                yield last
        return
    for last in steps:
        if last.status == "running":
            yield last
    if last.status == "running" or last.k == 0:
        return
    if not (repeat and last.status in ("converged", "limit") and doubtful(problem.space, last.values)):
        yield last
        return
    lost, shown = last, replace(last, status="running", message="", progress=0.5)
    yield shown
    other = yield from _shown(oriented(problem, start), shown)
    if other is start:
        yield lost
        return
    hopeless = 0
    for step in search(other):
        last = replace(step, k=lost.k + 1 + step.k)
        if last.status == "running":
            yield last
        promised = _with_prior(last) - _MARGIN * last.details.get("decrement", np.inf)
        hopeless = hopeless + 1 if promised > _with_prior(lost) else 0
        if hopeless >= _HOPELESS:
            break
    worse = _with_prior(lost) <= _with_prior(last)
    yield replace(lost, k=last.k) if worse else last


def _shown(looking: Generator[None, None, Values], last: Iteration) -> Generator[Iteration, None, Values]:
    """Return what `looking` returns; yield the last iteration again from time to time."""
    began = time.monotonic()
    while True:
        try:
            next(looking)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if time.monotonic() - began > _PATIENCE:
            yield replace(last, phase="look around")
            began = time.monotonic()


def _with_prior(iteration: Iteration) -> float:
    return iteration.ofv + iteration.details.get("prior", 0.0)


def contradicted(problem: Problem, values: Values, eta: Array, sd: Array | None = None) -> bool:
    """Whether the modes at these values, or the residuals there, are where they hardly ever are.

    Parameters
    ----------
    eta : (etas, subjects) float
    sd : (etas, subjects) float, optional
        Of the random effects given the data: their modes vary by so much less than they do.
    """
    variance = np.diag(problem.occasions.expand(values.omega))
    if sd is not None:
        variance = np.maximum(variance - (sd * sd).mean(axis=1), 1e-6 * variance)
    square = np.mean(eta * eta, axis=1) / variance
    if (square > _OFF**2).any() or (len(square) and square.mean() > _ALL**2):
        return True
    if not problem.n_normal:
        return False
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
        scaled = problem.score(f, values.sigma)[problem.normal_rows]
    return bool(np.mean(scaled * scaled) > _RESIDUAL**2)


def oriented(problem: Problem, start: Values) -> Generator[None, None, Values]:
    """Return the values to begin a search from, of several that suit the data; `start` if none is better.

    Declared values are meant: of two places about as good the nearer counts, as under a prior around them with a
    standard deviation of 1 (a factor of e for a positive parameter).
    """
    space = problem.space
    axes = [Axis(p, p.scale == "identity") for p in space.theta]

    def objective(values: Values) -> float:
        away = sum(
            (axis.free(float(v)) - axis.free(float(declared))) ** 2
            for axis, v, declared in zip(axes, values.theta, start.theta, strict=True)
            if v != declared
        )
        return _laplace(problem, values) + away

    others = yield from places(problem)
    best, least = start, objective(start)
    for values in others:
        yield
        value = objective(values)
        if value < least:
            best, least = values, value
    return best


def _laplace(problem: Problem, values: Values) -> float:
    """Return Laplace's objective with the expected curvature, with the prior; inf where it is no number."""
    omega = problem.occasions.expand(values.omega)
    try:
        typical = problem.typical(values.theta).slots
        with np.errstate(all="ignore"):
            modes = find_modes(problem, typical, np.linalg.inv(omega), values.sigma, tolerance=1e-4)
            found = (modes.value + np.linalg.slogdet(0.5 * modes.information @ omega)[1]).sum()
    except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
        return np.inf
    prior = 0.0 if problem.penalty is None else problem.penalty.value(values)
    return float(found + prior) if np.isfinite(found) else np.inf
