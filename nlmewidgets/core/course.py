"""What an integration did to its lanes: the record that readings and derivatives are made from (`core.sweep`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints

__all__ = ["Course", "Ends", "Fades", "Reads", "Record", "Steps", "cut"]


class Steps(NamedTuple):
    """Accepted steps, or parts of them."""

    when: Ints  # count of steps in all
    lane: Ints
    interval: Ints
    begin: Array  # time since the interval began
    h: Array
    stiff: Array
    rows: Array  # (steps, n): the states it begins with

    def of(self, chosen: Any) -> Steps:
        """Return some of them."""
        return Steps(*(part[chosen] for part in self))


class Fades(NamedTuple):
    """States set to zero right after a lane's step."""

    when: Ints
    lane: Ints
    state: Ints


class Ends(NamedTuple):
    """Ends of intervals and the states there."""

    when: Ints
    lane: Ints
    interval: Ints
    rows: Array  # (ends, n)


class Reads(NamedTuple):
    """Readings within intervals."""

    lane: Ints
    interval: Ints
    time: Array  # since the interval began
    column: Ints


class Record(NamedTuple):
    """All that happened; each reading within an interval with the count of the step it is after."""

    steps: Steps
    fades: Fades
    ends: Ends
    reads: Reads
    read_when: Ints

    def of_lanes(self, lanes: Ints) -> Record:
        """Return what happened to some lanes."""

        def own(table: Any) -> Any:
            return type(table)(*(part[np.isin(table.lane, lanes)] for part in table))

        when = self.read_when[np.isin(self.reads.lane, lanes)]
        return Record(own(self.steps), own(self.fades), own(self.ends), own(self.reads), when)


class Course:
    """The record, as it comes."""

    def __init__(self, n: int) -> None:
        none, number = np.zeros(0, np.intp), np.zeros(0)
        self._steps: list[Any] = [Steps(none, none, none, number, number, number > 0, np.zeros((0, n)))]
        self._fades: list[Any] = [Fades(none, none, none)]
        self._ends: list[Any] = [Ends(none, none, none, np.zeros((0, n)))]

    def step(self, lane: Ints, interval: Ints, begin: Array, h: Array, rows: Array, stiff: bool) -> None:
        """Note accepted steps of length h from the states `rows` (n, lanes)."""
        when, kind = np.full(len(lane), len(self._steps)), np.full(len(lane), stiff)
        self._steps.append((when, lane, interval.copy(), begin, h, kind, rows.T.copy()))

    def fade(self, lane: Ints, state: int) -> None:
        """Note that a state was set to zero after the last step."""
        self._fades.append((np.full(len(lane), len(self._steps) - 1), lane, np.full(len(lane), state)))

    def end(self, lane: Ints, interval: Ints, rows: Array) -> None:
        """Note the states (n, lanes) at ends of intervals."""
        self._ends.append((np.full(len(lane), len(self._steps) - 1), lane, interval, rows.T))

    def tables(self) -> tuple[Steps, Fades, Ends]:
        """Return all of it."""
        return Steps(*_joined(self._steps)), Fades(*_joined(self._fades)), Ends(*_joined(self._ends))


def _joined(parts: list[Any]) -> list[Array]:
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def cut(steps: Steps, reads: Reads, advance: Callable[[Steps], Array]) -> tuple[Steps, Reads, Ints, Array]:
    """Cut steps where something is read within them.

    Parameters
    ----------
    steps : Steps
    reads : Reads
    advance : callable
        Steps → the states (steps, n) they lead to.

    Returns
    -------
    steps : Steps
        In parts that end at readings.
    reads : Reads
        Those that a step leads to (a lane that failed has others).
    when : (reads,) int
        That step.
    rows : (reads, n) float
        The states read.
    """
    size = int(max(steps.interval.max(initial=0), reads.interval.max(initial=0))) + 1
    number = len(steps.lane)
    key = np.concatenate([steps.lane * size + steps.interval, reads.lane * size + reads.interval])
    time = np.concatenate([steps.begin, reads.time])
    is_step = np.arange(len(key)) < number
    order = np.lexsort((is_step, time, key))
    last = np.maximum.accumulate(np.where(is_step[order], np.arange(len(order)), 0))
    read = np.flatnonzero(~is_step[order])
    step, own = order[last[read]], order[read] - number  # by step, then by time
    reached = is_step[step] & (key[step] == key[number + own])
    step, own = step[reached], own[reached]
    into = reads.time[own] - steps.begin[step]
    reached = into <= steps.h[step] + 1e-9 * steps.h[step] + 1e-13 * reads.time[own]
    step, own, into = step[reached], own[reached], np.minimum(into, steps.h[step])[reached]
    fresh = (np.diff(step, prepend=-1) != 0) | (np.diff(into, prepend=-1.0) != 0)
    at, place = np.flatnonzero(fresh), np.cumsum(fresh) - 1
    rows = advance(steps.of(step[at])._replace(h=into[at]))
    # What is left of a step after each of its readings, up to the next one or to its end.
    whole = steps.h[step[at]]
    end = np.append(into[at][1:], 0.0)
    end = np.where(np.diff(step[at], append=-1) != 0, whole, end)
    rest = np.flatnonzero(end - into[at] > 1e-9 * whole)
    parts = steps.of(step[at[rest]])._replace(
        begin=reads.time[own[at[rest]]], h=(end - into[at])[rest], rows=rows[rest]
    )
    h = steps.h.copy()
    first = np.diff(step[at], prepend=-1) != 0
    h[step[at[first]]] = into[at[first]]
    steps = Steps(*_joined([steps._replace(h=h), parts]))
    return steps, Reads(*(part[own] for part in reads)), steps.when[step], rows[place]
