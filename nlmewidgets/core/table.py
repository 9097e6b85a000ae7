"""A text file as a table of columns, with the file's own row numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd

from nlmewidgets.core.errors import DataError

__all__ = ["MISSING", "read_table"]

MISSING = frozenset({"", ".", "NA", "N/A", "#N/A", "NaN", "nan"})
"""Words for a missing value; any other text is text."""

_SPACES = {" ", r"\s+"}
_OTHER_SEPARATORS = {";": ";", "\t": "\\t", "|": "|", ",": ","}


def read_table(file: Path, sep: str) -> tuple[pd.DataFrame, list[int], list[str]]:
    r"""Read a file with a header line.

    Parameters
    ----------
    file : Path
    sep : str
        One character, or ``r"\s+"`` for any white space.

    Returns
    -------
    table : DataFrame
        Columns of numbers where every field is one, of text elsewhere.
    rows : list of int
        The file's line of each record; the header is usually line 1.
    notes : list of str

    Raises
    ------
    DataError
        Naming the row, and what is wrong there.
    """
    text = _text(file)
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
    columns = [_column([record[k] for record in records]) for k in range(len(header))]
    table = pd.concat(columns, axis=1) if records else pd.DataFrame(columns=range(len(header)))
    table.columns = pd.Index(header, dtype=object)
    return table, rows, notes


def _text(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"There is no file '{file}'; check the path (the working directory is searched).") from None
    except OSError as error:
        raise DataError(f"'{file}' cannot be read ({error.strerror}); give the path of a CSV file.") from None
    except UnicodeDecodeError:
        raise DataError(f"'{file.name}' is not UTF-8 text; save it as CSV in UTF-8.") from None
    if "\x00" in text:
        raise DataError(f"'{file.name}' is not UTF-8 text; save it as CSV in UTF-8.")
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


def _column(fields: list[str]) -> pd.Series:
    """Return numbers if every field is one (to the last digit, as Python reads it), else text."""
    values = [None if field in MISSING else field for field in fields]
    present = [v for v in values if v is not None]
    if not present:
        return pd.Series([float("nan")] * len(values))
    if not all(map(_is_number, present)):
        return pd.Series(values, dtype=object)
    if len(present) == len(values) and all(v.lstrip("+-").isdecimal() and len(v) < 19 for v in present):
        return pd.Series([int(v) for v in present], dtype="int64")
    return pd.Series([float("nan") if v is None else float(v) for v in values], dtype="float64")
