r"""Differential equations and their sensitivities as one system of rows, lanes last.

For x' = f(x, s) the sensitivities along slots obey

.. math::

    S_a' &= J S_a + f_a \\
    S_{ab}' &= J S_{ab} + \sum_k \Big(f_{kb} + \sum_l f_{kl} S_{l,b}\Big) S_{k,a} + \sum_l f_{al} S_{l,b} + f_{ab} .

Which of them vanish whatever the values is known beforehand (a depot knows nothing of clearance);
only the others are rows.  Time, where an equation contains it, is a state with derivative 1: moving
starts of intervals are then sensitivities of that state and need no formulas of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from functools import cached_property
from typing import Any, cast

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.row_kernels import RowKernel, write
from nlmewidgets.core.symbols import time
from nlmewidgets.core.tape import ZERO, Index, Level, Tape

__all__ = ["Rate", "Variational"]


Rate = float | int
"""A constant of the equations: a number, or (int) its row of the constants."""


class Variational:
    """The rows of an initial value problem and the kernels that differentiate them.

    Parameters
    ----------
    states : sequence of Symbol
    rhs : sequence of SymPy expression
        Derivative of each state, in states, slots, covariates and `time`.
    slots : sequence of Symbol
        Directions; the first `n_random` may be first in a second derivative.
    n_random : int
    covariates : sequence of Symbol
    direct : sequence of set of int, optional
        Slots that reach each state through events: initial values, bioavailability, rates.
    moving : set of int
        Slots that move the ends of intervals (lag times, modelled durations): they reach every state.

    Attributes
    ----------
    n : int
        States, the clock included.
    first : list of (state, slot)
        Row n + k is ∂x_state/∂s_slot.
    second : list of (state, slot, slot)
        Rows after these; the first slot is random and not after the second.
    """

    def __init__(
        self,
        states: Sequence[sp.Symbol],
        rhs: Sequence[sp.Expr],
        slots: Sequence[sp.Symbol] = (),
        n_random: int = 0,
        covariates: Sequence[sp.Symbol] = (),
        direct: Sequence[Iterable[int]] | None = None,
        moving: Iterable[int] = (),
    ) -> None:
        self.clock = any(e.has(time) for e in rhs)
        self.states = (*states, time) if self.clock else tuple(states)
        self.slots, self.n_random = tuple(slots), n_random
        levels: dict[sp.Symbol, Level] = dict.fromkeys(self.states, Level.RECORD)
        self.tape = Tape(levels | dict.fromkeys((*slots, *covariates), Level.BLOCK))
        tape = self.tape
        self.n = len(self.states)
        self.value: list[Index] = [tape.expression(sp.sympify(e)) for e in rhs]
        if self.clock:
            self.value.append(tape.constant(1.0))
        self._x = [tape.inputs[s] for s in self.states]
        self._s = [tape.inputs[s] for s in self.slots]
        self.jacobian = [tape.gradient(v, self._x) for v in self.value]
        self.slope = [tape.gradient(v, self._s) for v in self.value]
        self._reach([set(d) for d in direct] if direct else [set() for _ in states], set(moving))
        self._kernels: dict[int, RowKernel] = {}

    # ---------------------------------------------------------------- structure

    def _reach(self, direct: list[set[int]], moving: set[int]) -> None:
        """Find which sensitivities can differ from zero."""
        n, tape = self.n, self.tape
        direct += [set() for _ in range(n - len(direct))]
        along = [direct[i] | moving | {a for a, node in enumerate(self.slope[i]) if node is not ZERO} for i in range(n)]
        below = [[k for k in range(n) if self.jacobian[i][k] is not ZERO] for i in range(n)]
        self._close(along, below)
        self.along = [sorted(a) for a in along]
        self._curved = [[[tape.derivative(J, x) for x in self._x] for J in self.jacobian[i]] for i in range(n)]
        self._mixed = [[[tape.derivative(J, s) for s in self._s] for J in self.jacobian[i]] for i in range(n)]
        both = [set(self._pairs(d | moving, d | moving)) for d in direct]
        for i in range(n):
            both[i] |= set(self._pairs(along[i], moving))
            for k in below[i]:
                for b in self._turns(i, k):
                    both[i] |= set(self._pairs(along[k], {b}))
            for a, node in enumerate(self.slope[i]):
                for b, s in enumerate(self._s):
                    if tape.derivative(node, s) is not ZERO:
                        both[i] |= set(self._pairs({a}, {b}))
                for k in below[i]:
                    if self._mixed[i][k][a] is not ZERO:
                        both[i] |= set(self._pairs({a}, along[k]))
        self._close(both, below)
        self._number(along, both)

    def _number(self, along: list[set[int]], both: list[set[tuple[int, int]]]) -> None:
        """Give every sensitivity that can differ from zero its row."""
        n = self.n
        self.along = [sorted(a) for a in along]
        self.both = [sorted(p) for p in both]
        self.first = [(i, a) for i in range(n) for a in self.along[i]]
        self.second = [(i, a, b) for i in range(n) for a, b in self.both[i]]
        counts = [len(self.along[i]) for i in range(n)]
        self._first_row = [n + sum(counts[:i]) for i in range(n)]
        counts2 = [len(self.both[i]) for i in range(n)]
        self._second_row = [n + len(self.first) + sum(counts2[:i]) for i in range(n)]

    @staticmethod
    def _close(reached: list[set[Any]], below: list[list[int]]) -> None:
        changed = True
        while changed:
            changed = False
            for i, parts in enumerate(below):
                new = reached[i].union(*(reached[k] for k in parts))
                changed |= len(new) > len(reached[i])
                reached[i] = new

    def _pairs(self, left: Iterable[int], right: Iterable[int]) -> list[tuple[int, int]]:
        found = {(min(a, b), max(a, b)) for a in left for b in right}
        return [(a, b) for a, b in found if a < self.n_random]

    def _turns(self, i: int, k: int) -> list[int]:
        """Return the slots along which J_ik changes."""
        found = {b for b, node in enumerate(self._mixed[i][k]) if node is not ZERO}
        return sorted(found.union(*(self.along[m] for m in range(self.n) if self._curved[i][k][m] is not ZERO)))

    def rows(self, order: int) -> int:
        """Return the number of rows with sensitivities up to `order`."""
        return self.n + (len(self.first) if order >= 1 else 0) + (len(self.second) if order >= 2 else 0)

    @cached_property
    def flow(self) -> Variational:
        """The same equations along the slots and then along the states at the start, to first order.

        What events do to a state is no part of it: along a slot it knows what the equations make of it.
        """
        own = copy(self)
        for name in ("first_index", "second_index", "_constants"):
            own.__dict__.pop(name, None)
        own._places = self._places  # one table of constants
        m, n = len(self.slots), self.n
        own.slots, own.n_random = (*self.slots, *(sp.Dummy(f"start of {s}", real=True) for s in self.states)), 0
        own.slope = [[*row, *[ZERO] * n] for row in self.slope]
        along = [{a for a, node in enumerate(row) if node is not ZERO} | {m + i} for i, row in enumerate(self.slope)]
        own._close(along, [[k for k in range(n) if row[k] is not ZERO] for row in self.jacobian])
        own._number(along, [set() for _ in range(n)])
        own._kernels = {}
        return own

    # ------------------------------------------------------------------ kernels

    def constants(self, slots: Sequence[Array | None], covariates: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """Return (c, *shape): everything the kernels use that depends on slots and covariates only."""
        (out,) = self._constants((*(None for _ in self.states), *slots, *covariates), None, shape)
        return np.zeros((0, *shape)) if out is None else out

    @cached_property
    def _constants(self) -> Kernel:
        for order in (-1, 0, 1, 2):
            self.kernel(order)
        assert self.fading is not None  # its rates are constants too
        return numpy_kernel(self.tape, [list(self._places)])

    @cached_property
    def _places(self) -> dict[int, int]:
        """Row of the constants of each node that slots and covariates alone decide."""
        return {}

    @cached_property
    def fading(self) -> list[tuple[int, Rate, list[tuple[int, Rate | None]]]]:
        """States that leave at a constant rate and come back by no way round, and where they go.

        Returns
        -------
        list of (state, J_ii, list of (k, J_ki))
            A rate is a number or its row of the constants, None if it is not constant.  States come
            after those they go to.
        """
        reach = [{k for k in range(self.n) if self.jacobian[i][k] is not ZERO} for i in range(self.n)]
        beyond = [r - {i} for i, r in enumerate(reach)]
        self._close(beyond, [sorted(b) for b in beyond])
        found = []
        for i in sorted(range(self.n), key=lambda i: -len(beyond[i])):
            rate = self._rate(self.jacobian[i][i])
            if rate is not None and i not in beyond[i]:
                onward = [k for k in range(self.n) if k != i and i in reach[k]]
                found.append((i, rate, [(k, self._rate(self.jacobian[k][i])) for k in onward]))
        return found

    def _rate(self, number: Index) -> Rate | None:
        if number is ZERO:
            return None
        node = self.tape.nodes[number]
        if node.op == "constant":
            return float(cast("float", node.payload))
        return self._places.setdefault(number, len(self._places)) if node.level == Level.BLOCK else None

    def kernel(self, order: int) -> RowKernel:
        """Return the kernel of all rows up to `order`; −1: of the Jacobian, written into (n, n, L)."""
        if order not in self._kernels:
            self._kernels[order] = write(self, order)
        return self._kernels[order]

    # -------------------------------------------------------------- dense ↔ rows

    def pack(self, order: int, value: Array, first: Array | None = None, second: Array | None = None) -> Array:
        """Return rows (R, ...) from a jet (states, ...), (slots, states, ...), (random, slots, states, ...)."""
        out = np.zeros((self.rows(order), *value.shape[1:]))
        out[: len(value)] = value  # the clock is left at 0
        known = len(value)
        if order >= 1 and first is not None:
            for row, (i, a) in enumerate(self.first, self.n):
                if i < known:
                    out[row] = first[a, i]
        if order >= 2 and second is not None:
            for row, (i, a, b) in enumerate(self.second, self.n + len(self.first)):
                if i < known:
                    out[row] = second[a, b, i]
        return out

    def unpack(self, order: int, rows: Array) -> tuple[Array, Array | None, Array | None]:
        """Return the jet of rows (R, ...); second derivatives symmetric where both slots are random."""
        first = second = None
        if order >= 1:
            first = np.zeros((len(self.slots), self.n, *rows.shape[1:]))
            for row, (i, a) in enumerate(self.first, self.n):
                first[a, i] = rows[row]
        if order >= 2:
            second = np.zeros((self.n_random, len(self.slots), self.n, *rows.shape[1:]))
            for row, (i, a, b) in enumerate(self.second, self.n + len(self.first)):
                second[a, b, i] = rows[row]
                if b < self.n_random:
                    second[b, a, i] = rows[row]
        return rows[: self.n], first, second

    @cached_property
    def first_index(self) -> tuple[Ints, Ints]:
        """(state, slot) of each first-order row."""
        index = np.array(self.first, dtype=np.intp).reshape(-1, 2)
        return index[:, 0], index[:, 1]

    @cached_property
    def second_index(self) -> tuple[Ints, Ints, Ints]:
        """(state, slot, slot) of each second-order row."""
        index = np.array(self.second, dtype=np.intp).reshape(-1, 3)
        return index[:, 0], index[:, 1], index[:, 2]
