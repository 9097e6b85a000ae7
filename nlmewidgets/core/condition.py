"""Conditions on records, such as ``TIME < 24 & SEX == 1``: parsed, never evaluated as Python."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
from numpy.typing import NDArray

from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.expression import parse
from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.tape import Level, Tape

__all__ = ["matching"]

Truth = NDArray[np.bool_]

_WORDS = {"&": "and", "|": "or", "~": "not", "&&": "and", "||": "or", "!": "not"}
"""As in a data frame's query, & and | bind less tightly than comparisons: they mean and, or."""

_COMPARE: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_EXAMPLE = "e.g. TIME < 24 & SEX == 'male'"


def matching(records: pd.DataFrame, text: str) -> tuple[Truth, frozenset[str]]:
    """Return which records satisfy a condition, and the columns it uses.

    Parameters
    ----------
    records : DataFrame
    text : str
        Comparisons of columns, numbers and quoted text (``== != < <= > >= in``), joined by ``&``, ``|``, ``~``
        or ``and``, ``or``, ``not``; arithmetic and functions as in `expression.parse`; ``missing(X)``.  A
        comparison with a missing value is false.  ``symbol('body weight')`` is a column of any name.

    Raises
    ------
    DataError
        Naming the part that cannot be read, and the remedy.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{text!r} is not a condition; write one, {_EXAMPLE}.")
    source = _with_words(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        hint = " (compare with ==)" if "=" in text and "==" not in text else ""
        raise DataError(f"'{_short(text)}' is not a condition{hint}; write it as {_EXAMPLE[5:]}.") from None
    reading = _Reading(records, source)
    try:
        return reading.truth(tree.body), frozenset(reading.used)
    except RecursionError:
        raise DataError(f"'{_short(text)}' is nested too deeply for a condition; filter in several steps.") from None


def _short(text: str) -> str:
    flat = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return flat if len(flat) <= 60 else flat[:59] + "…"


def _with_words(text: str) -> str:
    """Return the text with and, or, not for &, |, ~ outside quotes."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(" ".join(text.splitlines()).strip()).readline))
    except (tokenize.TokenError, SyntaxError):
        raise DataError(f"'{_short(text)}' is not a condition; write it as {_EXAMPLE[5:]}.") from None
    words: list[str] = []
    for token in tokens:
        word = _WORDS.get(token.string, token.string) if token.type == tokenize.OP else token.string
        if not (words and words[-1] == word in ("and", "or")):  # && and ||
            words.append(word)
    return " ".join(words).strip()


@dataclass(frozen=True)
class _Column:
    """One side of a comparison that is text."""

    name: str
    values: NDArray[np.object_]


