"""A file as it arrives from a browser: which separator, which column is what."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from nlmewidgets.core.data import Data

__all__ = ["ITEMS", "columns_of", "read", "separator_of", "suggestion"]

ITEMS = {
    "id": "Subject",
    "time": "Time",
    "dv": "Measured (DV)",
    "amt": "Dose (AMT)",
    "dvid": "Which output (DVID)",
}
"""The items a page asks for, with their labels; the others are found by NONMEM's names."""

_WORDS = {
    "id": ("id", "subject", "subj", "subjectid", "subject_id", "patient", "usubjid", "animal", "tree"),
    "time": ("time", "t", "hours", "hour", "hr", "days", "day", "age", "tad"),
    "dv": ("dv", "conc", "concentration", "cp", "y", "value", "response", "measurement", "observation"),
    "amt": ("amt", "dose", "amount"),
    "dvid": ("dvid",),
}
"""Usual headings of each item, in lower case, the likeliest first."""


def separator_of(content: bytes) -> str:
    r"""Return the separator of a text's first line: ``,`` ``;`` tab or ``r"\s+"``."""
    first = _first_line(content)
    counts = {sep: first.count(sep) for sep in ("\t", ";", ",")}
    best = max(counts, key=lambda sep: counts[sep])
    return best if counts[best] else r"\s+" if len(first.split()) > 1 else ","


def columns_of(content: bytes) -> list[str]:
    """Return the headings."""
    sep = separator_of(content)
    first = _first_line(content)
    fields = first.split() if sep == r"\s+" else next(csv.reader(io.StringIO(first), delimiter=sep), [])
    return [f.strip() for f in fields]


def suggestion(columns: list[str]) -> dict[str, str]:
    """Return which column each item probably is, by its heading; a heading serves once."""
    out: dict[str, str] = {}
    for item, words in _WORDS.items():
        for word in words:
            found = next((c for c in columns if c.lower() == word and c not in out.values()), None)
            if found is not None:
                out[item] = found
                break
    return out


def read(name: str, content: bytes, columns: Mapping[str, str | None]) -> Data:
    """Return the data of an uploaded file.

    Parameters
    ----------
    name : str
    content : bytes
    columns : mapping
        Column of each of `ITEMS`; None where the file has none.

    Raises
    ------
    DataError
        Naming row, column, value and remedy.
    """
    # What is found by its heading need not be said, and is not in the code that is exported.
    found = {item for item in ITEMS for heading in columns_of(content) if heading.lower() == item}
    options: dict[str, Any] = {
        item: column
        for item, column in columns.items()
        if (item in found and (column is not None or item in ("amt", "dvid"))) != (column is not None)
        or (column is not None and column.lower() != item)
    }
    sep = separator_of(content)
    return Data.read_csv(name, content=content, **options | ({} if sep == "," else {"sep": sep}))


def _first_line(content: bytes) -> str:
    text = content[:100_000].decode("utf-8-sig", "replace")
    return next((line for line in text.splitlines() if line.strip()), "")
