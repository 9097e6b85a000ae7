"""Expressions as text: printed as code, and parsed without ever being evaluated as Python."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.special import ExpMix, expit, ndtr
from nlmewidgets.core.symbols import Covariate, Eta, Sigma, Theta

__all__ = ["FUNCTIONS", "TextPrinter", "parse", "role_key", "to_text"]

_SYMPY = "exp log sqrt sin cos tan sinh cosh tanh atan erf Abs sign floor Max Min Piecewise And Or Not"

FUNCTIONS: dict[str, Callable[..., sp.Basic]] = dict(
    {name: getattr(sp, name) for name in _SYMPY.split()}, expit=expit, ndtr=ndtr, ExpMix=ExpMix
)
"""What may be called in an expression."""

_LARGEST_EXPONENT = 1000


class TextPrinter(StrPrinter):  # type: ignore[misc]
    """SymPy's infix form with floats at full precision."""

    def _print_Float(self, expr: sp.Float) -> str:
        return repr(float(expr))

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"{expr.p}/{expr.q}"


class _Tagged(TextPrinter):
    """Infix text in which the role of a symbol is written out, so that `parse` can restore it."""

    def _role(self, expr: Any) -> str:
        return f"{type(expr).__name__.lower()}({expr.name!r})"

    _print_Theta = _print_Eta = _print_Sigma = _print_Covariate = _role


def to_text(expr: sp.Basic) -> str:
    """Return readable text from which `parse` restores the expression."""
    return str(_Tagged({"order": "none"}).doprint(expr))


def parse(text: str, symbols: Mapping[str, sp.Symbol]) -> sp.Expr:
    """Return the expression written in `text`, which is parsed and never executed.

    Parameters
    ----------
    text : str
        Infix arithmetic, comparisons, and calls of `FUNCTIONS`; ``theta('x')``, ``eta('x')``,
        ``sigma('x')``, ``covariate('x')`` are looked up in `symbols` under those very words.
    symbols : mapping
        What each name means.

    Raises
    ------
    ModelError
        If the text is not an expression or uses a name or function that is not available.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ModelError(f"'{text[:60]}' is not an expression; write it as in Python, e.g. dose/V*exp(-k*t).") from None
    try:
        return _Builder(text, symbols).build(tree.body)  # type: ignore[return-value]
    except RecursionError:
        raise ModelError(f"'{text[:60]}' is nested too deeply for an expression.") from None


_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}
_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
}
_ROLES = ("theta", "eta", "sigma", "covariate")


class _Builder:
    def __init__(self, text: str, symbols: Mapping[str, sp.Symbol]) -> None:
        self.text = text
        self.symbols = symbols

    def refuse(self, node: ast.AST, why: str) -> ModelError:
        part = ast.get_source_segment(self.text, node) or self.text
        return ModelError(f"'{part[:60]}' cannot be used in an expression: {why}.")

    def build(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Constant):
            if node.value is True or node.value is False:
                return sp.true if node.value else sp.false
            if isinstance(node.value, int):
                return sp.Integer(node.value)
            if isinstance(node.value, float):
                return sp.Float(node.value)
            raise self.refuse(node, "only numbers are constants")
        if isinstance(node, ast.Name):
            if node.id in self.symbols:
                return self.symbols[node.id]
            if node.id in ("pi", "E"):
                return getattr(sp, node.id)
            known = ", ".join(sorted(self.symbols)) or "none"
            raise self.refuse(node, f"no symbol of this name is declared (there are {known})")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.build(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.Not):
            return sp.Not(self.build(node.operand))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            return self._power(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            return (sp.And if isinstance(node.op, ast.BitAnd) else sp.Or)(self.build(node.left), self.build(node.right))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](self.build(node.left), self.build(node.right))
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            return _COMPARISONS[type(node.ops[0])](self.build(node.left), self.build(node.comparators[0]))
        if isinstance(node, ast.Tuple):
            return tuple(self.build(part) for part in node.elts)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node, node.func.id)
        raise self.refuse(node, "it is not arithmetic")

    def _power(self, node: ast.BinOp) -> Any:
        base, exponent = self.build(node.left), self.build(node.right)
        if getattr(exponent, "is_number", False) and abs(float(exponent)) > _LARGEST_EXPONENT:
            raise self.refuse(node, f"exponents are limited to {_LARGEST_EXPONENT}")
        return base**exponent

    def _call(self, node: ast.Call, name: str) -> Any:
        if name in _ROLES and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            key = f"{name}({node.args[0].value!r})"
            if key not in self.symbols:
                raise self.refuse(node, f"no {name} of this name is declared")
            return self.symbols[key]
        if name not in FUNCTIONS:
            raise self.refuse(node, f"there is no function '{name}'")
        return FUNCTIONS[name](*(self.build(a) for a in node.args))


def role_key(symbol: Theta | Eta | Sigma | Covariate) -> str:
    """Return the word under which `parse` looks a symbol with a role up."""
    return f"{type(symbol).__name__.lower()}({symbol.name!r})"
