"""The columns of a table by the NONMEM item each of them holds, as numbers, labels or text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.table import MISSING, map_unique, numeric

__all__ = ["DATES", "ITEMS", "Columns", "count", "item_name"]

DATES = ("DATE", "DAT1", "DAT2", "DAT3")
"""NONMEM's names of a date column; the name says the order of day, month and year."""

ITEMS = (
    *("ID", "TIME", "DV", "AMT", "EVID", "MDV", "CMT", "RATE", "ADDL", "II", "SS"),
    *("DVID", "OCC", "CENS", "LIMIT", "DATE"),
)
"""What a column can mean; each has a keyword of the same name in lower case."""

_NEEDED = ("ID", "DV")

SHARED = frozenset({"CMT", "DVID", "OCC"})
"""Items that may be named in covariates= as well: labels that a model may use as a number."""


class Columns:
    """A table whose columns are found by item.

    Parameters
    ----------
    frame : DataFrame
    where : callable
        Record number → words for the place.
    options : mapping
        Column names by item in lower case; ``covariates`` and ``units``.

    Attributes
    ----------
    source : dict
        Item → column of the frame.
    notes : list of str
        How ambiguous columns were read.
    unused : set
        Columns of an item that a note says are not read.
    units : dict
        Unit by item, covariate or name of an output.
    asked, absent : set of str
        Items whose column the user named, and those that the user said are not there.
    wanted : list or None
        The covariates the user named.
    """

    def __init__(self, frame: pd.DataFrame, where: Callable[[int], str], options: Mapping[str, Any]) -> None:
        self.frame = frame
        self.where = where
        self.notes: list[str] = []
        self.unused: set[Any] = set()
        options = dict(options)
        wanted = options.pop("covariates", None)
        if wanted is not None and not isinstance(wanted, Iterable):
            raise DataError(f"covariates={wanted!r} is not a list of column names.")
        self.wanted = [wanted] if isinstance(wanted, str) else None if wanted is None else list(wanted)
        units = options.pop("units", None) or {}
        if not isinstance(units, Mapping):
            raise DataError(f"units={units!r} is not a mapping of columns to units, e.g. {{'TIME': 'h'}}.")
        self._resolve(options)
        self.frame = frame.copy(deep=False)
        for column in frame:
            if not pd.api.types.is_numeric_dtype(frame[column]):
                self.frame[column] = _without_missing_words(frame[column])
        back = {source: item for item, source in self.source.items()}
        outputs = set(self.frame[self.source["DVID"]].dropna()) if "DVID" in self.source else set()
        unknown = [c for c in units if c not in frame.columns and c not in back.values() and c not in outputs]
        if unknown:
            raise DataError(f"units= names the column '{unknown[0]}', which the table does not have{self.have()}.")
        self.units: dict[str, str] = {back.get(column, str(column)): str(unit) for column, unit in units.items()}

    def __contains__(self, item: str) -> bool:
        return item in self.source

    def __len__(self) -> int:
        return len(self.frame)

    def have(self) -> str:
        """Return the names of the columns, in parentheses."""
        return f" (columns: {', '.join(map(str, self.frame.columns)) or 'none'})"

    def name(self, item: str) -> str:
        """Return the file's own name of an item, for a sentence."""
        return str(self.source.get(item, item))

    def _resolve(self, options: dict[str, Any]) -> None:
        self.source: dict[str, Any] = {}
        self.asked = {key.upper() for key, column in options.items() if column is not None}
        self.absent = {key.upper() for key, column in options.items() if column is None}
        doubled = self.frame.columns[self.frame.columns.duplicated()]
        if len(doubled):
            raise DataError(f"The column '{doubled[0]}' appears twice; rename one of the two.")
        # A column named for one item is not looked at for another that the table need not have.
        named = {column for column in options.values() if column is not None}
        for item in ITEMS:
            key = item.lower()
            if key in options:
                column = options.pop(key)
                if column is None:
                    continue
                if column not in self.frame.columns:
                    raise DataError(f"{key}='{column}' names a column that the table does not have{self.have()}.")
                self.source[item] = column
                continue
            names = DATES if item == "DATE" else (item,)
            found = [c for c in self.frame.columns if item_name(c) in names and (c not in named or item in _NEEDED)]
            if len(found) > 1:
                raise DataError(f"The columns {found[0]} and {found[1]} are both '{item}'; say which with {key}=.")
            if found:
                self.source[item] = found[0]
        if options:
            known = ", ".join(f"{item.lower()}=" for item in ITEMS)
            raise DataError(f"'{next(iter(options))}=' is not an option; use {known}, covariates=, units=.")
        for item in _NEEDED:
            if item not in self.source and item not in self.absent:
                raise DataError(f"There is no {item} column{self.have()}; name it with {item.lower()}=.")
        used: dict[Any, str] = {}
        for item, column in self.source.items():
            if column in used:
                raise DataError(
                    f"The column '{column}' is named for {used[column]} and for {item}; it can be one of them."
                )
            used[column] = item

    # ------------------------------------------------------------------ values

    def numbers(self, item: str, wanted: str = "a number, or '.' where it is missing") -> Array:
        """Return an item as numbers, NaN where missing; all missing if the table lacks it.

        Raises
        ------
        DataError
            If a value is text or infinite.
        """
        if item not in self.source:
            return np.full(len(self.frame), np.nan)
        return self.to_numbers(self.source[item], wanted)

    def to_numbers(self, column: Any, wanted: str) -> Array:
        """Return a column as numbers, NaN where missing; `wanted` is the remedy in a refusal."""
        values = self.frame[column]
        if values.dtype.kind in "mMc":
            what = {"m": "durations", "M": "dates", "c": "complex numbers"}[values.dtype.kind]
            raise DataError(f"{column} holds {what}; write {wanted}.")
        if not pd.api.types.is_numeric_dtype(values):
            converted = numeric(values)
            bad = np.flatnonzero((converted.isna() & values.notna()).to_numpy())
            if bad.size:
                text = str(values.iloc[bad[0]])
                hint = ""
                if "," in text and pd.notna(pd.to_numeric(text.replace(",", "."), errors="coerce")):
                    hint = " (a decimal comma? write a point)"
                elif text[:1] in "<>":
                    hint = " (beyond a limit of quantification? write the limit, and 1 or -1 in a CENS column)"
                raise DataError(
                    f"{column}={text!r} at {self.where(int(bad[0]))} is not a number{hint}; write {wanted}."
                )
            values = converted
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        infinite = np.flatnonzero(np.isinf(numbers))
        if infinite.size:
            raise DataError(f"{column} is infinite at {self.where(int(infinite[0]))}; write {wanted}.")
        return numbers

    def codes(self, item: str, allowed: str, accept: Callable[[Array], NDArray[np.bool_]]) -> NDArray[np.int64]:
        """Return an item as whole numbers, 0 where missing or absent.

        Raises
        ------
        DataError
            If `accept` is not true of a value; `allowed` says what is.
        """
        values = np.nan_to_num(self.numbers(item, allowed))
        bad = np.flatnonzero(~accept(values) | (values != np.floor(values)))
        if bad.size:
            self.refuse(item, int(bad[0]), values, f"is not {allowed}; correct it")
        return values.astype(np.int64)

    def labels(self, item: str, default: int) -> pd.Series:
        """Return an item that names or numbers something: whole numbers or numbers, else text.

        What is missing is `default` among numbers and '' among text.
        """
        if item not in self.source:
            return pd.Series(np.full(len(self.frame), default, dtype=np.int64))
        values = self.frame[self.source[item]]
        if not pd.api.types.is_numeric_dtype(values):
            converted = numeric(values)
            if (converted.isna() & values.notna()).any():
                words = map_unique(values, lambda v: f"{v:g}" if isinstance(v, Real) else str(v))
                return words.where(words.notna(), "")
        values = np.where(np.isnan(n := self.to_numbers(self.source[item], "a number or a name")), default, n)
        whole = bool((values == np.floor(values)).all())
        return pd.Series(values.astype(np.int64) if whole else values)

    def refuse(self, item: str, row: int, values: Any, why: str) -> None:
        """Raise the sentence 'ITEM=value at place why.'.

        Raises
        ------
        DataError
            Always.
        """
        value = values[row]
        shown = f"{value:g}" if isinstance(value, Real) else repr(str(value))
        raise DataError(f"{self.name(item)}={shown} at {self.where(row)} {why}.")

    def first(self, rows: NDArray[np.bool_]) -> str:
        """Return '(first: place)' of the rows that are true."""
        return f"(first: {self.where(int(np.flatnonzero(rows)[0]))})"


def item_name(column: Any) -> str:
    """Return a column's name as NONMEM would write it."""
    return str(column).strip().upper()


def count(rows: NDArray[np.bool_], word: str) -> str:
    """Return how many rows are true, with the word in singular or plural."""
    n = int(rows.sum())
    return f"{n} {word}{'' if n == 1 else 's'}"


def _without_missing_words(column: pd.Series) -> pd.Series:
    """Return text without the spaces around it, missing where it is a word for that."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if column.dtype.kind in "mM":
        return column
    try:
        words = map_unique(column, lambda v: v.strip() if isinstance(v, str) else v)
    except TypeError:
        kinds = {type(v).__name__ for v in column}
        raise DataError(
            f"The column {column.name} holds values of type {', '.join(sorted(kinds))}; write numbers or text."
        ) from None
    return words.mask(words.isin(list(MISSING)), None)
