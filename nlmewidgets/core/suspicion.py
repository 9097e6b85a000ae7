"""What looks wrong in records that can be read: said in notes, nothing is changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.columns import Columns, count

__all__ = ["suspicions"]

_FAR = 2.5
"""Decades from the usual value at which a unit slip is suspected: 300-fold, between nature's spread and 1000."""

_TINY_VOLUME = 0.1
"""Dose over largest DV below which their units hardly agree: 0.1 L, or 0.1 L/kg for a dose per kg."""


def suspicions(out: pd.DataFrame, columns: Columns) -> list[str]:
    """Return sentences on duplicated records, observations before any dose and slips of units.

    Parameters
    ----------
    out : DataFrame
        The records as read, subjects contiguous, with ``_row`` (the row of the table).
    columns : Columns
        For the file's own names and places.
    """
    row = np.floor(out["_row"].to_numpy() + 0.5).astype(np.intp)
    where = lambda i: columns.where(int(row[i]))  # noqa: E731
    subject: Ints = pd.factorize(out["ID"])[0]
    found = [
        _duplicates(out, subject, where),
        _before_any_dose(out, subject, where),
        _unlimited(out, columns),
        *_slips(out, subject, columns, where),
    ]
    return [sentence for sentence in found if sentence]


def _duplicates(out: pd.DataFrame, subject: Ints, where: Callable[[int], str]) -> str:
    same = (np.diff(subject) == 0) & (np.diff(out["TIME"].to_numpy()) == 0)
    beside = np.flatnonzero(np.append(same, False) | np.append(False, same))  # few records share a time
    few = out.iloc[beside].drop(columns="_row")
    active = ((few["EVID"] == 0) & (few["MDV"] == 0) & few["DV"].notna()) | few["EVID"].isin((1, 4))
    again = beside[(few.duplicated() & active).to_numpy()]
    if not again.size:
        return ""
    verb = "record repeats" if again.size == 1 else "records repeat"
    return f"{again.size} {verb} an earlier one in every column (first: {where(int(again[0]))}): all are used."


def _before_any_dose(out: pd.DataFrame, subject: Ints, where: Callable[[int], str]) -> str:
    dosed = out["EVID"].isin((1, 4)).to_numpy()
    if not dosed.any():
        return ""
    doses = np.cumsum(dosed)
    first = np.flatnonzero(np.diff(subject, prepend=-1))
    so_far = doses - (doses[first] - dosed[first])[subject]
    early = (so_far == 0) & (out["EVID"].to_numpy() == 0) & (out["MDV"].to_numpy() == 0)
    if not early.any():
        return ""
    first_place = where(int(np.flatnonzero(early)[0]))
    return (
        f"{count(early, 'observation')} before any dose of the subject (first: {first_place}): predicted without one."
    )


def _unlimited(out: pd.DataFrame, columns: Columns) -> str:
    censored = out["CENS"].to_numpy() == 1
    if not censored.any() or (out["DV"].to_numpy()[censored] != 0).any():
        return ""
    return (
        f"Suspicion: {columns.name('DV')} is 0 on every record with {columns.name('CENS')}=1; it should be the limit "
        "of quantification."
    )


def _slips(out: pd.DataFrame, subject: Ints, columns: Columns, where: Callable[[int], str]) -> list[str]:
    """Return sentences on values some 1000 times others: milligrams beside micrograms."""
    dv, amt = out["DV"].to_numpy(), out["AMT"].to_numpy()
    measured = (dv > 0) & (out["MDV"].to_numpy() == 0)
    given = amt > 0
    output: Ints = pd.factorize(out["DVID"])[0]
    sentences = []
    if given.any():
        rows = np.flatnonzero(given)
        far = _far(np.log10(amt[rows]))
        if far.any():
            i = int(rows[np.flatnonzero(far)[0]])
            sentences.append(
                f"Suspicion: {columns.name('AMT')}={amt[i]:g} at {where(i)} is {_times(amt[i], np.median(amt[rows]))} "
                "the usual amount; check its unit."
            )
    spike = _spikes(dv, measured, subject * (output.max() + 1) + output)
    if spike.size:
        i = int(spike[0])
        sentences.append(
            f"Suspicion: {columns.name('DV')}={dv[i]:g} at {where(i)} is more than 300 times away from the values "
            "before and after it; check its unit."
        )
    for k in range(output.max() + 1):
        rows = np.flatnonzero(measured & (output == k))
        largest = pd.Series(dv[rows]).groupby(subject[rows]).max()
        far = _far(np.log10(largest.to_numpy()))
        if far.any() and not spike.size:
            label = largest.index[np.flatnonzero(far)[0]]
            value = largest[label]
            mine = rows[(subject[rows] == label) & (dv[rows] == value)][0]
            sentences.append(
                f"Suspicion: the largest {columns.name('DV')} of subject {out['ID'].iloc[mine]} ({value:g} at "
                f"{where(int(mine))}) is {_times(value, largest.median())} that of the others; check its unit."
            )
    if given.any() and measured.any() and not {"AMT", "DV"} <= columns.units.keys():
        rows = np.flatnonzero(measured & (output == output[np.flatnonzero(measured)[0]]))
        largest = pd.Series(dv[rows]).groupby(subject[rows]).max()
        amount = pd.Series(amt[given]).groupby(subject[given]).max()
        volume = float((amount / largest).median())
        if volume < _TINY_VOLUME:
            sentences.append(
                f"Suspicion: {columns.name('AMT')} over the largest {columns.name('DV')} is {volume:.2g}, little for a "
                f"volume; check that the units agree (mg with mg/L, not ng/mL), or state them with units=."
            )
    return sentences


def _far(log: Array) -> NDArray[np.bool_]:
    """Return which of three or more values are far from all usual ones."""
    if len(log) < 3:
        return np.zeros(len(log), dtype=bool)
    off = np.abs(log - np.median(log))
    return (off > _FAR) & (off > 5 * 1.4826 * np.median(off))


def _spikes(dv: Array, measured: NDArray[np.bool_], series: Ints) -> Ints:
    """Return the records far above, or far below, both neighbours of their series."""
    rows = np.flatnonzero(measured)
    rows = rows[np.argsort(series[rows], kind="stable")]
    step = np.diff(np.log10(dv[rows]))
    step[np.diff(series[rows]) != 0] = 0.0
    before, after = step[:-1], -step[1:]
    return np.sort(rows[1:-1][(np.minimum(np.abs(before), np.abs(after)) > _FAR) & (before * after > 0)])


def _times(value: float, usual: float) -> str:
    ratio = value / usual
    return f"about {ratio:.2g} times" if ratio < 1 else f"about {float(f'{ratio:.2g}'):g} times"
