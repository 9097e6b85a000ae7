r"""What integrated states depend on, for all steps of all lanes at once.

Once the states are known, their sensitivities obey linear equations.  One step of the method makes of a start
(x, S) the end

.. math:: S^+_a = \Phi S_a + P_a, \qquad S^+_{ab} = \Phi S_{ab} + P_{ab}(x, S),

where :math:`\Phi = \partial x^+/\partial x` and P is what the step makes of a start without sensitivities.  So Φ
and P_a are made in one sweep over all steps, as if each were a lane of its own; the recurrence, a
product of small matrices a step, gives S at every step; and a second sweep makes P_ab.  These are the exact
derivatives of the computed steps.  Jumps, resets and moving ends of intervals are items of the same recurrence.

Steps are as long as the states allow.  Where a sensitivity's error is above the tolerance its step is divided, into
as many as it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.breath import breathe
from nlmewidgets.core.course import Record, Steps
from nlmewidgets.core.radau import Radau
from nlmewidgets.core.runge_kutta import VERNER, Explicit
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Rate, Variational

if TYPE_CHECKING:
    from nlmewidgets.core.integrate import Intervals

__all__ = ["Found", "Passing", "raise_passing", "sensitivities", "value_of"]

Passing = Sequence[tuple[int, Rate, Sequence[tuple[int, Rate]]]]
"""States that only pass something on, at what rate, and the states they pass it on to at what rates."""

_TOGETHER = 512
"""Steps in one call: more pay for calls, fewer for memory."""
_MEMORY = 4_000_000
"""Numbers in one array of the recurrence."""
_PARTS, _ROUNDS = 8, 20
"""Into how many a step is divided at once at most, and how often."""
_AHEAD = 0.2
"""Part of the tolerance left to first derivatives where second ones will be asked for: theirs is the larger error."""
_FADED = 0.1
"""Part of the tolerance below which a derivative of a state that was set to zero is nothing."""

Advance = Callable[[Steps], Array]
"""Steps → the states (steps, n) that they lead to."""


class Found(NamedTuple):
    """Lanes to be integrated again because a state was set to zero too early, and (lane, time, state) of failures."""

    again: Ints
    unsolved: list[tuple[int, float, Array]]


def value_of(rate: Rate, constants: Array) -> Any:
    """Return a rate, or the rates of all lanes."""
    return rate if isinstance(rate, float) else constants[rate]


def raise_passing(size: Array, passing: Passing, constants: Array) -> None:
    """Raise the sizes (states, ..., lanes) that errors are compared with to what matters for what is asked for.

    A state that is not seen and only passes on counts by where it goes: what is wrong by e with a state that leaves
    at the rate J_ii has made state k wrong by J_ki/J_ii·e when it has left.
    """
    for state, rate, onward in passing:
        leaving = value_of(rate, constants)
        floors = [size[k] * np.abs(leaving / value_of(other, constants)) for k, other in onward]
        np.maximum(size[state], np.minimum.reduce(floors), out=size[state])


def sensitivities(
    system: Variational,
    order: int,
    intervals: Intervals,
    tolerance: Tolerance,
    passing: Passing,
    record: Record,
    advance: Advance,
    out: Array,
) -> Found:
    """Write the derivatives of the states read, up to `order`, into the rows of `out`.

    Parameters
    ----------
    passing : Passing
    record : Record
    advance : callable
        Steps → the states (steps, n) that they lead to.
    """
    again, unsolved = [np.zeros(0, np.intp)], list[tuple[int, float, Array]]()
    if system.rows(order) > system.n:
        columns = max(_kept(system, k).columns for k in range(1, order + 1))
        pieces = -(-(len(record.steps.lane) + len(record.ends.lane)) * system.n * columns // _MEMORY)
        lanes = np.unique(record.ends.lane)
        for own in np.array_split(lanes, max(1, min(pieces, len(lanes)))):
            part = record if pieces <= 1 else record.of_lanes(own)
            sweep = _Sweep(system, order, intervals, tolerance, passing, part, advance)
            sweep.solve(out)
            again.append(sweep.again)
            unsolved += sweep.unsolved
    return Found(np.unique(np.concatenate(again)), unsolved)


class _Kept(NamedTuple):
    """How the derivatives of one order are kept: dense (states, columns), and as rows of a system."""

    state: Ints  # of each row
    column: Ints
    rows: slice
    slots: tuple[Ints, ...]  # of each column
    clock: slice  # the rows of the clock among those of all orders

    @property
    def columns(self) -> int:
        return len(self.slots[0])

    def dense(self, n: int, rows: Array) -> Array:
        """Return derivatives (lanes, n, columns) from all rows (R, lanes)."""
        out = np.zeros((rows.shape[1], n, self.columns))
        out[:, self.state, self.column] = rows[self.rows].T
        return out


def _kept(system: Variational, order: int) -> _Kept:
    m, last = len(system.slots), system.n - 1
    state, slot = system.first_index
    clock = 1 + int((state == last).sum())
    if order == 1:
        return _Kept(state, slot, slice(system.n, system.rows(1)), (np.arange(m),), slice(1, clock))
    state, a, b = system.second_index
    pairs, column = np.unique(a * m + b, return_inverse=True)
    return _Kept(
        state, column.reshape(-1), slice(system.rows(1), system.rows(2)), np.divmod(pairs, m), slice(clock, None)
    )


class _Sweep:
    """The derivatives of some lanes.

    Items of the recurrence are what happens to a lane, one after the other: a step, a state that is set to zero, an
    end that moves, a jump.  Each makes A·S + B of the sensitivities S before it.  They are kept by their place in
    their lane, longer lanes first, so that the items of one place follow upon a stretch of those of the place before.
    """

    def __init__(
        self,
        system: Variational,
        order: int,
        intervals: Intervals,
        tolerance: Tolerance,
        passing: Passing,
        record: Record,
        advance: Advance,
    ) -> None:
        self.system, self.order, self.i, self.tolerance, self.passing = system, order, intervals, tolerance, passing
        _, self.fades, self.ends, self.reads, self.read_when = record
        self.advance = advance
        self.again = np.zeros(0, np.intp)
        self.unsolved: list[tuple[int, float, Array]] = []
        self.first, self.flow = _kept(system, 1), _kept(system.flow, 1)
        self.clocked = intervals.clock is not None and bool(intervals.clock[1:].any())
        self._take(record.steps)

    # ------------------------------------------------------------------- layout

    def _take(self, steps: Steps) -> None:
        """Make these the steps."""
        block = self.i.block[steps.interval, steps.lane]
        self.steps, self.constants = steps, self.i.constants[:, block]
        self.unit = None if self.i.unit is None else self.i.unit.T[block]
        self._lay_out()

    def _lay_out(self) -> None:
        """Find the item of every step, fading, moved end and jump, and what is read after which item."""
        i, ends = self.i, self.ends
        read, jump, shift = (t[ends.interval, ends.lane] for t in (i.read, i.jump, i.shift))
        moved = np.flatnonzero(shift >= 0)
        wanted = np.flatnonzero(read >= 0)
        acting = np.flatnonzero((jump >= 0) | self.clocked)
        # A reading within is between two parts of a step.  After it come states that fade, then the ends that follow,
        # one by one: the shift, the reading, the jump.
        steps, fades, reads = self.steps, self.fades, self.reads
        groups: list[tuple[Any, ...]] = [
            (self.read_when, reads.lane, reads.time, 0, 0),
            (steps.when, steps.lane, steps.begin, 0, 1),
            (fades.when, fades.lane, np.inf, 0, 2),
            *(
                (ends.when[p], ends.lane[p], np.inf, 1 + ends.interval[p], k)
                for k, p in enumerate((moved, wanted, acting), 3)
            ),
        ]
        when, lane, begin, late, kind = (
            np.concatenate([np.broadcast_to(g[k], len(g[0])) for g in groups]) for k in range(5)
        )
        self.lanes, lane = np.unique(lane, return_inverse=True)
        sort = np.lexsort((kind, late, begin, when, lane))
        is_item = (kind != 0) & (kind != 4)
        counted = np.cumsum(is_item[sort])
        opens = np.searchsorted(lane[sort], np.arange(len(self.lanes)))
        counts = np.bincount(lane[is_item], minlength=len(self.lanes))
        place = np.empty(len(sort), np.intp)
        place[sort] = counted - (counted - is_item[sort])[opens][lane[sort]]  # 0 before everything
        rank = np.empty(len(counts), np.intp)
        rank[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
        self.sizes = np.cumsum(np.bincount(counts)[::-1])[::-1][1:].tolist()  # lanes with so many items
        base = np.cumsum([0, len(counts), *self.sizes])
        item = base[place] + rank[lane]
        before = base[np.maximum(place - 1, 0)] + rank[lane]
        self.n_items, self.first_of_lane = int(base[-1]), rank
        cuts = np.cumsum([len(g[0]) for g in groups])[:-1]
        within, self.step_item, self.fade_item, self.shift_item, at_end, self.jump_item = np.split(item, cuts)
        _, self.step_before, _, self.shift_before, _, _ = np.split(before, cuts)
        self.moved, self.shift = moved, shift[moved]
        self.acting, self.jump = acting, jump[acting]
        self.read_out = np.append(reads.column, read[wanted]), np.append(within, at_end)

    # ---------------------------------------------------------------- recurrence

    def _matrices(self, phi: Array) -> Array:
        """Return A of every item, (items, n, n)."""
        n, i = self.system.n, self.i
        a = np.zeros((self.n_items, n, n))
        a[:, np.arange(n), np.arange(n)] = 1.0
        a[self.step_item] = phi
        a[self.fade_item, self.fades.state, self.fades.state] = 0.0
        jumps = np.flatnonzero(self.jump >= 0)
        a[self.jump_item[jumps, None], np.arange(n), np.arange(n)] = i.keep[:, self.jump[jumps]].T
        if self.clocked:
            a[self.jump_item, -1, -1] = 0.0
        return a

    def _additions(self, kept: _Kept, stretched: Array) -> Array:
        """Return B of every item but the steps, and what the lanes begin with, (items, n, columns)."""
        i, n = self.i, self.system.n
        b = np.zeros((self.n_items, n, kept.columns))
        b[self.shift_item] = stretched
        jumps = np.flatnonzero(self.jump >= 0)
        b[self.jump_item[jumps, None], kept.state, kept.column] = i.add[kept.rows, self.jump[jumps]].T
        if self.clocked:
            assert i.clock is not None
            rows, columns = i.clock[kept.clock], kept.column[kept.state == n - 1]
            lane, interval = self.ends.lane[self.acting], self.ends.interval[self.acting] + 1
            goes_on = np.flatnonzero(interval < i.steps[lane])
            b[self.jump_item[goes_on, None], n - 1, columns] = rows[:, interval[goes_on], lane[goes_on]].T
            b[self.first_of_lane[:, None], n - 1, columns] = rows[:, 0, self.lanes].T
        return b

    def _recur(self, a: Array, b: Array) -> Array:
        """Return the sensitivities after every item, which overwrite b; the first are those that lanes begin with."""
        start, end = 0, len(self.lanes)
        for size in self.sizes:
            now = slice(end, end + size)
            b[now] += np.matmul(a[now], b[start : start + size])
            start, end = end, end + size
        return b

    # --------------------------------------------------------------------- steps

    def _cross(self, system: Variational, order: int, rows: Array, which: Ints) -> tuple[Array, Array]:
        """Return the rows at the ends of steps that begin with `rows`, and their errors."""
        end, error = np.empty_like(rows), np.empty_like(rows)
        weight = self.tolerance.atol + self.tolerance.rtol * np.abs(rows[: self.system.n])
        for stiff, kind in ((False, Explicit), (True, Radau)):
            chosen = np.flatnonzero(self.steps.stiff[which] == stiff)
            calls = -(-len(chosen) // _TOGETHER)
            width = -(-len(chosen) // max(calls, 1))
            solver = kind(system, order)
            constants, x = np.empty((len(self.constants), width)), np.empty((len(rows), width))
            slope = np.empty_like(x)
            for call in range(calls):
                breathe()
                # The same arrays serve every call, so all have the same width: the last may do some steps again.
                part = chosen[min(call * width, len(chosen) - width) :][:width]
                np.take(self.constants, which[part], axis=1, out=constants, mode="clip")
                np.take(rows, part, axis=1, out=x, mode="clip")
                solver.rhs(constants, x, slope)
                trial = solver.attempt(constants, x, slope, self.steps.h[which[part]], weight[:, part])
                end[:, part], error[:, part] = trial.rows, trial.error
        return end, error

    def _flow(self, which: Ints) -> tuple[Array, Array, Array]:
        """Return the size of the states of steps, what their ends depend on (steps, n, slots + n), and its error."""
        kept, n = self.flow, self.system.n
        rows = np.zeros((kept.rows.stop, len(which)))
        rows[:n] = self.steps.rows[which].T
        rows[kept.rows] = (kept.column == len(self.system.slots) + kept.state)[:, None]
        end, error = self._cross(self.system.flow, 1, rows, which)
        return np.maximum(np.abs(rows[:n]), np.abs(end[:n])).T, kept.dense(n, end), kept.dense(n, error)

    def _bend(self, kept: _Kept, which: Ints, first: Array) -> tuple[Array, Array]:
        """Return P_ab of steps that begin with first sensitivities (steps, n, slots), and its error."""
        n, one = self.system.n, self.first
        rows = np.zeros((kept.rows.stop, len(which)))
        rows[:n] = self.steps.rows[which].T
        rows[one.rows] = first[:, one.state, one.column].T
        end, error = self._cross(self.system, 2, rows, which)
        return kept.dense(n, end), kept.dense(n, error)

    def _divide(self, which: Ints, size: Array) -> Ints:
        """Divide steps that err by `size` times what they may; return those to be made anew."""
        steps = self.steps
        power = np.where(steps.stiff[which], 0.25, 1 / VERNER.order)
        parts = np.clip(np.ceil((2.0 * size) ** power), 2, _PARTS).astype(np.intp)
        h = steps.h[which] / parts
        more = np.repeat(np.arange(len(which)), parts - 1)
        number = np.arange(len(more)) - np.repeat(np.cumsum(parts - 1) - (parts - 1), parts - 1) + 1
        into = number * h[more]
        later = steps.of(which[more])
        later = later._replace(rows=self.advance(later._replace(h=into)), begin=later.begin + into, h=h[more])
        shorter = steps.h.copy()
        shorter[which] = h
        known = len(steps.h)
        self._take(Steps(*map(np.concatenate, zip(steps._replace(h=shorter), later, strict=True))))
        return np.concatenate([which, np.arange(known, known + len(more))])

    # -------------------------------------------------------------- ends that move

    def _stretched(self) -> Array:
        r"""Return what the derivatives of intervals' lengths add to first sensitivities, (ends, n, slots).

        With X(s) = φ(T(s), s), and S the sensitivities at constant T: X_a = S_a + ẋ T_a and
        X_ab = S_ab + Ṡ_a T_b + Ṡ_b T_a + ẍ T_a T_b + ẋ T_ab, where ẍ = J ẋ.
        """
        if not len(self.moved):
            return np.zeros((0, self.system.n, self.first.columns))
        assert self.i.stretch is not None
        slope = self._at_moved(0, self.ends.rows[self.moved].T)
        return np.einsum("xk,ak->kxa", slope, self.i.stretch[0][:, self.shift])

    def _stretched_twice(self, kept: _Kept, first: Array) -> Array:
        """Return what they add to second sensitivities, first being those before, (ends, n, columns)."""
        system, one = self.system, self.first
        n = system.n
        if not len(self.moved):
            return np.zeros((0, n, kept.columns))
        assert self.i.stretch is not None
        rows = np.empty((one.rows.stop, len(self.moved)))
        rows[:n] = self.ends.rows[self.moved].T
        rows[one.rows] = first[:, one.state, one.column].T
        slope = self._at_moved(1, rows)
        jacobian = np.empty((n, n, rows.shape[1]))
        system.kernel(-1)(self._moved_constants(), rows, jacobian)
        twice = np.einsum("xyk,yk->kx", jacobian, slope[:n])[..., None]
        turning, (a, b) = one.dense(n, slope), kept.slots
        t = self.i.stretch[0][:, self.shift].T[:, None]
        bent = self.i.stretch[1][:, :, self.shift][a, b].T[:, None]
        turned = turning[..., a] * t[..., b] + turning[..., b] * t[..., a] + twice * t[..., a] * t[..., b]
        return np.asarray(turned + slope[:n].T[..., None] * bent)

    def _at_moved(self, order: int, rows: Array) -> Array:
        """Return the slopes of rows where ends move."""
        slope = np.empty_like(rows)
        self.system.kernel(order)(self._moved_constants(), rows, slope)
        return slope

    def _moved_constants(self) -> Array:
        ends = self.ends
        return self.i.constants[:, self.i.block[ends.interval[self.moved], ends.lane[self.moved]]]

    # -------------------------------------------------------------------- errors

    def _weights(self, kept: _Kept, after: Array, which: Ints) -> Array:
        """Return what errors of the sensitivities of steps are compared with, (steps, n, columns).

        A sensitivity counts where a usual change along its slot would change the state.
        """
        size = np.maximum(np.abs(after[self.step_before[which]]), np.abs(after[self.step_item[which]]))
        if self.unit is not None:
            unit = np.prod([self.unit[which][:, slots] for slots in kept.slots], axis=0)
            np.maximum(size, self.size[which][:, :, None] * unit[:, None], out=size)
        raise_passing(size.transpose(1, 2, 0), self.passing, self.constants[:, which])
        size *= self.tolerance.rtol
        size += self.tolerance.atol
        return size

    def _errors(self, kept: _Kept, after: Array, along: Array, own: Array, which: Ints) -> Array:
        """Return how many times what they may the sensitivities of steps err, errors being made of these."""
        out = np.empty(len(which))
        for lo in range(0, len(which), _TOGETHER // 2):
            part = slice(lo, lo + _TOGETHER // 2)
            steps = which[part]
            error = np.matmul(along[steps], after[self.step_before[steps]])
            error += own[steps]
            error /= self._weights(kept, after, steps)
            out[part] = np.einsum("lxc,lxc->l", error, error)
        return np.sqrt(out / max(len(kept.state), 1))

    def _forget(self, kept: _Kept, after: Array) -> None:
        """Find lanes of which a state was set to zero where its sensitivities were not nothing."""
        steps, fades = self.steps, self.fades
        if not len(fades.lane):
            return
        # The last part of the step before.
        lanes = int(steps.lane.max()) + 1
        sort = np.lexsort((steps.begin, steps.when * lanes + steps.lane))
        key = (steps.when * lanes + steps.lane)[sort]
        step = sort[np.searchsorted(key, fades.when * lanes + fades.lane, side="right") - 1]
        place = np.arange(len(step))
        size = np.abs(after[self.step_item[step], fades.state])
        large = (size > _FADED * self._weights(kept, after, step)[place, fades.state]).any(axis=1)
        self.again = np.union1d(self.again, fades.lane[large])

    # --------------------------------------------------------------------- solve

    def solve(self, out: Array) -> None:
        """Write the derivatives of what is read into `out`."""
        m, todo = len(self.system.slots), np.arange(len(self.steps.h))
        n, kept, twice = self.system.n, self.first, self.order > 1 and len(self.system.second) > 0
        self.size, self.dense, self.dense_error = np.zeros((0, n)), np.zeros((0, n, m + n)), np.zeros((0, n, m + n))
        limit = _AHEAD if twice else 1.0
        for k in range(_ROUNDS):
            first = self._first(todo)
            errors = self._errors(kept, first, self.dense_error[..., m:], self.dense_error[..., :m], todo)
            wrong = np.flatnonzero((errors > limit) & np.isfinite(errors))
            if not wrong.size or self._given_up(k, todo[wrong]):
                break
            todo = self._divide(todo[wrong], errors[wrong] / limit)
            limit = 1.0
        self._forget(kept, first)
        if twice:
            first = self._second(first, out)
        self._read(kept, first, out)

    def _first(self, todo: Ints) -> Array:
        """Return first sensitivities after every item, with these steps made anew."""
        m = len(self.system.slots)
        for name, new in zip(("size", "dense", "dense_error"), self._flow(todo), strict=True):
            setattr(self, name, _put(getattr(self, name), todo, new))
        added = self._additions(self.first, self._stretched())
        added[self.step_item] = self.dense[..., :m]
        return self._recur(self._matrices(self.dense[..., m:]), added)

    def _second(self, first: Array, out: Array) -> Array:
        """Write second sensitivities; return first ones, of steps that may be shorter than before."""
        m, kept = len(self.system.slots), _kept(self.system, 2)
        todo = np.arange(len(self.steps.h))
        begin = first[self.step_before]
        bend, bend_error = np.zeros((2, 0, self.system.n, kept.columns))
        for k in range(_ROUNDS):
            bend, bend_error = (
                _put(old, todo, new)
                for old, new in zip((bend, bend_error), self._bend(kept, todo, begin[todo]), strict=True)
            )
            added = self._additions(kept, self._stretched_twice(kept, first[self.shift_before]))
            added[self.step_item] = bend
            second = self._recur(self._matrices(self.dense[..., m:]), added)
            errors = self._errors(kept, second, self.dense_error[..., m:], bend_error, todo)
            wrong = np.flatnonzero((errors > 1.0) & np.isfinite(errors))
            if not wrong.size or self._given_up(k, todo[wrong]):
                break
            todo = self._divide(todo[wrong], errors[wrong])
            first = self._first(todo)
            now = first[self.step_before]
            if self.steps.stiff.any():
                # Where a fast transient was passed over, later steps of the lane begin otherwise now.
                change = np.abs(now[: len(begin)] - begin)
                changed = (change > 0.5 * self._weights(self.first, first, np.arange(len(begin)))).any(axis=(1, 2))
                todo = np.union1d(todo, np.flatnonzero(changed))
            begin = now
        self._forget(kept, second)
        self._read(kept, second, out)
        return first

    def _given_up(self, k: int, wrong: Ints) -> bool:
        """Whether steps have been divided often enough; their lanes have failed then."""
        if k < _ROUNDS - 1:
            return False
        _, one = np.unique(self.steps.lane[wrong], return_index=True)
        for step in wrong[one]:
            lane, interval = int(self.steps.lane[step]), self.steps.interval[step]
            time = float(self.i.start[interval, lane] + self.steps.begin[step])
            self.unsolved.append((lane, time, self.steps.rows[step]))
        return True

    def _read(self, kept: _Kept, after: Array, out: Array) -> None:
        columns, items = self.read_out
        out[kept.rows, columns] = after[items][:, kept.state, kept.column].T


def _put(old: Array, places: Ints, new: Array) -> Array:
    """Return the old entries, more of them if need be, with new ones at some places."""
    if len(places) == len(new) and not len(old):
        return new
    size = max(len(old), int(places.max(initial=-1)) + 1)
    out = np.empty((size, *old.shape[1:]))
    out[: len(old)] = old
    out[places] = new
    return out
