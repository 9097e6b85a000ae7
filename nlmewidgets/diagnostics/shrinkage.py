"""Shrinkage: how much of the variability the data leave to the population."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.ebe import ebe_covariance

__all__ = ["HIGH_SHRINKAGE", "shrinkage", "shrinkage_table", "warning"]


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


def shrinkage_table(problem: Problem, values: Values, eta: Array, by: str = "focei") -> pd.DataFrame:
    r"""Return shrinkage by standard deviation and by variance, from EBEs and from their variances.

    =======  ================================================  =====================================================
    column   of an eta or kappa                                of a residual
    =======  ================================================  =====================================================
    SD       :math:`1 - \mathrm{SD}(\hat\eta)/\omega`          :math:`1 - \sqrt{\operatorname{mean} \mathrm{IWRES}^2}`
    VR       :math:`1 - \mathrm{SD}^2(\hat\eta)/\omega^2`      :math:`1 - \operatorname{mean} \mathrm{IWRES}^2`
    EBV_SD   :math:`1 - \sqrt{1 - \mathrm{EBV\_VR}}`
    EBV_VR   :math:`\operatorname{mean}_i C_i / \omega^2`
    =======  ================================================  =====================================================

    They are NONMEM's ETASHRINKSD, ETASHRINKVR, EBVSHRINKSD, EBVSHRINKVR, EPSSHRINKSD and EPSSHRINKVR divided by
    100.  Of a sigma, the mean is over the observations whose residual variance depends on it.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.
    by : str
        The method, see `ebe_covariance`.

    Returns
    -------
    DataFrame
        One row per eta and kappa, per sigma, per output where there are several, and 'epsilon' of all.

    References
    ----------
    Savic & Karlsson (2009), doi:10.1208/s12248-009-9133-0; NONMEM 7 users guide, "shrinkage".
    """
    rows: dict[str, tuple[float, float, float, float]] = {}
    covariance = ebe_covariance(problem, values, eta, by)
    variances = np.diagonal(covariance, axis1=1, axis2=2).T
    for k, (name, omega) in enumerate(zip(problem.space.eta, np.diag(values.omega), strict=True)):
        drawn, _ = problem.occasions.drawn(eta, k)
        of_mode = drawn.var(ddof=1) / omega if len(drawn) > 1 else np.nan
        left = problem.occasions.drawn(variances, k)[0].mean() / omega
        rows[name] = (1.0 - np.sqrt(of_mode), 1.0 - of_mode, 1.0 - np.sqrt(max(1.0 - left, 0.0)), left)
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
        iwres = problem.score(f, values.sigma)
        slopes = problem.variance(f, values.sigma).sigma
    masks: dict[str, Array] = {}
    if slopes is not None and len(problem.space.sigma) > 1:
        entering = np.broadcast_to(slopes, (len(problem.space.sigma), len(f))) != 0.0
        masks |= dict(zip((p.name for p in problem.space.sigma), entering, strict=True))
    if len(problem.model.outputs) > 1:
        masks |= {name: problem.output == k for k, name in enumerate(problem.model.outputs) if name not in masks}
    for name, mask in (masks | {"epsilon": np.ones(len(f), dtype=bool)}).items():
        of_epsilon = _root_mean_square(iwres[mask])
        rows[name] = (1.0 - of_epsilon, 1.0 - of_epsilon**2, np.nan, np.nan)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["SD", "VR", "EBV_SD", "EBV_VR"])


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
