"""Observations cut into dose intervals: what a non-compartmental analysis is made on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data

__all__ = ["Doses", "Profiles", "dose_events", "profiles", "segments"]


@dataclass(frozen=True, eq=False)
class Doses:
    """Every administration, those of ADDL included, in order of subject, reset, time.

    Attributes
    ----------
    segment : (doses,) int
        Number of the stretch between resets; it belongs to one subject.
    time, amount, duration : (doses,) float
        A duration is 0 for a bolus or an absorbed dose, NaN where it is modelled.
    interval : (doses,) float
        II of a steady-state dose, else NaN.
    order : (doses,) float
        The record's number; an additional dose comes after every record of its time.
    """

    segment: Ints
    time: Array
    amount: Array
    duration: Array
    interval: Array
    order: Array


@dataclass(frozen=True, eq=False)
class Profiles:
    """Observations of each dose interval as padded arrays, time counted from the dose.

    Attributes
    ----------
    id : (profiles,) object
    number : (profiles,) int
        Which dose of its subject it follows (from 1); 0 where nothing was given.
    start, amount, duration, tau, steady : (profiles,)
        When, how much, for how long; time to the next dose (inf: none); whether at steady state.
    repeated : (profiles,) bool
        Whether a dose came before it since the last reset.
    time, value : (profiles, points) float
        NaN beyond the last point.
    count : (profiles,) int
        Points that were measured.
    below : (profiles,) int
        Observations below the limit of quantification.
    """

    id: NDArray[np.object_]
    number: Ints
    start: Array
    amount: Array
    duration: Array
    tau: Array
    steady: NDArray[np.bool_]
    repeated: NDArray[np.bool_]
    time: Array
    value: Array
    count: Ints
    below: Ints


def segments(data: Data) -> Ints:
    """Return the number of the stretch between resets of each record."""
    new = np.diff(data.record_subject, prepend=-1) != 0
    return np.cumsum(new | data.reset).astype(np.intp) - 1


def dose_events(data: Data) -> Doses:
    """Return every administration; amounts given together are one."""
    records = data.records
    rows = np.flatnonzero(data.dosed)
    time, amount = records["TIME"].to_numpy(dtype=float)[rows], records["AMT"].to_numpy(dtype=float)[rows]
    rate, ii = records["RATE"].to_numpy(dtype=float)[rows], records["II"].to_numpy(dtype=float)[rows]
    more = records["ADDL"].to_numpy(dtype=float)[rows].astype(np.intp) * (ii > 0)
    steady = records["SS"].to_numpy(dtype=float)[rows] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        duration = np.where(rate > 0, amount / rate, np.where(rate < 0, np.nan, 0.0))
    count = more + 1
    source = np.repeat(np.arange(len(rows)), count)
    k = np.arange(len(source)) - np.repeat(np.cumsum(count) - count, count)
    table = pd.DataFrame(
        {
            "segment": segments(data)[rows][source],
            "time": time[source] + k * ii[source],
            "amount": amount[source],
            "duration": duration[source],
            "interval": np.where(steady, ii, np.nan)[source],
            "order": np.where(k == 0, rows[source].astype(float), np.inf),
        }
    )
    table = table.sort_values(["segment", "time", "order"], kind="stable")
    together = table.groupby(["segment", "time"], sort=False)
    merged = together.agg({"amount": "sum", "duration": "max", "interval": "max", "order": "min"}).reset_index()
    return Doses(
        merged["segment"].to_numpy(np.intp),
        *(merged[c].to_numpy(float) for c in ("time", "amount", "duration", "interval", "order")),
    )


def profiles(data: Data, output: Any = None) -> Profiles:
    """Cut the observations of one output into dose intervals.

    Parameters
    ----------
    data : Data
    output : optional
        The DVID; the first one that occurs without it.

    Notes
    -----
    An observation at the time of a dose belongs to the interval that ends there if its record comes
    first, and is then the next interval's first point too.  Observations below the limit of
    quantification (CENS) count as 0 before the first measurable one and are left out after it.
    """
    doses = dose_events(data)
    observed = np.flatnonzero(data.observed)
    label = data.dvid
    observed = observed[label == (label[0] if output is None else output)]
    segment = segments(data)
    given = np.isin(np.arange(segment[-1] + 1), doses.segment)
    lacking = np.flatnonzero(~given)  # a stretch without a dose is one profile from its first record
    first = np.searchsorted(segment, lacking)
    all_time = data.records["TIME"].to_numpy(dtype=float)
    n_doses, n_lacking = len(doses.time), len(lacking)
    starts = pd.DataFrame(
        {
            "segment": np.concatenate([doses.segment, lacking]),
            "time": np.concatenate([doses.time, np.minimum(all_time[first], 0.0)]),
            "order": np.concatenate([doses.order, np.full(n_lacking, -1.0)]),
            "amount": np.concatenate([doses.amount, np.full(n_lacking, np.nan)]),
            "duration": np.concatenate([doses.duration, np.zeros(n_lacking)]),
            "interval": np.concatenate([doses.interval, np.full(n_lacking, np.nan)]),
            "given": np.arange(n_doses + n_lacking) < n_doses,
        }
    ).sort_values(["segment", "time"], kind="stable", ignore_index=True)
    points = pd.DataFrame({"segment": segment[observed], "time": all_time[observed], "order": observed.astype(float)})
    both = pd.concat([starts[["segment", "time", "order"]].assign(what=0), points.assign(what=1)], ignore_index=True)
    both = both.sort_values(["segment", "time", "order", "what"], kind="stable", ignore_index=True)
    is_point = both["what"].to_numpy() == 1
    profile = (np.cumsum(~is_point) - 1)[is_point]
    seg = starts["segment"].to_numpy()
    start = starts["time"].to_numpy()
    order = both["order"].to_numpy()[is_point].astype(np.intp)
    inside = (profile >= 0) & (seg[np.maximum(profile, 0)] == segment[order])  # else before the first dose
    profile, order = profile[inside], order[inside]
    since = all_time[order] - start[profile]
    value = data.records["DV"].to_numpy(dtype=float)[order]
    # A trough taken just before a dose begins the next interval as well.
    last = np.flatnonzero(np.diff(profile, append=len(start)) != 0)
    follows = profile[last] + 1
    follows_inside = follows < len(start)
    last, follows = last[follows_inside], follows[follows_inside]
    trough = (seg[follows] == seg[profile[last]]) & (all_time[order[last]] == start[follows])
    missing_start = ~np.isin(follows, profile[since == 0.0])
    take = last[trough & missing_start]
    profile = np.concatenate([profile, follows[trough & missing_start]])
    since, value = np.concatenate([since, np.zeros(len(take))]), np.concatenate([value, value[take]])
    censored = data.records["CENS"].to_numpy()[np.concatenate([order, order[take]])] != 0
    place = np.lexsort((since, profile))
    profile, since, value, censored = profile[place], since[place], value[place], censored[place]
    n = len(start)
    below = np.bincount(profile[censored], minlength=n)
    measurable = ~censored & (value > 0)
    seen = pd.Series(measurable).groupby(profile).cummax().to_numpy(dtype=bool) if len(profile) else measurable
    value = np.where(censored, 0.0, value)
    keep = ~(censored & seen) & ~np.isnan(value)
    profile, since, value = profile[keep], since[keep], value[keep]
    count = np.bincount(profile, minlength=n)
    column = np.arange(len(profile)) - (np.cumsum(count) - count)[profile]
    shape = (n, max(int(count.max(initial=0)), 1))
    time, values = np.full(shape, np.nan), np.full(shape, np.nan)
    time[profile, column], values[profile, column] = since, value
    ids = data.records["ID"].to_numpy(dtype=object)[np.searchsorted(segment, seg)]
    is_dose = starts["given"].to_numpy()
    subject = data.record_subject[np.searchsorted(segment, seg)]
    so_far = pd.Series(is_dose).groupby(subject).cumsum().to_numpy(dtype=np.intp)
    repeated = is_dose & (pd.Series(is_dose).groupby(seg).cumsum().to_numpy() > 1)
    ends = np.full(n, np.inf)
    ends[:-1] = np.where(seg[1:] == seg[:-1], start[1:], np.inf)
    interval = starts["interval"].to_numpy()
    steady = ~np.isnan(interval)
    tau = np.where(steady, np.fmin(interval, ends - start), ends - start)
    kept = count > 0
    return Profiles(
        ids[kept],
        np.where(is_dose, so_far, 0)[kept],
        start[kept],
        starts["amount"].to_numpy()[kept],
        starts["duration"].to_numpy()[kept],
        tau[kept],
        steady[kept],
        repeated[kept],
        time[kept],
        values[kept],
        count[kept],
        below[kept],
    )
