"""Initial value problems of many lanes, each at its own pace through its own intervals.

A lane is one subject of one batch member.  Its life is a list of intervals; at the end of each the
state may be read and then jumped (a bolus, an infusion's start, a reset), and the next interval has
its own parameters.  Lanes never wait for each other: one that finishes an interval goes on with the next,
one that has finished is dropped, so the work is that of the lanes still under way.

Of few lanes only the states are followed from step to step, and no step ends for a reading's sake: what is read on
the way is where a step as long as needed leads to, and what states depend on is found afterwards, for all steps at
once (`core.sweep`).  Many lanes fill the calls by themselves, and sensitivities keep up with their states
(`core.abreast`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.breath import breathe
from nlmewidgets.core.course import Course, Reads, Record, Steps, cut
from nlmewidgets.core.radau import Radau
from nlmewidgets.core.runge_kutta import VERNER, Attempt, Explicit
from nlmewidgets.core.sweep import Passing, raise_passing, sensitivities, value_of
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Variational

__all__ = ["Failure", "Intervals", "Lanes", "Run", "integrate"]


class Intervals(NamedTuple):
    """The intervals of all lanes, (S, L) each: a lane's own come first.

    Whatever may differ between intervals is a column of a table; the intervals hold column numbers.
    """

    steps: Ints  # (L,) how many intervals each lane has
    start: Array  # when it begins
    length: Array
    block: Ints  # column of `constants`
    read: Ints  # column of the result that receives the state at its end, −1: none
    jump: Ints  # column of `keep` and `add`, applied after the reading, −1: none
    shift: Ints  # column of `stretch`, −1: its length is a constant
    constants: Array  # (c, ·)
    keep: Array  # (n, ·) factor of each state's rows
    add: Array  # (R, ·)
    stretch: tuple[Array, Array] | None  # derivatives of the length: (slots, ·), (random, slots, ·)
    clock: Array | None  # (rows of the clock, S, L): the start with its derivatives
    n_read: int
    unit: Array | None = None  # (slots, ·): what a usual change of each slot is; its columns are those of `constants`


class Failure(NamedTuple):
    """A lane that could not be continued: when, in which state, why."""

    lane: int
    time: float
    state: Array
    reason: str


@dataclass
class Lanes:
    """What changes while lanes are under way, lanes last everywhere."""

    lane: Ints
    step: Ints
    rows: Array  # (R, L)
    slope: Array  # (R, L)
    constants: Array
    unit: Array  # of each sensitivity
    left: Array  # what remains of the interval
    h: Array  # proposed by the error control
    tries: Ints  # in this interval
    votes: Ints  # for the other method
    calm: Ints  # steps since the last vote
    done: Array

    def take(self, chosen: Array) -> Lanes:
        """Return some of them."""
        return Lanes(*(getattr(self, f.name)[..., chosen] for f in fields(self)))

    def put(self, chosen: Array, other: Lanes) -> None:
        """Overwrite some of them."""
        for f in fields(self):
            getattr(self, f.name)[..., chosen] = getattr(other, f.name)


def integrate(
    system: Variational,
    order: int,
    intervals: Intervals,
    tolerance: Tolerance | None = None,
    *,
    seen: Collection[int] | None = None,
    method: str = "auto",
) -> tuple[Array, list[Failure]]:
    """Solve every lane.

    Parameters
    ----------
    system : Variational
    order : int
        Sensitivities wanted: 0, 1 or 2.
    intervals : Intervals
        A first interval of length 0 with a jump sets the initial state, which is 0 before it.
    tolerance : Tolerance, optional
    seen : collection of int, optional
        States whose values are asked for, all without.  Others have to be right for what they do to these.
    method : {"auto", "explicit", "stiff"}
        "auto" starts every lane explicitly and changes as its stiffness asks.

    Returns
    -------
    rows : (R, n_read) float
        The states and sensitivities read; NaN from where a lane failed.
    failures : list of Failure
    """
    tolerance = tolerance or Tolerance()
    out = np.full((system.rows(order), intervals.n_read), np.nan)
    with np.errstate(all="ignore"):
        if order and len(intervals.steps) > _MANY:
            from nlmewidgets.core.abreast import integrate_abreast

            return out, integrate_abreast(system, order, intervals, tolerance, seen, out, method)
        return out, _integrate_states(system, order, intervals, tolerance, seen, out, method)


def _integrate_states(
    system: Variational,
    order: int,
    intervals: Intervals,
    tolerance: Tolerance,
    seen: Collection[int] | None,
    out: Array,
    method: str,
) -> list[Failure]:
    """Follow the states of every lane and then what they depend on."""
    failures: list[Failure] = []
    lanes = len(intervals.steps)
    intervals, reads = _merged(intervals)
    passing = _passing(system, seen)
    for piece in np.array_split(np.arange(lanes), max(1, -(-lanes // _CHUNK))):
        todo, least = piece.astype(np.intp), _NOTHING
        while todo.size:
            run = Run(system, intervals, tolerance, out, _CLOSER**order, passing=passing, reads=reads, nothing=least)
            run.solve(todo, method)
            todo = run.read(todo, order)
            # Where a state was nothing but its derivatives were not yet, it is followed for longer.
            least = 1e-6 * least if least > 1e-12 else 0.0
            again = set(todo.tolist())
            failures += [f for f in run.failures if f.lane not in again]
    return failures


_MANY = 64
"""Lanes whose sensitivities go abreast of their states."""
_FEW = 128
_CHUNK = 1024
"""Lanes together: more pay for calls, fewer for memory."""
_SAFETY, _SHRINK, _GROW = 0.9, 0.1, 6.0
_NOTHING = 1e-5
"""Part of the tolerance below which a state that only decays is nothing: its derivatives are larger than it, by the
square of some twenty time constants."""
_CLOSER = 0.2
"""How much closer states are followed for each order of derivatives asked for: these inherit their errors, larger."""
_LITTLE, _DAMPS = 10.0, 2.5
"""Part of the tolerance from which on a state that only decays is let decay, by steps of so many time constants."""
_DAMPED = 3.25
"""Length of a step in time constants of the fastest at most, where the explicit method still damps it to a tenth."""
_VOTES = 15
"""Steps limited by stability, or in the stiff method not, before the method is changed."""
_WORTHWHILE = 150
"""Explicit steps still to go that pay for changing to the stiff method, whose steps are dearer."""


def _merged(i: Intervals) -> tuple[Intervals, Reads]:
    """Make one of intervals between which nothing happens but a reading; return the readings within."""
    size, lanes = i.length.shape
    inside = np.arange(size)[:, None] < i.steps
    plain = (i.jump < 0) & (i.shift < 0) & inside
    plain[:-1] &= (i.block[:-1] == i.block[1:]) & inside[1:]
    plain[-1] = False
    since = np.zeros((size, lanes))
    joins = np.zeros((size, lanes), dtype=bool)  # the interval before
    since[0] = i.length[0]
    for k in range(1, size):
        joins[k] = plain[k - 1] & (since[k - 1] > 0)
        since[k] = np.where(joins[k], since[k - 1], 0.0) + i.length[k]
    to = np.cumsum(~joins, axis=0) - 1  # the merged interval of each
    ends = inside & ~np.append(joins[1:], np.zeros((1, lanes), dtype=bool), axis=0)
    steps = np.where(i.steps > 0, to[np.maximum(i.steps - 1, 0), np.arange(lanes)] + 1, 0)
    count = int(steps.max(initial=0))

    def table(values: Any, chosen: Array, fill: Any) -> Any:
        out = np.full((count, lanes), fill)
        step, lane = np.nonzero(chosen)
        out[to[step, lane], lane] = values[step, lane]
        return out

    begins = inside & ~joins
    at = np.nonzero(inside & ~ends & (i.read >= 0))
    reads = Reads(at[1], to[at], since[at], i.read[at])
    clock = None if i.clock is None else np.stack([table(row, begins, 0.0) for row in i.clock])
    merged = i._replace(
        steps=steps,
        start=table(i.start, begins, 0.0),
        length=table(since, ends, 0.0),
        block=table(i.block, begins, 0),
        read=table(i.read, ends, -1),
        jump=table(i.jump, ends, -1),
        shift=table(i.shift, ends, -1),
        clock=clock,
    )
    return merged, reads


def _passing(system: Variational, seen: Collection[int] | None) -> Passing:
    """Return the states that only pass something on, at what rate, and the states they pass it on to at what rates."""
    seen = range(system.n) if seen is None else seen
    return [
        (i, rate, [(k, r) for k, r in onward if r is not None])
        for i, rate, onward in system.fading
        if i not in seen and onward and all(r is not None for _, r in onward)
    ]


class Run:
    """One chunk of lanes."""

    def __init__(
        self,
        system: Variational,
        intervals: Intervals,
        tolerance: Tolerance,
        out: Array,
        closer: float,
        *,
        order: int = 0,
        passing: Passing = (),
        reads: Reads | None = None,
        nothing: float = 0.0,
    ) -> None:
        self.system, self.order, self.i, self.reads = system, order, intervals, reads
        self.tolerance, self.passing = tolerance, passing
        self.rtol, self.atol = closer * tolerance.rtol, closer * tolerance.atol
        self.nothing, self.out = nothing, out
        self.failures: list[Failure] = []
        self.course = Course(system.n)
        self.decaying = np.array([state for state, _, _ in system.fading], dtype=np.intp)
        states = [np.arange(system.n), system.first_index[0], system.second_index[0]]
        self.state_of_row = np.concatenate(states[: order + 1]).astype(np.intp)
        self.clock_rows = np.flatnonzero(self.state_of_row == system.n - 1) if system.clock else np.zeros(0, np.intp)

    def read(self, lanes: Ints, order: int) -> Ints:
        """Write what is read within intervals, and derivatives; return the lanes of which too much was forgotten."""
        n = self.system.n
        assert self.reads is not None
        reads = Reads(*(part[np.isin(self.reads.lane, lanes)] for part in self.reads))
        steps, fades, ends = self.course.tables()
        steps, reads, when, rows = cut(steps, reads, self._advance)
        self.out[:n, reads.column] = rows.T
        if not order:
            return lanes[:0]
        record = Record(steps, fades, ends, reads, when)
        found = sensitivities(self.system, order, self.i, self.tolerance, self.passing, record, self._advance, self.out)
        for lane, time, state in found.unsolved:
            columns = np.append(self.i.read[: self.i.steps[lane], lane], reads.column[reads.lane == lane])
            self.out[:, columns[columns >= 0]] = np.nan
            self.failures.append(Failure(lane, time, state, "the step size became too small for the derivatives"))
        return found.again

    def _advance(self, steps: Steps) -> Array:
        """Return the states (steps, n) that steps lead to."""
        out = np.empty_like(steps.rows)
        for stiff, kind in ((False, Explicit), (True, Radau)):
            chosen = np.flatnonzero(steps.stiff == stiff)
            if chosen.size:
                own, solver = steps.of(chosen), kind(self.system, 0)
                constants, x = self.i.constants[:, self.i.block[own.interval, own.lane]], own.rows.T.copy()
                slope = np.empty_like(x)
                solver.rhs(constants, x, slope)
                out[chosen] = solver.attempt(constants, x, slope, own.h, self._weight(np.abs(x))).rows.T
        return out

    def solve(self, lane: Ints, method: str) -> None:
        """Solve the lanes numbered `lane`."""
        r, lanes = len(self.state_of_row), len(lane)
        explicit, stiff = Explicit(self.system, self.order), Radau(self.system, self.order)
        every = Lanes(
            lane,
            np.zeros(lanes, np.intp),
            np.zeros((r, lanes)),
            np.zeros((r, lanes)),
            np.empty((len(self.i.constants), lanes)),
            np.ones((0 if self.i.unit is None else r - self.system.n, lanes)),
            np.zeros(lanes),
            np.zeros(lanes),
            np.zeros(lanes, np.intp),
            np.zeros(lanes, np.intp),
            np.zeros(lanes, np.intp),
            self.i.steps[lane] == 0,
        )
        self._enter(every, np.flatnonzero(~every.done), explicit, np.ones(lanes, dtype=bool))
        self._pass(every, explicit)
        is_stiff = np.full(lanes, method == "stiff")
        while not every.done.all():
            for kind, solver in ((False, explicit), (True, stiff)):
                chosen = np.flatnonzero((is_stiff == kind) & ~every.done)
                if chosen.size:
                    every.votes[chosen] = every.calm[chosen] = 0
                    is_stiff[chosen[self._pool(every, chosen, solver, method)]] = not kind

    def _pool(self, every: Lanes, chosen: Ints, solver: Explicit | Radau, method: str) -> Array:
        """Advance lanes by one method until each has finished or asks for the other; return which ask."""
        ask = np.zeros(len(chosen), dtype=bool)
        where = np.arange(len(chosen))
        lanes = every.take(chosen)
        while True:
            breathe()
            leaving = (lanes.votes >= _VOTES) & (method == "auto")
            if isinstance(solver, Explicit):
                leaving &= self._to_go(lanes) > _WORTHWHILE * lanes.h
            stopped = lanes.done | leaving
            # Lanes that have stopped ride along (their step is 0) until they are worth dropping: few cost nothing.
            if stopped.sum() * (8 if len(stopped) > _FEW else 2) >= len(stopped):
                every.put(chosen[where[stopped]], lanes.take(stopped))
                ask[where[leaving & ~lanes.done]] = True
                going = ~stopped
                lanes, where, stopped = lanes.take(going), where[going], stopped[going]
                if not len(where):
                    return ask
            self._step(lanes, stopped, solver)

    def _to_go(self, lanes: Lanes) -> Array:
        """Return the time from now to the end of each lane."""
        last = self.i.steps[lanes.lane] - 1
        end = self.i.start[last, lanes.lane] + self.i.length[last, lanes.lane]
        now = self.i.start[lanes.step, lanes.lane] + self.i.length[lanes.step, lanes.lane] - lanes.left
        return np.asarray(end - now)

    # -------------------------------------------------------------------- steps

    def _weight(self, size: Array) -> Array:
        size *= self.rtol
        size += self.atol
        return size

    def _step(self, lanes: Lanes, stopped: Array, solver: Explicit | Radau) -> None:
        """Try one step of every lane and accept it where its error is below the tolerance."""
        pieces = np.ceil(lanes.left / np.maximum(lanes.h, 1e-300) - 0.05)
        last = pieces <= 1
        # Two equal steps rather than a long one and a stub; the last one ends where the interval does.
        h = np.where(last, lanes.left, np.where(pieces == 2, 0.5 * lanes.left, lanes.h))
        h[stopped] = 0.0
        length = self.i.length[lanes.step, lanes.lane]
        size = np.abs(lanes.rows)
        trial = solver.attempt(lanes.constants, lanes.rows, lanes.slope, h, self._weight(size[: self.system.n].copy()))
        error, weight = self._error(lanes, trial, size)
        ok = error <= 1.0
        factor = _SAFETY * np.maximum(error, 1e-10) ** solver.exponent
        np.clip(np.where(np.isfinite(error), factor, _SHRINK), _SHRINK, _GROW, out=factor)
        accepted = ok & ~stopped
        # A step cut short by the end of its interval says little about how long the next may be.
        lanes.h = np.where(accepted, np.where(last, np.maximum(lanes.h, h * factor), h * factor), h * factor)
        self._note(lanes, accepted, length - lanes.left, h, isinstance(solver, Radau))
        if not accepted.all():
            back = ~accepted
            trial.rows[:, back] = lanes.rows[:, back]
            trial.slope[:, back] = lanes.slope[:, back]
            lanes.h[stopped] = 1.0
        lanes.rows, lanes.slope = trial.rows, trial.slope
        lanes.left = np.where(accepted, np.where(last, 0.0, lanes.left - h), lanes.left)
        lanes.tries += 1
        self._vote(lanes, accepted, h, trial.stiffness, solver)
        self._fade(lanes, accepted, h, weight)
        arrived = np.flatnonzero(accepted & (lanes.left <= 0.0))
        if arrived.size:
            self._arrive(lanes, arrived, solver)
            self._pass(lanes, solver)
        tiny = ~accepted & ~stopped & (lanes.h <= 1e-14 * length)
        self._fail(lanes, tiny, "the step size became too small")
        self._fail(lanes, ~lanes.done & (lanes.tries > self.tolerance.max_steps), "too many steps were needed")

    def _note(self, lanes: Lanes, accepted: Array, begin: Array, h: Array, stiff: bool) -> None:
        """Put accepted steps on the record."""
        some = accepted
        self.course.step(lanes.lane[some], lanes.step[some], begin[some], h[some], lanes.rows[:, some], stiff)

    def _error(self, lanes: Lanes, trial: Attempt, size: Array) -> tuple[Array, Array]:
        """Return each lane's error relative to the tolerance, and what each state's is compared with."""
        weight = np.maximum(size, np.abs(trial.rows))
        raise_passing(weight, self.passing, lanes.constants)
        self._weight(weight)
        ratio = trial.error / weight
        error = np.sqrt(np.einsum("xl,xl->l", ratio, ratio) / len(ratio))
        error[~np.isfinite(trial.rows.sum(axis=0))] = np.nan
        return error, weight

    def _vote(self, lanes: Lanes, accepted: Array, h: Array, stiffness: Array, solver: Explicit | Radau) -> None:
        if isinstance(solver, Explicit):
            # At the end of the stability region what should die away stays as large as the tolerance permits, and what
            # depends on it resonates: steps are kept to where it is damped.
            limit = h * (_DAMPED / np.maximum(stiffness, 1e-300))
            lanes.h = np.where(accepted, np.minimum(lanes.h, limit), lanes.h)
            other = stiffness > 0.8 * _DAMPED
        else:
            other = stiffness < 0.25 * VERNER.stability
        lanes.votes += accepted & other
        lanes.calm = np.where(other, 0, lanes.calm + accepted)
        lanes.votes[lanes.calm >= 6] = 0

    def _fade(self, lanes: Lanes, accepted: Array, h: Array, weight: Array) -> None:
        """Set to zero what has decayed below the tolerance: an explicit step would make it grow again."""
        value = np.abs(lanes.rows[self.decaying])
        little = (value < _LITTLE * weight[self.decaying]) & (value != 0.0) & accepted
        for k in np.flatnonzero(little.any(axis=1)):
            state, rate, _ = self.system.fading[k]
            at = np.flatnonzero(little[k])
            speed = np.broadcast_to(value_of(rate, lanes.constants[:, at]), at.shape)
            least = self.nothing * weight[state, at]
            over = (speed < 0) & (value[k, at] + np.abs(h[at] * lanes.slope[state, at]) < least)
            # What is little already decays further by steps that leave it no part of what it was.
            lanes.h[at] = np.where(over, lanes.h[at], np.minimum(lanes.h[at], _DAMPS / np.abs(speed)))
            at = at[over]
            lanes.rows[state, at] = lanes.slope[state, at] = 0.0
            self.course.fade(lanes.lane[at], state)

    def _fail(self, lanes: Lanes, failed: Array, reason: str) -> None:
        for place in np.flatnonzero(failed & ~lanes.done) if failed.any() else ():
            lane, step = int(lanes.lane[place]), lanes.step[place]
            end = self.i.start[step, lane] + self.i.length[step, lane]
            state = lanes.rows[: self.system.n, place].copy()
            self.failures.append(Failure(lane, float(end - lanes.left[place]), state, reason))
            lanes.done[place] = True

    # ------------------------------------------------------------------- events

    def _arrive(self, lanes: Lanes, at: Ints, solver: Explicit | Radau) -> None:
        """End the intervals of the lanes at places `at` and enter the next."""
        i, lane, step = self.i, lanes.lane[at], lanes.step[at]
        fresh = np.zeros(len(lanes.lane), dtype=bool)
        self._end(lanes, at, fresh, solver)
        read = i.read[step, lane]
        if (wanted := read >= 0).any():
            self.out[: len(lanes.rows), read[wanted]] = lanes.rows[:, at[wanted]]
        jump = i.jump[step, lane]
        if (jumps := jump >= 0).any():
            places, columns = at[jumps], jump[jumps]
            kept = lanes.rows[:, places] * i.keep[:, columns][self.state_of_row]
            lanes.rows[:, places] = kept + i.add[: len(kept), columns]
            fresh[places] = True
        lanes.step[at] += 1
        over = lanes.step[at] >= i.steps[lane]
        lanes.done[at[over]] = True
        lanes.step[at[over]] -= 1
        self._enter(lanes, at[~over], solver, fresh)

    def _end(self, lanes: Lanes, at: Ints, fresh: Array, solver: Explicit | Radau) -> None:
        """Put the ends of intervals on the record."""
        self.course.end(lanes.lane[at], lanes.step[at], lanes.rows[:, at])

    def _enter(self, lanes: Lanes, at: Ints, solver: Explicit | Radau, fresh: Array) -> None:
        """Load the interval that begins; make slopes and a first step where anything changed."""
        i = self.i
        lane, step = lanes.lane[at], lanes.step[at]
        before = np.maximum(step - 1, 0)
        block = i.block[step, lane]
        lanes.left[at] = i.length[step, lane]
        lanes.tries[at] = 0
        # A step of 0 is one that an interval of length 0 could not tell.
        changed = fresh[at] | (lanes.h[at] <= 0) | (block != i.block[before, lane])
        if self.system.clock:
            assert i.clock is not None
            start = i.clock[: len(self.clock_rows), step, lane]
            where = np.ix_(self.clock_rows, at)
            changed |= (np.abs(lanes.rows[where] - start) > 1e-12 * np.abs(start)).any(axis=0)  # more than rounding
            lanes.rows[where] = start
        at, block = at[changed], block[changed]
        if at.size:
            lanes.constants[:, at] = i.constants[:, block]
            if len(lanes.unit):
                assert i.unit is not None
                lanes.unit[:, at] = self.units(i.unit[:, block])
            lanes.slope[:, at] = self._slope(lanes, at, solver)
            lanes.h[at] = self._first_step(lanes, at, solver)

    def units(self, unit: Array) -> Array:
        """Return the usual change of the slots of each sensitivity."""
        system, parts = self.system, [np.zeros((0, unit.shape[1]))]
        if self.order >= 1:
            parts.append(unit[system.first_index[1]])
        if self.order >= 2:
            _, a, b = system.second_index
            parts.append(unit[a] * unit[b])
        return np.concatenate(parts)

    def _slope(self, lanes: Lanes, at: Ints, solver: Explicit | Radau) -> Array:
        rows = lanes.rows[:, at]
        out = np.empty_like(rows)
        solver.rhs(lanes.constants[:, at], rows, out)
        return out

    def _pass(self, lanes: Lanes, solver: Explicit | Radau) -> None:
        """Pass through intervals of length 0."""
        while (at := np.flatnonzero(~lanes.done & (lanes.left <= 0.0))).size:
            self._arrive(lanes, at, solver)

    def _first_step(self, lanes: Lanes, at: Ints, solver: Explicit | Radau) -> Array:
        """Return a first step, from the curvature along a short Euler step (Hairer, Nørsett & Wanner, II.4)."""
        n, exponent = self.system.n, solver.exponent
        rows, slope = lanes.rows[:n, at], lanes.slope[:n, at]
        length = lanes.left[at]
        # A state that starts at 0 is measured by what flows into the lane, not by atol.
        size = np.max(np.abs(rows) + np.abs(slope) * (1e-3 * length), axis=0)
        weight = self._weight(size.copy())
        d1 = np.sqrt(np.mean((slope / weight) ** 2, axis=0))
        h0 = np.minimum(np.where(d1 > 0, 0.01 * size / weight / d1, np.inf), length)
        h0 = np.where(h0 > 0, h0, 1.0)
        after = np.empty_like(rows)
        self.system.kernel(0)(lanes.constants[:, at], rows + h0 * slope, after)
        d2 = np.sqrt(np.mean(((after - slope) / weight) ** 2, axis=0)) / h0
        most = np.maximum(d1, d2)
        h1 = np.where(most > 0, (0.01 / most) ** -exponent, np.inf)
        h = np.minimum(100 * h0, h1)
        return np.where(np.isfinite(h) & (h > 0), np.minimum(h, length), 1e-6 * length)
