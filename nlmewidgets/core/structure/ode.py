"""Nonlinear differential equations bound to a study: states by integration, derivatives by sensitivities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.integrate import Failure, Intervals, integrate
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.doses import Routed, Routes
from nlmewidgets.core.structure.program import TapeProgram, program_of
from nlmewidgets.core.structure.readout import Readout
from nlmewidgets.core.structure.steady import Regimen, steady_rows
from nlmewidgets.core.structure.timeline import Steps, Timeline
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.variational import Variational

__all__ = ["Ode"]


@lru_cache(maxsize=64)
def _variational(*args: Any) -> Variational:
    return Variational(*args)


@dataclass(frozen=True, eq=False)
class Ode:
    """Differential equations bound to a study.

    An infusion is a state whose derivative is zero and which is the rate of change of another, so that
    starting and stopping one is a jump like any dose.

    Attributes
    ----------
    timeline, routes, readout, initial
        When what happens, how doses arrive, what is observed, where states start.
    system, starts : Variational
        The equations with sensitivities along the slots, and along initial states for steady states.
    tolerance : Tolerance
    """

    timeline: Timeline
    routes: Routes
    readout: Readout
    initial: TapeProgram
    initial_covariates: tuple[Array, ...]
    system: Variational
    starts: Variational
    covariates: tuple[Array, ...]
    tolerance: Tolerance
    ids: tuple[Any, ...]

    memoryless: ClassVar[bool] = False

    @property
    def precision(self) -> float:
        """Relative error of predictions: what one step of the integration may be wrong by."""
        return self.tolerance.rtol

    @classmethod
    def bind(cls, binding: Binding) -> Ode:
        """Return the numerical solution of a model's system."""
        system, form = binding.model.system, binding.form
        assert system is not None
        # Every observation ends an interval, so what is read is the solution and no interpolation of it.
        timeline = Timeline.of(binding.data, system, binding.block_of_record, binding.data.observed)
        routes = Routes.bind(binding, timeline.doses)
        start = tuple(binding.in_slots(sp.sympify(e)) for e in system.initial)
        start_symbols, start_covariates = binding.used(*start)
        initial = program_of(start, form.symbols, form.n_random, start_symbols, ())
        rhs = [binding.in_slots(sp.sympify(e)) for e in system.rhs]
        rates = tuple(sp.Symbol(f"infusion into {system.states[k].name}", real=True) for k in timeline.rates)
        for symbol, k in zip(rates, timeline.rates, strict=True):
            rhs[k] += symbol
        states = (*system.states, *rates)
        rhs += [sp.S.Zero] * len(rates)
        symbols, covariates = binding.used(*rhs)
        direct, moving = _influence(initial, routes, timeline, len(states))
        own = _variational(states, tuple(rhs), form.symbols, form.n_random, symbols, direct, moving)
        unknown = tuple(sp.Dummy(s.name, real=True) for s in system.states)
        starts = Variational(
            states,
            rhs,
            unknown,
            0,
            (*form.symbols, *symbols),
            [{k} for k in range(len(unknown))] + [set()] * len(rates),
        )
        return cls(
            timeline,
            routes,
            Readout.bind(binding),
            initial,
            start_covariates,
            own,
            starts,
            covariates,
            system.tolerance,
            tuple(binding.data.ids),
        )

    # ------------------------------------------------------------------ forward

    def __call__(self, slots: Array, order: int = 0) -> Jet:
        """Evaluate at slots (slots, ..., blocks); return f (..., obs) and derivatives."""
        batch, n_blocks = slots.shape[1:-1], slots.shape[-1]
        flat = slots.reshape(len(slots), -1, n_blocks)
        rows, _ = self._solve(flat, order)
        n_obs = len(self.timeline.observed)
        state: dict[int, Jet] = {}
        jets = self.system.unpack(order, rows.reshape(len(rows), flat.shape[1], n_obs))
        for k in self.readout.states:
            state[k] = jets[0][k], *(None if p is None else p[..., k, :, :] for p in jets[1:])  # type: ignore[assignment]
        jet = self.readout(flat, state, order)
        parts = [None if p is None else p.reshape(*p.shape[:k], *batch, n_obs) for k, p in enumerate(jet)]
        return parts[0], parts[1], parts[2]  # type: ignore[return-value]

    def failures(self, slots: Array) -> dict[int, str]:
        """Say when and in which state the integration of a subject failed, at slots (slots, blocks)."""
        _, failures = self._solve(slots[:, None], 0)
        return {f.lane: self._sentence(f) for f in failures}

    def _sentence(self, failure: Failure) -> str:
        subject = self.ids[failure.lane]
        pairs = zip(self.system.states, failure.state, strict=True)
        values = ", ".join(f"{s.name} = {v:.6g}" for s, v in list(pairs)[: self.timeline.n_states])
        return (
            f"The differential equations of subject {subject} could not be solved past TIME {failure.time:g} "
            f"({values}): {failure.reason}; change the initial values or the equations."
        )

    def _solve(self, slots: Array, order: int) -> tuple[Array, list[Failure]]:
        """Return the rows (R, batch · observations) at slots (slots, batch, blocks)."""
        line = self.timeline
        batch, n_blocks = slots.shape[1:]
        routed = self.routes(slots, order)
        start = self.initial((*slots, *self.initial_covariates), None, (batch, n_blocks), order)
        initial: Any = tuple(None if p is None else p[..., line.epoch_block] for p in start)
        steps = line.steps(routed, initial, batch)
        constants = self.system.constants(tuple(slots), self.covariates, (batch, n_blocks)).reshape(
            -1, batch * n_blocks
        )
        settled = self._settled(steps, routed, slots, order, constants)
        return integrate(
            self.system,
            order,
            self._intervals(steps, order, constants, n_blocks, settled)._replace(unit=_unit(slots)),
            self.tolerance,
            seen=self.readout.states,
        )

    # ---------------------------------------------------------------- intervals

    def _intervals(self, steps: Steps, order: int, constants: Array, n_blocks: int, settled: Array | None) -> Intervals:
        """Return the history as the integrator wants it: tables, and their columns."""
        system, line = self.system, self.timeline
        size, lanes = steps.dt[0].shape
        # A read belongs to the mark after it, at the same time, before anything else happens.
        read = np.full((size, lanes), -1)
        read[steps.read_step + 1, steps.read_lane] = np.arange(len(steps.read_step))
        count = np.zeros(lanes, dtype=np.intp)
        np.maximum.at(count, steps.read_lane, steps.read_step + 2)
        acts = (steps.keep != 1.0).any(axis=1)
        for order_, part in enumerate(steps.add):
            if part is not None:
                acts |= (part != 0).any(axis=(*range(order_), -2))
        acts[steps.steady.step, steps.steady.lane] = True
        step, lane = np.nonzero(acts)
        jump = np.full((size, lanes), -1)
        jump[step, lane] = np.arange(len(step))
        value = steps.add[0][step, :, lane].T
        first = None if steps.add[1] is None else np.moveaxis(steps.add[1][:, step, :, lane], 0, -1)
        second = None if steps.add[2] is None else np.moveaxis(steps.add[2][:, :, step, :, lane], 0, -1)
        add = system.pack(order, value, first, second)
        if settled is not None:
            add[:, jump[steps.steady.step, steps.steady.lane]] += settled  # one steady state per step of a lane
        keep = np.ones((system.n, len(step)))
        keep[: line.n_all] = steps.keep[step, :, lane].T
        shift = np.full((size, lanes), -1)
        stretch = None
        if order >= 1 and steps.dt[1] is not None:
            moved = (steps.dt[1] != 0).any(axis=0)
            if steps.dt[2] is not None:
                moved |= (steps.dt[2] != 0).any(axis=(0, 1))
            where = np.nonzero(moved)
            shift[where] = np.arange(len(where[0]))
            bent = steps.dt[2] if steps.dt[2] is not None else np.zeros((system.n_random, *steps.dt[1].shape))
            stretch = steps.dt[1][:, where[0], where[1]], bent[:, :, where[0], where[1]]
        offset = np.arange(lanes) // line.n_subjects * n_blocks
        return Intervals(
            steps=count,
            start=steps.start[0],
            length=steps.dt[0],
            block=steps.block + offset,
            read=read,
            jump=jump,
            shift=shift,
            constants=constants,
            keep=keep,
            add=add,
            stretch=stretch,
            clock=self._clock(steps, order) if system.clock else None,
            n_read=len(steps.read_step),
        )

    def _clock(self, steps: Steps, order: int) -> Array:
        """Return the rows of the clock at the start of every interval."""
        system, last = self.system, self.system.n - 1
        rows = [steps.start[0]]
        zero = np.zeros_like(rows[0])
        if order >= 1:
            rows += [zero if steps.start[1] is None else steps.start[1][a] for i, a in system.first if i == last]
        if order >= 2:
            rows += [zero if steps.start[2] is None else steps.start[2][a, b] for i, a, b in system.second if i == last]
        return np.stack(rows)

    # ------------------------------------------------------------- steady state

    def _settled(self, steps: Steps, routed: Routed, slots: Array, order: int, constants: Array) -> Array | None:
        """Return the rows that each steady-state dose puts into the state."""
        steady, line, doses = steps.steady, self.timeline, self.timeline.doses
        if not len(steady.dose):
            return None
        batch, n_blocks = slots.shape[1:]
        copy, dose = steady.lane // line.n_subjects, steady.dose
        pick: Any = lambda jet: tuple(None if p is None else p[..., copy, dose] for p in jet)  # noqa: E731
        column = doses.block[dose] + copy * n_blocks
        infused = doses.rate[dose] != 0
        endless = infused & (doses.amount[dose] == 0)
        place = {state: line.n_states + k for k, state in enumerate(line.rates)}
        state = [place[s] if i else s for s, i in zip(doses.state[dose], infused, strict=True)]
        own = Regimen(
            state=np.array(state, dtype=np.intp),
            infused=infused,
            endless=endless,
            strength=pick(routed.strength),
            duration=tuple(None if p is None else np.nan_to_num(p) for p in pick(routed.duration)),  # type: ignore[arg-type]
            lag=pick(routed.lag),
            interval=np.where(endless, 1.0, doses.ii[dose]),
            time=doses.tau[dose],
            constants=constants[:, column],
        )
        n = line.n_states
        rows = self._steady_rows(own, slots, column, order, n)
        raised = doses.steady[dose] == 2
        if raised.any():
            # A dose that adds to the state adds what it alone makes: a baseline is already there.
            none: Any = tuple(None if p is None else np.zeros_like(p) for p in own.strength)
            silent = Regimen(**{**own.__dict__, "strength": none})
            rows[:, raised] -= self._steady_rows(silent, slots, column, order, n)[:, raised]
        return rows

    def _steady_rows(self, own: Regimen, slots: Array, column: Ints, order: int, n: int) -> Array:
        flat = slots.reshape(len(slots), -1)[:, column]
        n_blocks = slots.shape[-1]
        own_values = (*flat, *(c[column % n_blocks] for c in self.covariates))
        constants = self.starts.constants([None] * len(self.starts.slots), own_values, column.shape)
        return steady_rows(self.system, self.starts, constants, order, n, own, self.tolerance)


