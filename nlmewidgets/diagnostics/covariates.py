r"""Which covariates the random effects still depend on, asked in a way that shrinkage does not spoil.

A covariate effect moves the mean of an eta, :math:`\eta_i \sim N(B' x_i, \Omega)` with x = (1, z).  By Fisher's
and Louis' identities the gradient and the information of B at 0 follow from the conditional means m and covariances
V of the etas alone,

.. math:: \ell_B = \sum_i x_i\, (\Omega^{-1} m_i)', \qquad
          I_B = \sum_i x_i x_i' \otimes \Omega^{-1} (\Omega - V_i) \Omega^{-1} ,

so one Newton step gives the effect the data ask for, not shrunken, with its standard error, before anything is
refitted.  The effects of a covariate on *all* etas are estimated together: data that tell etas apart badly let the
EBE of one show the effect of another.

References
----------
Savic & Karlsson (2009), doi:10.1208/s12248-009-9133-0 (what shrinkage does to EBE plots).
Lavielle & Ribba (2016), doi:10.1007/s11095-016-2020-3 (tests on conditional distributions).
Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.shrinkage import shrinkage, warning
from nlmewidgets.methods.importance import evaluate_importance

__all__ = ["covariate_tests"]


def covariate_tests(
    problem: Problem,
    values: Values,
    eta: Array,
    moments: tuple[Array, Array] | None = None,
    covariates: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Return what each covariate would be worth as an effect on each eta, strongest first.

    Parameters
    ----------
    problem : Problem
    values : Values
        The estimates of the model without these effects.
    eta : (etas, subjects) float
        EBEs, for comparison.
    moments : (etas, subjects), (subjects, etas, etas) float, optional
        Conditional means and covariances of the random effects; without, by importance sampling.
    covariates : sequence of str, optional
        Columns; without, all of the data that vary between subjects.
    seed : int
        Of the importance sampling.

    Returns
    -------
    DataFrame
        One row per eta and covariate: kind ('numeric' or 'categorical'), n (subjects with the covariate), effect (of
        one unit of the covariate on the eta; of a category, the largest difference between two), se, lower, upper
        (95 %; numeric and two levels only), p (given the effects on the other etas), worth (by how much −2LL would
        fall with this effect alone), df, ebe_p (the ordinary test on EBEs), shrinkage, note.

    Notes
    -----
    p is from an F distribution, exact in a linear model without shrinkage, asymptotic elsewhere.
    """
    names = list(problem.space.between)
    q = len(names)
    table = problem.data.subject_covariates()
    chosen = list(table) if covariates is None else list(covariates)
    shrunk = shrinkage(problem, values, eta)
    if moments is None:
        sampled = evaluate_importance(problem, values, seed=seed, start=eta)
        moments = sampled.mean, sampled.covariance
    mean, covariance = moments
    precision = np.linalg.pinv(values.omega[:q, :q], hermitian=True)
    pulled = precision @ mean[:q]
    information = precision - precision @ covariance[:, :q, :q] @ precision
    rows = []
    for column in chosen:
        numeric = bool(pd.api.types.is_numeric_dtype(table[column])) and table[column].nunique() > 2
        known = table[column].notna().to_numpy()
        z = _design(table[column][known], numeric)
        if not z.shape[1] or known.sum() <= z.shape[1] + 2 or not q:
            continue
        found = _one_step(z, pulled[:, known], information[known])
        for k, name in enumerate(names):
            rows.append(
                {"eta": name, "covariate": column, "kind": "numeric" if numeric else "categorical", "n": len(z)}
                | _row(z, k, q, *found)
                | {"ebe_p": _ebe_p(z, eta[k, known]), "shrinkage": shrunk[name], "note": warning(shrunk[name])}
            )
    columns = ["eta", "covariate", "kind", "n", "effect", "se", "lower", "upper", "p", "worth", "df"]
    out = pd.DataFrame(rows, columns=[*columns, "ebe_p", "shrinkage", "note"])
    return out.sort_values("p", kind="stable").reset_index(drop=True)


def _design(column: pd.Series, numeric: bool) -> Array:
    """Return columns of a covariate, centred: its values, or indicators of all levels but the most frequent."""
    if numeric:
        z = column.to_numpy(float)[:, None]
    else:
        levels = column.value_counts().index[1:]
        z = (
            np.stack([(column == level).to_numpy(float) for level in levels], axis=1)
            if len(levels)
            else np.zeros((len(column), 0))
        )
    z = z - z.mean(axis=0)
    return z[:, np.ptp(z, axis=0) > 0]


def _one_step(z: Array, pulled: Array, information: Array) -> tuple[Array, Array]:
    """Return gradient and information of (intercept, effects) of all etas, effects of an eta together.

    Parameters
    ----------
    z : (n, d) float
    pulled : (q, n) float
        Ω⁻¹ m.
    information : (n, q, q) float

    Returns
    -------
    (q, d + 1), (q, d + 1, q, d + 1) float
    """
    x = np.column_stack([np.ones(len(z)), z])
    return pulled @ x, np.einsum("nc,nab,nd->acbd", x, information, x)


def _row(z: Array, k: int, q: int, gradient: Array, information: Array) -> dict[str, float]:
    """Return the test and the effect of one eta."""
    n, d = z.shape
    size = q * (d + 1)
    nothing = dict.fromkeys(("effect", "se", "lower", "upper", "p", "worth"), np.nan) | {"df": d}
    try:
        inverse = np.linalg.inv(information.reshape(size, size))
    except np.linalg.LinAlgError:
        return nothing
    place = np.arange(size).reshape(q, d + 1)[k, 1:]
    step = (inverse @ gradient.ravel())[place]
    variance = inverse[np.ix_(place, place)]
    if not (np.linalg.eigvalsh(variance) > 0).all():
        return nothing
    wald = float(step @ np.linalg.solve(variance, step))
    # The effect alone: intercepts of all etas and the effects on this one.
    kept = np.concatenate([np.arange(size).reshape(q, d + 1)[:, 0], place])
    part = information.reshape(size, size)[np.ix_(kept, kept)]
    own = gradient.ravel()[kept]
    worth = float(own @ np.linalg.solve(part, own)) - float(own[:q] @ np.linalg.solve(part[:q, :q], own[:q]))
    out = {"effect": np.nan, "se": np.nan, "lower": np.nan, "upper": np.nan}
    if d == 1:
        se = float(np.sqrt(variance[0, 0]))
        out = {"effect": float(step[0]), "se": se, "lower": step[0] - 1.96 * se, "upper": step[0] + 1.96 * se}
    else:
        levels = np.append(step, 0.0)
        out["effect"] = float(np.ptp(levels))
    return out | {"p": _p(wald, d, n), "worth": worth, "df": d}


def _p(statistic: float, d: int, n: int) -> float:
    """Return the p value of a statistic that is χ² with d degrees of freedom for many subjects."""
    if statistic >= n:
        return 0.0
    rest = n - d - 1
    return float(special.fdtrc(d, rest, (statistic / d) / ((n - statistic) / rest)))


def _ebe_p(z: Array, eta: Array) -> float:
    """Return the p value of the linear regression of EBEs on a covariate: Pearson's test, or one-way ANOVA."""
    n, d = z.shape
    error = eta - eta.mean()
    total = float(error @ error)
    if not total > 0:
        return float("nan")
    fitted = z @ np.linalg.lstsq(z, error, rcond=None)[0]
    return _p(n * float(fitted @ fitted) / total, d, n)
