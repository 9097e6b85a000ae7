"""Kernels that differentiate the rows of a `Variational` system: tape nodes as they are needed, then runs of rows.

A kernel is first bound to its arrays, which makes every view and work array it needs, and then run as often as
their contents change: what is left of it are NumPy calls that write where they should.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.printers import _INFIX, _NAMESPACE
from nlmewidgets.core.simplex import multi_indices
from nlmewidgets.core.tape import ZERO, Index, Level

if TYPE_CHECKING:
    from nlmewidgets.core.variational import Variational

__all__ = ["RowKernel", "write"]


class RowKernel(NamedTuple):
    """A kernel of rows.

    Attributes
    ----------
    bind : callable
        (constants (c, L), rows (R, L), derivative (R, L)) → a function without arguments that makes the
        derivative anew from what the other two contain when it is called.
    source : str
    """

    bind: Callable[[Array, Array, Array], Callable[[], None]]
    source: str

    def __call__(self, constants: Array, rows: Array, out: Array) -> None:
        """Write the derivative of the rows once."""
        self.bind(constants, rows, out)()


def write(system: Variational, order: int) -> RowKernel:
    """Return the kernel of all rows up to `order`; −1: of the Jacobian, written into (n, n, L)."""
    writer = _Writer(system)
    if order < 0:
        writer.matrix()
    else:
        writer.states()
        if order >= 1:
            writer.first()
        if order >= 2:
            writer.second()
    return writer.compile()


_UFUNC = {"add": "add", "sub": "subtract", "mul": "multiply", "neg": "negative", "inv": "reciprocal", "pow": "power"}
_UFUNC |= {
    name: name for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "absolute")
}
"""Operations that can write into an array they are given."""


class _Line(NamedTuple):
    """One statement: a call that writes `out`, or an expression assigned to it."""

    call: str
    args: tuple[str, ...]
    out: str
    writes: bool


class _Writer:
    """Writes one kernel.

    Values of nodes are `v…` until they are given a work array, and again when it is free; views of
    the rows, their derivatives and the constants are named `y…`, `k…`, `c…`.
    """

    def __init__(self, system: Variational) -> None:
        self.system = system
        self.tape = system.tape
        self.lines: list[_Line] = []
        self.views: dict[str, str] = {}
        self.home: dict[str, str] = {}  # values that are made in the rows themselves
        self.made: dict[int, str] = {}
        self.width, self.turning = 1, 1
        self._x = {node: k for k, node in enumerate(system._x)}

    def view(self, array: str, start: int, length: int = 1) -> str:
        name = f"{array.lower()}{start}" + (f"_{length}" if length > 1 else "")
        self.views[name] = f"{array}[{start}]" if length == 1 else f"{array}[{start}:{start + length}]"
        return name

    def do(self, call: str, args: tuple[str, ...], out: str, writes: bool = True) -> None:
        self.lines.append(_Line(call, args, out, writes))

    def name(self, number: int) -> str:
        node = self.tape.nodes[number]
        if node.op == "constant":
            return f"({node.payload!r})"
        if number not in self.made:
            if node.level == Level.BLOCK:
                places = self.system._places
                made = self.view("C", places.setdefault(number, len(places)))
            elif number in self._x:
                made = self.view("Y", self._x[number])
            else:
                made = f"v{number}"
                self._operation(number, made)
            self.made[number] = made
        return self.made[number]

    def _operation(self, number: int, out: str) -> None:
        node = self.tape.nodes[number]
        args = tuple(self.name(a) for a in node.args)
        if node.op in _UFUNC and node.level == Level.RECORD:
            self.do(_UFUNC[node.op], args, out)
            return
        holes = ["{}"] * len(args)
        if node.op == "expmix":
            moment = cast("tuple[int, ...]", node.payload)
            place = multi_indices(len(args), sum(moment)).index(moment)
            call = f"expsimplex(({', '.join(holes)}), {sum(moment)})[{place}]"
        elif node.op == "polygamma":
            call = f"polygamma({node.payload}, {{}})"
        else:
            call = _INFIX.get(node.op) or f"{node.op}({', '.join(holes)})"
        self.do(call, args, out, writes=False)

    # Every group of rows is first overwritten, then added to.

    def _put(self, target: str, fresh: bool, node: Index) -> None:
        if node is ZERO:
            if fresh:
                self.do("fill", ("0.0",), target)
            return
        if not fresh:
            node, call = self._unsigned(node)
            self.do(call, (target, self.name(node)), target)
            return
        value = self.name(node)
        if self.lines and self.lines[-1].out == value and self.lines[-1].writes:
            self.home[value] = target  # made where it belongs
        else:
            self.do("copyto", (value,), target)

    def _unsigned(self, number: int) -> tuple[int, str]:
        """Return a node without its sign, and whether to add or to subtract it."""
        node = self.tape.nodes[number]
        if node.op == "neg" and node.level == Level.RECORD and number not in self.made:
            return node.args[0], "subtract"
        return number, "add"

    def _add(self, dst: tuple[int, int], number: int, source: str, fresh: bool) -> None:
        """K[dst] (+)= node · source."""
        target = self.view("K", *dst)
        number, call = (number, "add") if fresh else self._unsigned(number)
        factor = self.name(number)
        if factor in ("(1.0)", "(-1.0)"):
            minus = factor == "(-1.0)"
            if fresh:
                self.do("negative" if minus else "copyto", (source,), target)
            else:
                self.do("subtract" if minus else "add", (target, source), target)
        elif fresh:
            self.do("multiply", (factor, source), target)
        else:
            self._accumulate(target, factor, source, dst[1], call)

    def _accumulate(self, target: str, factor: str, source: str, length: int, call: str = "add") -> None:
        self.width = max(self.width, length)
        product = self.view("T", 0, length)
        self.do("multiply", (factor, source), product)
        self.do(call, (target, product), target)

    def matrix(self) -> None:
        for i, row in enumerate(self.system.jacobian):
            for k, node in enumerate(row):
                name = f"k{i}_{k}"
                self.views[name] = f"K[{i}, {k}]"
                self._put(name, True, node)

    def states(self) -> None:
        for i, node in enumerate(self.system.value):
            self._put(self.view("K", i), True, node)

    def _linear(self, i: int, own: list[Any], start: int, reached: list[list[Any]], rows: list[int]) -> None:
        """Make the rows `own` of state i the sum of J_ik times those of the states k."""
        terms = sorted(
            (k for k in range(self.system.n) if self.system.jacobian[i][k] is not ZERO), key=lambda k: -len(reached[k])
        )
        fresh = bool(terms) and set(reached[terms[0]]) == set(own)
        if not fresh:
            self.do("fill", ("0.0",), self.view("K", start, len(own)))
        for k in terms:
            node = self.system.jacobian[i][k]
            assert node is not ZERO
            for dst, src, length in _runs(own, reached[k], reached[k]):
                self._add((start + dst, length), node, self.view("Y", rows[k] + src, length), fresh)
            fresh = False

    def first(self) -> None:
        s = self.system
        for i in range(s.n):
            own, start = s.along[i], s._first_row[i]
            if own:
                self._linear(i, own, start, s.along, s._first_row)
            for place, a in enumerate(own):
                self._put(self.view("K", start + place), False, s.slope[i][a])

    def second(self) -> None:
        s, tape = self.system, self.tape
        for i in range(s.n):
            own, start = s.both[i], s._second_row[i]
            if not own:
                continue
            self._linear(i, own, start, s.both, s._second_row)
            for k in range(s.n):
                self._turning(i, k, start)
            for a in range(s.n_random):
                for k in range(s.n):
                    node = s._mixed[i][k][a]
                    if node is ZERO:
                        continue
                    wanted = [(a, b) for b in s.along[k] if b >= a]
                    source = [(a, b) for b in s.along[k]]
                    for dst, src, length in _runs(own, source, wanted):
                        self._add((start + dst, length), node, self.view("Y", s._first_row[k] + src, length), False)
                for b in range(a, len(s.slots)):
                    node = tape.derivative(s.slope[i][a], s._s[b])
                    if node is not ZERO:
                        self._put(self.view("K", start + own.index((a, b))), False, node)

    def _turning(self, i: int, k: int, start: int) -> None:
        """Add (dJ_ik/ds_b) S_k,a to the rows (a, b) of state i."""
        s = self.system
        turns = s._turns(i, k)
        if s.jacobian[i][k] is ZERO or not turns or not any(a < s.n_random for a in s.along[k]):
            return
        self.turning = max(self.turning, len(turns))
        self.do("fill", ("0.0",), self.view("M", 0, len(turns)))
        for m in range(s.n):
            node = s._curved[i][k][m]
            if node is ZERO:
                continue
            factor = self.name(node)
            for dst, src, length in _runs(turns, s.along[m], s.along[m]):
                source = self.view("Y", s._first_row[m] + src, length)
                self._accumulate(self.view("M", dst, length), factor, source, length)
        for place, b in enumerate(turns):
            node = s._mixed[i][k][b]
            if node is not ZERO:
                target = self.view("M", place)
                self.do("add", (target, self.name(node)), target)
        for place, a in enumerate(s.along[k]):
            if a >= s.n_random:
                continue
            row = self.view("Y", s._first_row[k] + place)
            pairs = [(a, b) for b in turns]
            for dst, src, length in _runs(s.both[i], pairs, [(a, b) for b in turns if b >= a]):
                self._accumulate(self.view("K", start + dst, length), row, self.view("M", src, length), length)

    # ------------------------------------------------------------------ printing

    def compile(self) -> RowKernel:
        places, n_work = self._allot()
        body = [self._text(line, places) for line in self.lines]
        made = [f"W, T, M = (empty((r, Y.shape[-1])) for r in ({n_work}, {self.width}, {self.turning}))"]
        made += [f"w{k} = W[{k}]" for k in range(n_work)]
        made += [f"{name} = {view}" for name, view in self.views.items()]
        source = "def bind(C, Y, K):\n    " + "\n    ".join([*made, "def run():"])
        source += "\n        " + "\n        ".join([*body, "return"]) + "\n    return run\n"
        scope = dict(_NAMESPACE) | {name: getattr(np, name) for name in (*_UFUNC.values(), "copyto", "empty")}
        exec(compile(source, "<nlmewidgets rows>", "exec"), scope)  # our own generated text, never the user's
        return RowKernel(scope["bind"], source)

    def _allot(self) -> tuple[dict[str, str], int]:
        """Return where each value is kept: a work array is used again after the last use of its value."""
        final: dict[str, int] = {}
        for number, line in enumerate(self.lines):
            for arg in line.args:
                final[arg] = number
        places, free, size = dict(self.home), list[str](), 0
        for number, line in enumerate(self.lines):
            for arg in dict.fromkeys(line.args):
                if places.get(arg, "").startswith("w") and final[arg] == number:
                    free.append(places[arg])
            if line.writes and line.out.startswith("v") and line.out not in places:
                if not free:
                    free.append(f"w{size}")
                    size += 1
                places[line.out] = free.pop()
        return places, size

    @staticmethod
    def _text(line: _Line, places: dict[str, str]) -> str:
        args = [places.get(a, a) for a in line.args]
        out = places.get(line.out, line.out)
        if not line.writes:
            return f"{out} = {line.call.format(*args)}"
        if line.call == "fill":
            return f"{out}.fill({args[0]})"
        if line.call == "copyto":
            return f"copyto({out}, {args[0]})"
        return f"{line.call}({', '.join(args)}, {out})"


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
