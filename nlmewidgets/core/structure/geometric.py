"""Steady states of linear compartments: infinitely many earlier doses, as a geometric sum with its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.structure.doses import Routed
from nlmewidgets.core.structure.timeline import Steps

if TYPE_CHECKING:
    from nlmewidgets.core.structure.linear import Run

__all__ = ["SteadyStates"]


class SteadyStates:
    """What steady-state doses add to the state: infinitely many earlier doses, in closed form."""

    def __init__(self, run: Run, steps: Steps, routed: Routed | None, offset: Any) -> None:
        self.run, self.steps = run, steps
        own = run.own
        line = own.timeline
        doses, steady = line.doses, steps.steady
        batch = run.slots.shape[1]
        self.n = line.n_states
        if routed is None:
            routed = own.routes(np.zeros((own.n_slots, 1, 1 + int(doses.block.max(initial=0)))), 0)
        copy = steady.lane // line.n_subjects
        dose = steady.dose
        pick: Any = lambda jet: tuple(None if p is None else p[..., copy, dose] for p in jet)  # noqa: E731
        lag, strength, duration = pick(routed.lag), pick(routed.strength), pick(routed.duration)
        block = doses.block[dose] + (offset[steady.lane] if np.ndim(offset) else 0)
        ii = np.where(doses.ii[dose] > 0, doses.ii[dose], 1.0)  # an infusion without end has none, see below
        self.block, self.batch = block, batch
        rate_place = {state: self.n + k for k, state in enumerate(line.rates)}
        infused = doses.rate[dose] != 0
        endless = infused & (doses.amount[dose] == 0)
        place = np.array(
            [rate_place[s] if i else s for s, i in zip(doses.state[dose], infused, strict=True)], dtype=np.intp
        )
        unit = self._unit(strength, place)
        period: Jet = (ii, None, None)
        # Each earlier dose k = 1, 2, …: given for `duration`, then left alone until now.
        total: Jet | None = None
        with np.errstate(invalid="ignore", divide="ignore"):
            span = np.nan_to_num((duration[0] + lag[0]) / ii)
        most = max(1, int(np.ceil(span - 1e-12).max(initial=1.0)))
        for k in range(1, most):
            since = _positive(_shifted(lag, k * ii))
            arrived = np.where(infused | (k * ii >= lag[0]), 1.0, 0.0)
            given = self._given(unit, _least(duration, since), _positive(_minus(since, duration)), infused)
            total = _plus(total, tuple(None if p is None else p * arrived for p in given))  # type: ignore[arg-type]
        rest = self._given(unit, duration, _positive(_minus(_shifted(lag, most * ii), duration)), infused)
        constant = self._constant(period, steady, doses.steady[dose])
        tail = self._solve(self._one_minus(period), _plus(rest, constant))
        total = _plus(total, tail)
        if endless.any():
            total = self._mixed(total, self._endless(strength, doses.state[dose]), endless)
        self.total = total

    def add(self, z: Jet, step: int) -> Jet:
        """Return the state with the steady states of a step added."""
        chosen = np.flatnonzero(self.steps.steady.step == step)
        if not chosen.size:
            return z
        lane = self.steps.steady.lane[chosen]
        parts: list[Array | None] = []
        for k, (part, total) in enumerate(zip(z, self.total, strict=True)):
            if total is not None:
                lead = (self.run.own.n_random, self.run.own.n_slots)[2 - k :]
                part = np.zeros((*lead, *z[0].shape)) if part is None else part.copy()
                part[..., : self.n, :, lane] += total[..., chosen]
            parts.append(part)
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]

    # ------------------------------------------------------------------ pieces

    def _unit(self, strength: Jet, place: Ints) -> Jet:
        """Return z with the strength of each dose in its place."""
        n = len(place)
        size = self.run.own.size
        parts: list[Array | None] = []
        for part in strength:
            if part is None:
                parts.append(None)
                continue
            z = np.zeros((*part.shape[:-1], size, self.batch, n))
            z[..., place, :, np.arange(n)] = np.moveaxis(part, -1, 0)[..., None]
            parts.append(z)
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]

    def _given(self, unit: Jet, duration: Jet, after: Jet, infused: Array) -> Jet:
        """Return the x-part of a dose given for `duration`, a time `after` its end."""
        run = self.run
        during = run.product(run.entries(duration, self.block), unit)
        z: Any = tuple(None if p is None else p.copy() for p in during)
        for k, (p, u) in enumerate(zip(z, unit, strict=True)):
            del k
            if p is not None:
                p[..., self.n :, :, :] = 0.0  # the infusion is over, and a bolus has no rate
                if u is not None:
                    p[..., : self.n, :, :] = np.where(infused, p[..., : self.n, :, :], u[..., : self.n, :, :])
                else:
                    p[..., : self.n, :, :] = np.where(infused, p[..., : self.n, :, :], 0.0)
        return self._x(run.product(run.entries(after, self.block), z))

    def _x(self, z: Jet) -> Jet:
        return tuple(None if p is None else p[..., : self.n, :, :] for p in z)  # type: ignore[return-value]

    def _constant(self, period: Jet, steady: Any, kind: Ints) -> Jet | None:
        """Return what the constant input adds over a period, for the doses that replace the state."""
        own = self.run.own
        n_all = own.timeline.n_all
        if own.size == n_all:
            return None
        z = np.zeros((own.size, self.batch, len(kind)))
        z[n_all] = (kind == 1).astype(float)
        return self._x(self.run.product(self.run.entries(period, self.block), (z, None, None)))

    def _dense(self, e: Jet) -> Jet:
        """Return entries (entries, batch, n) as matrices (..., batch, n, states, states)."""
        own = self.run.own
        rows, columns = own.entries.rows, own.entries.columns
        inside = np.flatnonzero((rows < self.n) & (columns < self.n))
        parts: list[Array | None] = []
        for p in e:
            if p is None:
                parts.append(None)
                continue
            out = np.zeros((*p.shape[:-3], *p.shape[-2:], self.n, self.n))
            out[..., rows[inside], columns[inside]] = np.moveaxis(p[..., inside, :, :], -3, -1)
            parts.append(out)
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]

    def _one_minus(self, period: Jet) -> Jet:
        dense = self._dense(self.run.entries(period, self.block))
        return (np.eye(self.n) - dense[0], *(None if p is None else -p for p in dense[1:]))  # type: ignore[return-value]

    def _solve(self, matrix: Jet, right: Jet) -> Jet:
        """Return y of M·y = v with derivatives; v and y (states, batch, n)."""
        order, own = self.run.order, self.run.own
        inverse = _inverse(matrix[0])
        move = lambda v: np.moveaxis(v, -3, -1)  # noqa: E731
        back = lambda v: np.moveaxis(v, -1, -3)  # noqa: E731
        times = lambda m, v: (m @ v[..., None])[..., 0]  # noqa: E731
        y = times(inverse, move(right[0]))
        first = second = None
        if order >= 1:
            first = np.zeros((own.n_slots, *y.shape)) if right[1] is None else move(right[1])
            if matrix[1] is not None:
                first = first - times(matrix[1], y)
            first = times(inverse, first)
            if order >= 2:
                second = np.zeros((own.n_random, own.n_slots, *y.shape)) if right[2] is None else move(right[2])
                if matrix[1] is not None:
                    r = own.n_random
                    second = second - times(matrix[1][:r, None], first[None]) - times(matrix[1][None], first[:r, None])
                if matrix[2] is not None:
                    second = second - times(matrix[2], y)
                second = times(inverse, second)
        return back(y), None if first is None else back(first), None if second is None else back(second)

    def _endless(self, strength: Jet, state: Ints) -> Jet:
        """Return the state under infusions without end, −A⁻¹ R."""
        run, own = self.run, self.run.own
        jet = own.rates((*run.slots, *run.covariates), self.block, (self.batch, len(state)), run.order)
        size = own.size
        square = [None if p is None else p.reshape(*p.shape[:-3], size, size, *p.shape[-2:]) for p in jet]
        inside: Any = tuple(
            None if p is None else np.moveaxis(p[..., : self.n, : self.n, :, :], (-2, -1), (-4, -3)) for p in square
        )
        unit = self._x(self._unit(strength, state))
        if size > own.timeline.n_all:
            alone = self.steps.steady.dose
            replaces = own.timeline.doses.steady[alone] == 1
            constant: Any = tuple(None if p is None else p[..., : self.n, size - 1, :, :] * replaces for p in square)
            unit = _plus(unit, constant)
        right: Any = tuple(None if p is None else -p for p in unit)
        return self._solve(inside, right)

    def _mixed(self, total: Jet, other: Jet, where: Array) -> Jet:
        parts: list[Array | None] = []
        for a, b in zip(total, other, strict=True):
            if a is None and b is None:
                parts.append(None)
            else:
                shape = (a if a is not None else b).shape  # type: ignore[union-attr]
                parts.append(np.where(where, np.zeros(shape) if b is None else b, np.zeros(shape) if a is None else a))
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]


def _inverse(matrix: Array) -> Array:
    try:
        return np.linalg.inv(matrix)
    except np.linalg.LinAlgError:  # nothing leaves some compartment: there is no steady state
        singular = np.linalg.det(matrix) == 0
        out = np.linalg.inv(np.where(singular[..., None, None], np.eye(matrix.shape[-1]), matrix))
        return np.where(singular[..., None, None], np.nan, out)


def _shifted(lag: Jet, by: Array) -> Jet:
    """Return by − lag, the time since a dose `by` earlier arrived."""
    return (by - lag[0], *(None if p is None else -p for p in lag[1:]))  # type: ignore[return-value]


def _minus(a: Jet, b: Jet) -> Jet:
    return a[0] - b[0], *(x if y is None else -y if x is None else x - y for x, y in zip(a[1:], b[1:], strict=True))  # type: ignore[return-value]


def _plus(a: Jet | None, b: Jet | None) -> Jet:
    if a is None or b is None:
        one = b if a is None else a
        assert one is not None
        return one
    return tuple(y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _positive(a: Jet) -> Jet:
    on = a[0] > 0
    return np.maximum(a[0], 0.0), *(None if p is None else np.where(on, p, 0.0) for p in a[1:])  # type: ignore[return-value]


def _least(a: Jet, b: Jet) -> Jet:
    on = a[0] < b[0]
    parts: list[Array | None] = []
    for x, y in zip(a[1:], b[1:], strict=True):
        parts.append(None if x is None or y is None else np.where(on, x, y))
    return np.minimum(a[0], b[0]), *parts  # type: ignore[return-value]
