r"""Observations and subjects that the model would hardly have made.

Many are looked at, so the least p value of N is judged by :math:`\min(1, N p)` (Bonferroni): below 0.05, a data set of
the model would have had such a one in fewer than one case of twenty.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import special

from nlmewidgets.core.errors import DataError
from nlmewidgets.diagnostics.replicates import Source, replicates
from nlmewidgets.fit import Fit
from nlmewidgets.methods.uncertainty import approximation_of

__all__ = ["outlying_observations", "outlying_subjects"]

_CELLS = 40_000
"""Simulated observations whose subjects are evaluated at once."""


def outlying_observations(fit: Fit, *, level: float = 0.05, n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return the observations that are too far from what the model expects, the farthest first.

    Parameters
    ----------
    fit : Fit
    level : float
        Adjusted p below which an observation is listed; 1 lists all.
    n : int
        Replicates behind NPD.
    seed : int

    Returns
    -------
    DataFrame
        ID, TIME, DV, PRED, CWRES, NPD, IWRES, and p_cwres, p_npd: two-sided normal, adjusted for the number of
        observations.  CWRES are approximate where the model is nonlinear in its etas, NPD are not; NPDE, by counts of
        replicates, cannot tell extremes.  Random effects of one subject move all of its observations together.
    """
    table = fit.table(n=n, seed=seed)
    shown = table[["ID", "TIME", "DV", *(c for c in ("PRED", "CWRES", "NPD", "IWRES") if c in table)]].copy()
    for column in ("CWRES", "NPD"):
        z = table[column].to_numpy(float) if column in table else np.full(len(table), np.nan)
        count = max(int(np.isfinite(z).sum()), 1)
        shown[f"p_{column.lower()}"] = np.minimum(2.0 * special.ndtr(-np.abs(z)) * count, 1.0)
    least = shown[["p_cwres", "p_npd"]].min(axis=1)
    kept = shown[least.le(level)] if level < 1 else shown
    return kept.loc[least[kept.index].sort_values(kind="stable").index]


def outlying_subjects(fit: Fit, *, n: int = 300, seed: int = 0) -> pd.DataFrame:
    r"""Return each subject's part of the objective beside those of data simulated from the model, worst first.

    A subject with the model's own random effects and errors has iOFV of some mean, standard deviation and skewness,
    known from n simulations of its design; p is the upper tail of the Pearson III distribution with these.  For normal
    data of a linear model it is exact but for Monte Carlo error: iOFV is then a constant plus :math:`\chi^2_{n_i}`.

    Parameters
    ----------
    fit : Fit
    n : int
        Simulations.
    seed : int

    Returns
    -------
    DataFrame
        By ID: iofv, expected, sd, z, p, p_adjusted (for the number of subjects).  A small p is a subject the model
        cannot explain; small p of many are a wrong model.

    Raises
    ------
    DataError
        If observations are censored: what is below the limit would differ between simulations.
    ModelError
        If the likelihood cannot be simulated.
    MethodError
        If n is too small.
    """
    from scipy import stats  # a second to import

    problem = fit.problem
    if np.asarray(problem.data.cens).any():
        raise DataError(
            "Observations are censored, and which are would differ in every simulation: judge subjects by their NPDE."
        )
    method = approximation_of(problem, fit.estimator)
    own = method.evaluate(problem, fit.values, fit.etas.T).per_subject
    subjects = problem.n_subjects
    chunks = replicates(Source(problem, fit.values), n, np.random.default_rng(seed), cells=_CELLS)
    drawn = [_per_subject(fit, chunk.y, method).reshape(-1, subjects) for chunk in chunks]
    simulated = np.concatenate(drawn)
    mean, sd = np.nanmean(simulated, axis=0), np.nanstd(simulated, axis=0, ddof=1)
    skew = np.clip(stats.skew(simulated, axis=0, nan_policy="omit"), 1e-3, None)
    p = stats.pearson3.sf(own, skew, loc=mean, scale=sd)
    columns = {"iofv": own, "expected": mean, "sd": sd, "z": (own - mean) / sd, "p": p}
    table = pd.DataFrame(columns, index=pd.Index(problem.data.ids, name="ID"))
    table["p_adjusted"] = np.minimum(table["p"] * subjects, 1.0)
    return table.sort_values("p", kind="stable")


def _per_subject(fit: Fit, y: np.ndarray, method: object) -> np.ndarray:
    """Return iOFV of simulated data (replicates, obs): every replicate of a subject is a subject of its own."""
    data, count = fit.problem.data, len(y)
    place = np.flatnonzero(data.observed)
    code = pd.factorize(data.records["ID"])[0]
    size = len(data.records)
    records = data.records.iloc[np.tile(np.arange(size), count)].reset_index(drop=True)
    records["ID"] = np.tile(code, count) + np.repeat(np.arange(count) * data.n_subjects, size)
    dv = records["DV"].to_numpy(float).copy()
    dv[(np.arange(count)[:, None] * size + place).ravel()] = y.ravel()
    many = fit.start.problem(replace(data, records=records.assign(DV=dv), base=None, exclusions=()))
    start = np.tile(fit.etas.T, (1, count))
    with np.errstate(all="ignore"):
        return method.evaluate(many, fit.values, start).per_subject  # type: ignore[attr-defined, no-any-return]
