r"""Observed information and cross-product of the scores along the unconstrained coordinates.

With F = −2 log L as a method approximates it and :math:`s_i` a subject's derivative of it,

.. math:: R = \tfrac12\, \frac{\partial^2 F}{\partial x\,\partial x'}, \qquad S = \tfrac14 \sum_i s_i s_i' ,

the two matrices of NONMEM's covariance step.  R is the Jacobian of exact scores where the approximation has them,
by central differences with two steps, extrapolated; elsewhere both are differences of the objective.

References
----------
White (1982), doi:10.2307/1912526.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.marginal import Approximation

__all__ = ["Curvature", "curvature", "curvature_by_differences"]

_SHARE = 0.02
"""Longest step, in standard errors of one coordinate alone; the fourth order term is below 1e-6 of the curvature."""

_WIDE = 0.02
"""Step of second differences of values, in the same unit: their rounding, 1e-10 of the objective, is squared away."""


@dataclass(frozen=True, eq=False)
class Curvature:
    """R and S at some values.

    Attributes
    ----------
    r, s : (free, free) float
    scores : (subjects, free) float
        Derivatives of each subject's −2 log L.
    noise : (free, free) float
        What differences cannot tell from zero, element by element: the asymmetry of R before it was taken away.
    """

    r: Array
    s: Array
    scores: Array
    noise: Array


def curvature(problem: Problem, values: Values, approximation: Approximation, start: Array | None = None) -> Curvature:
    """Return R and S of an approximation's objective.

    Parameters
    ----------
    problem : Problem
    values : Values
    approximation : Approximation
    start : (etas, subjects) float, optional
        Where the etas are sought from; those of the fit keep to the modes that it found.

    References
    ----------
    White (1982), doi:10.2307/1912526.
    """
    space = problem.space
    x = space.pack(values)
    n = len(x)

    def scores(at: Array) -> Array | None:
        here = space.unpack(at, values)
        try:
            result = approximation.evaluate(problem, here, start, gradient=True)
        except np.linalg.LinAlgError:
            return np.full((problem.n_subjects, n), np.nan)
        if result.scores is None:
            return None if np.isfinite(result.per_subject).all() else np.full((problem.n_subjects, n), np.nan)
        return result.scores.along(space, here)

    own = scores(x)
    if own is None:
        return curvature_by_differences(problem, values, approximation, start)

    def gradient(at: Array) -> Array:
        found = scores(at)
        return np.full(n, np.nan) if found is None else found.sum(axis=0)

    s = 0.25 * own.T @ own
    hessian = np.empty((n, n))
    for k, step in enumerate(_SHARE * _reach(s, x)):
        move = np.zeros(n)
        move[k] = step
        near = (gradient(x + 0.5 * move) - gradient(x - 0.5 * move)) / step
        far = (gradient(x + move) - gradient(x - move)) / (2.0 * step)
        hessian[k] = (4.0 * near - far) / 3.0
    return _with_priors(problem, values, hessian, s, own)


def curvature_by_differences(
    problem: Problem, values: Values, approximation: Approximation, start: Array | None = None
) -> Curvature:
    """Return R and S from values of the objective alone, for approximations without scores."""
    space = problem.space
    x = space.pack(values)
    n = len(x)

    def objective(*moves: tuple[int, float]) -> Array:
        at = x.copy()
        for k, step in moves:
            at[k] += step
        return approximation.evaluate(problem, space.unpack(at, values), start).per_subject

    here = objective()
    rough = _slopes(objective, np.full(n, 1e-3))
    h = _WIDE * _reach(0.25 * rough.T @ rough, x)
    up = np.array([objective((k, h[k])) for k in range(n)]).reshape(n, -1)
    down = np.array([objective((k, -h[k])) for k in range(n)]).reshape(n, -1)
    hessian = np.diag((up + down - 2.0 * here).sum(axis=1) / h**2)
    for i in range(n):
        for j in range(i):
            both = objective((i, h[i]), (j, h[j])) + objective((i, -h[i]), (j, -h[j])) + 2.0 * here
            mixed = (both - up[i] - down[i] - up[j] - down[j]).sum() / (2.0 * h[i] * h[j])
            hessian[i, j] = hessian[j, i] = mixed
    own = _slopes(objective, 0.1 * h)
    found = _with_priors(problem, values, hessian, 0.25 * own.T @ own, own)
    # Symmetric by construction: their noise is what rounding of the objective makes of a second difference.
    size = 1e-10 * max(1.0, abs(float(here.sum())))
    scale = np.sqrt(np.abs(np.diag(found.r)))
    return Curvature(found.r, found.s, own, max(1e-6, size / _WIDE**2) * scale[:, None] * scale)


def _slopes(objective: Callable[..., Array], h: Array) -> Array:
    """Return each subject's derivatives by central differences with steps h, (subjects, free)."""
    ends = [(objective((k, s)) - objective((k, -s))) / (2.0 * s) for k, s in enumerate(h)]
    return np.array(ends).reshape(len(h), -1).T if len(h) else np.zeros((len(objective()), 0))


def _reach(s: Array, x: Array) -> Array:
    """Return the standard error of each coordinate alone, kept where a coordinate can move."""
    with np.errstate(divide="ignore"):
        alone = 1.0 / np.sqrt(np.diag(s))
    return np.clip(np.where(np.isfinite(alone), alone, np.maximum(np.abs(x), 1.0)), 1e-8, np.maximum(np.abs(x), 1.0))


def _with_priors(problem: Problem, values: Values, hessian: Array, s: Array, own: Array) -> Curvature:
    """Return the curvature of data and priors together, R symmetric."""
    r = 0.5 * hessian
    if problem.penalty is not None:
        # A prior is information like that of subjects whose scores vary as their curvature says.
        prior = 0.5 * problem.penalty.along(values).curvature
        r, s = r + prior, s + prior
    return Curvature(0.5 * (r + r.T), s, own, np.abs(r - r.T))
