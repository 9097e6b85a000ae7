"""SymPy expressions as one list of atomic operations, differentiated by forward mode.

A tape is hash-consed (equal operations are one node) and topologically sorted (arguments come
before their users).  Derivatives are further nodes of the same tape, so differentiating twice gives
second derivatives and everything shared stays shared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, cast

import sympy as sp

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.special import ExpMix, expit, ndtr, ndtri
from nlmewidgets.core.tails import log_ndtr, log_ndtr_between, stdtrit

__all__ = ["ZERO", "Level", "Node", "Tape"]


class Level(IntEnum):
    """How often a node is evaluated: once, once per parameter block, or once per record."""

    CONSTANT = 0
    BLOCK = 1
    RECORD = 2


class Node(NamedTuple):
    """One atomic operation: its name, its arguments (node numbers), a constant payload, its level."""

    op: str
    args: tuple[int, ...]
    payload: float | str | tuple[int, ...] | None
    level: Level


ZERO = None
"""The structural zero: a derivative that is zero whatever the values."""

Index = int | None


class Tape:
    """A growing list of atomic operations.

    Parameters
    ----------
    inputs : mapping of SymPy symbol to Level
        The symbols an expression may contain, in the order in which values will be supplied.
    """

    def __init__(self, inputs: Mapping[sp.Symbol, Level]) -> None:
        self.nodes: list[Node] = []
        self._index: dict[tuple[str, tuple[int, ...], object], int] = {}
        self._expressions: dict[sp.Basic, int] = {}
        self._derivatives: dict[tuple[int, int], Index] = {}
        self._dependencies: list[frozenset[int]] = []
        self.inputs: dict[sp.Symbol, int] = {}
        for place, (symbol, level) in enumerate(inputs.items()):
            # By place, not by name: a covariate and a theta may share one.
            self.inputs[symbol] = self._node("input", (), place, level)

    # ---------------------------------------------------------------- building

    def _node(self, op: str, args: tuple[int, ...] = (), payload: object = None, level: Level | None = None) -> int:
        key = (op, args, payload)
        found = self._index.get(key)
        if found is not None:
            return found
        if level is None:
            level = Level(max((self.nodes[a].level for a in args), default=Level.CONSTANT))
        number = len(self.nodes)
        self.nodes.append(Node(op, args, payload, level))  # type: ignore[arg-type]
        own = {number} if op == "input" else set()
        self._dependencies.append(frozenset(own.union(*(self._dependencies[a] for a in args))))
        self._index[key] = number
        return number

    def constant(self, value: float) -> int:
        """Return the node of a number."""
        return self._node("constant", (), float(value), Level.CONSTANT)

    def value(self, x: int) -> float | None:
        """Return the number a node is, None if it is not a constant."""
        node = self.nodes[x]
        return node.payload if node.op == "constant" else None  # type: ignore[return-value]

    def add(self, x: int, y: int) -> int:
        """Return x + y."""
        vx, vy = self.value(x), self.value(y)
        if vx is not None and vy is not None:
            return self.constant(vx + vy)
        if vx == 0:
            return y
        if vy == 0:
            return x
        if x == y:
            return self.mul(self.constant(2.0), x)
        if self.nodes[y].op == "neg":
            return self.sub(x, self.nodes[y].args[0])
        if self.nodes[x].op == "neg":
            return self.sub(y, self.nodes[x].args[0])
        return self._node("add", (min(x, y), max(x, y)))

    def sub(self, x: int, y: int) -> int:
        """Return x − y."""
        vx, vy = self.value(x), self.value(y)
        if vx is not None and vy is not None:
            return self.constant(vx - vy)
        if x == y:
            return self.constant(0.0)
        if vy == 0:
            return x
        if vx == 0:
            return self.neg(y)
        if self.nodes[y].op == "neg":
            return self.add(x, self.nodes[y].args[0])
        if self.nodes[y].op == "sub" and self.nodes[y].args[0] == x:  # x − (x − c) = c, without its rounding
            return self.nodes[y].args[1]
        return self._node("sub", (x, y))

    def neg(self, x: int) -> int:
        """Return −x."""
        node = self.nodes[x]
        if node.op == "constant":
            return self.constant(-node.payload)  # type: ignore[operator]
        if node.op == "neg":
            return node.args[0]
        if node.op == "sub":
            return self.sub(node.args[1], node.args[0])
        return self._node("neg", (x,))

    def mul(self, x: int, y: int) -> int:
        """Return x·y."""
        vx, vy = self.value(x), self.value(y)
        if vx is not None and vy is not None:
            return self.constant(vx * vy)
        for value, other in ((vx, y), (vy, x)):
            if value == 0:
                return self.constant(0.0)
            if value == 1:
                return other
            if value == -1:
                return self.neg(other)
        nx, ny = self.nodes[x], self.nodes[y]
        if nx.op == "neg":
            return self.neg(self.mul(nx.args[0], y))
        if ny.op == "neg":
            return self.neg(self.mul(x, ny.args[0]))
        if (nx.op == "inv" and nx.args[0] == y) or (ny.op == "inv" and ny.args[0] == x):
            return self.constant(1.0)
        return self._node("mul", (min(x, y), max(x, y)))

    def inv(self, x: int) -> int:
        """Return 1/x."""
        node = self.nodes[x]
        if node.op == "constant" and node.payload != 0:
            return self.constant(1.0 / node.payload)  # type: ignore[operator]
        if node.op == "inv":
            return node.args[0]
        if node.op == "neg":
            return self.neg(self.inv(node.args[0]))
        if node.op == "exp":  # 1/e^x = e^(−x): its derivatives are then itself
            return self.unary("exp", self.neg(node.args[0]))
        return self._node("inv", (x,))

    def unary(self, op: str, x: int) -> int:
        """Return op(x) for a name of `UNARY`."""
        return self._node(op, (x,))

    def power(self, x: int, exponent: int) -> int:
        """Return x**exponent; small integer exponents by multiplication."""
        value = self.value(exponent)
        if value is not None:
            if value == 0.5:
                return self.unary("sqrt", x)
            if value == -0.5:
                return self.inv(self.unary("sqrt", x))
            if value == int(value) and abs(value) <= 8:
                n = int(abs(value))
                result = self.constant(1.0)
                square = x
                while n:
                    if n & 1:
                        result = self.mul(result, square)
                    n >>= 1
                    if n:
                        square = self.mul(square, square)
                return self.inv(result) if value < 0 else result
        return self._node("pow", (x, exponent))

    def greater(self, x: int, y: int) -> int:
        """Return x > y."""
        return self._node("greater", (x, y))

    def maximum(self, x: int, y: int) -> int:
        """Return the larger of x and y."""
        return self._node("maximum", (x, y))

    def minimum(self, x: int, y: int) -> int:
        """Return the smaller of x and y."""
        return self._node("minimum", (x, y))

    def where(self, condition: int, x: int, y: int) -> int:
        """Return x where the condition holds, y elsewhere."""
        return x if x == y else self._node("where", (condition, x, y))

    def mixture(self, *powers: Mapping[int, int]) -> int:
        """Return M_m(a), the `expsimplex` function of the nodes a with powers m.

        Nodes that are one node of the tape are merged: their share of the simplex is one simplex more.
        """
        merged: dict[int, list[int]] = {}
        for pairs in powers:
            for node, power in pairs.items():
                merged.setdefault(node, []).append(power)
        # s_i^p over p! and the like are repetitions of a node: p + 1 of them; equal nodes add theirs.
        scale = 1.0
        final: dict[int, int] = {}
        for node, each in merged.items():
            total = sum(p + 1 for p in each) - 1
            scale *= math.prod(math.factorial(p) for p in each) / math.factorial(total)
            final[node] = total
        numbers = sorted(final)
        if len(numbers) == 1:
            # ∫ s^p over a simplex without extent: only the exponential, at s = 1.
            return self.mul(self.constant(scale), self.unary("exp", self.neg(numbers[0])))
        found = self._node("expmix", tuple(numbers), tuple(final[n] for n in numbers))
        return self.mul(self.constant(scale), found)

    # ------------------------------------------------------------- from SymPy

    def expression(self, expr: sp.Basic) -> int:
        """Return the node of a SymPy expression.

        Raises
        ------
        ModelError
            If the expression contains an unknown symbol or an unsupported function.
        """
        found = self._expressions.get(expr)
        if found is None:
            found = self._expressions[expr] = self._convert(expr)
        return found

    def _convert(self, expr: sp.Basic) -> int:
        if isinstance(expr, sp.Symbol):
            if expr not in self.inputs:
                raise ModelError(f"'{expr}' is used in an expression but is not declared.")
            return self.inputs[expr]
        if expr.is_number and not isinstance(expr, sp.logic.boolalg.Boolean):
            value = complex(expr)
            if value.imag or value.real != value.real or abs(value.real) == float("inf"):
                raise ModelError(f"The constant {expr} in an expression is not a finite real number.")
            return self.constant(value.real)
        if isinstance(expr, sp.Add | sp.Mul):
            return self._many(expr)
        if isinstance(expr, sp.Pow):
            if expr.exp == -1:
                return self.inv(self.expression(expr.base))
            return self.power(self.expression(expr.base), self.expression(expr.exp))
        if isinstance(expr, ExpMix):
            i, j, a, b = expr.args
            return self.mixture({self.expression(a): int(i)}, {self.expression(b): int(j)})
        if isinstance(expr, sp.Piecewise):
            return self._piecewise(expr)
        if type(expr) in _FOLDED:
            return self._folded(_FOLDED[type(expr)], expr)
        if type(expr) in _RELATIONS:
            return self._node(_RELATIONS[type(expr)], tuple(self.expression(a) for a in expr.args))
        if isinstance(expr, sp.ITE):  # what SymPy makes of a condition that contains a Piecewise
            return self.where(*(self.expression(a) for a in expr.args))
        if isinstance(expr, sp.Not):
            return self._node("logical_not", (self.expression(expr.args[0]),))
        if expr in (sp.true, sp.false):
            return self.constant(float(expr is sp.true))
        if isinstance(expr, sp.polygamma):
            order, x = expr.args
            if not (order.is_Integer and order >= 0):
                raise ModelError(f"{expr} has an order that is not a whole number.")
            return self._node("polygamma", (self.expression(x),), int(order))
        if expr.func in _OTHERS:
            return self._node(_OTHERS[expr.func], tuple(self.expression(a) for a in expr.args))
        name = _FUNCTIONS.get(expr.func)
        if name is None:
            raise ModelError(
                f"The function '{expr.func.__name__}' is not available in expressions; use one of "
                f"{', '.join(sorted(k.__name__ for k in _FUNCTIONS))}, Piecewise, Max, Min."
            )
        return self.unary(name, self.expression(expr.args[0]))

    def _many(self, expr: sp.Add | sp.Mul) -> int:
        # Arguments of one level are combined first: what does not depend on time is done per block.
        numbers = sorted((self.expression(a) for a in expr.args), key=lambda n: (self.nodes[n].level, n))
        combine = self.add if isinstance(expr, sp.Add) else self.mul
        by_level: dict[Level, int] = {}
        for number in numbers:
            level = self.nodes[number].level
            by_level[level] = combine(by_level[level], number) if level in by_level else number
        result: int | None = None
        for level in sorted(by_level):
            result = by_level[level] if result is None else combine(result, by_level[level])
        assert result is not None
        return result

    def _folded(self, op: str, expr: sp.Basic) -> int:
        result, *others = [self.expression(a) for a in expr.args]
        for number in others:
            result = self._node(op, (result, number))
        return result

    def _piecewise(self, expr: sp.Piecewise) -> int:
        pieces = list(expr.args)
        if pieces[-1].args[1] != sp.true:
            raise ModelError(f"{expr} has no final (value, True) branch; say what holds otherwise.")
        result = self.expression(pieces[-1].args[0])
        for piece in reversed(pieces[:-1]):
            value, condition = piece.args
            result = self.where(self.expression(condition), self.expression(value), result)
        return result

    # ---------------------------------------------------------- differentiation

    def derivative(self, node: Index, direction: int) -> Index:
        """Return ∂node/∂direction, or ZERO where it vanishes whatever the values."""
        if node is ZERO or direction not in self._dependencies[node]:
            return ZERO
        if node == direction:
            return self.constant(1.0)
        key = (node, direction)
        if key not in self._derivatives:
            result = self._differentiate(node, direction)
            self._derivatives[key] = ZERO if result is ZERO or self.value(result) == 0 else result
        return self._derivatives[key]

    def _differentiate(self, number: int, direction: int) -> Index:
        node = self.nodes[number]
        if node.op == "where":
            condition, x, y = node.args
            dx, dy = self.derivative(x, direction), self.derivative(y, direction)
            if dx is ZERO and dy is ZERO:
                return ZERO
            zero = self.constant(0.0)
            return self.where(condition, zero if dx is ZERO else dx, zero if dy is ZERO else dy)
        total: Index = ZERO
        for position, arg in enumerate(node.args):
            inner = self.derivative(arg, direction)
            if inner is ZERO:
                continue
            outer = self._partial(number, position)
            if outer is ZERO:
                continue
            term = self.mul(outer, inner)
            total = term if total is ZERO else self.add(total, term)
        return total

    def _partial(self, number: int, position: int) -> Index:
        """Return ∂(operation)/∂(its argument at `position`) as a node."""
        node = self.nodes[number]
        op, args = node.op, node.args
        if op == "add":
            return self.constant(1.0)
        if op == "sub":
            return self.constant(1.0 if position == 0 else -1.0)
        if op == "mul":
            return args[1 - position]
        if op == "pow":
            base, exponent = args
            zero, one = self.constant(0.0), self.constant(1.0)
            if position == 0:
                slope = self.mul(exponent, self.power(base, self.sub(exponent, one)))
                if self.value(exponent) is not None:
                    return slope
                at_zero = self.where(self._node("equal", (exponent, one)), one, zero)
            else:
                slope, at_zero = self.mul(number, self.unary("log", base)), zero
            # A Hill function at concentration 0 is flat in every parameter, not 0·log 0.
            return self.where(self._node("equal", (base, zero)), at_zero, slope)
        if op in ("maximum", "minimum"):
            first_wins = self._node("greater" if op == "maximum" else "less", args)
            one, zero = self.constant(1.0), self.constant(0.0)
            return self.where(first_wins, *((one, zero) if position == 0 else (zero, one)))
        if op == "expmix":
            powers = list(cast("tuple[int, ...]", node.payload))
            powers[position] += 1
            return self.neg(self._node("expmix", args, tuple(powers)))
        if op == "ndtr_between":
            density = _normal_density_over(self, args[position], number)
            return density if position == 1 else self.neg(density)
        if op == "polygamma":
            return self._node("polygamma", args, cast("int", node.payload) + 1)
        if op in _DISCRETE:
            return ZERO
        return UNARY[op](self, args[0], number)

    def gradient(self, node: Index, directions: Sequence[int]) -> list[Index]:
        """Return the first derivatives along `directions`."""
        return [self.derivative(node, d) for d in directions]


_FOLDED = {sp.Max: "maximum", sp.Min: "minimum", sp.And: "logical_and", sp.Or: "logical_or"}
_RELATIONS = {
    sp.StrictGreaterThan: "greater",
    sp.GreaterThan: "greater_equal",
    sp.StrictLessThan: "less",
    sp.LessThan: "less_equal",
    sp.Equality: "equal",
    sp.Unequality: "not_equal",
}
_DISCRETE = {*_RELATIONS.values(), "logical_and", "logical_or", "logical_not", "sign", "floor"}

_FUNCTIONS: dict[type, str] = {
    sp.exp: "exp",
    sp.log: "log",
    sp.sin: "sin",
    sp.cos: "cos",
    sp.tan: "tan",
    sp.sinh: "sinh",
    sp.cosh: "cosh",
    sp.tanh: "tanh",
    sp.atan: "arctan",
    sp.erf: "erf",
    sp.Abs: "absolute",
    sp.sign: "sign",
    sp.floor: "floor",
    expit: "expit",
    ndtr: "ndtr",
    ndtri: "ndtri",
    log_ndtr: "log_ndtr",
    sp.loggamma: "gammaln",
}
_OTHERS: dict[type, str] = {log_ndtr_between: "ndtr_between", stdtrit: "stdtrit"}
"""Functions of two arguments; the quantile is for draws and never differentiated."""

Rule = Callable[[Tape, int, int], Index]


def _normal_density(tape: Tape, x: int) -> int:
    square = tape.mul(tape.constant(-0.5), tape.mul(x, x))
    return tape.mul(tape.constant(0.3989422804014327), tape.unary("exp", square))


def _normal_density_over(tape: Tape, x: int, log_probability: int) -> int:
    """Return φ(x)/p from log p, without underflow of either."""
    square = tape.mul(tape.constant(-0.5), tape.mul(x, x))
    exponent = tape.sub(tape.sub(square, tape.constant(0.9189385332046727)), log_probability)
    return tape.unary("exp", exponent)


def _erf_rule(tape: Tape, x: int, _: int) -> int:
    return tape.mul(tape.constant(1.1283791670955126), tape.unary("exp", tape.neg(tape.mul(x, x))))


UNARY: dict[str, Rule] = {
    "neg": lambda tape, x, y: tape.constant(-1.0),
    "inv": lambda tape, x, y: tape.neg(tape.mul(y, y)),
    "exp": lambda tape, x, y: y,
    "log": lambda tape, x, y: tape.inv(x),
    "sqrt": lambda tape, x, y: tape.mul(tape.constant(0.5), tape.inv(y)),
    "sin": lambda tape, x, y: tape.unary("cos", x),
    "cos": lambda tape, x, y: tape.neg(tape.unary("sin", x)),
    "tan": lambda tape, x, y: tape.add(tape.constant(1.0), tape.mul(y, y)),
    "sinh": lambda tape, x, y: tape.unary("cosh", x),
    "cosh": lambda tape, x, y: tape.unary("sinh", x),
    "tanh": lambda tape, x, y: tape.sub(tape.constant(1.0), tape.mul(y, y)),
    "arctan": lambda tape, x, y: tape.inv(tape.add(tape.constant(1.0), tape.mul(x, x))),
    "absolute": lambda tape, x, y: tape.unary("sign", x),
    "erf": _erf_rule,
    "expit": lambda tape, x, y: tape.mul(y, tape.sub(tape.constant(1.0), y)),
    "ndtr": lambda tape, x, y: _normal_density(tape, x),
    "ndtri": lambda tape, x, y: tape.inv(_normal_density(tape, y)),
    "log_ndtr": lambda tape, x, y: tape.unary("mills", x),
    "mills": lambda tape, x, y: tape.neg(tape.mul(y, tape.unary("gap", x))),  # m' = −m·(x + m)
    "gap": lambda tape, x, y: tape.sub(tape.constant(1.0), tape.mul(tape.unary("mills", x), y)),
    "gammaln": lambda tape, x, y: tape._node("polygamma", (x,), 0),
}
"""Derivative rule of each one-argument operation: (tape, argument, operation) → node."""
