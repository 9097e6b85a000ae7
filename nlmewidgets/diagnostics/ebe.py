"""EBEs: their variances, and how they stand against covariates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.marginal import precision_of

__all__ = ["covariate_summary", "ebe_covariance", "ebe_covariates", "ebe_table"]


def ebe_covariance(problem: Problem, values: Values, eta: Array, by: str = "focei") -> Array:
    r"""Return the covariance of each subject's random effects around its EBE, (subjects, etas, etas).

    .. math:: C_i = H_i^{-1}, \qquad
        H = \sum_j \Bigl(\frac{1}{R} + \tfrac12 \bigl(\tfrac{R_f}{R}\bigr)^2\Bigr) f_\eta f_\eta' + \Omega^{-1}
        \;\text{(expected)}, \quad
        H = -\partial^2 \log p(y, \eta)/\partial\eta\,\partial\eta' \;\text{(exact)}.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.
    by : str
        A method: "laplace" and "agq" take the exact second derivatives, "fo" and "foce" the expected ones with R
        held at η = 0 (no interaction), all others the expected ones, as NONMEM's ETC of the .phi file for LAPLACE
        and for FOCE with INTERACTION.
    """
    precision, _ = precision_of(problem.occasions.expand(values.omega))
    typical = problem.typical(values.theta).slots
    if by in ("fo", "foce"):
        return _inverses(_without_interaction(problem, typical, precision, values.sigma, eta))
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical, precision, values.sigma, eta)
    return _inverses(0.5 * (modes.hessian if by in ("laplace", "agq") else modes.information))


def _without_interaction(problem: Problem, typical: Array, precision: Array, sigma: Array, eta: Array) -> Array:
    """Return Σ f_η f_η'/R₀ + Ω⁻¹ at the EBEs."""
    with np.errstate(all="ignore"):
        f0 = problem.predict(problem.slots(typical, np.zeros_like(eta)))
        f, first, _ = problem.structure(problem.slots(typical, eta), 1)
        assert first is not None
        random = len(problem.loadings)
        g = problem.center_slope(f, sigma) * np.einsum("sa,so->ao", problem.loadings, first[:random])
        weight = 1.0 / problem.variance(f0, sigma).value
        return problem.subjects(weight * g[:, None] * g).transpose(2, 0, 1) + precision


def _inverses(matrix: Array) -> Array:
    out = np.full(matrix.shape, np.nan)
    good = np.asarray(np.isfinite(matrix).all(axis=(1, 2)))
    out[good] = np.linalg.inv(matrix[good])
    return out


def ebe_table(problem: Problem, values: Values, eta: Array, by: str = "focei") -> pd.DataFrame:
    """Return the EBEs of the etas with their standard errors and variances, one row per subject, indexed by ID.

    Returns
    -------
    DataFrame
        The etas; ``SE(eta)`` of each; ``ETC(i,j)``, i ≥ j from 1, their covariances, as in NONMEM's .phi file.
    """
    names = list(problem.space.between)
    covariance = ebe_covariance(problem, values, eta, by)[:, : len(names), : len(names)]
    with np.errstate(invalid="ignore"):
        columns = dict(zip(names, eta, strict=False)) | {
            f"SE({name})": np.sqrt(covariance[:, k, k]) for k, name in enumerate(names)
        }
    columns |= {f"ETC({i + 1},{j + 1})": covariance[:, i, j] for i in range(len(names)) for j in range(i + 1)}
    return pd.DataFrame(columns, index=pd.Index(problem.data.ids, name="ID"))


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
