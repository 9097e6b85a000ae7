"""One model fitted from many starting values: which optima there are, and how many starts reach the best."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import MethodError, NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import Values
from nlmewidgets.fit import Fit
from nlmewidgets.fit import fit as run_fit
from nlmewidgets.fit.start import resolve
from nlmewidgets.methods.base import Method
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.studies.runner import Bound, bare, completed, whole
from nlmewidgets.studies.starts import random_starts

__all__ = ["Multistart", "attempt", "multistart", "optima_of"]

_SAME = {True: 0.05, False: 1.0}
"""Objectives closer than this are one optimum: of a method that minimises, and of one that simulates."""


@dataclass(frozen=True, eq=False)
class Multistart:
    """Fits of one model from many starting values.

    Attributes
    ----------
    starts : DataFrame
        A row per start that was tried: status, OFV, above (the best), optimum (its number, from 1), seconds, message
        and the parameters it started from.
    optima : DataFrame
        A row per optimum, best first: OFV, starts that reached it, share, and its estimates.
    failures : Series
        How many starts failed, by cause.
    best : Fit or None
        The fit with the lowest objective; None if all failed.
    fits : tuple of Fit or None
        By start.
    message : str
        One sentence on what was found.
    """

    starts: pd.DataFrame
    optima: pd.DataFrame
    failures: pd.Series
    best: Fit | None
    message: str
    fits: tuple[Fit | None, ...] = field(default=(), repr=False)

    @property
    def share(self) -> float:
        """Share of the starts tried that reached the best optimum."""
        return float(self.optima["share"].iloc[0]) if len(self.optima) else 0.0

    def __repr__(self) -> str:
        parts = [self.message]
        if len(self.optima):
            parts.append(self.optima.to_string(float_format=lambda v: f"{v:.5g}"))
        if len(self.failures):
            parts.append("Failures\n" + "\n".join(f"{count:4d}  {cause}" for cause, count in self.failures.items()))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        failures = self.failures.to_frame().to_html() if len(self.failures) else ""
        return f"<div><p>{self.message}</p>{self.optima.to_html(float_format=lambda v: f'{v:.5g}')}{failures}</div>"


def multistart(
    model: Model,
    data: Data,
    n: int = 20,
    *,
    method: str | Method = "focei",
    spread: float = 1.0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    seed: int = 1,
    workers: int = 1,
    executor: Executor | None = None,
    tolerance: float | None = None,
    time_limit: float | None = None,
    time_limit_each: float | None = None,
    stop: threading.Event | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Multistart:
    """Fit a model from n starting values: its initial ones first, then random ones around them.

    Parameters
    ----------
    model, data
        The model, with its initial values, and the data.
    n : int
        Starts, the declared one included.
    method : str or Method
    spread : float
        How far around the initial values: 1 is ±100 %, see `random_starts`.
    ranges : mapping of name to (low, high), optional
        Where parameters start instead.
    seed : int
        Of the starts and the fits.
    workers : int
        Processes.  In a script the call must then stand below ``if __name__ == "__main__":``, as Python asks.
    executor : concurrent.futures.Executor, optional
        Where to run the fits instead.
    tolerance : float, optional
        Objectives closer than this are one optimum; 0.05, and 1 for methods that simulate.
    time_limit, time_limit_each : float, optional
        Seconds for all fits, and for each.
    stop : threading.Event, optional
        Set it to end after the fits at work.
    progress : bool, optional
        Write a line with the time left to stderr; by default only to a terminal.
    **options
        The method's.  With ``orient=False`` no search is led away from its start: that tells the optima there are.

    Returns
    -------
    Multistart
        Of the starts tried, also when stopped, interrupted or out of time.

    Raises
    ------
    MethodError
        If the method has no such option, or a range is no range.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> found = nw.multistart(model, data, n=4, spread=0.5, seed=3)
    >>> len(found.starts), found.share, round(found.best.ofv, 3)
    (4, 1.0, 198.818)
    """
    if not isinstance(n, int) or n < 1:
        raise MethodError(f"n={n!r} is not a whole number of starts from 1.")
    chosen = resolve(method, options)
    rng = np.random.default_rng(seed)
    points = [model.values, *random_starts(model.space, n - 1, rng, spread=spread, ranges=ranges)]
    parcel: Any = Bound.of(model, data) if workers > 1 or executor is not None else (model, data)
    tasks = [(parcel, point, chosen, seed + k, time_limit_each) for k, point in enumerate(points)]
    tried: dict[int, dict[str, Any]] = dict(
        completed(
            attempt,
            tasks,
            workers=workers,
            executor=executor,
            what="starts",
            progress=progress,
            stop=stop,
            time_limit=time_limit,
        )
    )
    fits = tuple(
        whole(tried[k]["fit"], model.with_values(points[k]), data) if k in tried and tried[k]["fit"] else None
        for k in range(n)
    )
    return _summary(model, points, tried, fits, tolerance or _SAME[isinstance(chosen, Approximation)])


def attempt(task: tuple[Any, Values, Method, int, float | None]) -> dict[str, Any]:
    """Return the fit from one start without model and data, or the cause of its failure."""
    parcel, point, method, seed, time_limit = task
    model, data = parcel.open() if isinstance(parcel, Bound) else parcel
    try:
        fit = run_fit(model.with_values(point), data, method, seed=seed, time_limit=time_limit, progress=False)
    except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as error:
        return {"fit": None, "cause": str(error)}
    if not np.isfinite(fit.ofv):
        return {"fit": None, "cause": "The objective at the end is not finite."}
    return {"fit": bare(fit), "cause": ""}


def optima_of(ofv: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the number of the optimum each objective belongs to, from 1; 0 where it is missing.

    Optima are runs of sorted objectives without a gap larger than the tolerance.

    Examples
    --------
    >>> optima_of(np.array([5.0, 1.0, np.nan, 1.01, 9.0]), 0.05).tolist()
    [2, 1, 0, 1, 3]
    """
    out = np.zeros(len(ofv), dtype=int)
    order = [k for k in np.argsort(ofv) if np.isfinite(ofv[k])]
    for place, k in enumerate(order):
        before = order[place - 1] if place else k
        out[k] = 1 if not place else out[before] + (ofv[k] - ofv[before] > tolerance)
    return out


