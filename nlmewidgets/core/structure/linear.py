r"""Linear compartments, x' = A·x + b, advanced exactly from event to event with first and second derivatives.

The state z is x with one more state for the rate of infusions into each compartment and one that is 1, so
that inputs are part of a homogeneous system: an infusion is a bolus into its rate.  Observations do not
stop the clock: each is read from the last event before it,

.. math:: x(t) = \bigl[e^{A (t - t_k)}\, z(t_k^+)\bigr]_x .
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, ClassVar, NamedTuple

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.jets import Jet, compose, cross
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.doses import Routed, Routes
from nlmewidgets.core.structure.geometric import SteadyStates
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

    @cached_property
    def starts(self) -> Ints:
        """Where each row begins."""
        return np.flatnonzero(np.diff(self.rows, prepend=-1))

    def sums(self, terms: Array, size: int) -> Array:
        """Add the terms of each row, (..., entries, batch, n) → (..., states, batch, n)."""
        starts = self.starts
        sums = terms if len(starts) == len(self.rows) else np.add.reduceat(terms, starts, axis=-3)
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
        run = Run(self, slots, covariates, order)
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


class Run:
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
        settled = SteadyStates(self, steps, routed, offset) if len(steps.steady.dose) else None
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


def _total(parts: list[Array | None]) -> Array | None:
    present = [p for p in parts if p is not None]
    return reduce(np.add, present) if present else None
