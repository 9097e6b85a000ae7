"""Initial value problems of many lanes, each at its own pace through its own intervals.

A lane is one subject of one batch member.  Its life is a list of intervals; at the end of each the
state may be read and then jumped (a bolus, an infusion's start, a reset), and the next interval has
its own parameters.  Lanes never wait for each other: one that finishes an interval goes on with the next,
one that has finished is dropped, so the work is that of the lanes still under way.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.breath import breathe
from nlmewidgets.core.radau import Radau
from nlmewidgets.core.runge_kutta import VERNER, Attempt, Explicit
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Rate, Variational

__all__ = ["Failure", "Intervals", "integrate"]


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
class _Lanes:
    """What changes while lanes are under way, lanes last everywhere."""

    lane: Ints
    step: Ints
    rows: Array  # (R, L)
    slope: Array  # (R, L)
    constants: Array
    unit: Array  # (R − n, L) of each sensitivity
    left: Array  # what remains of the interval
    h: Array  # proposed by the error control
    tries: Ints  # in this interval
    votes: Ints  # for the other method
    calm: Ints  # steps since the last vote
    done: Array

    def take(self, chosen: Array) -> _Lanes:
        return _Lanes(*(getattr(self, f.name)[..., chosen] for f in fields(self)))

    def put(self, chosen: Array, other: _Lanes) -> None:
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
    lanes = len(intervals.steps)
    out = np.full((system.rows(order), intervals.n_read), np.nan)
    failures: list[Failure] = []
    # Smaller chunks pay for calls, larger ones for memory: flat between 400 and 1,000 lanes of 50 rows.
    chunk = int(np.clip(_CACHE // (8 * system.rows(order)), 128, 1024))
    pieces = max(1, round(lanes / chunk))
    with np.errstate(all="ignore"):
        for piece in np.array_split(np.arange(lanes), pieces):
            _Run(system, order, intervals, tolerance, seen, out, failures).solve(piece.astype(np.intp), method)
    return out, failures


_CACHE = 400_000
_SAFETY, _SHRINK, _GROW = 0.9, 0.1, 6.0
_NOTHING = 0.1
"""Part of the tolerance below which a state that only decays is nothing."""
_VOTES = 15
"""Steps limited by stability, or in the stiff method not, before the method is changed."""
_WORTHWHILE = 150
"""Explicit steps still to go that pay for changing to the stiff method, whose steps are dearer."""


class _Run:
    """One chunk of lanes."""

    def __init__(
        self,
        system: Variational,
        order: int,
        intervals: Intervals,
        tolerance: Tolerance,
        seen: Collection[int] | None,
        out: Array,
        failures: list[Failure],
    ) -> None:
        self.system, self.order, self.i, self.tolerance = system, order, intervals, tolerance
        self.out, self.failures = out, failures
        self.state_of_row = np.concatenate(
            [np.arange(system.n), system.first_index[0] if order else [], system.second_index[0] if order > 1 else []]
        ).astype(np.intp)
        self.clock_rows = np.flatnonzero(self.state_of_row == system.n - 1) if system.clock else np.zeros(0, np.intp)
        self.groups = [slice(0, system.n), slice(system.n, system.rows(1)), slice(system.rows(1), system.rows(2))]
        self.groups = [g for g in self.groups[: order + 1] if g.stop > g.start]
        self.fading = [(np.flatnonzero(self.state_of_row == i), rate) for i, rate, _ in system.fading]
        self.passing = self._passing(range(system.n) if seen is None else seen)
        self._work = np.empty(0)

    def _passing(self, seen: Collection[int]) -> list[tuple[Ints, Rate, list[tuple[Ints, Rate]]]]:
        """Return the rows of each state that only passes something on, and of the states it passes it on to."""
        system, order = self.system, self.order
        keys: list[tuple[int, ...]] = [(i,) for i in range(system.n)]
        keys += [*system.first] if order else []
        keys += [*system.second] if order > 1 else []
        place = {key: row for row, key in enumerate(keys)}
        out = []
        for i, rate, onward in system.fading:
            if i not in seen and onward and all(r is not None for _, r in onward):
                own = [key for key in keys if key[0] == i]
                there = [(np.array([place[k, *key[1:]] for key in own]), r) for k, r in onward if r is not None]
                out.append((np.array([place[key] for key in own]), rate, there))
        return out

    def solve(self, lane: Ints, method: str) -> None:
        """Solve the lanes numbered `lane`."""
        r, n = self.system.rows(self.order), len(lane)
        explicit, stiff = Explicit(self.system, self.order), Radau(self.system, self.order)
        every = _Lanes(
            lane,
            np.zeros(n, np.intp),
            np.zeros((r, n)),
            np.zeros((r, n)),
            np.empty((len(self.i.constants), n)),
            np.ones((0 if self.i.unit is None else r - self.system.n, n)),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n, np.intp),
            np.zeros(n, np.intp),
            np.zeros(n, np.intp),
            self.i.steps[lane] == 0,
        )
        self._enter(every, np.flatnonzero(~every.done), explicit, np.ones(n, dtype=bool))
        self._pass(every, explicit)
        is_stiff = np.full(n, method == "stiff")
        while not every.done.all():
            for kind, solver in ((False, explicit), (True, stiff)):
                chosen = np.flatnonzero((is_stiff == kind) & ~every.done)
                if chosen.size:
                    every.votes[chosen] = every.calm[chosen] = 0
                    is_stiff[chosen[self._pool(every, chosen, solver, method)]] = not kind

    def _pool(self, every: _Lanes, chosen: Ints, solver: Explicit | Radau, method: str) -> Array:
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
            # Lanes that have stopped ride along (their step is 0) until they are worth dropping.
            if stopped.sum() * 8 >= len(stopped):
                every.put(chosen[where[stopped]], lanes.take(stopped))
                ask[where[leaving & ~lanes.done]] = True
                going = ~stopped
                lanes, where, stopped = lanes.take(going), where[going], stopped[going]
                if not len(where):
                    return ask
            self._step(lanes, stopped, solver)

    def _to_go(self, lanes: _Lanes) -> Array:
        """Return the time from now to the end of each lane."""
        last = self.i.steps[lanes.lane] - 1
        end = self.i.start[last, lanes.lane] + self.i.length[last, lanes.lane]
        now = self.i.start[lanes.step, lanes.lane] + self.i.length[lanes.step, lanes.lane] - lanes.left
        return np.asarray(end - now)

    # -------------------------------------------------------------------- steps

    def _weight(self, size: Array) -> Array:
        size *= self.tolerance.rtol
        size += self.tolerance.atol
        return size

    def _step(self, lanes: _Lanes, stopped: Array, solver: Explicit | Radau) -> None:
        """Try one step of every lane and accept it where its error is below the tolerance."""
        n = self.system.n
        pieces = np.ceil(lanes.left / np.maximum(lanes.h, 1e-300) - 0.05)
        last = pieces <= 1
        # Two equal steps rather than a long one and a stub; the last one ends where the interval does.
        h = np.where(last, lanes.left, np.where(pieces == 2, 0.5 * lanes.left, lanes.h))
        h[stopped] = 0.0
        size = np.abs(lanes.rows)
        trial = solver.attempt(lanes.constants, lanes.rows, lanes.slope, h, self._weight(size[:n].copy()))
        error = self._error(lanes, trial, size)
        ok = error <= 1.0
        factor = _SAFETY * np.maximum(error, 1e-10) ** solver.exponent
        np.clip(np.where(np.isfinite(error), factor, _SHRINK), _SHRINK, _GROW, out=factor)
        accepted = ok & ~stopped
        # A step cut short by the end of its interval says little about how long the next may be.
        lanes.h = np.where(accepted, np.where(last, np.maximum(lanes.h, h * factor), h * factor), h * factor)
        back = np.flatnonzero(~accepted)
        if back.size:
            trial.rows[:, back] = lanes.rows[:, back]
            trial.slope[:, back] = lanes.slope[:, back]
            lanes.h[stopped] = 1.0
        lanes.rows, lanes.slope = trial.rows, trial.slope
        lanes.left = np.where(accepted, np.where(last, 0.0, lanes.left - h), lanes.left)
        lanes.tries += 1
        self._vote(lanes, accepted, trial.stiffness, solver)
        self._fade(lanes, h, size)
        arrived = np.flatnonzero(accepted & (lanes.left <= 0.0))
        if arrived.size:
            self._arrive(lanes, arrived, solver)
            self._pass(lanes, solver)
        length = self.i.length[lanes.step, lanes.lane]
        tiny = ~accepted & ~stopped & (lanes.h <= 1e-14 * length)
        self._fail(lanes, tiny, "the step size became too small")
        self._fail(lanes, ~lanes.done & (lanes.tries > self.tolerance.max_steps), "too many steps were needed")

    def _error(self, lanes: _Lanes, trial: Attempt, size: Array) -> Array:
        """Return each lane's error relative to the tolerance, which overwrites `size`."""
        if len(self._work) < size.size:
            self._work = np.empty(size.size)
        work = self._work[: size.size].reshape(size.shape)
        np.absolute(trial.rows, out=work)
        np.maximum(size, work, out=size)
        self._raise(lanes, size, work)
        ratio = trial.error
        ratio /= self._weight(size)
        ratio *= ratio
        total = np.zeros(size.shape[1])
        for group in self.groups:
            np.maximum(total, ratio[group].mean(axis=0), out=total)  # a NaN stays one
        error = np.sqrt(total)
        error[~np.isfinite(trial.rows.sum(axis=0))] = np.nan
        return error

    def _raise(self, lanes: _Lanes, size: Array, work: Array) -> None:
        """Raise the sizes that errors are compared with to what matters for what is asked for.

        A sensitivity counts where a usual change along its slot would change the state.  A state that is not
        seen and only passes on counts by where it goes: what is wrong by e with a state that leaves
        at the rate J_ii has made state k wrong by J_ki/J_ii·e when it has left.
        """
        n = self.system.n
        if self.i.unit is not None and len(size) > n:
            floor = work[n:]
            np.take(size, self.state_of_row[n:], axis=0, out=floor, mode="clip")
            floor *= lanes.unit
            np.maximum(size[n:], floor, out=size[n:])
        for rows, rate, onward in self.passing:
            floors = []
            for there, other in onward:
                ratio = np.abs(_value(rate, lanes.constants) / _value(other, lanes.constants))
                floors.append(size[there] * ratio)
            size[rows] = np.maximum(size[rows], np.minimum.reduce(floors))

    def _vote(self, lanes: _Lanes, accepted: Array, stiffness: Array, solver: Explicit | Radau) -> None:
        if isinstance(solver, Explicit):
            other = stiffness > 0.7 * VERNER.stability  # the step is about as long as stability permits
        else:
            other = stiffness < 0.25 * VERNER.stability
        lanes.votes += accepted & other
        lanes.calm = np.where(other, 0, lanes.calm + accepted)
        lanes.votes[lanes.calm >= 6] = 0

    def _fade(self, lanes: _Lanes, h: Array, weight: Array) -> None:
        """Set to zero what has decayed below the tolerance: an explicit step would make it grow again."""
        for rows, rate in self.fading:
            value = np.abs(lanes.rows[rows[0]])
            at = np.flatnonzero((value < _NOTHING * weight[rows[0]]) & (value != 0.0))
            if at.size:
                where = np.ix_(rows, at)
                small = np.abs(lanes.rows[where]) + np.abs(h[at] * lanes.slope[where]) < _NOTHING * weight[where]
                falls = _value(rate, lanes.constants[:, at]) < 0
                where = np.ix_(rows, at[small.all(axis=0) & falls])
                lanes.rows[where] = lanes.slope[where] = 0.0

    def _fail(self, lanes: _Lanes, failed: Array, reason: str) -> None:
        for place in np.flatnonzero(failed & ~lanes.done):
            lane, step = int(lanes.lane[place]), lanes.step[place]
            end = self.i.start[step, lane] + self.i.length[step, lane]
            state = lanes.rows[: self.system.n, place].copy()
            self.failures.append(Failure(lane, float(end - lanes.left[place]), state, reason))
            lanes.done[place] = True

    # ------------------------------------------------------------------- events

    def _arrive(self, lanes: _Lanes, at: Ints, solver: Explicit | Radau) -> None:
        """End the intervals of the lanes at places `at` and enter the next."""
        i, lane, step = self.i, lanes.lane[at], lanes.step[at]
        fresh = np.zeros(len(lanes.lane), dtype=bool)
        shift = i.shift[step, lane]
        if (moved := shift >= 0).any():
            assert i.stretch is not None
            places = at[moved]
            lanes.rows[:, places] += self._stretched(lanes, places, shift[moved], solver)
            fresh[places] = True
        read = i.read[step, lane]
        if (wanted := read >= 0).any():
            self.out[:, read[wanted]] = lanes.rows[:, at[wanted]]
        jump = i.jump[step, lane]
        if (jumps := jump >= 0).any():
            places, columns = at[jumps], jump[jumps]
            kept = lanes.rows[:, places] * i.keep[:, columns][self.state_of_row]
            lanes.rows[:, places] = kept + i.add[:, columns]
            fresh[places] = True
        lanes.step[at] += 1
        over = lanes.step[at] >= i.steps[lane]
        lanes.done[at[over]] = True
        lanes.step[at[over]] -= 1
        self._enter(lanes, at[~over], solver, fresh)

    def _enter(self, lanes: _Lanes, at: Ints, solver: Explicit | Radau, fresh: Array) -> None:
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
            changed |= (lanes.rows[where] != start).any(axis=0)
            lanes.rows[where] = start
        at, block = at[changed], block[changed]
        if at.size:
            lanes.constants[:, at] = i.constants[:, block]
            if i.unit is not None:
                lanes.unit[:, at] = self._units(i.unit[:, block])
            lanes.slope[:, at] = self._slope(lanes, at, solver)
            lanes.h[at] = self._first_step(lanes, at, solver)

    def _units(self, unit: Array) -> Array:
        """Return the usual change of the slots of each sensitivity."""
        system, parts = self.system, [np.zeros((0, unit.shape[1]))]
        if self.order >= 1:
            parts.append(unit[system.first_index[1]])
        if self.order >= 2:
            _, a, b = system.second_index
            parts.append(unit[a] * unit[b])
        return np.concatenate(parts)

    def _slope(self, lanes: _Lanes, at: Ints, solver: Explicit | Radau) -> Array:
        rows = lanes.rows[:, at]
        out = np.empty_like(rows)
        solver.rhs(lanes.constants[:, at], rows, out)
        return out

    def _pass(self, lanes: _Lanes, solver: Explicit | Radau) -> None:
        """Pass through intervals of length 0."""
        while (at := np.flatnonzero(~lanes.done & (lanes.left <= 0.0))).size:
            self._arrive(lanes, at, solver)

    def _first_step(self, lanes: _Lanes, at: Ints, solver: Explicit | Radau) -> Array:
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

    def _stretched(self, lanes: _Lanes, at: Ints, columns: Ints, solver: Explicit | Radau) -> Array:
        r"""Return what the derivatives of an interval's length add to the sensitivities at its end.

        With X(s) = φ(T(s), s), and S the sensitivities at constant T: X_a = S_a + ẋ T_a and
        X_ab = S_ab + Ṡ_a T_b + Ṡ_b T_a + ẍ T_a T_b + ẋ T_ab, where ẍ = J ẋ.
        """
        assert self.i.stretch is not None
        system, slope = self.system, self._slope(lanes, at, solver)
        first, second = (None if t is None else t[..., columns] for t in self.i.stretch)
        out = np.zeros_like(slope)
        n = system.n
        if self.order >= 1:
            state, slot = system.first_index
            out[self.groups[1]] = slope[state] * first[slot]
        if self.order >= 2 and len(system.second):
            jacobian = np.empty((n, n, len(at)))
            system.kernel(-1)(lanes.constants[:, at], lanes.rows[:, at], jacobian)
            twice = np.einsum("xyl,yl->xl", jacobian, slope[:n])
            turning = np.zeros((n, len(system.slots), len(at)))
            turning[state, slot] = slope[self.groups[1]]
            x, a, b = system.second_index
            out[system.rows(1) :] = (
                turning[x, a] * first[b] + turning[x, b] * first[a] + twice[x] * first[a] * first[b]
            ) + slope[x] * second[a, b]
        return out


def _value(rate: Rate, constants: Array) -> Any:
    """Return a rate, or the rates of all lanes."""
    return rate if isinstance(rate, float) else constants[rate]
