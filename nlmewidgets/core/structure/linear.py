r"""Linear compartments, x' = A·x + b, advanced exactly from event to event with first and second derivatives.

The state z is x with one more state for the rate of infusions into each compartment and one that is 1, so
that inputs are part of a homogeneous system: an infusion is a bolus into its rate.  Observations do not
stop the clock: each is read from the last event before it,

.. math:: x(t) = \bigl[e^{A (t - t_k)}\, z(t_k^+)\bigr]_x .
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, ClassVar, NamedTuple

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.jets import Jet, compose, cross
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.doses import Routed, Routes
from nlmewidgets.core.structure.program import TapeProgram, program_of
from nlmewidgets.core.structure.propagator import Propagator, solvable
from nlmewidgets.core.structure.readout import Readout
from nlmewidgets.core.structure.timeline import Steps, Timeline
from nlmewidgets.core.tape import Level, Tape

__all__ = ["Linear"]

_DT = sp.Symbol("dt", real=True)


class _Gaps(NamedTuple):
    """The intervals a history is made of: their lengths and blocks, and where those of each moving step are."""

    dt: Jet
    block: Ints
    place: dict[int, Any]

    @classmethod
    def of(cls, steps: Steps, offset: Any, *, shared: bool = False) -> _Gaps:
        """Return the intervals of the steps; `shared`: each length and block once, as doses every 12 h have them."""
        lanes = steps.dt[0].shape[1]
        moving = np.flatnonzero(steps.dt[0].any(axis=1))
        dt: Any = tuple(None if p is None else p[..., moving, :].reshape(*p.shape[:-2], -1) for p in steps.dt)
        block = (steps.block[moving] + offset).ravel()
        places: list[Any] = [slice(k * lanes, (k + 1) * lanes) for k in range(len(moving))]
        if shared and len(moving):
            pairs, which = np.unique(np.stack([block, dt[0]]), axis=1, return_inverse=True)
            dt, block = (pairs[1], None, None), pairs[0].astype(np.intp)
            places = list(which.reshape(len(moving), lanes))
        return cls(dt, block, dict(zip(moving.tolist(), places, strict=True)))


@dataclass(frozen=True, eq=False)
class _Entries:
    """Some entries of e^{A dt}: what computes them, along slots and dt, and their places ordered by row."""

    program: TapeProgram
    rows: Ints
    columns: Ints

    @classmethod
    def of(cls, nodes: dict[tuple[int, int], int], like: TapeProgram, wanted: tuple[int, ...]) -> _Entries:
        """Return the entries in the rows wanted."""
        places = sorted(p for p in nodes if p[0] in wanted)
        program = TapeProgram(like.tape, tuple(nodes[p] for p in places), like.directions, like.n_random)
        return cls(program, np.array([i for i, _ in places], np.intp), np.array([j for _, j in places], np.intp))

    def sums(self, terms: Array, size: int) -> Array:
        """Add the terms of each row, (..., entries, batch, n) → (..., states, batch, n)."""
        starts = np.flatnonzero(np.diff(self.rows, prepend=-1))
        sums = np.add.reduceat(terms, starts, axis=-3)
        if len(starts) == size:
            return sums
        out = np.zeros((*terms.shape[:-3], size, *terms.shape[-2:]))
        out[..., self.rows[starts], :, :] = sums
        return out


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear system bound to a study.

    Attributes
    ----------
    timeline, routes, readout
        When what happens, how doses arrive, what is observed.
    entries, reading : _Entries
        The entries of e^{A dt} that are not zero; those in the rows of observed states.
    initial : TapeProgram
        The state at the start of an epoch.
    fixed : Steps or None
        The history, where no parameter changes it.
    gaps : _Gaps or None
        Its intervals.
    """

    timeline: Timeline
    routes: Routes
    readout: Readout
    entries: _Entries
    reading: _Entries
    covariates: tuple[Array, ...]
    initial: TapeProgram
    initial_covariates: tuple[Array, ...]
    rates: TapeProgram
    fixed: Steps | None
    gaps: _Gaps | None
    block_of_obs: Ints
    size: int
    n_slots: int
    n_random: int

    memoryless: ClassVar[bool] = False

    @classmethod
    def bind(cls, binding: Binding) -> Linear | None:
        """Return the exact solution of a model's system, None where it has none in closed form."""
        system, form = binding.model.system, binding.form
        assert system is not None
        parts = system.linear
        if parts is None:
            return None
        timeline = Timeline.of(binding.data, system, binding.block_of_record)
        matrix = _augmented(binding, parts, timeline)
        if not solvable(matrix):
            return None
        symbols, covariates = binding.used(*matrix)
        tape = Tape(dict.fromkeys((*form.symbols, *symbols), Level.BLOCK) | {_DT: Level.RECORD})
        nodes = Propagator(tape, matrix, tape.inputs[_DT]).entries()
        routes = Routes.bind(binding, timeline.doses)
        start = tuple(binding.in_slots(e) for e in system.initial)
        start_symbols, start_covariates = binding.used(*start)
        initial = program_of(start, form.symbols, form.n_random, start_symbols, ())
        directions = tuple(tape.inputs[s] for s in form.symbols)
        moving = routes.varies or initial.varies
        n_random = form.n_random
        if moving:
            directions, n_random = (*directions, tape.inputs[_DT]), len(directions) + 1
        flat = [matrix[i, j] for i in range(matrix.rows) for j in range(matrix.cols)]
        rates = program_of(tuple(flat), form.symbols, form.n_random, symbols, ())
        like = TapeProgram(tape, (), directions, n_random)
        readout = Readout.bind(binding)
        new = cls(
            timeline=timeline,
            routes=routes,
            readout=readout,
            entries=_Entries.of(nodes, like, tuple(range(matrix.rows))),
            reading=_Entries.of(nodes, like, readout.states),
            covariates=covariates,
            initial=initial,
            initial_covariates=start_covariates,
            rates=rates,
            fixed=None,
            gaps=None,
            block_of_obs=binding.block_of_obs,
            size=matrix.rows,
            n_slots=len(form.symbols),
            n_random=form.n_random,
        )
        if moving:
            return new
        n_blocks = int(binding.block_of_record.max()) + 1
        still = new._history(np.zeros((len(form.symbols), 1, n_blocks)), 0)
        return replace(new, fixed=still[0], gaps=_Gaps.of(still[0], 0, shared=True))

    # ------------------------------------------------------------------ forward

    def __call__(self, slots: Array, order: int = 0) -> Jet:
        """Evaluate at slots (slots, ..., blocks); return f (..., obs) and derivatives."""
        batch = slots.shape[1:-1]
        n_blocks = slots.shape[-1]
        flat = slots.reshape(self.n_slots, -1, n_blocks)
        jet = self._run(flat, order)
        parts = [None if p is None else p.reshape(*p.shape[:k], *batch, p.shape[-1]) for k, p in enumerate(jet)]
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]

    def _history(self, slots: Array, order: int) -> tuple[Steps, Routed]:
        """Return the steps at slots (slots, batch, blocks), and what the routes make of the doses."""
        line = self.timeline
        batch, n_blocks = slots.shape[1:]
        routed = self.routes(slots, order)
        start = self.initial((*slots, *self.initial_covariates), None, (batch, n_blocks), order)
        initial: Any = tuple(None if p is None else p[..., line.epoch_block] for p in start)
        return line.steps(routed, initial, batch), routed

    def _run(self, slots: Array, order: int) -> Jet:
        n_copies, n_blocks = slots.shape[1:]
        line = self.timeline
        if self.fixed is not None:
            steps, routed = self.fixed, None
            offset: Any = 0
        else:
            # Lanes of different copies have different histories: the copies become blocks of their own.
            steps, routed = self._history(slots, order)
            slots = slots.reshape(self.n_slots, 1, n_copies * n_blocks)
            offset = np.repeat(np.arange(n_copies), line.n_subjects) * n_blocks
        covariates = self.covariates if self.fixed is not None else tuple(np.tile(c, n_copies) for c in self.covariates)
        run = _Run(self, slots, covariates, order)
        history = run.advance(steps, routed, offset)
        lane = steps.read_lane
        block = np.tile(self.block_of_obs, 1 if self.fixed is not None else n_copies)
        if self.fixed is None:
            block = block + offset[lane]
        z = history.at(steps.read_step, lane)
        x = run.propagate(z, steps.since, block, self.readout.states)
        readout = self.readout
        if self.fixed is not None:
            return readout(slots, x, order)
        original = slots.reshape(self.n_slots, n_copies, n_blocks)
        n_obs = len(self.block_of_obs)
        state: dict[int, Jet] = {}
        for k, jet in x.items():
            parts = [None if p is None else p.reshape(*p.shape[:o], n_copies, n_obs) for o, p in enumerate(jet)]
            state[k] = parts[0], parts[1], parts[2]  # type: ignore[assignment]
        return readout(original, state, order)


