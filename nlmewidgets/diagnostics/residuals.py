r"""Predictions and residuals, as NONMEM tabulates them.

With f(η) the prediction, G = ∂f/∂η and R the residual variance; subscript 0 at η = 0, hat at the EBE:

========  =====================================================================
PRED      :math:`f_0`
IPRED     :math:`\hat f`
RES       :math:`y - f_0`
IRES      :math:`y - \hat f`
IWRES     :math:`(y - \hat f)/\sqrt{\hat R}`
WRES      :math:`(G_0 \Omega G_0' + \bar R_0)^{-1/2} (y - f_0)`, with
          :math:`\bar R_0 = R_0 + \tfrac12 R_{ff} \operatorname{diag}(G_0\Omega G_0')`, the
          residual variance averaged over η
CWRES     :math:`(\hat G \Omega \hat G' + \hat R)^{-1/2} (y - \hat f + \hat G \hat\eta)`
========  =====================================================================

The inverse square roots are symmetric (by eigenvectors).  Where both sides are transformed, WRES, IWRES and
CWRES are those of t(y), with t(f) and t'(f)·G; where an observation is censored, or its likelihood is not
normal, it has no residual and takes no part in those of the others.

References
----------
Hooker, Staatz & Karlsson (2007), doi:10.1007/s11095-007-9361-x, eqs 8–11 (CWRES).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["residual_table"]


def residual_table(problem: Problem, values: Values, eta: Array) -> pd.DataFrame:
    """Return predictions and residuals, one row per observation.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.

    Returns
    -------
    DataFrame
        ID, TIME, DV, PRED, IPRED, RES, IRES, WRES, IWRES, CWRES.
    """
    typical = problem.typical(values.theta).slots
    y, sigma, omega = problem.y, values.sigma, problem.occasions.expand(values.omega)
    with np.errstate(all="ignore"):
        f0, first0, _ = problem.structure(problem.slots(typical, np.zeros_like(eta)), 1)
        f1, first1, _ = problem.structure(problem.slots(typical, eta), 1)
        assert first0 is not None
        assert first1 is not None
        slope0, slope1 = problem.center_slope(f0, sigma), problem.center_slope(f1, sigma)
        g0, g1 = slope0 * _along_eta(problem, first0), slope1 * _along_eta(problem, first1)
        iwres = problem.score(f1, sigma)
        known = np.isfinite(iwres) | problem.normal_rows
        pointwise = problem.pointwise_rows
        r0, r1 = problem.variance(f0, sigma), problem.variance(f1, sigma)
        spread0 = np.einsum("ao,ab,bo->o", g0, omega, g0)
        averaged = r0.value + (0.0 if r0.ff is None else 0.5 * r0.ff * spread0)
        error0, error1 = (problem.score(f, sigma) * np.sqrt(r.value) for f, r in ((f0, r0), (f1, r1)))
        linear = error1 + np.einsum("ao,ao->o", g1, problem.subjects.spread(eta))
        columns = problem.observation_columns() | {
            "PRED": np.where(pointwise, np.nan, f0),
            "IPRED": np.where(pointwise, np.nan, f1),
            "RES": np.where(known, y - f0, np.nan),
            "IRES": np.where(known, y - f1, np.nan),
            "WRES": _decorrelate(problem, g0, omega, averaged, error0, known),
            "IWRES": iwres,
            "CWRES": _decorrelate(problem, g1, omega, r1.value, linear, known),
        }
    return pd.DataFrame(columns)


def _along_eta(problem: Problem, first: Array) -> Array:
    n_random = len(problem.loadings)
    return np.einsum("sa,so->ao", problem.loadings, first[:n_random])


def _decorrelate(
    problem: Problem, g: Array, omega: Array, r: Array | float, error: Array, known: NDArray[np.bool_]
) -> Array:
    """Return (GΩG' + R)^(-1/2)·error per subject, subjects of equal size together; NaN where not known."""
    # What is not known becomes independent of the rest, with a residual of 0.
    g, r, error = np.where(known, g, 0.0), np.where(known, r, 1.0), np.where(known, error, 0.0)
    out = np.full_like(error, np.nan)
    label, counts = problem.subjects.label, problem.subjects.counts
    for size in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts[label] == size).reshape(-1, size)
        part = g[:, rows]
        matrix = np.einsum("ani,ab,bnj->nij", part, omega, part)
        matrix[:, np.arange(size), np.arange(size)] += r[rows]
        good = np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(error[rows]).all(axis=1)
        if not good.any():
            continue
        eigenvalues, vectors = np.linalg.eigh(matrix[good])
        scaled = np.einsum("nji,nj->ni", vectors, error[rows][good]) / np.sqrt(eigenvalues)
        out[rows[good]] = np.einsum("nij,nj->ni", vectors, scaled)
    return np.where(known, out, np.nan)
