"""Sensitivities that keep up with their states: for lanes so many that they fill every call by themselves.

All rows of a lane take one step together, as long as the states and their derivatives of each order allow; every
reading ends one.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.integrate import Failure, Intervals, Lanes, Run
from nlmewidgets.core.radau import Radau
from nlmewidgets.core.runge_kutta import Attempt, Explicit
from nlmewidgets.core.sweep import value_of
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Rate, Variational

__all__ = ["integrate_abreast"]

_CACHE = 400_000
_NOTHING = 0.1
"""Part of the tolerance below which a state that only decays is nothing, and its sensitivities are."""


def integrate_abreast(
    system: Variational,
    order: int,
    intervals: Intervals,
    tolerance: Tolerance,
    seen: Collection[int] | None,
    out: Array,
    method: str,
) -> list[Failure]:
    """Write the rows read into `out`; return failures.  Arguments as for `integrate`."""
    # Smaller chunks pay for calls, larger ones for memory: flat between 400 and 1,000 lanes of 50 rows.
    chunk = int(np.clip(_CACHE // (8 * system.rows(order)), 128, 1024))
    lanes = np.arange(len(intervals.steps))
    failures: list[Failure] = []
    for piece in np.array_split(lanes, max(1, round(len(lanes) / chunk))):
        run = _Abreast(system, order, intervals, tolerance, seen, out)
        run.solve(piece.astype(np.intp), method)
        failures += run.failures
    return failures


class _Abreast(Run):
    """One chunk of lanes with all their rows."""

    def __init__(
        self,
        system: Variational,
        order: int,
        intervals: Intervals,
        tolerance: Tolerance,
        seen: Collection[int] | None,
        out: Array,
    ) -> None:
        super().__init__(system, intervals, tolerance, out, 1.0, order=order)
        groups = [slice(0, system.n), slice(system.n, system.rows(1)), slice(system.rows(1), system.rows(2))]
        self.groups = [g for g in groups[: order + 1] if g.stop > g.start]
        self.rows_fading = [(np.flatnonzero(self.state_of_row == i), rate) for i, rate, _ in system.fading]
        self.rows_passing = self._passing(range(system.n) if seen is None else seen)
        self._work = np.empty(0)

    def _note(self, lanes: Lanes, accepted: Array, begin: Array, h: Array, stiff: bool) -> None:
        """Need no record."""

    def _end(self, lanes: Lanes, at: Ints, fresh: Array, solver: Explicit | Radau) -> None:
        """Add what the derivatives of intervals' lengths do."""
        shift = self.i.shift[lanes.step[at], lanes.lane[at]]
        if (moved := shift >= 0).any():
            places = at[moved]
            lanes.rows[:, places] += self._stretched(lanes, places, shift[moved], solver)
            fresh[places] = True

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

    def _error(self, lanes: Lanes, trial: Attempt, size: Array) -> tuple[Array, Array]:
        """Return each lane's error relative to the tolerance, and what each row's is compared with, which is `size`."""
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
        return error, size

    def _raise(self, lanes: Lanes, size: Array, work: Array) -> None:
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
        for rows, rate, onward in self.rows_passing:
            floors = []
            for there, other in onward:
                ratio = np.abs(value_of(rate, lanes.constants) / value_of(other, lanes.constants))
                floors.append(size[there] * ratio)
            size[rows] = np.maximum(size[rows], np.minimum.reduce(floors))

    def _fade(self, lanes: Lanes, accepted: Array, h: Array, weight: Array) -> None:
        """Set to zero what has decayed below the tolerance: an explicit step would make it grow again."""
        for rows, rate in self.rows_fading:
            value = np.abs(lanes.rows[rows[0]])
            at = np.flatnonzero((value < _NOTHING * weight[rows[0]]) & (value != 0.0))
            if at.size:
                where = np.ix_(rows, at)
                small = np.abs(lanes.rows[where]) + np.abs(h[at] * lanes.slope[where]) < _NOTHING * weight[where]
                falls = value_of(rate, lanes.constants[:, at]) < 0
                where = np.ix_(rows, at[small.all(axis=0) & falls])
                lanes.rows[where] = lanes.slope[where] = 0.0

    def _stretched(self, lanes: Lanes, at: Ints, columns: Ints, solver: Explicit | Radau) -> Array:
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
