"""Random expressions, and two plain interpreters of a tape: in 40 digits and in doubles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mpmath
import numpy as np
import sympy as sp
from hypothesis import strategies as st
from scipy import special

from nlmewidgets.core.special import ExpMix, expit, ndtr, ndtri
from nlmewidgets.core.tape import Tape

A, B, T = sp.symbols("a b t", real=True)
SYMBOLS = (A, B, T)
DIGITS = 40

_leaf = st.sampled_from([A, B, T, sp.Float(0.5), sp.Integer(2), sp.Float(-1.25), sp.Integer(3)])


def _grow(inner: st.SearchStrategy[sp.Expr]) -> st.SearchStrategy[sp.Expr]:
    unary = st.sampled_from(
        [
            lambda u: -u,
            lambda u: sp.exp(sp.tanh(u)),
            lambda u: sp.exp(-(u**2)),
            lambda u: sp.log(1 + u**2),
            lambda u: sp.sqrt(2 + u**2),
            lambda u: 1 / sp.sqrt(1 + u**2),
            sp.sin,
            sp.cos,
            lambda u: sp.tan(sp.tanh(u)),
            lambda u: sp.sinh(sp.tanh(u)),
            lambda u: sp.cosh(sp.tanh(u)),
            sp.tanh,
            sp.atan,
            sp.erf,
            sp.Abs,
            sp.sign,
            expit,
            ndtr,
            lambda u: ndtri(sp.Rational(1, 4) + expit(u) / 2),
            lambda u: u**3,
            lambda u: (1 + u**2) ** -2,
            lambda u: (1 + sp.Abs(u)) ** sp.Float(1.5),
        ]
    )
    binary = st.sampled_from(
        [
            lambda u, v: u + v,
            lambda u, v: u - v,
            lambda u, v: u * v,
            lambda u, v: u / (1 + v**2),
            lambda u, v: (1 + u**2) ** sp.tanh(v),
            lambda u, v: sp.Max(u, v, evaluate=False),
            lambda u, v: sp.Min(u, v, evaluate=False),
            lambda u, v: ExpMix(0, 0, u**2, v**2),
            lambda u, v: ExpMix(1, 0, sp.tanh(u), v**2),
            lambda u, v: sp.Piecewise((u, u < v), (v * u, True)),
            lambda u, v: sp.Piecewise((u, sp.And(u >= v, v > 0)), (v, sp.Or(u <= 0, v < 1)), (u * v, True)),
            lambda u, v: sp.Piecewise((u + v, sp.Not(u > v)), (sp.sin(v), True)),
        ]
    )
    return st.one_of(
        st.builds(lambda f, u: f(u), unary, inner), st.builds(lambda f, u, v: f(u, v), binary, inner, inner)
    )


expressions = st.recursive(_leaf, _grow, max_leaves=6).filter(lambda e: bool(e.free_symbols) and not e.has(sp.nan))
"""Expressions in a, b, t of everything a declaration may contain, without poles or overflow."""

points = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).uniform(-1.6, 1.7, 3))
"""Generic values of (a, b, t): never on a kink."""


def _moment(i: int, j: int, a: Any, b: Any) -> Any:
    return mpmath.exp(-a) * mpmath.beta(i + 1, j + 1) * mpmath.hyp1f1(j + 1, i + j + 2, a - b)


MPMATH: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(mpmath, name) for name in ("exp", "log", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{name: getattr(mpmath, name) for name in ("sign", "floor", "erf")},
    "arctan": mpmath.atan,
    "absolute": mpmath.fabs,
    "expit": lambda x: 1 / (1 + mpmath.exp(-x)),
    "ndtr": mpmath.ncdf,
    "ndtri": lambda p: mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "neg": lambda x: -x,
    "inv": lambda x: 1 / x,
    "pow": lambda x, y: x**y,
    "maximum": max,
    "minimum": min,
    "where": lambda c, x, y: x if c else y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "logical_and": lambda x, y: x and y,
    "logical_or": lambda x, y: x or y,
    "logical_not": lambda x: not x,
    "expmix": _moment,
}

NUMPY: Mapping[str, Callable[..., Any]] = MPMATH | {
    **{
        name: getattr(np, name)
        for name in MPMATH
        if hasattr(np, name) and name not in ("add", "sub", "mul", "neg", "inv", "pow", "expmix")
    },
    "erf": special.erf,
    "expit": special.expit,
    "ndtr": special.ndtr,
    "ndtri": special.ndtri,
    "expmix": lambda i, j, a, b: np.vectorize(lambda u, v: float(_moment(i, j, float(u), float(v))))(a, b),
}


def interpret(tape: Tape, node: int | None, values: Mapping[sp.Symbol, Any], ops: Mapping[str, Any] = MPMATH) -> Any:
    """Evaluate one node by recursion, one operation at a time; a structural zero is 0."""
    inputs = {number: values[symbol] for symbol, number in tape.inputs.items()}
    known: dict[int, Any] = {}

    def value(number: int) -> Any:
        if number not in known:
            n = tape.nodes[number]
            if n.op == "input":
                known[number] = inputs[number]
            elif n.op == "constant":
                known[number] = mpmath.mpf(n.payload) if ops is MPMATH else n.payload
            elif n.op == "where" and ops is MPMATH:
                condition, x, y = n.args
                known[number] = value(x) if value(condition) else value(y)
            elif n.op == "expmix":
                known[number] = ops["expmix"](*n.payload, *map(value, n.args))
            else:
                known[number] = ops[n.op](*map(value, n.args))
        return known[number]

    return 0.0 if node is None else value(node)


def as_function(expression: sp.Expr) -> Callable[..., Any]:
    """Return the expression as a function of (a, b, t) on mpmath numbers, without any tape."""
    names: Any = [
        {
            "ExpMix": lambda i, j, a, b: _moment(int(i), int(j), a, b),
            "expit": MPMATH["expit"],
            "ndtr": mpmath.ncdf,
            "ndtri": MPMATH["ndtri"],
            "log_ndtr": lambda x: mpmath.log(mpmath.ncdf(x)),
            "Max": max,
            "Min": min,
        },
        "mpmath",
    ]
    return sp.lambdify(SYMBOLS, expression, names)
