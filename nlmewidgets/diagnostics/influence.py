r"""What each subject does to the estimates: one Newton step without it.

With F = Σ_i F_i the objective along the unconstrained parameters, s_i and H_i a subject's gradient and Hessian
at the minimum, leaving subject i out moves the minimum to first order by

.. math:: \Delta_i = (H - H_i)^{-1} s_i ,

and its *Cook distance* is that move measured by the covariance of the estimates,
:math:`D_i = \sqrt{\Delta_i' (\tfrac12 H) \Delta_i}`.

References
----------
Cook (1986), doi:10.1111/j.2517-6161.1986.tb01398.x. Cook & Weisberg (1982), §5.2 (one-step deletion).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.marginal import Approximation

__all__ = ["influence"]

_STEP = 1e-4
"""Of the central differences of exact gradients: truncation and rounding both stay near 1e-8."""


def influence(problem: Problem, values: Values, method: Approximation, eta: Array | None = None) -> pd.DataFrame:
    """Return what leaving out each subject would do to the estimates, without refitting.

    Parameters
    ----------
    problem : Problem
    values : Values
        The estimates: a minimum of the method's objective.
    method : Approximation
        With exact gradients, for instance ``nw.methods.METHODS["focei"]()``.
    eta : (etas, subjects) float, optional
        EBEs, to start from.

    Returns
    -------
    DataFrame
        By ID: iofv (the subject's part of the objective), cook, for every estimated parameter its value without the
        subject, named as the parameter, and held: whether a parameter rests on this subject so much that one step
        cannot tell where it would go (its curvature is then held at a tenth of all subjects').

    Raises
    ------
    MethodError
        If the method does not treat the data, or has no gradient there.
    """
    if (why := method.refusal(problem)) is not None:
        raise MethodError(why)
    space, n = problem.space, problem.n_subjects
    x = space.pack(values)

    def scores(at: Array) -> tuple[Array, Array]:
        here = space.unpack(at, values)
        result = method.evaluate(problem, here, eta, gradient=True)
        if result.scores is None:
            raise MethodError(
                f"The {method.title} objective has no gradient at or near these values; ask for the influence at the "
                "end of a fit that converged."
            )
        return result.scores.along(space, here), result.per_subject

    own, iofv = scores(x)
    p = len(x)
    hessians = np.empty((n, p, p))
    for k, direction in enumerate(np.eye(p)):
        hessians[:, k] = (scores(x + _STEP * direction)[0] - scores(x - _STEP * direction)[0]) / (2.0 * _STEP)
    hessians = 0.5 * (hessians + hessians.transpose(0, 2, 1))
    total = hessians.sum(axis=0)
    if problem.penalty is not None:
        total = total + problem.penalty.along(values).curvature
    move, held = _steps(total, hessians, own)
    cook = np.sqrt(np.maximum(0.5 * np.einsum("np,pq,nq->n", move, total, move), 0.0))
    without = [space.to_dict(space.unpack(x + step, values)) for step in move]
    table = pd.DataFrame(without, index=pd.Index(problem.data.ids, name="ID"))
    moved = [name for name in table if np.ptp(table[name].to_numpy()) > 0]
    table = table[moved]
    table.insert(0, "cook", cook)
    table.insert(0, "iofv", iofv)
    return table.assign(held=held)


_LEAST = 0.1
"""Of the curvature in any direction, what must be left without a subject: beyond it one step says nothing."""


def _steps(total: Array, own: Array, slope: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return (H − H_i)⁻¹s_i, and where curvature that a subject alone provides was held at a tenth of H."""
    roots, vectors = np.linalg.eigh(total)
    root = vectors / np.sqrt(np.maximum(roots, 1e-10 * max(float(roots[-1]), 1e-300)))
    left, turned = np.linalg.eigh(np.eye(len(total)) - root.T @ own @ root)
    along = np.einsum("nji,nj->ni", turned, slope @ root) / np.maximum(left, _LEAST)
    return np.einsum("nij,nj->ni", turned, along) @ root.T, left[:, 0] < _LEAST
