"""Numerical predictive check: how many data lie outside the model's prediction intervals, against how many should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.model import Model
from nlmewidgets.diagnostics.npde import limits
from nlmewidgets.diagnostics.replicates import Progress, Source, has_posterior, replicates, source_of
from nlmewidgets.diagnostics.statistics import ordered_quantiles
from nlmewidgets.fit import Fit

__all__ = ["npc"]

INTERVALS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.9, 0.95)
"""Prediction intervals, as PsN takes them."""


def npc(
    what: Fit | Model | Source,
    data: Data | None = None,
    *,
    n: int = 1000,
    seed: int | None = None,
    intervals: Sequence[float] = INTERVALS,
    level: float = 0.95,
    uncertainty: bool | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    r"""Return the share of data below and above each prediction interval.

    The interval of share p of an observation goes from the :math:`(1-p)/2` to the :math:`(1+p)/2` quantile of its
    simulated values.  Each replicate's own data are counted in the same way, which gives the band.

    Parameters
    ----------
    what : Fit or Model
    data : Data, optional
    n : int
        Replicates.
    seed : int, optional
    intervals : sequence of float
        Shares p, from 0 (the median) to below 1.
    level : float
        Of the bands.
    uncertainty : bool, optional
        As in `vpc`.
    progress : callable, optional
        As in `vpc`.

    Returns
    -------
    DataFrame
        output, interval, side ('below', 'above'), expected, observed, low, high (shares of the data), outside.
        Censored data are below (above) every interval that begins (ends) beyond their limit.

    References
    ----------
    Karlsson & Savic (2007), doi:10.1038/sj.clpt.6100241; Karlsson & Holford (2008), PAGE 17, abstract 1434.
    """
    shares = np.array([float(p) for p in intervals])
    if not len(shares) or (shares < 0).any() or (shares >= 1).any():
        raise DataError("intervals= must be shares from 0 to below 1, e.g. (0, 0.5, 0.9).")
    source = source_of(what, data)
    problem = source.problem
    uncertain = has_posterior(source.fit) if uncertainty is None else uncertainty
    y = np.empty((n, problem.n_obs))
    done = 0
    for chunk in replicates(source, n, np.random.default_rng(seed), uncertainty=uncertain):
        done = chunk.first + len(chunk.y)
        y[chunk.first : done] = chunk.y
        if progress is not None and progress(done / n) is False:
            break
    below, above = limits(problem)
    y = y[:done]
    y = np.where(y < below, -np.inf, np.where(y > above, np.inf, y))
    cens = problem.data.cens
    observed = np.where(cens > 0, -np.inf, np.where(cens < 0, np.inf, problem.y))
    ends = ordered_quantiles(np.sort(y, axis=0).T, np.concatenate([0.5 - shares / 2, 0.5 + shares / 2])).T
    band = np.array([0.5 - level / 2, 0.5 + level / 2])
    rows = []
    for k, name in enumerate(problem.model.outputs):
        own = problem.output == k
        if not own.any():
            continue
        for side, edges in (("below", ends[: len(shares), own]), ("above", ends[len(shares) :, own])):
            for p, edge in zip(shares, edges, strict=True):
                here, there = (_share(x, edge, side) for x in (observed[own][None], y[:, own]))
                low, high = ordered_quantiles(np.sort(there), band)
                rows.append((name, p, side, 0.5 - p / 2, here[0], low, high, not low <= here[0] <= high))
    columns = ["output", "interval", "side", "expected", "observed", "low", "high", "outside"]
    return pd.DataFrame(rows, columns=columns)


def _share(y: Array, edge: Array, side: str) -> Array:
    """Return the share of each data set beyond the edges; ties (discrete or censored data) count half."""
    beyond = (y < edge) if side == "below" else (y > edge)
    share: Array = (beyond + 0.5 * (y == edge)).mean(axis=1)
    return share
