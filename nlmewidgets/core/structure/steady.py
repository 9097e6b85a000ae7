r"""The state after infinitely many doses, for equations without a solution in closed form.

One period is a map x ↦ Φ(x, s): a dose, then the equations for the interdose interval.  Its fixed point
x* is found by Newton's method with ∂Φ/∂x from sensitivities along the initial state, and differentiated by
the implicit function theorem,

.. math:: (I - Φ_x)\, x^*_a = Φ_a, \qquad
    (I - Φ_x)\, x^*_{ab} = Φ_{ab} + Φ_{xa} x^*_b + Φ_{xb} x^*_a + Φ_{xx} x^*_a x^*_b .

The right-hand side of the second is what the period makes of the start (x*, x*_a, 0), so it needs one more
period and no derivatives along pairs of initial states.  A steady infusion is a period in which it never stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.integrate import Intervals, integrate
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Variational

__all__ = ["Regimen", "steady_rows"]

MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Regimen:
    """Steady-state doses, one per lane, last axis everywhere.

    Attributes
    ----------
    state : (L,) int
        Where the dose arrives: a state for a bolus, a rate state for an infusion.
    infused, endless : (L,) bool
    strength, duration, lag : Jet of (L,)
    interval : (L,) float
    time : (L,) float
        When the steady state is wanted.
    constants : (c, L) float
    """

    state: Ints
    infused: Array
    endless: Array
    strength: Jet
    duration: Jet
    lag: Jet
    interval: Array
    time: Array
    constants: Array


def steady_rows(
    system: Variational,
    starts: Variational,
    constants: Array,
    order: int,
    n_states: int,
    regimen: Regimen,
    tolerance: Tolerance,
) -> Array:
    """Return the rows (R, L) of the states at the regimen's times; NaN where there is no steady state.

    Parameters
    ----------
    system : Variational
    starts : Variational
        The same equations with the initial states as directions.
    constants : (c, L) float
        Those of `starts`.
    order : int
    n_states : int
        States proper; rate states and the clock follow them.
    regimen : Regimen
    tolerance : Tolerance
    """
    lanes = len(regimen.interval)
    period = regimen.interval
    x = np.zeros((n_states, lanes))
    inverse = np.broadcast_to(np.eye(n_states), (lanes, n_states, n_states)).copy()
    active = np.arange(lanes)
    plain = _without_derivatives(regimen, constants)
    for _ in range(MAX_ITERATIONS):
        some = _pick(plain, active)
        rows = np.zeros((starts.rows(1), active.size))
        rows[:n_states] = x[:, active]
        for row, (i, a) in enumerate(starts.first, starts.n):
            rows[row] = float(i == a)
        after = _advance(starts, 1, rows, some, (period[active], None, None), n_states, tolerance)
        value, first, _ = starts.unpack(1, after)
        assert first is not None
        slope = first[:, :n_states].transpose(2, 1, 0)  # (L, of, along)
        residual = value[:n_states] - x[:, active]
        matrix = np.eye(n_states) - slope
        good = np.isfinite(matrix).all(axis=(1, 2))
        matrix[~good] = np.eye(n_states)
        try:
            inverse[active] = np.linalg.inv(matrix)
        except np.linalg.LinAlgError:  # a state that nothing leaves: there is no steady state in that lane
            inverse[active] = np.linalg.pinv(matrix)
        step = np.einsum("lxy,yl->xl", inverse[active], residual)
        # Where Newton's step leaves the region in which amounts are not negative, one period is gone through instead.
        wild = ((x[:, active] + step < 0) & (value[:n_states] >= 0) & (np.abs(step) > 1e-9)).any(axis=0)
        step[:, wild] = residual[:, wild]
        x[:, active] += step
        size = np.abs(x[:, active]) * (10 * tolerance.rtol) + 10 * tolerance.atol
        settled = ~wild & (np.abs(step) <= size).all(axis=0)
        active = active[~settled & np.isfinite(step).all(axis=0)]
        if not active.size:
            break
    x[:, active] = np.nan
    rows = np.zeros((system.rows(order), lanes))
    rows[:n_states] = x
    whole: Jet = (period, None, None)
    if order >= 1:
        after = _advance(system, order, rows, regimen, whole, n_states, tolerance)
        _implicit(system, 1, rows, after, inverse, n_states)
    if order >= 2:
        after = _advance(system, order, rows, regimen, whole, n_states, tolerance)
        _implicit(system, 2, rows, after, inverse, n_states)
    lag = regimen.lag
    late = lag[0] % np.where(period > 0, period, 1.0)
    if late.any() or lag[1] is not None:
        phase: Jet = (period - late, *(None if p is None else -p for p in lag[1:]))  # type: ignore[assignment]
        rows = _advance(system, order, rows, regimen, phase, n_states, tolerance)
    rows[_state_of_row(system, order) >= n_states] = 0.0
    return rows


def _state_of_row(system: Variational, order: int) -> Ints:
    parts = [np.arange(system.n), system.first_index[0], system.second_index[0]]
    return np.concatenate(parts[: order + 1]).astype(np.intp)


def _implicit(system: Variational, order: int, rows: Array, after: Array, inverse: Array, n_states: int) -> None:
    """Write derivatives of the fixed point into `rows`, from those after a period that started without them."""
    start, stop = system.rows(order - 1), system.rows(order)
    if order == 1:
        state, column = system.first_index
    else:
        state, a, b = system.second_index
        column = np.unique(a * len(system.slots) + b, return_inverse=True)[1].reshape(-1)
    if not len(state):
        return
    dense = np.zeros((system.n, int(column.max()) + 1, rows.shape[1]))
    dense[state, column] = after[start:stop]
    dense[:n_states] = np.einsum("lxy,ycl->xcl", inverse, dense[:n_states])
    dense[n_states:] = 0.0
    rows[start:stop] = dense[state, column]


def _without_derivatives(regimen: Regimen, constants: Array) -> Regimen:
    parts = {k: (getattr(regimen, k)[0], None, None) for k in ("strength", "duration", "lag")}
    return Regimen(**{**regimen.__dict__, **parts, "constants": constants})


def _pick(regimen: Regimen, chosen: Ints) -> Regimen:
    def one(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(None if p is None else p[..., chosen] for p in value)
        return value[..., chosen]

    return Regimen(**{k: one(v) for k, v in regimen.__dict__.items()})


def _advance(
    system: Variational, order: int, rows: Array, regimen: Regimen, phase: Jet, n_states: int, tolerance: Tolerance
) -> Array:
    """Return the rows a time `phase` after a dose that finds the state `rows`."""
    lanes = rows.shape[1]
    ii = regimen.interval
    # Of an infusion longer than the period, the earlier ones still run: m + 1 of them for a while, then m.
    running = np.where(regimen.infused & ~regimen.endless, np.floor(regimen.duration[0] / ii), 0.0)
    on = np.where(regimen.endless, np.inf, np.where(regimen.infused, regimen.duration[0] - running * ii, 0.0))
    cut = on < phase[0]
    length = np.zeros((3, lanes))
    length[1] = np.where(cut, on, phase[0])
    length[2] = np.where(cut, phase[0] - on, 0.0)
    dosed = rows + _placed(system, order, regimen, np.where(regimen.infused, running + 1, 1.0))
    # At the end of the first stretch one infusion stops.
    fewer = _placed(system, order, regimen, np.where(regimen.infused, running, 0.0))
    keep = np.ones((system.n, 2 * lanes))
    keep[:, :lanes] = 0.0
    keep[n_states:, lanes:] = 0.0
    if system.clock:
        keep[-1] = 1.0
    column = np.arange(lanes)
    jump = np.stack([column, np.where(cut, lanes + column, -1), np.full(lanes, -1)])
    read = np.stack([np.full(lanes, -1), np.full(lanes, -1), column])
    stretch: tuple[Array, Array] | None = None
    shift = np.full((3, lanes), -1)
    moves = phase[1] is not None or (regimen.duration[1] is not None and bool(regimen.infused.any()))
    if order >= 1 and moves:
        parts = []
        for k, lead in ((1, (len(system.slots),)), (2, (system.n_random, len(system.slots)))):
            late, span = phase[k], regimen.duration[k]
            here = np.zeros((*lead, lanes)) if late is None else late
            given = np.zeros((*lead, lanes)) if span is None else np.where(regimen.endless, 0.0, span)
            first = np.where(cut, given, here)
            parts.append(np.concatenate([first, np.where(cut, here - given, 0.0)], axis=-1))
        stretch = (parts[0], parts[1])
        shift[1], shift[2] = column, lanes + column
    start = regimen.time - phase[0] + np.cumsum(np.concatenate([np.zeros((1, lanes)), length[:2]]), axis=0)
    clock = None
    if system.clock:
        states = _state_of_row(system, order)
        clock = np.zeros((int((states == system.n - 1).sum()), 3, lanes))
        clock[0] = start
    intervals = Intervals(
        steps=np.full(lanes, 3),
        start=start,
        length=length,
        block=np.tile(column, (3, 1)),
        read=read,
        jump=jump,
        shift=shift,
        constants=regimen.constants,
        keep=keep,
        add=np.concatenate([dosed, fewer], axis=1),
        stretch=stretch,
        clock=clock,
        n_read=lanes,
    )
    return integrate(system, order, intervals, tolerance)[0]


def _placed(system: Variational, order: int, regimen: Regimen, factor: Array) -> Array:
    """Return rows that hold the strength of each lane's dose, times a factor, in its state."""
    lanes = len(regimen.state)
    out = np.zeros((system.rows(order), lanes))
    value, first, second = regimen.strength
    out[regimen.state, np.arange(lanes)] = value * factor
    if order >= 1 and first is not None:
        state, slot = system.first_index
        out[system.n : system.rows(1)] = (state[:, None] == regimen.state) * first[slot] * factor
    if order >= 2 and second is not None:
        state, a, b = system.second_index
        out[system.rows(1) :] = (state[:, None] == regimen.state) * second[a, b] * factor
    return out
