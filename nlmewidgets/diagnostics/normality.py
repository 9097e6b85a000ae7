r"""Are these residuals standard normal?  The three tests of the npde package and their summary."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import DataError

__all__ = ["npde_test"]


def npde_test(x: Array | pd.Series) -> pd.Series:
    r"""Test residuals against N(0, 1).

    ===========  ==========================================================================================
    mean_p       Wilcoxon's signed rank test of a median of 0
    variance_p   :math:`(n-1)s^2 \sim \chi^2_{n-1}`, two-sided
    normal_p     Shapiro and Wilk
    global_p     Bonferroni: three times the smallest of them, at most 1
    ===========  ==========================================================================================

    The residuals of one subject are uncorrelated, not independent; the levels hold for many subjects
    (`benchmarks/diagnostics.py` shows them).

    Parameters
    ----------
    x : (n,) float
        NPDE, or another residual; what is missing is left out.

    Returns
    -------
    Series
        n, mean, variance, skewness, excess kurtosis, and the p values.

    Raises
    ------
    DataError
        If fewer than three are known.

    References
    ----------
    Brendel, Comets, Laffont & Mentré (2010), doi:10.1007/s10928-009-9143-7; Comets, Brendel & Mentré (2008),
    doi:10.1016/j.cmpb.2007.12.002.
    """
    from scipy import stats  # a second to import

    known = np.asarray(x, dtype=float)
    known = known[np.isfinite(known)]
    n = len(known)
    if n < 3:
        raise DataError(f"There are {n} residuals to test; 3 or more are needed.")
    variance = float(known.var(ddof=1))
    lower = float(special.gammainc((n - 1) / 2, (n - 1) * variance / 2))
    upper = float(special.gammaincc((n - 1) / 2, (n - 1) * variance / 2))
    p = {
        "mean_p": float(stats.wilcoxon(known, method="approx").pvalue),
        "variance_p": min(1.0, 2.0 * min(lower, upper)),
        "normal_p": float(stats.shapiro(known[:: max(1, -(-n // 5000))]).pvalue),
    }
    moments = {
        "n": float(n),
        "mean": float(known.mean()),
        "variance": variance,
        "skewness": float(stats.skew(known)),
        "kurtosis": float(stats.kurtosis(known)),
    }
    return pd.Series(moments | p | {"global_p": min(1.0, 3.0 * min(p.values()))}, name="npde_test")
