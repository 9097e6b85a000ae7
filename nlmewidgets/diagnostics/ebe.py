"""EBEs against covariates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.problem import Problem

__all__ = ["covariate_summary", "ebe_covariates"]


def ebe_covariates(problem: Problem, eta: Array) -> pd.DataFrame:
    """Return the EBEs of the etas with the subject's covariates, one row per subject, indexed by ID.

    Parameters
    ----------
    problem : Problem
    eta : (etas, subjects) float
    """
    names = list(problem.space.between)
    frame = pd.DataFrame(eta[: len(names)].T, columns=names, index=pd.Index(problem.data.ids, name="ID"))
    return frame.join(problem.data.subject_covariates())


def covariate_summary(table: pd.DataFrame, eta: str, covariate: str, *, categorical: bool) -> pd.DataFrame:
    r"""Summarise one EBE-versus-covariate relation.

    For a numerical covariate: the least-squares line :math:`\hat\eta = a + b z`, the correlation and
    the share of variance explained.  For a categorical one: quartiles and extremes per level.

    Parameters
    ----------
    table : DataFrame
        From `ebe_covariates`.
    eta, covariate : str
        Columns.
    categorical : bool

    Returns
    -------
    DataFrame
        One row 'trend' (intercept, slope, r, r2, n), or one row per level (n, min, q25, median, q75, max).
    """
    data = table[[eta, covariate]].dropna()
    if categorical:
        grouped = data.groupby(covariate, sort=True)[eta]
        out = grouped.quantile([0.0, 0.25, 0.5, 0.75, 1.0]).unstack()
        out.columns = pd.Index(["min", "q25", "median", "q75", "max"])
        out.insert(0, "n", grouped.size())
        return out
    x, y = data[covariate].to_numpy(float), data[eta].to_numpy(float)
    row = {"intercept": np.nan, "slope": np.nan, "r": np.nan, "r2": np.nan, "n": len(x)}
    if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0:
        slope = float(np.cov(x, y)[0, 1] / np.var(x, ddof=1))
        r = float(np.corrcoef(x, y)[0, 1])
        row |= {"intercept": float(y.mean() - slope * x.mean()), "slope": slope, "r": r, "r2": r * r}
    return pd.DataFrame([row], index=pd.Index(["trend"]))
