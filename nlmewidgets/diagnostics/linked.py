"""What linked figures show of one point: a row per observation, a row per subject, both by the same IDs.

At the EBEs, or at one draw of each subject's random effects given its data, which does not shrink.  Predictions,
IWRES and etas are at these; CWRES and NPDE, which are about the population, do not change with them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.cumulative import quantile_residuals
from nlmewidgets.diagnostics.influence import influence
from nlmewidgets.diagnostics.npde import npde
from nlmewidgets.diagnostics.replicates import Progress, Source
from nlmewidgets.diagnostics.residuals import residual_table
from nlmewidgets.diagnostics.shrinkage import shrinkage
from nlmewidgets.fit.live import look, stand_in
from nlmewidgets.methods.conditional import conditional

__all__ = ["Linked", "linked", "residual_words", "simulated_residuals", "subject_influence", "thinned"]


@dataclass(frozen=True, eq=False)
class Linked:
    """What linked figures show.

    Attributes
    ----------
    observations : DataFrame
        ID, TIME, DV, DVID, PRED, IPRED, CWRES, IWRES, and subject, its number.  Where no observation has an IWRES
        (counts, classes, censored data) these are randomised quantile residuals.
    subjects : DataFrame
        By ID: iofv, the random effects between subjects, and the covariates.
    shrinkage : Series
        Of the EBEs, as `diagnostics.shrinkage` has it.
    within : str
        What the column IWRES holds: 'IWRES' or 'quantile residual'.
    drawn : bool
        Whether the random effects are draws.
    by : str
        What the iofv are parts of.
    """

    observations: pd.DataFrame
    subjects: pd.DataFrame
    shrinkage: pd.Series
    within: str
    drawn: bool
    by: str


def linked(
    problem: Problem, values: Values, eta: Array, *, method: str = "focei", draws: bool = False, seed: int = 0
) -> Linked:
    """Return what linked figures show at some values.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.
    method : str
        Whose objective the subjects' parts are of.
    draws : bool
        One draw of each subject's random effects given its data, in place of the EBEs.
    seed : int
    """
    names = list(problem.space.between)
    drawn = draws and bool(problem.n_eta)
    # A tolerance as loose as one draw needs: the chains start at the modes.
    at = conditional(problem, values, draws=1, seed=seed, start=eta, tolerance=0.2).draws[0] if drawn else eta
    table = residual_table(problem, values, eta)
    within = "IWRES"
    if drawn:
        here = residual_table(problem, values, at)
        table[["IPRED", "IRES", "IWRES"]] = here[["IPRED", "IRES", "IWRES"]]
    if not np.isfinite(table["IWRES"]).any():
        table["IWRES"], within = quantile_residuals(problem, values, at, seed).to_numpy(), "quantile residual"
    table["DVID"], table["subject"] = problem.data.dvid, problem.data.subject
    seen = look(problem, values, method, eta)
    subjects = pd.DataFrame(at[: len(names)].T, columns=names, index=pd.Index(problem.data.ids, name="ID"))
    subjects.insert(0, "iofv", seen.per_subject)
    subjects = subjects.join(problem.data.subject_covariates())
    columns = ["ID", "TIME", "DV", "DVID", "PRED", "IPRED", "CWRES", "IWRES", "subject"]
    return Linked(table[columns], subjects, shrinkage(problem, values, eta), within, drawn, seen.by)


def simulated_residuals(
    problem: Problem, values: Values, eta: Array, *, n: int = 300, seed: int = 0, progress: Progress | None = None
) -> tuple[str, Array]:
    """Return residuals by simulation and what they are: 'NPDE', or 'NPD' where no datum can be simulated.

    Parameters
    ----------
    problem, values, eta
        As for `linked`.
    n : int
        Replicates.
    seed : int
    progress : callable, optional
        Called with the share done; returning False ends the simulation.
    """
    table = npde(Source(problem, values), n=n, seed=seed, eta=eta, progress=progress)
    name = "NPDE" if np.isfinite(table["NPDE"]).any() else "NPD"
    return name, table[name].to_numpy(dtype=float)


def subject_influence(problem: Problem, values: Values, eta: Array, method: str = "focei") -> pd.Series:
    """Return the Cook distance of leaving out each subject, at estimates; see `diagnostics.influence`.

    Raises
    ------
    MethodError
        If there is nothing to estimate, or the method has no gradient there.
    """
    if not problem.space.x_names or problem.n_subjects < 3:
        raise MethodError("Influence needs three subjects or more and a free parameter.")
    found: pd.Series = influence(problem, values, stand_in(problem, method), eta)["cook"]
    return found


def thinned(observations: pd.DataFrame, most: int) -> Array:
    """Return the numbers of at most about `most` observations: evenly chosen ones, and every residual beyond 3."""
    n = len(observations)
    if n <= most:
        return np.arange(n)
    size = observations[["CWRES", "IWRES"]].abs().max(axis=1).to_numpy(dtype=float)
    far = np.flatnonzero(size > 3.0)
    even = np.linspace(0, n - 1, most).round().astype(np.intp)
    return np.union1d(even, far[np.argsort(-size[far])][: most // 4])


def residual_words(values: Array, name: str) -> str:
    """Return in words how residuals compare with what they should be, N(0, 1)."""
    known = values[np.isfinite(values)]
    if not len(known):
        return f"There are no {name} of these data."
    beyond = 100.0 * float((np.abs(known) > 1.959964).mean())
    mean, sd = float(known.mean()) + 0.0, float(known.std(ddof=1)) if len(known) > 1 else float("nan")
    return f"{name}: mean {mean:.2f}, SD {sd:.2f}, {beyond:.0f} % beyond ±1.96; expected 0, 1 and 5 %."
