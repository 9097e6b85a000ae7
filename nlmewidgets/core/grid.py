"""The events of a study on a grid of times: what a curve is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints

__all__ = ["grid_records", "runs"]


def runs(records: pd.DataFrame, subject: Ints) -> Ints:
    """Return a number for each stretch of records of one subject over which TIME does not go back."""
    time = records["TIME"].to_numpy()
    new = (np.diff(subject) != 0) | (np.diff(time) < 0)
    return np.concatenate(([0], np.cumsum(new))).astype(np.intp)


def grid_records(
    records: pd.DataFrame, subject: Ints, times: Array, outputs: Sequence[Any], columns: Sequence[str]
) -> pd.DataFrame:
    """Return every event that is no observation, and an observation of each output at each time.

    Where a subject's TIME starts again after a reset, the grid is on the first stretch.  An event at
    a time of the grid comes before it.

    Parameters
    ----------
    records : DataFrame
    subject : (records,) int
    times : (times,) float
        In increasing order.
    outputs : sequence
        DVID of the observations made.
    columns : sequence of str
        Those that describe the subject or the occasion rather than the event.
    """
    run = runs(records, subject)
    first = np.flatnonzero(np.diff(subject, prepend=-1))
    n, m, k = len(first), len(times), len(outputs)
    base = records.iloc[first]
    grid = base.iloc[np.repeat(np.arange(n), m * k)].reset_index(drop=True)
    grid["TIME"] = np.tile(np.repeat(times, k), n)
    grid["DVID"] = pd.Series(list(outputs) * (n * m), dtype=records["DVID"].dtype)
    none: Any = "" if records["CMT"].dtype == object else 0
    for column, value in {
        **{"EVID": 0, "AMT": 0.0, "CMT": none, "RATE": 0.0, "ADDL": 0, "II": 0.0, "SS": 0},
        **{"MDV": 0, "DV": np.nan, "CENS": 0, "LIMIT": np.nan},
    }.items():
        grid[column] = value
    grid["_run"] = np.repeat(run[first], m * k)
    varying = [c for c in columns if _varies(records[c], first, subject)]
    if varying:
        # The interval that ends at a record has that record's values; after the last one they stay.
        source = records.assign(_run=run)[["_run", "TIME", *varying]]
        source = source.drop_duplicates(["_run", "TIME"], keep="last").sort_values("TIME", kind="stable")
        grid = grid.drop(columns=varying).sort_values("TIME", kind="stable")
        grid = pd.merge_asof(grid, source, on="TIME", by="_run", direction="forward")
        last = source.groupby("_run")[varying].last()
        for column in varying:
            after = last[column].to_numpy()[grid["_run"].to_numpy()]
            grid[column] = grid[column].where(grid[column].notna(), after).astype(records[column].dtype)
    events = records["EVID"].to_numpy() != 0
    kept = records[events].assign(_run=run[events])
    both = pd.concat([kept, grid], ignore_index=True) if len(kept) else grid
    both["_grid"] = np.arange(len(both)) >= len(kept)
    both = both.sort_values(["_run", "TIME", "_grid"], kind="stable")
    return both[records.columns].reset_index(drop=True)


def _varies(column: pd.Series, first: Ints, subject: Ints) -> bool:
    values = column.to_numpy()
    return bool(np.any(values != values[first][subject]))
