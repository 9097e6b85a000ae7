"""Expressions as text: printed as code, and parsed without ever being evaluated as Python."""

from __future__ import annotations

import ast
import keyword
import math
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist
from typing import Any

import sympy as sp
from scipy import special
from sympy.logic.boolalg import Boolean
from sympy.printing.str import StrPrinter

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.special import ExpMix, expit, expmix, ndtr, ndtri
from nlmewidgets.core.special import pairs as expmix_pairs
from nlmewidgets.core.symbols import Covariate, Eta, Sigma, State, Theta
from nlmewidgets.core.tails import log_ndtr, log_ndtr_between, ndtr_between

__all__ = ["FUNCTIONS", "TextPrinter", "parse", "role_key", "to_text"]

_SYMPY = "exp log sqrt sin cos tan sinh cosh tanh atan erf Abs sign floor Max Min Piecewise And Or Not ITE Eq Ne"

FUNCTIONS: dict[str, Callable[..., sp.Basic]] = dict(
    {name: getattr(sp, name) for name in _SYMPY.split()},
    expit=expit,
    ndtr=ndtr,
    ndtri=ndtri,
    log_ndtr=log_ndtr,
    log_ndtr_between=log_ndtr_between,
    loggamma=sp.loggamma,
    ExpMix=ExpMix,
)
"""What may be called in an expression."""


def _expmix(i: float, j: float, a: float, b: float) -> float:
    order = int(i + j)
    return float(expmix(a, b, order)[expmix_pairs(order).index((int(i), int(j)))])


_NUMERIC: dict[str, Callable[..., float]] = {
    **{name: getattr(math, name) for name in _SYMPY.split() if hasattr(math, name)},
    "Abs": abs,
    "sign": lambda x: float(x > 0) - float(x < 0),
    "Max": max,
    "Min": min,
    "expit": lambda x: 0.5 * (1.0 + math.tanh(0.5 * x)),
    "ndtri": NormalDist().inv_cdf,
    "ndtr": lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0)),
    "log_ndtr": lambda x: float(special.log_ndtr(x)),
    "log_ndtr_between": lambda a, b: float(ndtr_between(a, b)),
    "loggamma": math.lgamma,
    "ExpMix": _expmix,
}
"""The functions in doubles, for parts without symbols."""

_DECIDED = {"Abs", "sign", "floor", "Max", "Min"}
"""Functions that SymPy evaluates by raising its precision until they are decided: of constants, doubles do."""

_CONSTANTS = {"pi": sp.pi, "E": sp.E}
_NOT_REAL = (sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I)
_LARGEST_EXPONENT = 1000
_LARGEST_MOMENT = 4
_LONGEST_TEXT = 20_000


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

    _print_Theta = _print_Eta = _print_Sigma = _print_Covariate = _print_Level = _print_State = _role

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        name = expr.name
        plain = name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name
        return name if plain else f"symbol({name!r})"

    # A parameter may be called E or pi; the constants must not be taken for it.

    def _print_Exp1(self, expr: Any) -> str:
        return "exp(1)"

    def _print_Pi(self, expr: Any) -> str:
        return "(4*atan(1))"


def to_text(expr: sp.Basic) -> str:
    """Return readable text from which `parse` restores the expression."""
    return str(_Tagged({"order": "none"}).doprint(expr))


def parse(text: str, symbols: Mapping[str, sp.Symbol]) -> sp.Expr:
    """Return the expression written in `text`, which is parsed and never executed.

    Parameters
    ----------
    text : str
        Infix arithmetic, comparisons, and calls of `FUNCTIONS`; ``theta('x')``, ``eta('x')``,
        ``sigma('x')``, ``covariate('x')``, ``state('x')`` are looked up in `symbols` under those very words, and
        ``symbol('x y')`` under the quoted name, which need not be an identifier.
    symbols : mapping
        What each name means.

    Raises
    ------
    ModelError
        If the text is not an expression or uses a name or function that is not available.
    """
    text = text.strip()
    shown = _shorten(text)
    if len(text) > _LONGEST_TEXT:
        raise ModelError(f"'{shown}' has {len(text)} characters; an expression has at most {_LONGEST_TEXT}.")
    too_deep = f"'{shown}' is nested too deeply for an expression; name its parts as parameters."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python comments on things like "1(2)", which are refused below
            tree = ast.parse(text, mode="eval")
    except (RecursionError, MemoryError):
        raise ModelError(too_deep) from None
    except (SyntaxError, ValueError):
        raise ModelError(f"'{shown}' is not an expression; write it as in Python, e.g. dose/V*exp(-k*t).") from None
    try:
        return _Builder(text, symbols).number(tree.body)
    except RecursionError:
        raise ModelError(too_deep) from None


def _shorten(text: str) -> str:
    flat = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return flat if len(flat) <= 60 else flat[:59] + "…"


_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: sp.Lt,
    ast.LtE: sp.Le,
    ast.Gt: sp.Gt,
    ast.GtE: sp.Ge,
    ast.Eq: sp.Eq,
    ast.NotEq: sp.Ne,
}
_ROLES = ("theta", "eta", "sigma", "covariate", "state", "level")


