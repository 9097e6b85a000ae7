r"""Covariance of the estimates from the objective's curvature and the subjects' scores.

With F = −2 log L: :math:`R = \tfrac12 \partial^2 F`, :math:`S = \tfrac14 \sum_i s_i s_i'`, and the
sandwich :math:`R^{-1} S R^{-1}` (NONMEM's default).  Both are taken along the unconstrained
parameters and carried to the natural scale by the delta method.

References
----------
White (1982), doi:10.2307/1912526.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.fo import FO
from nlmewidgets.methods.focei import FOCEI
from nlmewidgets.methods.laplace import Laplace
from nlmewidgets.methods.marginal import Approximation

__all__ = ["Uncertainty", "uncertainty"]


_STEP = 1e-4


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Curvature of an objective at the estimates.

    Attributes
    ----------
    r, s : (free, free) float
        Along the unconstrained parameters.
    jacobian : (parameters, free) float
        ∂(natural parameter)/∂(unconstrained).
    names : tuple of str
    """

    r: Array
    s: Array
    jacobian: Array
    names: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether R is positive definite."""
        return bool(np.isfinite(self.r).all() and np.linalg.eigvalsh(self.r).min() > 0) if len(self.r) else False

    @property
    def covariance(self) -> pd.DataFrame:
        """R⁻¹SR⁻¹ on the natural scale; NaN where R is not positive definite."""
        names = list(self.names)
        if not self.usable:
            return pd.DataFrame(np.nan, index=names, columns=names)
        inverse = np.linalg.inv(self.r)
        matrix = self.jacobian @ inverse @ self.s @ inverse @ self.jacobian.T
        return pd.DataFrame(matrix, index=names, columns=names)

    @property
    def se(self) -> pd.Series:
        """Standard errors; NaN for parameters that were not estimated."""
        variance = np.diag(self.covariance.to_numpy())
        moved = np.abs(self.jacobian).max(axis=1, initial=0.0) > 0
        return pd.Series(np.where(moved, np.sqrt(np.maximum(variance, 0.0)), np.nan), index=list(self.names), name="se")


def uncertainty(problem: Problem, values: Values, method: str, start: Array) -> Uncertainty:
    """Return R and S of the FO or FOCEI objective at `values` (for SAEM: of the FOCEI linearisation).

    R is the Jacobian of the exact gradient by central differences; where FOCEI does not treat the data,
    scores and R are differences of the Laplace objective.
    """
    approximation: Approximation = FO() if method == "fo" else FOCEI()
    if approximation.refusal(problem) is not None:
        return _by_differences(problem, values, start)
    space = problem.space
    x = space.pack(values)
    n = len(x)

    def scores(at: Array) -> Array:
        here = space.unpack(at, values)
        result = approximation.evaluate(problem, here, start, gradient=True)
        return np.full((problem.n_subjects, n), np.nan) if result.scores is None else result.scores.along(space, here)

    def natural(at: Array) -> Array:
        return np.array(list(space.to_dict(space.unpack(at, values)).values()))

    own = scores(x)
    hessian, jacobian = np.empty((n, n)), np.empty((len(space.names), n))
    for k in range(n):
        step = np.zeros(n)
        step[k] = _STEP
        hessian[k] = (scores(x + step).sum(axis=0) - scores(x - step).sum(axis=0)) / (2 * _STEP)
        jacobian[:, k] = (natural(x + step) - natural(x - step)) / (2 * _STEP)
    return _with_priors(problem, values, 0.25 * (hessian + hessian.T), 0.25 * own.T @ own, jacobian)


def _with_priors(problem: Problem, values: Values, r: Array, s: Array, jacobian: Array) -> Uncertainty:
    """Return the curvature of data and priors together."""
    if problem.penalty is not None:
        # A prior is information like that of subjects whose scores vary as their curvature says.
        curvature = 0.5 * problem.penalty.along(values).curvature
        r, s = r + curvature, s + curvature
    return Uncertainty(r, s, jacobian, problem.space.names)


_WIDE = 1e-2
"""Step of second differences of an objective known to 1e-10: both errors are below 1e-4 of a curvature of 1."""


def _by_differences(problem: Problem, values: Values, start: Array) -> Uncertainty:
    """Return R and S of the Laplace objective from its values alone."""
    space, method = problem.space, Laplace()
    x = space.pack(values)
    n = len(x)

    def objective(*moves: tuple[int, float]) -> Array:
        at = x.copy()
        for k, step in moves:
            at[k] += step
        return method.evaluate(problem, space.unpack(at, values), start).per_subject

    def natural(at: Array) -> Array:
        return np.array(list(space.to_dict(space.unpack(at, values)).values()))

    here = objective()
    up = np.array([objective((k, _WIDE)) for k in range(n)]).reshape(n, -1)
    down = np.array([objective((k, -_WIDE)) for k in range(n)]).reshape(n, -1)
    scores = (up - down).T / (2 * _WIDE)
    hessian = np.diag((up + down - 2 * here).sum(axis=1)) / _WIDE**2
    for i in range(n):
        for j in range(i):
            both = objective((i, _WIDE), (j, _WIDE)) + objective((i, -_WIDE), (j, -_WIDE)) + 2 * here
            mixed = (both - up[i] - down[i] - up[j] - down[j]).sum() / (2 * _WIDE**2)
            hessian[i, j] = hessian[j, i] = mixed
    steps = _STEP * np.eye(n)
    jacobian = np.array([(natural(x + d) - natural(x - d)) / (2 * _STEP) for d in steps]).reshape(n, -1).T
    return _with_priors(problem, values, 0.5 * hessian, 0.25 * scores.T @ scores, jacobian)
