"""Several fits of the same data in turn: methods, or starting values, on one scale of −2 log L while they run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.core.pieces import Pieces, quietly
from nlmewidgets.fit import Fit, Run
from nlmewidgets.fit.live import look
from nlmewidgets.methods.base import Iteration
from nlmewidgets.methods.yardstick import Yardstick, yardstick_pieces
from nlmewidgets.studies.starts import random_starts

__all__ = ["Lane", "Race", "methods_race", "starts_race"]

_SHARE = 0.2
"""Of a lane's own time, what may be spent on looking where it is on the common scale."""


@dataclass(eq=False)
class Lane:
    """One fit of a race, as far as it has come.

    Attributes
    ----------
    label, method : str
    model : Model
        With the values it starts from.
    status, message : str
        'waiting', 'running', 'measuring' (−2 log L), then as a fit's.
    seconds : float
        Of its own iterations.
    at, minus2ll : list of float
        Seconds, and −2 log L by Laplace's approximation there, the same for all lanes.
    fit : Fit or None
    stick : Yardstick or None
        −2 log L at the estimates, by quadrature or importance sampling.
    """

    label: str
    method: str
    model: Model
    options: Mapping[str, Any] = field(default_factory=dict)
    status: str = "waiting"
    message: str = ""
    seconds: float = 0.0
    looking: float = 0.0
    at: list[float] = field(default_factory=list)
    minus2ll: list[float] = field(default_factory=list)
    history: list[Iteration] = field(default_factory=list, repr=False)
    run: Run | None = None
    steps: Iterator[Iteration] | None = None
    fit: Fit | None = None
    measure: Pieces[Yardstick] | None = field(default=None, repr=False)
    stick: Yardstick | None = None

    @property
    def open(self) -> bool:
        """Whether there is something left to do."""
        return self.status in ("waiting", "running", "measuring")