class _Reading:
    """Walks a syntax tree; `used` collects the columns met."""

    def __init__(self, records: pd.DataFrame, source: str) -> None:
        self.records = records
        self.source = source
        self.used: set[str] = set()

    def refuse(self, node: ast.AST, why: str) -> DataError:
        part = ast.get_source_segment(self.source, node) or self.source
        return DataError(f"'{_short(part)}' cannot be used in a condition: {why}.")

    def truth(self, node: ast.expr) -> Truth:
        """Return the node as true or false for every record."""
        match node:
            case ast.BoolOp(op=joint, values=parts):
                combine = np.logical_and if isinstance(joint, ast.And) else np.logical_or
                return np.asarray(combine.reduce([self.truth(p) for p in parts]), dtype=bool)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.truth(operand)
            case ast.Compare(left=left, ops=ops, comparators=rights):
                out = np.ones(len(self.records), dtype=bool)
                for op, a, b in zip(ops, [left, *rights], rights, strict=False):
                    out &= self._comparison(node, op, a, b)
                return out
            case ast.Call(func=ast.Name(id="missing"), args=[ast.expr() as argument], keywords=[]):
                return self.records[self._column(argument)].isna().to_numpy()
        raise self.refuse(node, f"a comparison is needed here, {_EXAMPLE}")

    def _comparison(self, whole: ast.AST, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Truth:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple | ast.Set) or not right.elts:
                raise self.refuse(whole, "write a list after in, e.g. ID in [3, 5]")
            found = np.zeros(len(self.records), dtype=bool)
            for item in right.elts:
                found |= self._comparison(whole, ast.Eq(), left, item)
            return ~found if isinstance(op, ast.NotIn) else found
        if type(op) not in _COMPARE:
            raise self.refuse(whole, "compare with == != < <= > >= or in")
        a, b = self._text(left), self._text(right)
        if a is None and b is None:
            with np.errstate(all="ignore"):
                x, y = self._number(left), self._number(right)
                return np.asarray(_COMPARE[type(op)](x, y) & ~np.isnan(x) & ~np.isnan(y), dtype=bool)
        if a is None or b is None:
            named = a or b
            assert named is not None
            if named.name:
                levels = ", ".join(repr(v) for v in pd.unique(pd.Series(named.values).dropna())[:3])
                raise self.refuse(whole, f"{named.name} holds text ({levels}); compare it with text in quotes")
            raise self.refuse(whole, "a number is compared with text; write the number without quotes")
        if not isinstance(op, ast.Eq | ast.NotEq):
            raise self.refuse(whole, "text is compared with == or !=")
        present = ~(pd.isna(a.values) | pd.isna(b.values))
        return np.asarray(_COMPARE[type(op)](a.values, b.values), dtype=bool) & present

    def _text(self, node: ast.expr) -> _Column | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return _Column("", np.full(len(self.records), node.value, dtype=object))
        if isinstance(node, ast.Name) or _is_symbol(node):
            name = self._column(node)
            if not pd.api.types.is_numeric_dtype(self.records[name]):
                return _Column(name, self.records[name].to_numpy(dtype=object))
        return None

    def _column(self, node: ast.expr) -> str:
        if _is_symbol(node):
            name = node.args[0].value  # type: ignore[attr-defined]
        elif isinstance(node, ast.Name):
            name = node.id
        else:
            raise self.refuse(node, "name a column here")
        columns = [str(c) for c in self.records.columns]
        if name not in columns:
            alike = [c for c in columns if c.lower() == str(name).lower()]
            if len(alike) != 1:
                raise self.refuse(node, f"there is no column '{name}' (columns: {', '.join(columns)})")
            name = alike[0]
        self.used.add(name)
        return str(name)

    def _number(self, node: ast.expr) -> NDArray[np.float64]:
        """Return an arithmetic expression of columns, (records,) float."""
        text = ast.get_source_segment(self.source, node) or ""
        names: dict[str, str] = {}
        for part in ast.walk(node):
            if _is_symbol(part):
                names[part.args[0].value] = self._column(part)  # type: ignore[attr-defined, arg-type]
            elif isinstance(part, ast.Name) and not _called(node, part):
                names[part.id] = self._column(part)
        for column in names.values():
            if not pd.api.types.is_numeric_dtype(self.records[column]):
                raise self.refuse(node, f"{column} holds text")
        symbols = {name: sp.Symbol(name, real=True) for name in names}
        try:
            expression = parse(text, symbols)
        except ModelError as error:
            raise DataError(str(error).replace("an expression", "a condition")) from None
        if not expression.free_symbols:
            return np.full(len(self.records), float(expression))
        tape = Tape(dict.fromkeys(symbols.values(), Level.RECORD))
        kernel = numpy_kernel(tape, [tape.expression(expression)])
        inputs = tuple(self.records[c].to_numpy(dtype=float) for c in names.values())
        shape = (len(self.records),)
        (value,) = kernel(inputs, None, shape)
        return np.broadcast_to(np.asarray(0.0 if value is None else value, dtype=float), shape)


def _is_symbol(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="symbol"), args=[ast.Constant(value=str())], keywords=[]):
            return True
    return False


def _called(root: ast.AST, name: ast.Name) -> bool:
    return any(isinstance(n, ast.Call) and n.func is name for n in ast.walk(root))
