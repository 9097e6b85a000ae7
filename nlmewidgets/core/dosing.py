"""The columns that say how a dose is given: RATE, ADDL, II and SS."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.columns import Columns, count

__all__ = ["Dosing", "read_dosing", "steady_infusions"]

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Dosing(NamedTuple):
    """How each record's dose is given; 0 on records that are no doses."""

    rate: Array
    addl: Codes
    ii: Array
    ss: Codes


def read_dosing(columns: Columns) -> Dosing:
    """Read the four columns, each value for itself.

    Raises
    ------
    DataError
        If a value has no meaning in NONMEM's layout.
    """
    rate = np.nan_to_num(columns.numbers("RATE", "a rate, -1 (modelled rate), -2 (modelled duration) or 0"))
    bad = np.flatnonzero((rate < 0) & (rate != -1) & (rate != -2))
    if bad.size:
        columns.refuse(
            "RATE", int(bad[0]), rate, "is negative; write a rate, -1 (modelled rate), -2 (modelled duration) or 0"
        )
    addl = columns.codes("ADDL", "0 or a number of additional doses", lambda v: v >= 0)
    ii = np.nan_to_num(columns.numbers("II", "the interval between doses, or 0"))
    bad = np.flatnonzero(ii < 0)
    if bad.size:
        columns.refuse("II", int(bad[0]), ii, "is negative; write the interval between doses, or 0")
    ss = columns.codes(
        "SS", "0 (no steady state), 1 (steady state) or 2 (added to what is there)", lambda v: np.isin(v, (0, 1, 2))
    )
    return Dosing(rate, addl, ii, ss)


def steady_infusions(given: Flags, dosing: Dosing) -> Flags:
    """Return which records are infusions since ever that end there: no AMT, RATE > 0 (or modelled), SS."""
    return ~given & (dosing.ss > 0) & ((dosing.rate > 0) | (dosing.rate == -1))


def check_dosing(columns: Columns, dosing: Dosing, dosed: Flags, given: Flags) -> Dosing:
    """Return the columns with 0 where they have no effect, which a note says.

    Raises
    ------
    DataError
        If the items of a dose contradict each other.
    """
    rate, addl, ii, ss = dosing
    for item, values in (("RATE", rate), ("ADDL", addl), ("II", ii), ("SS", ss)):
        idle = ~dosed & (values != 0)
        if idle.any():
            columns.notes.append(
                f"{columns.name(item)} is not read on {count(idle, 'record')} without a dose {columns.first(idle)}."
            )
    rate, addl, ii, ss = (np.where(dosed, v, 0).astype(v.dtype) for v in (rate, addl, ii, ss))
    name = columns.name
    endless = dosed & ~given
    for rows, item, values, why in (
        (
            dosed & (addl > 0) & (ii == 0),
            "ADDL",
            addl,
            f"needs the interval between the doses, but {name('II')} is missing or 0",
        ),
        (
            given & dosed & (ss > 0) & (ii == 0),
            "SS",
            ss,
            f"needs the interval between the doses, but {name('II')} is missing or 0",
        ),
        (
            endless & (addl > 0),
            "ADDL",
            addl,
            f"follows an infusion since ever ({name('AMT')}=0); give {name('AMT')}, or 0 doses more",
        ),
    ):
        if rows.any():
            columns.refuse(item, int(np.flatnonzero(rows)[0]), values, why)
    for rows, why in (
        (
            dosed & (ii > 0) & (addl == 0) & (ss == 0),
            f"a dose without {name('ADDL')} and {name('SS')}: it has no effect",
        ),
        (endless & (ii > 0), f"an infusion since ever ({name('AMT')}=0): it has no interval"),
    ):
        if rows.any():
            columns.notes.append(
                f"{name('II')} is not read on {count(rows, 'record')} with {why} {columns.first(rows)}."
            )
            ii = np.where(rows, 0.0, ii)
    return Dosing(rate, addl, ii, ss)