class Race:
    """Fits that take turns: the lane that has had the least time goes next.

    Parameters
    ----------
    lanes : sequence of Lane
    data : Data
    seed : int, optional

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> race = methods_race(model, data, ("fo", "focei"))
    >>> for lane in race.steps():
    ...     pass
    >>> race.table()["-2LL"].round(2).tolist()  # linear in eta: every method is exact
    [263.14, 263.14]
    """

    def __init__(self, lanes: Sequence[Lane], data: Data, seed: int | None = 1) -> None:
        self.lanes = tuple(lanes)
        self.data = data
        self.seed = seed

    def steps(self) -> Iterator[Lane]:
        """Yield the lane that has just moved, until all are done."""
        while lanes := [lane for lane in self.lanes if lane.open]:
            lane = min(lanes, key=lambda one: one.seconds + one.looking)
            began = time.perf_counter()
            try:
                self._advance(lane)
            except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as error:
                lane.status, lane.message, lane.steps = "failed", str(error), None
            if lane.measure is not None:
                lane.looking += time.perf_counter() - began
            if lane.status in ("running", "failed"):
                lane.seconds += time.perf_counter() - began
                if lane.history and lane.status == "running":
                    self._look(lane)
            yield lane

    def _advance(self, lane: Lane) -> None:
        """Let a lane do one thing: begin, iterate, end, or be measured."""
        if lane.status == "waiting":
            lane.run = Run.prepare(lane.model, self.data, lane.method, self.seed, dict(lane.options))
            lane.steps, lane.status = lane.run.steps(), "running"
            return
        assert lane.run is not None
        if lane.status == "measuring":
            assert lane.fit is not None
            fit = lane.fit
            if lane.measure is None:
                lane.measure = quietly(yardstick_pieces(fit.problem, fit.values, eta=fit.etas.T))
            try:
                next(lane.measure)
            except StopIteration as end:
                lane.stick, lane.measure = end.value, None
                lane.status, lane.message = fit.status, fit.message
            return
        assert lane.steps is not None
        before = lane.history[-1] if lane.history else None
        iteration = next(lane.steps)
        lane.history.append(iteration)
        if before is not None:
            before.forget()
        if iteration.status != "running":
            lane.fit = lane.run.result(lane.history, elapsed=lane.seconds)
            self._look(lane, always=True)
            lane.status = "measuring"

    def _look(self, lane: Lane, *, always: bool = False) -> None:
        """Evaluate the common scale where a lane is, if it has time for that."""
        first = not lane.at
        if not (first or always) and lane.looking > _SHARE * lane.seconds:
            return
        assert lane.run is not None
        began = time.perf_counter()
        last, problem = lane.history[-1], lane.run.problem
        seen = look(problem, last.values, "laplace", last.eta if np.isfinite(last.eta).all() else None)
        lane.at.append(lane.seconds)
        lane.minus2ll.append(seen.ofv + _constant(lane.run))
        lane.looking += time.perf_counter() - began

    def result(self, history: Sequence[Any], *, stopped: str = "", elapsed: float = 0.0) -> Race:
        """Return the race at its end; lanes that were not done are marked as stopped."""
        for lane in self.lanes:
            if lane.open:
                lane.status = "stopped" if lane.fit is None else lane.fit.status
                lane.message = stopped
        return self

    @property
    def progress(self) -> float:
        """Share of the work done, as far as the lanes can tell."""
        shares = [1.0 if not e.open else e.history[-1].progress * 0.95 if e.history else 0.0 for e in self.lanes]
        return float(np.mean(shares)) if shares else 1.0

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The fits that came to their own end."""
        return tuple(lane.fit for lane in self.lanes if lane.fit is not None)

    @property
    def winner(self) -> Lane | None:
        """The lane with the lowest −2 log L by the yardstick; None while none is measured."""
        measured = [lane for lane in self.lanes if lane.stick is not None and np.isfinite(lane.stick.ofv)]
        return min(measured, key=lambda lane: lane.stick.ofv if lane.stick else np.inf) if measured else None

    @property
    def leaders(self) -> tuple[Lane, ...]:
        """The lanes whose −2 log L cannot be told from the winner's, within both errors and 0.01."""
        best = self.winner
        if best is None or best.stick is None:
            return ()
        most, error = best.stick.ofv + 0.01, best.stick.error
        return tuple(e for e in self.lanes if e.stick is not None and e.stick.ofv <= most + error + e.stick.error)

    def table(self) -> pd.DataFrame:
        """Return a row per lane: status, OFV by its own method, −2LL with error, seconds, and where it is."""
        rows = {}
        for lane in self.lanes:
            last = lane.history[-1] if lane.history else None
            values = lane.model.values if last is None else last.values
            own = lane.fit.ofv if lane.fit is not None else last.ofv if last is not None else np.nan
            stick = lane.stick
            rows[lane.label] = {
                "status": lane.status,
                "OFV": own,
                "-2LL": np.nan if stick is None or lane.run is None else stick.ofv + _constant(lane.run),
                "error": np.nan if stick is None else stick.error,
                "seconds": lane.seconds,
            } | lane.model.space.to_dict(values)
        return pd.DataFrame.from_dict(rows, orient="index")


def methods_race(
    model: Model,
    data: Data,
    methods: Sequence[str] = ("focei", "laplace", "saem"),
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int | None = 1,
) -> Race:
    """Return a race of methods from the model's initial values."""
    given = options or {}
    return Race([Lane(name, name, model, given.get(name, {})) for name in methods], data, seed)


def starts_race(
    model: Model,
    data: Data,
    n: int = 4,
    *,
    method: str = "focei",
    spread: float = 1.0,
    options: Mapping[str, Any] | None = None,
    seed: int | None = 1,
) -> Race:
    """Return a race of one method from the initial values and n − 1 random ones, see `random_starts`."""
    points = [model.values, *random_starts(model.space, n - 1, np.random.default_rng(seed), spread=spread)]
    lanes = [Lane(f"start {k}", method, model.with_values(v), options or {}) for k, v in enumerate(points, 1)]
    return Race(lanes, data, seed)


def _constant(run: Run) -> float:
    return run.problem.n_normal * math.log(2.0 * math.pi)