def _summary(
    model: Model, points: list[Values], tried: dict[int, dict[str, Any]], fits: tuple[Fit | None, ...], tolerance: float
) -> Multistart:
    done = sorted(tried)
    ofv = np.array([np.nan if (f := fits[k]) is None else f.ofv for k in done])
    number = optima_of(ofv, tolerance)
    rows = []
    for place, k in enumerate(done):
        fit = fits[k]
        rows.append(
            {
                "status": "failed" if fit is None else fit.status,
                "OFV": ofv[place],
                "above": ofv[place] - np.nanmin(ofv) if np.isfinite(ofv).any() else np.nan,
                "optimum": int(number[place]),
                "seconds": np.nan if fit is None else fit.elapsed,
                "message": tried[k]["cause"] if fit is None else fit.message,
            }
            | model.space.to_dict(points[k])
        )
    starts = pd.DataFrame(rows, index=pd.Index([k + 1 for k in done], name="start"))
    found = []
    for optimum in range(1, int(number.max(initial=0)) + 1):
        places = np.flatnonzero(number == optimum)
        own = fits[done[int(places[np.argmin(ofv[places])])]]
        assert own is not None
        row = {"OFV": own.ofv, "starts": len(places), "share": len(places) / len(done), "status": own.status}
        found.append(row | own.estimates.to_dict())
    optima = pd.DataFrame(found, index=pd.RangeIndex(1, len(found) + 1, name="optimum"))
    causes = [tried[k]["cause"] for k in done if fits[k] is None]
    causes += [f"{f.status}: {f.message}" for k in done if (f := fits[k]) is not None and f.status != "converged"]
    failures = pd.Series(causes, dtype=object).value_counts().rename("starts")
    best = None if not found else fits[done[int(np.nanargmin(ofv))]]
    if best is None:
        message = f"None of {len(done)} starts ended at an estimate; the causes are listed."
    else:
        reached = int(found[0]["starts"])
        message = f"{reached} of {len(done)} starts reached the best optimum, OFV {best.ofv:.4f} ({best.ofv_by})"
        message += f"; there are {len(found)} optima." if len(found) > 1 else "; no other was found."
        if len(done) < len(points):
            message += f" Stopped before {len(points) - len(done)} more starts."
    return Multistart(starts, optima, failures, best, message, fits)
