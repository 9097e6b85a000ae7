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

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.printers import _INFIX, _NAMESPACE, Kernel, numpy_kernel
from nlmewidgets.core.simplex import multi_indices
from nlmewidgets.core.symbols import time
from nlmewidgets.core.tape import ZERO, Index, Level, Tape

__all__ = ["Variational"]

Rows = Callable[[Array, Array, Array], None]
"""(constants (c, L), rows (R, L), derivative of the rows (R, L), written) → None."""


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
        self._kernels: dict[int, Rows] = {}

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

    # ------------------------------------------------------------------ kernels

    def constants(self, slots: Sequence[Array | None], covariates: Sequence[Array], shape: tuple[int, ...]) -> Array:
        """Return (c, *shape): everything the kernels use that depends on slots and covariates only."""
        (out,) = self._constants((*(None for _ in self.states), *slots, *covariates), None, shape)
        return np.zeros((0, *shape)) if out is None else out

    @cached_property
    def _constants(self) -> Kernel:
        for order in (-1, 0, 1, 2):
            self.kernel(order)
        return numpy_kernel(self.tape, [list(self._places)])

    @cached_property
    def _places(self) -> dict[int, int]:
        return {}

    def kernel(self, order: int) -> Rows:
        """Return the kernel of all rows up to `order`; −1: of the Jacobian, written into (n, n, L)."""
        if order not in self._kernels:
            writer = _Writer(self)
            if order < 0:
                writer.matrix()
            else:
                writer.states()
                if order >= 1:
                    writer.first()
                if order >= 2:
                    writer.second()
            self._kernels[order] = writer.compile()
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


