"""Curves over time: typical, individual, and the band that random effects and residuals span."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["individual_curves", "population_band", "typical_curve"]


def individual_curves(grid: Problem, values: Values, eta: Array) -> Array:
    """Return each subject's curve on a grid problem (`Data.on_grid`), (subjects, times) float.

    NaN where a likelihood has no prediction: of classes and events there is the log density of a datum only.
    """
    with np.errstate(all="ignore"):
        f = grid.predict(grid.slots(grid.typical(values.theta).slots, eta))
    if grid.pointwise_rows.any():
        f = np.where(grid.pointwise_rows, np.nan, f)
    return f.reshape(grid.n_subjects, -1)


def typical_curve(grid: Problem, values: Values, per: Array | None = None) -> Array:
    """Return PRED averaged over the subjects' designs at each time, (times,) float.

    With one design for all it is the curve at eta = 0; with different doses or covariates it is the
    mean of the subjects' typical curves, which is what the cloud of observations is centred on.

    Parameters
    ----------
    grid : Problem
        The model on a grid of times.
    values : Values
    per : (subjects,) float, optional
        What each subject's curve is divided by before averaging, e.g. its dose.
    """
    curves = individual_curves(grid, values, np.zeros((grid.n_eta, grid.n_subjects)))
    if per is not None:
        curves /= per[:, None]
    finite = np.isfinite(curves)
    with np.errstate(all="ignore"):
        return np.where(finite, curves, 0.0).sum(axis=0) / finite.sum(axis=0)


def population_band(
    grid: Problem,
    values: Values,
    normal: Array,
    noise: Array,
    levels: tuple[float, ...] = (0.05, 0.5, 0.95),
    per: Array | None = None,
) -> pd.DataFrame:
    r"""Return quantiles over time of observations simulated for all subjects' designs.

    Parameters
    ----------
    grid : Problem
        The model on a grid of times.
    values : Values
    normal : (etas, draws, subjects) float
        Fixed standard normal draws: moving a slider moves the band without flicker.
    noise : (draws, subjects·times) float
        Fixed standard normal residuals.
    levels : tuple of float
        Quantiles.
    per : (subjects,) float, optional
        What each subject's observations are divided by, e.g. its dose.

    Returns
    -------
    DataFrame
        Columns are the levels, one row per time.
    """
    q, draws, n = normal.shape
    with np.errstate(all="ignore"):
        chol = np.linalg.cholesky(grid.occasions.expand(values.omega)) if q else np.zeros((0, 0))
        eta = (chol @ normal.reshape(q, draws * n)).reshape(normal.shape)
        slots = grid.slots(grid.typical(values.theta).slots, eta)
        f = grid.predict(slots)
        f = np.broadcast_to(f, (draws, f.shape[-1]))
        y = grid.draw(slots, f, values.sigma, noise)
        if per is not None:
            y = y.reshape(draws, n, -1) / per[:, None]
        y = y.reshape(draws * n, -1)
        # Only the wanted order statistics, not a sort; NaN last.
        place = np.clip(np.round(np.array(levels) * (len(y) - 1)).astype(int), 0, len(y) - 1)
        ordered = np.partition(np.ascontiguousarray(y.T), place, axis=1)
    return pd.DataFrame(ordered[:, place], columns=list(levels))
