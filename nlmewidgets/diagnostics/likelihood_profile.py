r"""Profile likelihood: how much worse the best fit becomes as one parameter is moved away from its estimate.

.. math:: \Delta(v) = \min_{\psi:\, \psi_k = v} F(\psi) - \min_\psi F(\psi), \qquad
          \{v : \Delta(v) \le \chi^2_{1,\,\mathrm{level}}\}

is a confidence interval that needs no normality of the estimate and does not depend on how the parameter is written.
F is −2 log L with the priors' −2 log density.  Every point is a refit that starts from its neighbour; the grid goes
outward by likelihood, as :math:`z = \sqrt\Delta` is nearly linear where the parameter is unbounded.

References
----------
Venzon & Moolgavkar (1988), doi:10.2307/2347496 (intervals by profile likelihood; PsN's llp does the same).
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaincinv

from nlmewidgets.core.errors import MethodError, NlmeError
from nlmewidgets.fit import Fit
from nlmewidgets.fit import fit as run_fit
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.methods.uncertainty import approximation_of

__all__ = ["LikelihoodProfile", "profile"]

_MOST = 12
"""Refits to one side at most."""

_FAR = 8.0
"""How far a logarithm may go, and a Wald standard error's multiple elsewhere: beyond, the side is open."""

_CLOSE = 0.08
"""A refit whose z is within this of the one wanted needs no other between."""


@dataclass(frozen=True, eq=False)
class LikelihoodProfile:
    """Profiles of parameters.

    Attributes
    ----------
    points : DataFrame
        A row per refit, sorted: parameter, value, delta (rise of −2 log L), status, and all estimates there.
    intervals : DataFrame
        By parameter: estimate, lower, upper (infinite, or the end of the range, where delta never reaches the limit),
        wald_lower, wald_upper, note.
    level : float
    limit : float
        The rise of −2 log L at the ends: 3.84 for 95 %.
    by : str
        What computed the likelihood.
    message : str
        What to know, in sentences; '' if all is well.
    """

    points: pd.DataFrame
    intervals: pd.DataFrame
    level: float
    limit: float
    by: str
    message: str = ""

    def __repr__(self) -> str:
        return f"{self.intervals.to_string(float_format=lambda v: f'{v:.4g}')}\n{self.message}".strip()


def profile(
    fit: Fit,
    parameters: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    progress: bool | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
) -> LikelihoodProfile:
    """Return profile likelihoods and the confidence intervals they make.

    Parameters
    ----------
    fit : Fit
        Of a method that minimises; others (SAEM, bayes …) are first refitted by an approximation, named in `by`.
    parameters : str or sequence of str, optional
        Thetas, omegas (standard deviations), correlations of two, sigmas; without, all that are estimated.
    level : float
    progress : bool, optional
        Write a line to stderr; by default only to a terminal.
    stop : threading.Event, optional
        Set it to end; what is known by then is returned.
    time_limit : float, optional
        Seconds after which no refit is begun.

    Raises
    ------
    MethodError
        If a parameter is not estimated, or the level is no probability.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> found = nw.studies.profile(model.fit(data, "fo"), "omega_asym")
    >>> found.intervals.loc["omega_asym", ["lower", "upper"]].astype(float).round(1).tolist()
    [18.5, 69.6]
    """
    if not 0.0 < level < 1.0:
        raise MethodError(f"level={level!r} is not between 0 and 1.")
    names = _names(fit, parameters)
    began, notes = time.monotonic(), []
    line = sys.stderr.isatty() if progress is None else progress

    def over() -> bool:
        return (stop is not None and stop.is_set()) or (
            time_limit is not None and time.monotonic() - began > time_limit
        )

    method = approximation_of(fit.problem, fit.estimator)
    base = fit
    if not isinstance(fit.estimator, Approximation):
        base = run_fit(fit.model, fit.problem.data, method, seed=fit.seed, progress=False)
        notes.append(
            f"The profile is of {method.title}: the fit is by {fit.method}, which has no likelihood to profile."
        )
    limit = 2.0 * float(gammaincinv(0.5, level))  # the quantile of chi-squared, 1 degree of freedom
    wald = base.intervals(level, kind="R").reindex(names)
    rows: list[dict[str, float | str]] = []
    ends: dict[str, dict[str, float | str]] = {}
    for k, name in enumerate(names):
        if over():
            break
        side = _Sides(base, method, name, limit, float(base.se.get(name, math.nan)), over)
        low, high = side.end(-1.0), side.end(1.0)
        rows += side.rows()
        ends[name] = {"estimate": side.estimate, "lower": low, "upper": high}
        ends[name] |= {"wald_lower": float(wald["lower"][name]), "wald_upper": float(wald["upper"][name])}
        ends[name]["note"] = " ".join(side.notes)
        if line:
            sys.stderr.write(f"\r{k + 1} of {len(names)} profiles" + "\n" * (k + 1 == len(names)))
            sys.stderr.flush()
    points = pd.DataFrame(rows)
    columns = ["estimate", "lower", "upper", "wald_lower", "wald_upper", "note"]
    if len(ends) < len(names) or over():
        notes.append("Stopped before its end.")
    if len(points) and points["delta"].min() < -0.05:
        better = points.loc[points["delta"].idxmin()]
        notes.append(
            f"With {better['parameter']} = {better['value']:.4g} −2 log L is {-better['delta']:.2f} below the fit's: "
            "the fit was not at its minimum; resume it, or start it from there."
        )
    table = pd.DataFrame.from_dict(ends, orient="index", columns=columns)
    table.index.name = "parameter"
    return LikelihoodProfile(points, table, level, limit, method.name, " ".join(notes))


