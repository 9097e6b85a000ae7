r"""How likely a value below the observed one was: the distribution function at each datum.

An observation is an interval :math:`[F(y^-), F(y)]` of probabilities given the prediction: a point where the
distribution is continuous, the probability of the value itself where it is discrete, of all that is censored where
the datum is.  A uniform number in that interval is uniform over repetitions under the true model, and its normal
quantile is standard normal: a residual for any kind of data.

References
----------
Dunn & Smyth (1996), doi:10.1080/10618600.1996.10474708 (randomised quantile residuals).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.observation import Group
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.survival import cumulative_hazard, has_exact_times

__all__ = ["cumulative", "normal_quantile", "quantile_residuals"]

_FURTHEST = 8.3
"""Of a residual: 1 − Φ(8.3) is the last that double precision tells from 0 on the upper side."""


def normal_quantile(p: Array) -> Array:
    """Return Φ⁻¹(p), at most 8.3 in size."""
    with np.errstate(all="ignore"):
        return np.clip(special.ndtri(p), -_FURTHEST, _FURTHEST)


def cumulative(problem: Problem, slots: Array, f: Array, sigma: Array) -> tuple[Array, Array]:
    """Return the ends of each datum's interval of probabilities, (..., obs) each; NaN where the model says nothing.

    Parameters
    ----------
    problem : Problem
    slots : (slots, ..., blocks) float
        Where the predictions were made.
    f : (..., obs) float
        Predictions.
    sigma : (sigmas,) float
    """
    low, high = np.full(f.shape, np.nan), np.full(f.shape, np.nan)
    with np.errstate(all="ignore"):
        for group in problem.groups:
            rows = slice(None) if group.rows is None else group.rows
            low[..., rows], high[..., rows] = _ends(problem, group, slots, f[..., rows], sigma)
    return low, high


def _ends(problem: Problem, group: Group, slots: Array, f: Array, sigma: Array) -> tuple[Array, Array]:
    own = group.program.observation
    if own.values is not None:
        return _discrete(problem, group, slots, f, sigma)
    if own.pointwise and has_exact_times(problem, group.output):
        return _first_event(problem, group, slots, f)
    if own.latent is None and own.score is None:
        return np.full(f.shape, np.nan), np.full(f.shape, np.nan)

    def below(y: Array) -> Array:
        return special.ndtr(np.broadcast_to(group("latent", f, sigma, y)[0][0], f.shape))

    here = below(group.y)
    low, high = {
        "": lambda: (here, here),
        "below": lambda: (np.zeros(f.shape), here),
        "above": lambda: (here, np.ones(f.shape)),
        "between": lambda: tuple(np.sort([here, below(group.inputs[1])], axis=0)),
    }[group.kind]()
    if problem.model.blq == "M4":  # all data are above 0
        zero = below(np.zeros_like(group.y))
        low, high = (np.clip((p - zero) / (1.0 - zero), 0.0, 1.0) for p in (low, high))
    return low, high


def _first_event(problem: Problem, group: Group, slots: Array, f: Array) -> tuple[Array, Array]:
    """Return 1 − exp(−H) at the time of an event, and from there to 1 at an end of follow-up without one."""
    rows = slice(None) if group.rows is None else group.rows
    subject = problem.data.subject[rows]
    hazard = cumulative_hazard(problem.model, group.output).problem(problem.data)
    # Later events of a subject are not independent of when its follow-up ends, given all etas.
    if len(np.unique(subject)) < len(subject) or hazard.form.symbols != problem.form.symbols:
        return np.full(f.shape, np.nan), np.full(f.shape, np.nan)
    before = -np.expm1(-np.broadcast_to(hazard.predict(slots), (*f.shape[:-1], problem.n_obs))[..., rows])
    return before, np.where(group.y > 0.5, before, 1.0)


def _discrete(problem: Problem, group: Group, slots: Array, f: Array, sigma: Array) -> tuple[Array, Array]:
    """Return sums of probabilities below and up to the datum, value by value."""
    own = group.program.observation
    if own.pointwise:
        minus2log = problem.minus2log_of(slots, slice(None) if group.rows is None else group.rows)
    else:

        def minus2log(value: float) -> Array:
            return np.broadcast_to(group("value", f, sigma, np.full(f.shape[-1:], value))[0], f.shape)

    assert own.values is not None
    last = int(group.y.max(initial=0.0))
    values = range(last + 1) if isinstance(own.values, str) else own.values
    low, high = np.zeros(f.shape), np.zeros(f.shape)
    for value in values:
        p = np.exp(-0.5 * minus2log(float(value)))
        low += np.where(value < group.y, p, 0.0)
        high += np.where(value <= group.y, p, 0.0)
    return low, high


def quantile_residuals(problem: Problem, values: Values, eta: Array, seed: int | None = 0) -> pd.Series:
    r"""Return randomised quantile residuals at the EBEs, one per observation.

    .. math:: r = \Phi^{-1}(u), \qquad u \sim U\bigl(F(y^- \mid \hat\eta),\; F(y \mid \hat\eta)\bigr)

    IWRES where the observation is measured and normal; a draw for counts, categories, events and censored data.
    As IWRES they shrink where the data are sparse; `npde` has the residuals against the population.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        EBEs.
    seed : int, optional
        Of the uniform numbers.

    Returns
    -------
    Series
        NaN where the distribution function is not known (Student's errors, exact times of repeated events).

    References
    ----------
    Dunn & Smyth (1996), doi:10.1080/10618600.1996.10474708.
    """
    with np.errstate(all="ignore"):
        slots = problem.slots(problem.typical(values.theta).slots, eta)
        f = problem.predict(slots)
        low, high = cumulative(problem, slots, f, values.sigma)
        score = np.where(problem.normal_rows, problem.score(f, values.sigma), np.nan)
    drawn = low + np.random.default_rng(seed).random(len(low)) * (high - low)
    return pd.Series(np.where(np.isfinite(score), score, normal_quantile(drawn)), name="RQR")
