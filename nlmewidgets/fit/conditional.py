"""The conditional distribution of a fit's random effects as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.methods.conditional import Conditional, conditional

if TYPE_CHECKING:
    from nlmewidgets.fit.result import Fit

__all__ = ["ConditionalTables", "conditional_tables"]


@dataclass(frozen=True, eq=False)
class ConditionalTables:
    """Conditional moments and draws of the subjects used, at a fit's estimates.

    Attributes
    ----------
    mean, sd, error : DataFrame
        ID × eta: E[η | y], SD[η | y], and the Monte Carlo standard error of the mean.
    samples : DataFrame
        (ID, draw) × eta.
    parameters, parameters_sd : DataFrame
        ID × individual parameter: mean and standard deviation over the draws (at each subject's first record).
    kappa, kappa_sd : DataFrame
        (ID, OCC) × kappa; without columns where there is no inter-occasion variability.
    result : Conditional
        The arrays themselves, effective sample sizes among them.
    """

    mean: pd.DataFrame
    sd: pd.DataFrame
    error: pd.DataFrame
    samples: pd.DataFrame
    parameters: pd.DataFrame
    parameters_sd: pd.DataFrame
    kappa: pd.DataFrame
    kappa_sd: pd.DataFrame
    result: Conditional

    @property
    def message(self) -> str:
        """How the sampling ended, in a sentence."""
        return self.result.message


def conditional_tables(fit: Fit, draws: int, *, seed: int | None = None, **options: Any) -> ConditionalTables:
    """Return the tables; see `Fit.conditional`."""
    problem, space = fit.problem, fit.start.space
    own = fit.seed if seed is None else seed
    result = conditional(problem, fit.values, draws=draws, seed=own or 0, start=fit.etas.T, **options)
    ids = pd.Index(problem.data.ids, name="ID")
    names = list(space.between)
    q = len(names)

    def table(values: Array) -> pd.DataFrame:
        return pd.DataFrame(values[:q].T, index=ids, columns=names)

    occasions = problem.occasions
    visits = pd.MultiIndex.from_arrays(
        [np.repeat(np.array(problem.data.ids, dtype=object), occasions.count), list(occasions.labels)],
        names=["ID", "OCC"],
    )

    def by_occasion(values: Array) -> pd.DataFrame:
        columns = {name: occasions.drawn(values, q + k)[0] for k, name in enumerate(space.within)}
        return pd.DataFrame(columns, index=visits)

    first = np.searchsorted(problem.block_subjects.label, np.arange(problem.n_subjects))
    each = problem.individual_parameters(fit.values.theta, result.draws.transpose(1, 0, 2))
    index = pd.MultiIndex.from_product([problem.data.ids, range(1, draws + 1)], names=["ID", "draw"])
    return ConditionalTables(
        mean=table(result.mean),
        sd=table(result.sd),
        error=table(result.error),
        samples=pd.DataFrame(result.draws[:, :q].transpose(2, 0, 1).reshape(-1, q), index=index, columns=names),
        parameters=pd.DataFrame({k: v[:, first].mean(axis=0) for k, v in each.items()}, index=ids),
        parameters_sd=pd.DataFrame({k: v[:, first].std(axis=0, ddof=1) for k, v in each.items()}, index=ids),
        kappa=by_occasion(result.mean),
        kappa_sd=by_occasion(result.sd),
        result=result,
    )
