"""A text file as a table of columns, with the file's own row numbers."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.errors import DataError

__all__ = ["MISSING", "map_unique", "numeric", "read_table"]

MISSING = frozenset({"", ".", "NA", "N/A", "#N/A", "NaN", "nan"})
"""Words for a missing value; any other text is text."""

_SPACES = {" ", r"\s+"}
_TO_THE_LAST_DIGIT: dict[str, Any] = (
    {"float_precision": "round_trip"} if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1) else {}
)
"""Newer pandas reads numbers exactly without being asked."""

_CONTROLS = (np.arange(256) < 32) & ~np.isin(np.arange(256), list(b"\t\n\r"))
"""Bytes that no plain text has."""

_OTHER_SEPARATORS = {";": ";", "\t": "\\t", "|": "|", ",": ","}


def read_table(
    file: Path, sep: str, content: bytes | None = None
) -> tuple[pd.DataFrame, Sequence[int] | NDArray[np.intp], list[str]]:
    r"""Read a file with a header line.

    Parameters
    ----------
    file : Path
    sep : str
        One character, or ``r"\s+"`` for any white space.
    content : bytes, optional
        What the file holds, where it was received and is not on this machine.

    Returns
    -------
    table : DataFrame
        Columns of numbers where every field is one, of text elsewhere.
    rows : sequence of int
        The file's line of each record; the header is usually line 1.
    notes : list of str

    Raises
    ------
    DataError
        Naming the row, and what is wrong there.
    """
    raw = _bytes(file) if content is None else content
    regular = _read_regular(raw, sep, file.name)
    if regular is not None:
        return (*regular, [])
    text = _text(raw, file.name)
    header: list[str] | None = None
    records: list[list[str]] = []
    rows: list[int] = []
    blank: list[int] = []
    for row, fields in _lines(text, sep, file.name):
        if not any(fields):
            if fields:
                blank.append(row)
            continue
        if header is None:
            header = _header(fields, sep, row, file.name)
            continue
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if len(fields) != len(header):
            more = len(fields) > len(header)
            remedy = "a decimal comma? write points" if more else "write '.' for what is missing"
            raise DataError(
                f"Row {row} of '{file.name}' has {len(fields)} field{'s' if len(fields) != 1 else ''} where the header "
                f"has {len(header)}; check its separators ({remedy})."
            )
        records.append(fields)
        rows.append(row)
    if header is None:
        raise DataError(f"'{file.name}' is empty; it needs a header line and one line per record.")
    notes = []
    if blank:
        notes.append(f"{len(blank)} empty row{'s were' if len(blank) > 1 else ' was'} skipped (first: row {blank[0]}).")
    columns = [_column(pd.Series([record[k] for record in records], dtype=object)) for k in range(len(header))]
    table = pd.concat(columns, axis=1) if records else pd.DataFrame(columns=range(len(header)))
    table.columns = pd.Index(header, dtype=object)
    return table, rows, notes


def _read_regular(raw: bytes, sep: str, name: str) -> tuple[pd.DataFrame, NDArray[np.intp]] | None:
    """Read a file whose lines all have as many fields as the header; None if that is not plain to see.

    This is the fast way for large files.  Whatever is unusual is left to the exact reader, which
    finds its place and its sentence.
    """
    if not isinstance(sep, str):
        return None
    spaces = sep in _SPACES
    if not spaces and (len(sep) != 1 or not sep.isascii() or sep in '"\r\n'):
        return None
    raw = raw.removeprefix(codecs.BOM_UTF8)
    first, _, body = raw.partition(b"\n")
    if not body.strip() or not first.strip() or (spaces and not raw.isascii()):
        return None
    data = np.frombuffer(raw if raw.endswith(b"\n") else raw + b"\n", dtype=np.uint8)
    fields = _fields_per_line(data, None if spaces else ord(sep))
    if fields is None or (fields != fields[0]).any() or fields[0] == 1:
        return None
    try:
        header = _lines(first.decode().rstrip("\r"), sep, name)[0][1]
    except UnicodeDecodeError:
        return None
    while header and not header[-1]:
        header.pop()
    if "" in header or all(map(_is_number, header)):
        return None
    options = {"sep": r"\s+", "quoting": csv.QUOTE_NONE} if spaces else {"sep": sep, "skipinitialspace": True}
    common = {"header": None, "na_values": list(MISSING), "keep_default_na": False, "low_memory": False, **options}
    try:
        table = pd.read_csv(io.BytesIO(body), **_TO_THE_LAST_DIGIT, **common)
    except (pd.errors.ParserError, OverflowError, ValueError):  # also what is not UTF-8
        return None
    if table.shape != (len(fields) - 1, fields[0]) or table.isna().all(axis=1).any():
        return None
    if not table.iloc[:, len(header) :].isna().all(axis=None):
        return None
    table = table.iloc[:, : len(header)]
    text = [c for c in table if table[c].dtype not in (np.dtype("float64"), np.dtype("int64"))]
    # Words that pandas takes for truth values, numbers too large for it: by our own rules.
    odd = [c for c in text if pd.api.types.infer_dtype(table[c], skipna=True) != "string"]
    if odd:
        table[odd] = pd.read_csv(io.BytesIO(body), usecols=odd, dtype=str, **common | {"na_filter": False})
    table = pd.concat([_column(table[c].astype(object).fillna("")) if c in text else table[c] for c in table], axis=1)
    table.columns = pd.Index(header, dtype=object)
    return table, np.arange(2, len(table) + 2)


def _fields_per_line(data: NDArray[np.uint8], sep: int | None) -> NDArray[np.intp] | None:
    """Return the number of fields of each line, None where quotes or line ends are unusual."""
    newline = data == ord("\n")
    ends = np.flatnonzero(newline)
    follows = np.append(data[1:], np.uint8(ord("\n")))
    if ((data == ord("\r")) & (follows != ord("\n"))).any() or _CONTROLS[data].any():
        return None
    if sep is None:
        blank = (data == 32) | (data == 9) | (data == 13) | newline
        marks = np.flatnonzero(~blank & np.append(True, blank[:-1]))
        return np.diff(np.searchsorted(marks, ends), prepend=0)
    marks = np.flatnonzero(data == sep)
    quotes = np.flatnonzero(data == ord('"'))
    if quotes.size:
        opening, closing = quotes[::2], quotes[1::2]
        if quotes.size % 2:
            return None
        plain = np.array([sep, *b'\r\n "'], dtype=np.uint8)
        before = data[opening[opening > 0] - 1]
        if not (np.isin(before, plain).all() and np.isin(follows[closing], plain).all()):
            return None
        # A mark or a line's end is inside quotes where an odd number of quotes came before it.
        if (np.searchsorted(quotes, ends) % 2).any():
            return None
        marks = marks[np.searchsorted(quotes, marks) % 2 == 0]
    return np.diff(np.searchsorted(marks, ends), prepend=0) + 1


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"There is no file '{file}'; check the path (the working directory is searched).") from None
    except OSError as error:
        raise DataError(f"'{file}' cannot be read ({error.strerror}); give the path of a CSV file.") from None


def _text(raw: bytes, name: str) -> str:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\x00"
    if "\x00" in text:
        raise DataError(f"'{name}' is not UTF-8 text; save it as CSV in UTF-8.")
    return text


def _lines(text: str, sep: str, name: str) -> list[tuple[int, list[str]]]:
    if sep in _SPACES:
        return [(k, line.split()) for k, line in enumerate(text.splitlines(), 1)]
    if not isinstance(sep, str) or len(sep) != 1:
        raise DataError(rf"sep={sep!r} is not a separator; give one character, or r'\s+' for white space.")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sep, skipinitialspace=True, strict=True)
    out = []
    row = 1
    try:
        for fields in reader:
            out.append((row, [field.strip() for field in fields]))
            row = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"Row {row} of '{name}' cannot be split into fields ({error}); check its quotes.") from None
    return out


def _header(fields: list[str], sep: str, row: int, name: str) -> list[str]:
    while not fields[-1]:
        fields.pop()
    if len(fields) == 1:
        for other, shown in _OTHER_SEPARATORS.items():
            if other != sep and other in fields[0]:
                raise DataError(
                    f"Row {row} of '{name}' has one column, '{fields[0]}'; if its columns are separated by "
                    f"'{shown}', pass sep='{shown}'."
                )
    if all(_is_number(field) for field in fields):
        raise DataError(
            f"Row {row} of '{name}' is not a header ({', '.join(fields)}); the first line names the columns."
        )
    if "" in fields:
        raise DataError(f"Column {fields.index('') + 1} of '{name}' has no name; name it in the header.")
    return fields


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field


def _column(fields: pd.Series) -> pd.Series:
    """Return numbers if every field is one (to the last digit, as Python reads it), else text."""
    codes, unique = pd.factorize(fields)
    words = [field.strip() for field in unique]
    values = [None if word in MISSING else word for word in words]
    present = [v for v in values if v is not None]
    if not present:
        found = pd.Series([float("nan")] * len(values), dtype="float64")
    elif not all(map(_is_number, present)):
        found = pd.Series(values, dtype=object)
    elif len(present) == len(values) and all(v.lstrip("+-").isdecimal() and len(v) < 19 for v in present):
        found = pd.Series([int(v) for v in present], dtype="int64")
    else:
        found = pd.Series([float("nan") if v is None else float(v) for v in values], dtype="float64")
    return found.take(codes).reset_index(drop=True)


def map_unique(values: pd.Series, function: Callable[[Any], Any]) -> pd.Series:
    """Return a function of each value, called once for each that is different; None stays None."""
    codes, unique = pd.factorize(values)
    found = np.array([*map(function, unique.tolist()), None], dtype=object)  # a missing value has the code -1
    return pd.Series(found[codes], index=values.index, dtype=object)


def numeric(values: pd.Series) -> pd.Series:
    """Return numbers, NaN where a value is none (or missing)."""
    if pd.api.types.is_numeric_dtype(values):
        return values
    codes, unique = pd.factorize(values)
    found = pd.to_numeric(pd.Series(unique, dtype=object), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return pd.Series(np.append(found, np.nan)[codes], index=values.index)