class _Writer:
    """Writes one kernel: tape nodes as they are needed, then whole runs of rows at a time."""

    def __init__(self, system: Variational) -> None:
        self.system = system
        self.tape = system.tape
        self.lines: list[str] = []
        self.made: set[int] = set()
        self._x = {node: f"Y[{k}]" for k, node in enumerate(system._x)}

    def name(self, number: int) -> str:
        node = self.tape.nodes[number]
        if node.op == "constant":
            return f"({node.payload!r})"
        if node.level == Level.BLOCK:
            places = self.system._places
            place = places.setdefault(number, len(places))
            if number not in self.made:
                self.made.add(number)
                self.lines.append(f"c{place} = C[{place}]")
            return f"c{place}"
        if number not in self.made:
            self.made.add(number)
            if number in self._x:
                self.lines.append(f"v{number} = {self._x[number]}")
            else:
                self.lines.append(f"v{number} = {self._operation(number)}")
        return f"v{number}"

    def _operation(self, number: int) -> str:
        node = self.tape.nodes[number]
        args = [self.name(a) for a in node.args]
        if node.op == "expmix":
            moment = cast("tuple[int, ...]", node.payload)
            place = multi_indices(len(args), sum(moment)).index(moment)
            return f"expsimplex(({', '.join(args)}), {sum(moment)})[{place}]"
        if node.op == "polygamma":
            return f"polygamma({node.payload}, {args[0]})"
        if node.op in _INFIX:
            return _INFIX[node.op].format(*args)
        return f"{node.op}({', '.join(args)})"

    # Every group of rows is first overwritten, then added to.

    def _put(self, target: str, fresh: bool, node: Index) -> None:
        if node is ZERO:
            if fresh:
                self.lines.append(f"K[{target}] = 0.0")
            return
        self.lines.append(f"K[{target}] {'=' if fresh else '+='} {self.name(node)}")

    def _add(self, dst: str, factor: str, source: str, fresh: bool) -> None:
        """K[dst] (+)= factor · source."""
        if factor in ("(1.0)", "(-1.0)"):
            minus = factor == "(-1.0)"
            if fresh:
                self.lines.append(f"negative({source}, K[{dst}])" if minus else f"K[{dst}] = {source}")
            else:
                self.lines.append(f"K[{dst}] {'-=' if minus else '+='} {source}")
        elif fresh:
            self.lines.append(f"multiply({factor}, {source}, K[{dst}])")
        else:
            self.lines.append(f"K[{dst}] += {factor} * {source}")

    def matrix(self) -> None:
        for i, row in enumerate(self.system.jacobian):
            for k, node in enumerate(row):
                self._put(f"{i}, {k}", True, node)

    def states(self) -> None:
        for i, node in enumerate(self.system.value):
            self._put(str(i), True, node)

    def first(self) -> None:
        s = self.system
        for i in range(s.n):
            own = s.along[i]
            if not own:
                continue
            start = s._first_row[i]
            fresh = True
            terms = sorted((k for k in range(s.n) if s.jacobian[i][k] is not ZERO), key=lambda k: -len(s.along[k]))
            if not terms or s.along[terms[0]] != own:
                self.lines.append(f"K[{start}:{start + len(own)}] = 0.0")
                fresh = False
            for k in terms:
                node = s.jacobian[i][k]
                assert node is not ZERO
                factor = self.name(node)
                for dst, src, length in _runs(own, s.along[k], s.along[k]):
                    self._add(_span(start + dst, length), factor, f"Y[{_span(s._first_row[k] + src, length)}]", fresh)
                fresh = False
            for place, a in enumerate(own):
                self._put(str(start + place), False, s.slope[i][a])

    def second(self) -> None:
        s, tape = self.system, self.tape
        for i in range(s.n):
            own = s.both[i]
            if not own:
                continue
            start = s._second_row[i]
            self.lines.append(f"K[{start}:{start + len(own)}] = 0.0")
            for k in range(s.n):
                node = s.jacobian[i][k]
                if node is ZERO:
                    continue
                factor = self.name(node)
                for dst, src, length in _runs(own, s.both[k], s.both[k]):
                    self._add(_span(start + dst, length), factor, f"Y[{_span(s._second_row[k] + src, length)}]", False)
                self._turning(i, k, start)
            for a in range(s.n_random):
                for k in range(s.n):
                    node = s._mixed[i][k][a]
                    if node is ZERO:
                        continue
                    factor = self.name(node)
                    wanted = [(a, b) for b in s.along[k] if b >= a]
                    source = [(a, b) for b in s.along[k]]
                    for dst, src, length in _runs(own, source, wanted):
                        span = f"Y[{_span(s._first_row[k] + src, length)}]"
                        self._add(_span(start + dst, length), factor, span, False)
                for b in range(a, len(s.slots)):
                    node = tape.derivative(s.slope[i][a], s._s[b])
                    if node is not ZERO:
                        self._put(str(start + own.index((a, b))), False, node)

    def _turning(self, i: int, k: int, start: int) -> None:
        """Add (dJ_ik/ds_b) S_k,a to the rows (a, b) of state i."""
        s = self.system
        turns = s._turns(i, k)
        if not turns or not any(a < s.n_random for a in s.along[k]):
            return
        matrix = f"m{i}_{k}"
        self.lines.append(f"{matrix} = zeros(({len(turns)}, Y.shape[1]))")
        for m in range(s.n):
            node = s._curved[i][k][m]
            if node is ZERO:
                continue
            factor = self.name(node)
            for dst, src, length in _runs(turns, s.along[m], s.along[m]):
                self.lines.append(
                    f"{matrix}[{_span(dst, length)}] += {factor} * Y[{_span(s._first_row[m] + src, length)}]"
                )
        for place, b in enumerate(turns):
            node = s._mixed[i][k][b]
            if node is not ZERO:
                self.lines.append(f"{matrix}[{place}] += {self.name(node)}")
        for place, a in enumerate(s.along[k]):
            if a >= s.n_random:
                continue
            row = s._first_row[k] + place
            source = [(a, b) for b in turns]
            for dst, src, length in _runs(s.both[i], source, [(a, b) for b in turns if b >= a]):
                self._add(_span(start + dst, length), f"Y[{row}]", f"{matrix}[{_span(src, length)}]", False)

    def compile(self) -> Rows:
        source = "def rows(C, Y, K):\n    " + "\n    ".join([*self.lines, "return"]) + "\n"
        scope = dict(_NAMESPACE) | {"multiply": np.multiply, "negative": np.negative, "zeros": np.zeros}
        exec(compile(source, "<nlmewidgets rows>", "exec"), scope)  # our own generated text, never the user's
        rows: Rows = scope["rows"]
        rows.source = source  # type: ignore[attr-defined]
        return rows


def _span(start: int, length: int) -> str:
    return f"{start}:{start + length}"


def _runs(target: list[Any], source: list[Any], wanted: list[Any]) -> list[tuple[int, int, int]]:
    """Return (place in target, place in source, length) of consecutive stretches covering `wanted`."""
    runs: list[tuple[int, int, int]] = []
    for item in wanted:
        dst, src = target.index(item), source.index(item)
        if runs and runs[-1][0] + runs[-1][2] == dst and runs[-1][1] + runs[-1][2] == src:
            runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
        else:
            runs.append((dst, src, 1))
    return runs
