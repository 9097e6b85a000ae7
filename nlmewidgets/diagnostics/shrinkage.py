"""Shrinkage: how much of the variability the data leave to the population."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["HIGH_SHRINKAGE", "shrinkage", "warning"]


HIGH_SHRINKAGE = 0.3
"""From here on EBE plots mislead (Savic & Karlsson 2009, doi:10.1208/s12248-009-9133-0)."""


def shrinkage(problem: Problem, values: Values, eta: Array) -> pd.Series:
    r"""Return the shrinkage of each eta and kappa and of epsilon.

    .. math:: 1 - \mathrm{SD}(\hat\eta_k)/\omega_k , \qquad 1 - \sqrt{\operatorname{mean}(\mathrm{IWRES}^2)}

    with the sample standard deviation (n − 1), as NONMEM's ETASHRINKSD and EPSSHRINKSD.  Of a kappa it is
    taken over the occasions of all subjects.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.

    Returns
    -------
    Series
        By eta name, then 'epsilon'; NaN for fewer than two subjects.

    References
    ----------
    Savic & Karlsson (2009), doi:10.1208/s12248-009-9133-0, eqs 3–4.
    """
    of_eta = []
    for k, omega in enumerate(np.sqrt(np.diag(values.omega))):
        drawn, _ = problem.occasions.drawn(eta, k)
        of_eta.append(1.0 - drawn.std(ddof=1) / omega if len(drawn) > 1 else np.nan)
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
        iwres = problem.score(f, values.sigma)
    of_epsilon = 1.0 - _root_mean_square(iwres)
    return pd.Series([*of_eta, of_epsilon], index=[*problem.space.eta, "epsilon"], name="shrinkage")


def _root_mean_square(x: Array) -> float:
    """Return it over what is a number: censored and other data without a residual do not count."""
    known = np.isfinite(x)
    return float(np.sqrt(np.mean(x[known] ** 2))) if known.any() else float("nan")


def warning(value: float) -> str:
    """Say in a few words what a shrinkage does to the plots made of EBEs; '' where it is small."""
    if not np.isfinite(value):
        return ""
    if value >= HIGH_SHRINKAGE:
        return "high: EBEs are pulled to zero; they hide or invent covariate effects"
    if value >= 0.2:
        return "moderate: read covariate plots of EBEs with care"
    return ""
