"""Outputs read from a state: expressions of states, slots, covariates and time, chained to the state's jet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.jets import Jet, compose
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.program import TapeProgram, program_of
from nlmewidgets.core.symbols import dv, last, time

__all__ = ["Readout"]


@dataclass(frozen=True, eq=False)
class _Part:
    program: TapeProgram
    states: tuple[int, ...]
    covariates: tuple[Array, ...]
    rows: Ints | None


@dataclass(frozen=True, eq=False)
class Readout:
    """The outputs of a model with states, bound to its observations.

    Attributes
    ----------
    parts : tuple
        One per observed output.
    inputs : tuple of (obs,) float
        TIME, DV and whether it is the subject's last observation (the latter two for likelihoods).
    block : (obs,) int
    states : tuple of int
        The states that any output needs.
    """

    parts: tuple[_Part, ...]
    inputs: tuple[Array, Array, Array]
    block: Ints
    states: tuple[int, ...]
    n_slots: int
    n_random: int

    @classmethod
    def bind(cls, binding: Binding) -> Readout:
        """Return the outputs of a model for the observations of its data."""
        form, system = binding.form, binding.model.system
        assert system is not None
        parts = []
        for output, rows in binding.outputs:
            expr = binding.in_slots(output)
            states = tuple(k for k, s in enumerate(system.states) if expr.has(s))
            symbols, values = binding.used(expr)
            names = tuple(system.states[k] for k in states)
            base = program_of((expr,), form.symbols, form.n_random, symbols, (time, dv, last, *names))
            directions = (*base.directions, *(base.tape.inputs[s] for s in names))
            program = TapeProgram(base.tape, base.nodes, directions, len(directions))
            parts.append(_Part(program, states, values, rows))
        needed = tuple(sorted({k for p in parts for k in p.states}))
        inputs = (binding.data.time, binding.data.dv, binding.last)
        return cls(tuple(parts), inputs, binding.block_of_obs, needed, len(form.symbols), form.n_random)

    def __call__(self, slots: Array, state: dict[int, Jet], order: int) -> Jet:
        """Return the prediction of every observation.

        Parameters
        ----------
        slots : (slots, ..., blocks) float
        state : dict of int to Jet
            Jets (..., obs) of the states in `states`.
        order : int
        """
        batch = slots.shape[1:-1]
        n = len(self.block)
        value = np.empty((*batch, n))
        first = np.zeros((self.n_slots, *batch, n)) if order >= 1 else None
        second = np.zeros((self.n_random, self.n_slots, *batch, n)) if order >= 2 else None
        for part in self.parts:
            rows = part.rows
            inner = [_at(state[k], rows) for k in part.states]
            own_inputs, block = self.inputs, self.block
            if rows is not None:
                own_inputs, block = tuple(x[rows] for x in own_inputs), block[rows]  # type: ignore[assignment]
            inputs = (*slots, *part.covariates, *own_inputs, *(x[0] for x in inner))
            own = part.program(inputs, block, (*batch, len(block)), order)
            first_node: Any = (..., 0, *(slice(None),) * (len(batch) + 1))
            single: Any = (own[0][0], *(None if p is None else p[first_node] for p in own[1:]))
            jet = compose(single, inner, self.n_slots, self.n_random, order)
            here = slice(None) if rows is None else rows
            value[..., here] = jet[0]
            if first is not None:
                first[..., here] = jet[1]
            if second is not None:
                second[..., here] = jet[2]
        return value, first, second


def _at(jet: Jet, rows: Ints | None) -> Jet:
    if rows is None:
        return jet
    return jet[0][..., rows], *(None if p is None else p[..., rows] for p in jet[1:])  # type: ignore[return-value]