def _augmented(binding: Binding, parts: tuple[sp.Matrix, sp.Matrix], line: Timeline) -> sp.Matrix:
    """Return A with columns for infusion rates and, where b is not zero, for the state that is 1."""
    matrix, rest = (m.applyfunc(binding.in_slots) for m in parts)
    n = line.n_states
    constant = any(e != 0 for e in rest)
    size = line.n_all + constant
    out = sp.zeros(size, size)
    out[:n, :n] = matrix
    for k, state in enumerate(line.rates):
        out[state, n + k] = sp.S.One
    if constant:
        out[:n, size - 1] = rest
    return sp.ImmutableMatrix(out)


@dataclass
class _History:
    """The state after every step: value (steps, states, batch, lanes), derivatives with their axes in front."""

    value: Array
    first: Array | None
    second: Array | None

    def at(self, step: Ints, lane: Ints) -> Jet:
        """Return the states (states, batch, n) after some steps of some lanes."""
        value = np.moveaxis(self.value[step, :, :, lane], 0, -1)
        first = None if self.first is None else np.moveaxis(self.first[:, step, :, :, lane], 0, -1)
        second = None if self.second is None else np.moveaxis(self.second[:, :, step, :, :, lane], 0, -1)
        return value, first, second


class _Run:
    """One evaluation: the slots, and the products that advance a state's jet."""

    def __init__(self, own: Linear, slots: Array, covariates: tuple[Array, ...], order: int) -> None:
        self.own, self.slots, self.covariates, self.order = own, slots, covariates, order

    def entries(self, dt: Jet, block: Ints, which: _Entries | None = None) -> Jet:
        """Return entries of e^{A dt}, (entries, batch, n) with derivatives in front."""
        own = self.own
        program = (which or own.entries).program
        n = dt[0].shape[-1]
        shape = (self.slots.shape[1], n)
        inputs = (*self.slots, *self.covariates, dt[0])
        jet = program(inputs, block, shape, self.order)
        if len(program.directions) == own.n_slots:
            return jet
        inner = (dt[0], *(None if p is None else p[..., None, None, :] for p in dt[1:]))
        return compose(jet, [inner], own.n_slots, own.n_random, self.order)  # type: ignore[list-item]

    def product(self, e: Jet, z: Jet, which: _Entries | None = None) -> Jet:
        """Return e^{A dt}·z with derivatives, in the rows of the entries: z (states, batch, n)."""
        which = which or self.own.entries
        columns, order, size = which.columns, self.order, self.own.size
        zc = z[0][columns]
        value = which.sums(e[0] * zc, size)
        first = second = None
        if order >= 1:
            zf = None if z[1] is None else z[1][:, columns]
            parts = [e[1] * zc if e[1] is not None else None, e[0] * zf if zf is not None else None]
            first = _total(parts)
            first = None if first is None else which.sums(first, size)
            if order >= 2:
                zs = None if z[2] is None else z[2][:, :, columns]
                mixed = cross(e[1], zf, self.own.n_random) if e[1] is not None and zf is not None else None
                parts = [e[2] * zc if e[2] is not None else None, mixed, e[0] * zs if zs is not None else None]
                second = _total(parts)
                second = None if second is None else which.sums(second, size)
        return value, first, second

    def propagate(self, z: Jet, dt: Jet, block: Ints, states: tuple[int, ...]) -> dict[int, Jet]:
        """Return some states a time `dt` later."""
        if dt[0].any() or dt[1] is not None:
            reading = self.own.reading
            z = self.product(self.entries(dt, block, reading), z, reading)
        return {k: (z[0][k], *(None if p is None else p[..., k, :, :] for p in z[1:])) for k in states}  # type: ignore[misc]

    # ------------------------------------------------------------------ history

    def advance(self, steps: Steps, routed: Routed | None, offset: Any) -> _History:
        """Return the states after every step."""
        own, order = self.own, self.order
        batch = self.slots.shape[1]
        size, lanes = steps.dt[0].shape
        n_all = own.timeline.n_all
        z: Jet = (np.zeros((own.size, batch, lanes)), None, None)
        if own.size > n_all:
            z[0][n_all] = 1.0
        gaps = own.gaps if own.gaps is not None else _Gaps.of(steps, offset)
        e = self.entries(gaps.dt, gaps.block) if gaps.place else None
        settled = _SteadyStates(self, steps, routed, offset) if len(steps.steady.dose) else None
        history: list[Jet] = []
        for s in range(size):
            if s in gaps.place and e is not None:
                here = gaps.place[s]
                z = self.product(tuple(None if p is None else p[..., here] for p in e), z)  # type: ignore[arg-type]
            z = self._act(z, steps, s, n_all)
            if settled is not None:
                z = settled.add(z, s)
            history.append(z)
        value = np.stack([h[0] for h in history])
        first = second = None
        if order >= 1 and any(h[1] is not None for h in history):
            shape = (own.n_slots, own.size, batch, lanes)
            first = np.stack([np.zeros(shape) if h[1] is None else h[1] for h in history], axis=1)
        if order >= 2 and any(h[2] is not None for h in history):
            shape2 = (own.n_random, own.n_slots, own.size, batch, lanes)
            second = np.stack([np.zeros(shape2) if h[2] is None else h[2] for h in history], axis=2)
        return _History(value, first, second)

    def _act(self, z: Jet, steps: Steps, s: int, n_all: int) -> Jet:
        """Return the state after what happens at the end of a step."""
        keep = steps.keep[s][:, None, :]
        whole = bool((keep == 1.0).all())
        parts: list[Array | None] = []
        for k, (part, add) in enumerate(zip(z, steps.add, strict=True)):
            given = None if add is None or k > self.order else add[..., s, :, None, :]
            if part is not None and not whole:
                part = part.copy()
                part[..., :n_all, :, :] *= keep
            if given is not None and given.any():
                if part is None:
                    lead = (self.own.n_random, self.own.n_slots)[2 - k :]
                    part = np.zeros((*lead, *z[0].shape))
                else:
                    part = part.copy()
                part[..., :n_all, :, :] += given
            parts.append(part)
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]


class _SteadyStates:
    """What steady-state doses add to the state: infinitely many earlier doses, in closed form."""

    def __init__(self, run: _Run, steps: Steps, routed: Routed | None, offset: Any) -> None:
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


def _total(parts: list[Array | None]) -> Array | None:
    present = [p for p in parts if p is not None]
    return reduce(np.add, present) if present else None


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
