r"""The naive pooled objective: all random effects zero, the residual's scale profiled out.

With standard deviation :math:`s\,d(f)` of an output's observations, d at the declared residual parameters,

.. math:: \min_s -2\log L = n \log\Big(\tfrac1n \sum r_j^2\Big) + 2 \sum \log d_j, \qquad r = (y - f)/d ,

with :math:`d` taken halfway between f and y, so that no prediction near zero decides alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Parameter
from nlmewidgets.core.problem import Problem

__all__ = ["Axis", "OutOfTime", "Pooled", "some_subjects"]

_MOST_SUBJECTS = 400
_MOST_OBSERVATIONS = 1_000
"""What a search uses at most, but for ten subjects always."""

_DECADES = 3.0
"""How far from the declared value a positive parameter is searched, either way."""

_MOST_NUMBERS = 1_500_000
"""Predictions held at once: candidates × observations."""


_ABSURD = 1e12
"""An objective beyond it is as good as none."""


class OutOfTime(Exception):  # noqa: N818 - no error: the search ends with what it has
    """The time or the patience is over."""


@dataclass
class Pooled:
    """The objective for many candidates at once; remembers the best.

    Attributes
    ----------
    problem : Problem
    seconds : float
        Time after which `OutOfTime` is raised.
    stop : callable, optional
        Asked between batches; true ends the search.
    """

    problem: Problem
    seconds: float
    stop: Callable[[], bool] | None = None
    best: float = np.inf
    best_theta: Array = field(default_factory=lambda: np.zeros(0))
    evaluations: int = 0

    def __post_init__(self) -> None:
        self.began = time.monotonic()
        data, sigma = self.problem.data, self.problem.space.initial.sigma
        self.sigma = sigma
        self.outputs = [np.flatnonzero(self.problem.output == k) for k in np.unique(self.problem.output)]
        self.censored = data.cens
        with np.errstate(all="ignore"):
            sd = self.problem.residual_sd(np.abs(self.problem.y), self.sigma)
        self.normal = [bool(np.isfinite(sd[rows]).any()) for rows in self.outputs]
        self.transformed = self._transformed()

    @property
    def spent(self) -> float:
        """The share of the time that is gone."""
        return (time.monotonic() - self.began) / self.seconds

    def __call__(self, thetas: Array) -> Array:
        """Return the objective of each candidate, thetas (candidates, thetas); inf where it is no number."""
        out = np.full(len(thetas), np.inf)
        size = max(1, _MOST_NUMBERS // max(self.problem.n_obs, 1))
        for first in range(0, len(thetas), size):
            if self.stop is not None and self.stop():
                raise OutOfTime("stopped")
            if time.monotonic() - self.began > self.seconds:
                raise OutOfTime("ended by time")
            part = slice(first, first + size)
            out[part] = self._batch(thetas[part])
        self.evaluations += len(thetas)
        k = int(np.argmin(out))
        if out[k] < self.best:
            self.best, self.best_theta = float(out[k]), np.array(thetas[k])
        return out

    def _batch(self, thetas: Array) -> Array:
        with np.errstate(all="ignore"):
            try:
                return self.profile(self._predicted(thetas))
            except (NlmeError, ArithmeticError, ValueError):
                if len(thetas) == 1:
                    return np.array([np.inf])
                return np.concatenate([self._batch(thetas[k : k + 1]) for k in range(len(thetas))])

    def _predicted(self, thetas: Array) -> Array:
        typical = np.stack([self.problem.typical(theta).slots for theta in thetas], axis=1)
        return np.broadcast_to(self.problem.predict(typical), (len(thetas), self.problem.n_obs))

    def gradients(self, thetas: Array, step: float) -> tuple[Array, Array]:
        """Return gradients and approximate Hessians of the objective at several points.

        Parameters
        ----------
        thetas : (points, 1 + axes, thetas) float
            Each point, and it moved by `step` along each axis.

        Returns
        -------
        (points, axes), (points, axes, axes) float
            The Hessian is that of Gauss and Newton, of other likelihoods the cross-product of scores; NaN where an
            objective is no number.
        """
        m, moves = thetas.shape[:2]
        shape = (m, moves, self.problem.n_obs)
        self.evaluations += m * moves
        with np.errstate(all="ignore"):
            try:
                f = self._predicted(thetas.reshape(m * moves, -1))
            except (NlmeError, ArithmeticError, ValueError):
                return np.full((m, moves - 1), np.nan), np.full((m, moves - 1, moves - 1), np.nan)
            value = self.profile(f).reshape(m, moves)
            r = self.residuals(f)[0].reshape(shape)
            slope = (value[:, 1:] - value[:, :1]) / step
            change = (r[:, 1:] - r[:, :1]) / step
            curvature = np.zeros((m, moves - 1, moves - 1))
            for rows, normal in zip(self.outputs, self.normal, strict=True):
                if normal:
                    part = change[..., rows] * np.sqrt(2.0 / np.mean(r[:, :1, rows] ** 2, axis=2, keepdims=True))
                else:
                    each = self.problem.minus2ll_each(f, self.sigma).reshape(shape)[..., rows]
                    part = np.sqrt(0.5) * (each[:, 1:] - each[:, :1]) / step
                curvature += part @ part.transpose(0, 2, 1)
        return slope, curvature

    def residuals(self, f: Array) -> tuple[Array, Array]:
        """Return standardised residuals and the logarithm of their declared SD; a censored one met is 0.

        The SD is that halfway between prediction and observation: under proportional error no prediction near 0
        decides alone, and too low counts as much as too high.  Of other likelihoods both are NaN.
        """
        y = self.problem.y
        sd = self.problem.residual_sd(0.5 * (np.abs(f) + np.abs(y)), self.sigma)
        r = (y - f) / sd
        if self.transformed.any():
            sd = np.where(self.transformed, self.problem.residual_sd(f, self.sigma), sd)
            r = np.where(self.transformed, self.problem.score(f, self.sigma), r)
        met = ((self.censored > 0) & (f < y)) | ((self.censored < 0) & (f > y))
        return np.where(met, 0.0, r), np.log(sd)

    def _transformed(self) -> NDArray[np.bool_]:
        """Return which observations belong to an output whose errors are normal on another scale."""
        y = self.problem.y
        with np.errstate(all="ignore"):
            slope = self.problem.center_slope(np.where(y > 0, y, 1.0) * 1.1, self.sigma)
        out = np.zeros(len(y), dtype=bool)
        for rows in self.outputs:
            out[rows] = bool((slope[rows] != 1.0).any())
        return out

    def profile(self, f: Array) -> Array:
        """Return the objective of predictions (candidates, obs)."""
        r, log_sd = self.residuals(f)
        total = np.zeros(f.shape[0])
        each: Array | None = None
        for rows, normal in zip(self.outputs, self.normal, strict=True):
            if normal:
                square = np.mean(r[:, rows] ** 2, axis=1)
                total += len(rows) * np.log(np.maximum(square, 1e-300)) + 2.0 * log_sd[:, rows].sum(axis=1)
            else:  # another likelihood has no scale to profile
                each = self.problem.minus2ll_each(f, self.sigma) if each is None else each
                total += each[:, rows].sum(axis=1)
        return np.where(np.abs(total) < _ABSURD, total, np.inf)


def some_subjects(data: Data, observations: int = _MOST_OBSERVATIONS) -> Data:
    """Return a part of the subjects with observations, evenly over the study, that is enough to start from."""
    seen = np.unique(data.subject)
    per_subject = data.n_obs / max(len(seen), 1)
    most = min(_MOST_SUBJECTS, max(10, int(observations / max(per_subject, 1.0))))
    if len(seen) <= most:
        return data
    chosen = seen[np.linspace(0, len(seen) - 1, most).round().astype(int)]
    return data.subset([data.ids[k] for k in chosen])


class Axis:
    """One free theta as a coordinate of the search.

    Positive parameters are searched by their logarithm, bounded ones by their logit; an unbounded typical value by
    its inverse hyperbolic sine, which spans orders of magnitude of either sign; a covariate coefficient as it is.
    """

    def __init__(self, parameter: Parameter, typical: bool) -> None:
        self.parameter = parameter
        self.size = max(abs(parameter.value), 1e-3)
        self.wide = typical and parameter.scale == "identity"
        reach = {"log": _DECADES * np.log(10.0), "reflected": _DECADES * np.log(10.0), "logit": 5.0}
        self.reach = _DECADES * np.log(10.0) if self.wide else reach.get(parameter.scale, 3.0 * max(self.size, 0.5))

    def free(self, value: float) -> float:
        """Return the coordinate of a value."""
        return float(np.arcsinh(value / self.size)) if self.wide else self.parameter.free(value)

    def natural(self, x: float) -> float:
        """Return the value at a coordinate."""
        return float(self.size * np.sinh(x)) if self.wide else self.parameter.natural(x)
