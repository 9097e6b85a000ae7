r"""Predictions and residuals, as NONMEM tabulates them.

With f(η) the prediction, G = ∂f/∂η and R the residual variance; subscript 0 at η = 0, hat at the EBE:

========  =====================================================================
PRED      :math:`f_0`
IPRED     :math:`\hat f` (NONMEM's CIPREDI)
CPRED     :math:`\hat f - \hat G \hat\eta`: the mean of the prediction, linearised at the EBE
RES       :math:`y - f_0`
IRES      :math:`y - \hat f` (CIRESI)
CRES      :math:`y - \mathrm{CPRED}`
IWRES     :math:`(y - \hat f)/\sqrt{\hat R}` (CIWRESI)
WRES      :math:`(G_0 \Omega G_0' + \bar R_0)^{-1/2} (y - f_0)`, with
          :math:`\bar R_0 = R_0 + \tfrac12 R_{ff} \operatorname{diag}(G_0\Omega G_0')`, the
          residual variance averaged over η (WRES under INTERACTION, WRESI)
NWRES     the same with :math:`R_0` for :math:`\bar R_0` (WRES without interaction)
CWRES     :math:`(\hat G \Omega \hat G' + \hat R)^{-1/2} (y - \mathrm{CPRED})`
CWRESI    the same with :math:`R(\mathrm{CPRED}) + \tfrac12 R_{ff} \operatorname{diag}(\hat G\Omega\hat G')`
          for :math:`\hat R`
========  =====================================================================

The inverse square roots are symmetric (by eigenvectors).  Where both sides are transformed, WRES, NWRES, IWRES and
CWRES are those of t(y), with t(f) and t'(f)·G, and CPRED, CRES and CWRESI are missing; where an observation is
censored, or its likelihood is not normal, it has no residual and takes no part in those of the others (see
`quantile_residuals` and `npde` for these).

References
----------
Hooker, Staatz & Karlsson (2007), doi:10.1007/s11095-007-9361-x, eqs 8–11 (CWRES).
Nguyen et al. (2017), doi:10.1002/psp4.12161 (names and use).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.pairs import residual_matrices
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.whiten import inverse_roots, of_equal_size

__all__ = ["residual_table", "table_columns"]


def table_columns(problem: Problem) -> dict[str, object]:
    """Return ID, TIME and DV of the observations, and OUTPUT, its name, where a model has several."""
    columns = problem.observation_columns()
    if len(problem.model.outputs) > 1:
        columns["OUTPUT"] = np.array(list(problem.model.outputs), dtype=object)[problem.output]
    return columns


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
        ID, TIME, DV, (OUTPUT,) PRED, IPRED, RES, IRES, WRES, IWRES, CWRES, NWRES, CPRED, CRES, CWRESI; see the
        module for their equations.
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
        error0, error1 = (problem.score(f, sigma) * np.sqrt(r.value) for f, r in ((f0, r0), (f1, r1)))
        linear = error1 + np.einsum("ao,ao->o", g1, problem.subjects.spread(eta))
        plain = problem.plain_rows
        cpred = np.where(plain, y - linear, np.nan)
        averaged0, averaged1 = _averaged(problem, f0, g0, omega, sigma), _averaged(problem, cpred, g1, omega, sigma)
        columns = table_columns(problem) | {
            "PRED": np.where(pointwise, np.nan, f0),
            "IPRED": np.where(pointwise, np.nan, f1),
            "RES": np.where(known, y - f0, np.nan),
            "IRES": np.where(known, y - f1, np.nan),
            "WRES": _decorrelate(problem, g0, omega, averaged0, error0, known, sigma),
            "IWRES": iwres,
            "CWRES": _decorrelate(problem, g1, omega, r1.value, linear, known, sigma),
            "NWRES": _decorrelate(problem, g0, omega, r0.value, error0, known, sigma),
            "CPRED": cpred,
            "CRES": np.where(plain, linear, np.nan),
            "CWRESI": _decorrelate(problem, g1, omega, averaged1, linear, plain, sigma),
        }
    return pd.DataFrame(columns)


def _averaged(problem: Problem, f: Array, g: Array, omega: Array, sigma: Array) -> Array:
    """Return R at f and what the spread of f adds to it on average, (obs,)."""
    r = problem.variance(f, sigma)
    if r.ff is None:
        return np.broadcast_to(r.value, f.shape)
    averaged: Array = r.value + 0.5 * r.ff * np.einsum("ao,ab,bo->o", g, omega, g)
    return averaged


def _along_eta(problem: Problem, first: Array) -> Array:
    n_random = len(problem.loadings)
    return np.einsum("sa,so->ao", problem.loadings, first[:n_random])


def _decorrelate(
    problem: Problem,
    g: Array,
    omega: Array,
    r: Array | float,
    error: Array,
    known: NDArray[np.bool_],
    sigma: Array,
) -> Array:
    """Return (GΩG' + R)^(-1/2)·error per subject; NaN where not known."""
    # What is not known becomes independent of the rest, with a residual of 0.
    g, r, error = np.where(known, g, 0.0), np.where(known, r, 1.0), np.where(known, error, 0.0)
    error = np.where(np.isfinite(error), error, np.nan)
    out = np.full_like(error, np.nan)
    for rows in of_equal_size(problem.subjects):
        part = g[:, rows]
        matrix = np.einsum("ani,ab,bnj->nij", part, omega, part)
        matrix += residual_matrices(problem.pairs, r, sigma, rows)
        out[rows] = np.einsum("nij,nj->ni", inverse_roots(matrix), error[rows])
    return np.where(known, out, np.nan)
