"""Times of records: numbers as they stand, dates and clock times as hours from a subject's first record."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.columns import Columns, item_name
from nlmewidgets.core.errors import DataError

__all__ = ["read_times"]

_TIME = "hours, days or any other number, a clock time (8:30) or a date (2020-01-31 08:30)"
_CLOCK = r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d(?:\.\d*)?))?"
_ISO = r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})"
_ORDERS = {
    "DATE": ("month", "day", "year"),
    "DAT1": ("day", "month", "year"),
    "DAT2": ("year", "month", "day"),
    "DAT3": ("year", "day", "month"),
}
"""NONMEM's four orders of a date; a year of four digits at the start is year-month-day but in DAT3."""

_CENTURY = 50
"""Years of two digits are 1951 … 2050, NONMEM's default (LAST20=50)."""

_DAY = 86_400.0


def read_times(columns: Columns, subject: Ints) -> Array:
    """Return TIME of every record; `subject` numbers the subjects.

    Raises
    ------
    DataError
        If a time is missing or unreadable.
    """
    name = columns.name
    if "TIME" not in columns and "DATE" not in columns:
        columns.notes.append("There is no TIME column: TIME is 0 for every record.")
        return np.zeros(len(columns))
    day, second, plain = _read(columns)
    missing = np.flatnonzero(np.isnan(day + second))
    if missing.size:
        item = "DATE" if "DATE" in columns and np.isnan(day[missing[0]]) else "TIME"
        raise DataError(f"{name(item)} is missing at {columns.where(int(missing[0]))}; every record needs a time.")
    if plain:
        return second
    first = np.flatnonzero(~pd.Series(subject).duplicated().to_numpy())[subject]
    hours = ((day - day[first]) * _DAY + (second - second[first])) / 3600
    items = " and ".join(str(columns.source[i]) for i in ("DATE", "TIME") if i in columns)
    columns.notes.append(f"{items}: read as hours from each subject's first record.")
    columns.units.setdefault("TIME", "h")
    return hours


def _read(columns: Columns) -> tuple[Array, Array, bool]:
    """Return the day and the second of the day of each record; or 0, the number and True."""
    n = len(columns)
    day, second = np.zeros(n), np.zeros(n)
    clock = dated = False
    if "TIME" in columns:
        values = columns.frame[columns.source["TIME"]]
        if pd.api.types.is_numeric_dtype(values):
            second = columns.numbers("TIME", _TIME)
        else:
            day, second, clock, dated = _clock(columns, values)
    if dated:
        if "DATE" in columns:
            _leave_out_date(columns, f"{columns.name('TIME')} is a date")
        return day, second, False
    if "DATE" not in columns:
        return day, second, not clock
    hours = second if not clock else second / 3600
    late = np.flatnonzero((hours < 0) | (hours > 24))
    if late.size and not clock and "DATE" not in columns.asked:
        # A column of dates beside times that have been counted already: nothing to compute.
        where = columns.where(int(late[0]))
        _leave_out_date(columns, f"{columns.name('TIME')}={hours[late[0]]:g} at {where} is no time of day")
        return day, second, True
    if late.size:
        columns.refuse(
            "TIME", int(late[0]), hours, f"is no time of day; with {columns.name('DATE')} write 0 to 24 hours"
        )
    return _days(columns), np.round(hours * 3600, 6), False


def _leave_out_date(columns: Columns, why: str) -> None:
    column = columns.source.pop("DATE")
    columns.unused.add(column)
    columns.notes.append(f"The column {column} is not used: {why}.")


