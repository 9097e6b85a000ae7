r"""The shrinkage a design will have, before there are data.

A subject's data of a design carry the information :math:`I(\eta) = \sum_j h_j f_\eta f_\eta'` on its random
effects (h: the expected information on f), so its conditional covariance is about
:math:`V(\eta) = (I(\eta) + \Omega^{-1})^{-1}`.  What EBEs vary by is what the conditional variances leave,

.. math:: \mathrm{Var}(\hat\eta) \approx \Omega - E_\eta[V(\eta)], \qquad
          \text{shrinkage} = 1 - \sqrt{1 - E[V]_{kk} / \Omega_{kk}} .

References
----------
Combes, Retout, Frey & Mentré (2013), doi:10.1007/s11095-013-1079-3 (Bayesian information matrix, shrinkage).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["predicted_shrinkage"]

_CHUNK = 500_000
"""First derivatives held at once."""


def predicted_shrinkage(problem: Problem, values: Values, *, n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return the shrinkage to expect of each eta, of all subjects' designs together.

    Parameters
    ----------
    problem : Problem
        The model on a design: data whose DV is not looked at (`Data.on_grid` makes one).
    values : Values
    n : int
        Draws of each subject's random effects; 0: at eta = 0 only.
    seed : int

    Returns
    -------
    DataFrame
        By eta: sd (shrinkage of the standard deviation, as NONMEM and `fit.shrinkage` have it), variance (of the
        variance, as Monolix has it), se (the standard error of sd by the draws).

    Raises
    ------
    MethodError
        If an output's likelihood says nothing about its information (an expression for log p).
    """
    if problem.pointwise_rows.any():
        raise MethodError(
            "A likelihood given as an expression for log p does not say what information its data will carry; "
            "simulate data and take the shrinkage of their EBEs."
        )
    q, subjects = problem.n_eta, problem.n_subjects
    omega = problem.occasions.expand(values.omega)
    precision = np.linalg.pinv(omega, hermitian=True)
    chol = np.linalg.cholesky(omega + 1e-300 * np.eye(q)) if q else omega
    rng = np.random.default_rng(seed)
    typical = problem.typical(values.theta).slots
    draws = max(n, 1)
    shares = np.empty((draws, subjects, q))
    size = max(1, _CHUNK // max(problem.n_obs * max(q, 1), 1))
    for lo in range(0, draws, size):
        k = min(size, draws - lo)
        eta = np.tensordot(chol, rng.standard_normal((q, k, subjects)), 1) if n else np.zeros((q, k, subjects))
        shares[lo : lo + k] = _conditional(problem, values, typical, eta, precision) / np.diag(omega)
    own = problem.occasions.source
    rows = []
    for effect, name in enumerate(problem.space.eta):
        columns = np.flatnonzero(own == effect)
        weight = problem.occasions.present[columns].T
        each = (shares[:, :, columns] * weight).sum(axis=(1, 2)) / max(weight.sum(), 1.0)
        variance = float(np.clip(each.mean(), 0.0, 1.0))
        error = float(each.std(ddof=1) / np.sqrt(draws)) if draws > 1 else 0.0
        left = np.sqrt(1.0 - variance)
        rows.append((name, 1.0 - left, variance, error / (2.0 * max(left, 1e-8))))
    return pd.DataFrame(rows, columns=["eta", "sd", "variance", "se"]).set_index("eta")


def _conditional(problem: Problem, values: Values, typical: Array, eta: Array, precision: Array) -> Array:
    """Return the conditional variances of the random effects, (draws, subjects, etas)."""
    with np.errstate(all="ignore"):
        f, first, _ = problem.structure(problem.slots(typical, eta), 1)
        assert first is not None
        f = np.broadcast_to(f, (*eta.shape[1:-1], problem.n_obs))
        along = np.tensordot(problem.loadings.T, first[: len(problem.loadings)], 1)
        weight = np.broadcast_to(problem.newton_terms(f, values.sigma).info, f.shape)
        information = problem.subjects(weight * along[:, None] * along)
    information = np.moveaxis(np.broadcast_to(information, (len(eta), len(eta), *eta.shape[1:])), (0, 1), (-2, -1))
    # Where a prediction fails the data tell nothing.
    information = np.where(np.isfinite(information).all(axis=(-2, -1), keepdims=True), information, 0.0)
    covariance = np.linalg.inv(information + precision)
    return np.diagonal(covariance, axis1=-2, axis2=-1)