def _unit(slots: Array) -> Array:
    """Return changes of slots no larger than usual, (slots, batch · blocks): 1, or the inverse of large values."""
    return np.minimum(1.0, 1.0 / np.maximum(np.abs(slots), 1.0)).reshape(len(slots), -1)


def _influence(
    initial: TapeProgram, routes: Routes, line: Timeline, n: int
) -> tuple[tuple[frozenset[int], ...], frozenset[int]]:
    """Return the slots that reach each state by doses and initial values, and those that move times."""

    def slots_of(program: TapeProgram, *nodes: int) -> set[int]:
        found = enumerate(program.directions)
        return {a for a, d in found if any(program.tape.derivative(k, d) is not None for k in nodes)}

    direct: list[set[int]] = [set() for _ in range(n)]
    moving: set[int] = set()
    for k, node in enumerate(initial.nodes):
        direct[k] |= slots_of(initial, node)
    for program, _, index in routes.groups:
        lag, strength, duration = program.nodes
        moving |= slots_of(program, lag, duration)
        for state in np.unique(line.doses.state[index]):
            infused = bool((line.doses.rate[index] != 0).any())
            place = line.n_states + line.rates.index(state) if infused else int(state)
            direct[place] |= slots_of(program, strength)
    return tuple(map(frozenset, direct)), frozenset(moving)