def _clock(columns: Columns, values: pd.Series) -> tuple[Array, Array, bool, bool]:
    """Return day, seconds (or the number, where nothing is a clock time), whether any is one, whether dated."""
    if values.dtype.kind == "M":
        stamp = values.dt.tz_convert("UTC").dt.tz_localize(None) if values.dt.tz is not None else values
        days = stamp.dt.normalize()
        return _number_of(days), ((stamp - days) / pd.Timedelta(seconds=1)).to_numpy(), True, True
    if values.dtype.kind in "mc":
        columns.to_numbers(columns.source["TIME"], _TIME)  # refuses
    codes, unique = pd.factorize(values)
    text = pd.Series(unique).map(str)
    parts = text.str.extract(rf"^(?:{_ISO})?(?:(?:^|[ T]){_CLOCK})?$")
    if parts.isna().all(axis=None):
        return np.zeros(len(codes)), columns.numbers("TIME", _TIME), False, False
    stamped, timed = parts["year"].notna(), parts["hour"].notna()
    number = pd.to_numeric(text.where(~stamped & ~timed), errors="coerce")
    seconds = parts[["hour", "minute", "second"]].astype(float).fillna(0).to_numpy() @ np.array([3600.0, 60.0, 1.0])
    seconds = np.where(stamped | timed, seconds, number.to_numpy() * 3600)
    day = np.where(stamped, _number_of(_date(parts)), 0.0)
    # With one date all need one; a date that does not exist, and text, are NaN here.
    bad = ~np.isfinite(seconds) | np.isnan(day) | ((not stamped.all()) & stamped.any() & ~stamped)
    if bad.any():
        row = int(np.flatnonzero(np.isin(codes, np.flatnonzero(bad)))[0])
        what = "date (write 2020-01-31 08:30)" if stamped.any() else "clock time (write 8:30) or number"
        columns.refuse("TIME", row, values.tolist(), f"is no {what}, as others are")
    day, seconds = np.append(day, np.nan), np.append(seconds, np.nan)  # a missing value has the code -1
    return day[codes], seconds[codes], True, bool(stamped.any())


def _days(columns: Columns) -> Array:
    """Return the number of the day that DATE says."""
    source = columns.source["DATE"]
    values = columns.frame[source]
    if values.dtype.kind == "M":
        return _number_of(values.dt.tz_localize(None).dt.normalize())
    if pd.api.types.is_numeric_dtype(values):
        return columns.numbers("DATE", "dates or days")
    codes, unique = pd.factorize(values)
    text = pd.Series(unique).map(str)
    number = pd.to_numeric(text, errors="coerce").replace([np.inf, -np.inf], np.nan)
    order = _ORDERS.get(item_name(source), _ORDERS["DATE"])
    parts = text.str.extract(r"^(\d{1,4})[-/](\d{1,2})[-/](\d{1,4})(?:[ T]00:00(?::00)?)?$")
    parts.columns = pd.Index(order)
    leading = text.str.match(r"^\d{4}[-/]").to_numpy() & (order != _ORDERS["DAT3"])
    for part, place in zip(("year", "month", "day"), range(3), strict=True):
        other = text.str.extract(r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})")[place]
        parts[part] = parts[part].where(~leading, other)
    short = parts["year"].str.len() <= 2
    year = parts["year"].astype(float)
    parts["year"] = year.where(~short, year + np.where(year > _CENTURY, 1900, 2000))
    day = _number_of(_date(parts))
    day = np.where(parts["day"].isna() & number.notna(), number, day)
    bad = np.flatnonzero(np.isnan(day))
    shown = "/".join(order)
    if bad.size:
        row = int(np.flatnonzero(np.isin(codes, bad))[0])
        columns.refuse(
            "DATE",
            row,
            values.tolist(),
            f"is no date ({shown}, or year-month-day as 2020-01-31); correct it, name the "
            "column DAT1 (day first), or pass date=None",
        )
    if (parts["day"].notna() & ~leading).any():
        columns.notes.append(f"{source} is read as {shown}.")
    return np.append(day, np.nan)[codes]


def _date(parts: pd.DataFrame) -> pd.Series:
    return pd.to_datetime(parts[["year", "month", "day"]].astype(float), errors="coerce")


def _number_of(days: pd.Series) -> Array:
    """Return days since 1970, NaN where missing."""
    return ((days - pd.Timestamp(0)) / pd.Timedelta(days=1)).to_numpy()