def _names(fit: Fit, parameters: str | Sequence[str] | None) -> list[str]:
    space = fit.start.space
    single = {name for name, i, _ in space.correlations if len(next(b for b in space.blocks if i in b)) == 2}
    together = {name for name, _, _ in space.correlations} - single
    free = [n for n in space.names if not space.is_fixed(n)]
    if parameters is None:
        return [n for n in free if n not in together]
    names = [parameters] if isinstance(parameters, str) else list(parameters)
    for name in names:
        if name in together:
            raise MethodError(f"'{name}' is one of several correlations of a block, which cannot be held one by one.")
        if name not in free:
            raise MethodError(
                f"'{name}' is not estimated; there are {', '.join(n for n in free if n not in together)}."
            )
    return names


@dataclass
class _Point:
    x: float
    z: float
    fit: Fit


class _Sides:
    """The profile of one parameter, along an axis where it is unbounded."""

    def __init__(
        self, base: Fit, method: Approximation, name: str, limit: float, se: float, over: Callable[[], bool]
    ) -> None:
        self.base, self.method, self.name, self.limit, self.over = base, method, name, limit, over
        space = base.start.space
        scalar = {p.name: p for p in (*space.theta, *space.sigma)}.get(name)
        self.logarithmic = (
            scalar is None and name in space.omega_names or (scalar is not None and scalar.scale == "log")
        )
        self.edges = (-1.0, 1.0)
        self.axis: Callable[[float], float]
        self.value: Callable[[float], float]
        if scalar is not None:
            self.axis, self.value = scalar.free, scalar.natural
            low, high = scalar.lower, scalar.upper
            self.edges = (-math.inf if low is None else low, math.inf if high is None else high)
        elif name in space.omega_names:
            self.axis, self.value = math.log, math.exp
            self.edges = (0.0, math.inf)
        else:
            self.axis, self.value = math.atanh, math.tanh
        self.estimate = float(base.estimates[name])
        self.at = self.axis(self.estimate)
        if name in space.omega_names:  # a variance that went to zero: from where it begins to matter
            first = float(space.to_dict(space.initial)[name])
            self.at = max(self.at, math.log(0.01 * first))
        self.found = base.ofv + base.prior
        slope = abs(self.value(self.at + 1e-5) - self.value(self.at - 1e-5)) / 2e-5
        known = math.isfinite(se) and se > 0 and slope > 0
        self.step = min(se / slope, 1.0) if known and self.logarithmic else se / slope if known else 0.2
        self.notes: list[str] = []
        self.points = [_Point(self.at, 0.0, base)]

    def rows(self) -> list[dict[str, float | str]]:
        """Return the points from left to right."""
        out = []
        for p in sorted(self.points, key=lambda p: p.x):
            delta = p.fit.ofv + p.fit.prior - self.found
            row: dict[str, float | str] = {"parameter": self.name, "value": self.value(p.x), "delta": delta}
            out.append(row | {"status": p.fit.status} | p.fit.estimates.to_dict())
        return out

    def refit(self, x: float, near: Fit) -> _Point | None:
        """Return the best fit with the parameter held at x; None if there is none."""
        try:
            held = near.model.free(self.name).with_values({self.name: self.value(x)}).fix(self.name)
            fit = run_fit(held, self.base.problem.data, self.method, seed=self.base.seed, progress=False)
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
            return None
        delta = fit.ofv + fit.prior - self.found
        return _Point(x, math.sqrt(max(delta, 0.0)), fit) if math.isfinite(delta) else None

    def end(self, sign: float) -> float:
        """Return the value to one side where delta is the limit; the end of the range where it never is."""
        goal = math.sqrt(self.limit)
        side = [self.points[0]]
        x = self.at + 0.5 * sign * goal * self.step
        while not self.over() and len(side) <= _MOST:
            point = self.refit(x, side[-1].fit)
            if point is None:
                self.notes.append(f"There is no fit at {self.value(x):.4g}.")
                return math.nan
            side.append(point)
            if point.z > goal:
                break
            last, stride = side[-1], abs(x - side[-2].x)
            slope = max((last.z - side[-2].z) / stride, 1e-12)
            x += sign * min(max((1.03 * goal - last.z) / slope, 0.3 * stride), 2.5 * stride)
            if abs(x - self.at) > (_FAR if self.logarithmic else 4.0 * _FAR * self.step):
                self.notes.append(f"The data do not bound it {'above' if sign > 0 else 'below'}.")
                self.points += side[1:]
                return self.edges[int(sign > 0)]
        for _ in range(3):  # a point between, until one is near the limit
            below, above = side[-2:] if len(side) > 1 else (side[0], side[0])
            if self.over() or above.z <= goal or min(goal - below.z, above.z - goal) < _CLOSE:
                break
            share = min(max((goal - below.z) / (above.z - below.z), 0.05), 0.95)
            point = self.refit(below.x + share * (above.x - below.x), below.fit)
            if point is None:
                break
            if point.z > goal:
                self.points.append(above)
                side[-1] = point
            else:
                side.insert(-1, point)
        self.points += side[1:]
        return self._crossing(side, goal) if side[-1].z > goal else math.nan

    def _crossing(self, side: list[_Point], goal: float) -> float:
        """Return where z is the goal, by monotone interpolation."""
        from scipy.interpolate import PchipInterpolator  # dear to import
        from scipy.optimize import brentq

        away = np.array([abs(p.x - self.at) for p in side])
        curve = PchipInterpolator(away, np.maximum.accumulate([p.z for p in side]))
        at = brentq(lambda v: float(curve(v)) - goal, away[-2], away[-1])
        return self.value(self.at + math.copysign(float(at), side[-1].x - self.at))