class _Builder:
    """Builds an expression from a syntax tree, node by node.

    Every part without symbols is also computed in doubles: what leaves their range is refused before
    SymPy, whose arithmetic is exact, spends minutes (or all memory) on it.
    """

    def __init__(self, text: str, symbols: Mapping[str, sp.Symbol]) -> None:
        self.text = text
        self.symbols = symbols
        self.values: dict[ast.AST, float] = {}

    def refuse(self, node: ast.AST, why: str) -> ModelError:
        part = ast.get_source_segment(self.text, node) or self.text
        return ModelError(f"'{_shorten(part)}' cannot be used in an expression: {why}.")

    def number(self, node: ast.expr) -> sp.Expr:
        """Return the node as a number."""
        expr = self._build(node)
        if not isinstance(expr, sp.Expr):
            raise self.refuse(node, "a number is needed here, e.g. Piecewise((1, WT > 70), (0, True))")
        if expr.has(*_NOT_REAL):
            raise self.refuse(node, "it is not a finite real number")
        return expr

    def condition(self, node: ast.expr) -> Any:
        """Return the node as something true or false."""
        expr = self._build(node)
        if not isinstance(expr, Boolean) or isinstance(expr, sp.Expr):
            raise self.refuse(node, "a comparison is needed here, e.g. WT > 70")
        return expr

    def _build(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=bool() as truth):
                return sp.true if truth else sp.false
            case ast.Constant(value=int() | float() as value):
                self._compute(node, float, value)
                return sp.Integer(value) if isinstance(value, int) else sp.Float(value)
            case ast.Constant():
                raise self.refuse(node, "only numbers are constants")
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()) | ast.BinOp(op=ast.Add() | ast.Sub()):
                return self._sum(node)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                return self._product(node)
            case ast.BinOp(op=ast.Pow()):
                return self._power(node)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
                return self._apply(node, _COMPARISONS[type(op)], [left, right], decided=True)
            case ast.UnaryOp(op=ast.Invert() | ast.Not(), operand=operand):
                return sp.Not(self.condition(operand))
            case ast.BinOp(op=ast.BitAnd(), left=left, right=right):
                return sp.And(self.condition(left), self.condition(right))
            case ast.BinOp(op=ast.BitOr(), left=left, right=right):
                return sp.Or(self.condition(left), self.condition(right))
            case ast.BoolOp(op=ast.And(), values=parts):
                return sp.And(*map(self.condition, parts))
            case ast.BoolOp(op=ast.Or(), values=parts):
                return sp.Or(*map(self.condition, parts))
            case ast.Call(func=ast.Name(id=name), keywords=[]):
                return self._call(node, name)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitXor):
            raise self.refuse(node, "write ** for a power")
        raise self.refuse(node, "write arithmetic (+ - * / **), comparisons and functions such as exp(x)")

    def _name(self, node: ast.AST, name: str) -> Any:
        if name in self.symbols:
            return self.symbols[name]
        for key, symbol in self.symbols.items():
            if unicodedata.normalize("NFKC", key) == name:  # Python folds identifiers: µ arrives as μ
                return symbol
        if name in _CONSTANTS:
            self.values[node] = float(_CONSTANTS[name])
            return _CONSTANTS[name]
        known = ", ".join(sorted(self.symbols)) or "none"
        raise self.refuse(node, f"no symbol of this name is declared (there are {known})")

    # -------------------------------------------------------------- arithmetic

    def _compute(self, node: ast.AST, function: Callable[..., float], *arguments: Any) -> None:
        """Compute a part without symbols in doubles."""
        try:
            value = float(function(*arguments))
        except (ArithmeticError, ValueError):
            value = math.nan
        except TypeError:  # the wrong number of arguments: SymPy says so
            return
        if not math.isfinite(value):
            raise self.refuse(node, "as a number it is too large, too small or not real")
        self.values[node] = value

    def _constants(self, nodes: list[ast.expr]) -> list[float] | None:
        found = [self.values[n] for n in nodes if n in self.values]
        return found if len(found) == len(nodes) else None

    def _sum(self, node: ast.expr) -> sp.Expr:
        """Build a chain of + and - as one sum."""
        terms: list[ast.expr] = []
        signs: list[int] = []
        here, sign = node, 1
        while True:
            if isinstance(here, ast.BinOp) and isinstance(here.op, ast.Add | ast.Sub):
                terms.append(here.right)
                signs.append(-sign if isinstance(here.op, ast.Sub) else sign)
                here = here.left
            elif isinstance(here, ast.UnaryOp) and isinstance(here.op, ast.USub | ast.UAdd):
                sign = -sign if isinstance(here.op, ast.USub) else sign
                here = here.operand
            else:
                break
        terms = [here, *reversed(terms)]
        signs = [sign, *reversed(signs)]
        built = [s * self.number(n) for n, s in zip(terms, signs, strict=True)]
        constants = self._constants(terms)
        if constants is not None:
            self._compute(node, math.fsum, [s * v for v, s in zip(constants, signs, strict=True)])
        return sp.Add(*built)

    def _product(self, node: ast.expr) -> sp.Expr:
        """Build a chain of * and / as one product.

        Factor by factor SymPy would make (2*x + 2)*y of 2*(x + 1)*y, and 1/(4*x + 4) of 1/(4*(x + 1)).
        """
        parts = list(_factors(node))
        sign = math.prod(s for _, _, s in parts)
        factors, exponents = [n for n, _, _ in parts], [e for _, e, _ in parts]
        built = [self.number(n) for n in factors]
        constants = self._constants(factors)
        if constants is not None:
            self._compute(node, _times, sign, zip(constants, exponents, strict=True))
        for n, b, e in zip(factors, built, exponents, strict=True):
            if e < 0 and b.is_zero:
                raise self.refuse(n, "it is zero, in a denominator")
        return sp.Mul(sign, *(b**e for b, e in zip(built, exponents, strict=True)))

    def _power(self, node: ast.BinOp) -> sp.Expr:
        base, exponent = self.number(node.left), self.number(node.right)
        if abs(self.values.get(node.right, 0.0)) > _LARGEST_EXPONENT:
            raise self.refuse(node, f"exponents are limited to {_LARGEST_EXPONENT}")
        constants = self._constants([node.left, node.right])
        if constants is not None:
            self._compute(node, _to_the, *constants)
        return base**exponent

    # --------------------------------------------------------------- functions

    def _call(self, node: ast.Call, name: str) -> Any:
        if name in (*_ROLES, "symbol") and len(node.args) == 1 and isinstance(node.args[0], ast.Constant):
            quoted = node.args[0].value
            key = str(quoted) if name == "symbol" else f"{name}({quoted!r})"
            if key not in self.symbols:
                raise self.refuse(node, f"no {name} of this name is declared")
            return self.symbols[key]
        if name not in FUNCTIONS:
            raise self.refuse(node, f"there is no function '{name}'; there are {', '.join(FUNCTIONS)}")
        if name == "Piecewise":
            return self._safely(node, sp.Piecewise, [self._case(part) for part in node.args])
        if name in ("And", "Or", "Not", "ITE"):
            return self._safely(node, FUNCTIONS[name], [self.condition(part) for part in node.args])
        return self._apply(node, FUNCTIONS[name], node.args, name, decided=name in _DECIDED or name in ("Eq", "Ne"))

    def _apply(
        self,
        node: ast.AST,
        function: Callable[..., Any],
        arguments: list[ast.expr],
        name: str = "",
        *,
        decided: bool = False,
    ) -> Any:
        built = [self.number(part) for part in arguments]
        if name == "ExpMix" and not all(b.is_Integer and 0 <= b <= _LARGEST_MOMENT for b in built[:2]):
            raise self.refuse(node, f"the first two numbers of ExpMix are whole, 0 to {_LARGEST_MOMENT}")
        constants = self._constants(arguments)
        if constants is not None:
            if name in _NUMERIC:
                self._compute(node, _NUMERIC[name], *constants)
            if decided and not all(b.is_Number for b in built):
                built = [sp.Float(c) for c in constants]
        return self._safely(node, function, built)

    def _safely(self, node: ast.AST, function: Callable[..., Any], arguments: list[Any]) -> Any:
        try:
            return function(*arguments)
        except RecursionError:
            raise
        except Exception as error:  # SymPy raises what it likes
            raise self.refuse(node, _shorten(str(error)).rstrip(".") or "SymPy does not accept it") from None

    def _case(self, node: ast.expr) -> tuple[Any, Any]:
        if not (isinstance(node, ast.Tuple) and len(node.elts) == 2):
            raise self.refuse(node, "each case of Piecewise is (value, condition)")
        return self.number(node.elts[0]), self.condition(node.elts[1])


def _factors(node: ast.expr, exponent: int = 1) -> Iterator[tuple[ast.expr, int, int]]:
    """Yield (factor, exponent 1 or -1, sign) of a chain of * and /."""
    chain: list[tuple[ast.expr, int]] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        chain.append((node.right, -exponent if isinstance(node.op, ast.Div) else exponent))
        node = node.left
    sign = 1
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign = -sign if isinstance(node.op, ast.USub) else sign
        node = node.operand
    yield node, exponent, sign
    for part, e in reversed(chain):
        yield from _factors(part, e)


def _times(product: float, factors: Any) -> float:
    zero = False
    for value, exponent in factors:
        product *= value**exponent
        zero = zero or value == 0.0
    if product == 0.0 and not zero:
        raise ArithmeticError("underflow")
    return product


def _to_the(base: float, exponent: float) -> float:
    value = math.pow(base, exponent)
    if value == 0.0 and base != 0.0:
        raise ArithmeticError("underflow")
    return value


def role_key(symbol: Theta | Eta | Sigma | Covariate | State) -> str:
    """Return the word under which `parse` looks a symbol with a role up."""
    return f"{type(symbol).__name__.lower()}({symbol.name!r})"
