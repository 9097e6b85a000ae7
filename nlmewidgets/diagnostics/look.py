"""What the pictures of a study are drawn from: profiles with their group, distributions of covariates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.describe import groups, quantile_groups
from nlmewidgets.core.errors import DataError
from nlmewidgets.diagnostics.profiles import dose_events, segments

__all__ = ["BY_DOSE", "MOST_GROUPS", "distribution", "look_groups", "single_dose", "spaghetti"]

BY_DOSE = "dose"
"""The grouping by the amount of a subject's first dose."""

MOST_GROUPS = 4
_OTHER = "other"


def look_groups(data: Data, by: str | None) -> tuple[NDArray[np.object_], list[str]]:
    """Return each subject's group and the groups in order, at most four.

    Parameters
    ----------
    data : Data
    by : str or None
        A covariate, 'dose', or None for one group of all.

    Notes
    -----
    Numbers are cut into thirds; of more than four classes (or amounts) the rarest are 'other' (amounts: thirds).
    """
    n = data.n_subjects
    if by is None:
        return np.full(n, "all", dtype=object), ["all"]
    if by == BY_DOSE and BY_DOSE not in data.covariates:
        first = pd.Series(data.records["AMT"].to_numpy(dtype=float)[data.dosed])
        amount = first.groupby(data.record_subject[data.dosed]).first().reindex(range(n)).to_numpy(dtype=float)
        given = np.isfinite(amount)
        different = np.unique(amount[given])
        label = np.full(n, "no dose", dtype=object)
        order: list[str] = []
        if len(different) > MOST_GROUPS:
            label[given], order = quantile_groups(amount[given], 3)
        elif given.any():
            label[given] = [f"{a:g}" for a in amount[given]]
            order = [f"{a:g}" for a in different]
        return label, order if given.all() else [*order, "no dose"]
    label, order = groups(data, by)
    if len(order) > MOST_GROUPS:
        common = pd.Series(label).value_counts().index[: MOST_GROUPS - 1]
        label = np.where(np.isin(label, common), label, _OTHER).astype(object)
        order = [*(o for o in order if o in set(common)), _OTHER]
    return label, order


def single_dose(data: Data) -> Array:
    """Return the amount each subject was given, (subjects,) float.

    Raises
    ------
    DataError
        If a subject has no dose or several: then no one amount belongs to its values.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> single_dose(nw.datasets.load("theophylline"))[:3].round(1)
    array([320. , 318.6, 319.4])
    """
    doses = dose_events(data)
    subject = data.record_subject[np.searchsorted(segments(data), doses.segment)]
    count = np.bincount(subject[doses.amount > 0], minlength=data.n_subjects)
    other = np.flatnonzero(count != 1)
    if len(other):
        i = int(other[0])
        has = f"{count[i]} doses" if count[i] else "no dose"
        raise DataError(
            f"Values can be divided by the dose where each subject has one, and subject {data.ids[i]} has {has}; the "
            "profiles of the data can be divided by the last dose before each observation."
        )
    amount = np.zeros(data.n_subjects)
    amount[subject] = doses.amount
    return amount


def spaghetti(
    data: Data, *, by: str | None = None, output: Any = None, per_dose: bool = False, after_dose: bool = False
) -> pd.DataFrame:
    """Return the observations as they are drawn, one row each, in the order of the records.

    Parameters
    ----------
    data : Data
    by : str, optional
        See `look_groups`.
    output : optional
        The DVID; the first one without it.
    per_dose : bool
        Divide by the amount of the last dose at or before the observation; without one it is missing.
    after_dose : bool
        Count time from that dose; without one, from 0.

    Returns
    -------
    DataFrame
        ID, subject (number), curve (a new one after a reset, or with `after_dose` after a dose), TIME, DV,
        group, censored.
    """
    label, order = look_groups(data, by)
    rows = np.flatnonzero(data.observed)
    rows = rows[data.dvid == (data.dvid[0] if output is None and len(rows) else output)]
    subject, part = data.record_subject[rows], segments(data)[rows]
    time, value = data.records["TIME"].to_numpy(float)[rows], data.records["DV"].to_numpy(float)[rows]
    curve = part.astype(np.intp)
    if per_dose or after_dose:
        last, doses = _last_dose(data, rows, part, time)
        has = last >= 0
        safe = np.maximum(last, 0)
        if per_dose:
            amount = doses.amount[safe] if len(doses.amount) else np.full(len(rows), np.nan)
            value = np.where(has & (amount > 0), value / np.where(amount > 0, amount, 1.0), np.nan)
        if after_dose and len(doses.time):
            time = np.where(has, time - doses.time[safe], time)
            curve = np.cumsum((np.diff(last, prepend=-2) != 0) | (np.diff(part, prepend=-1) != 0)) - 1
    return pd.DataFrame(
        {
            "ID": data.records["ID"].to_numpy()[rows],
            "subject": subject,
            "curve": curve,
            "TIME": time,
            "DV": value,
            "group": pd.Categorical(label[subject], categories=order, ordered=True),
            "censored": data.records["CENS"].to_numpy()[rows] != 0,
        }
    )


def _last_dose(data: Data, rows: Any, part: Any, time: Any) -> tuple[Any, Any]:
    """Return the number of the last dose of each observation's stretch at or before it, −1 without one."""
    doses = dose_events(data)
    keys = pd.DataFrame(
        {
            "part": np.concatenate([doses.segment, part]),
            "time": np.concatenate([doses.time, time]),
            # A trough drawn just before a dose belongs to the dose before.
            "order": np.concatenate([doses.order, rows.astype(float)]),
            "row": np.concatenate([np.full(len(doses.time), -1), np.arange(len(rows))]),
            "dose": np.concatenate([np.arange(len(doses.time)), np.full(len(rows), -1)]),
        }
    ).sort_values(["part", "time", "order"], kind="stable")
    found = keys["dose"].where(keys["dose"] >= 0).groupby(keys["part"]).ffill().fillna(-1).astype(int)
    is_row = keys["row"].to_numpy() >= 0
    last = np.full(len(rows), -1)
    last[keys["row"].to_numpy()[is_row]] = found.to_numpy()[is_row]
    return last, doses


def distribution(data: Data, name: str, bins: int = 10) -> pd.DataFrame:
    """Return counts of subjects per level of a covariate, or per interval of a number.

    Returns
    -------
    DataFrame
        Index: level or the interval's middle; columns low, high (of an interval), subjects.
    """
    column = data.covariate_name(name)
    values = data.subject_covariates()[column]
    if data.is_categorical(column):
        label, order = groups(data, column)
        counts = pd.Series(label).value_counts().reindex(order)
        return pd.DataFrame({"low": np.nan, "high": np.nan, "subjects": counts.to_numpy()}, index=pd.Index(order))
    counts, edges = np.histogram(values.to_numpy(dtype=float), bins=min(bins, max(3, int(np.sqrt(len(values)) * 1.5))))
    middle = 0.5 * (edges[1:] + edges[:-1])
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "subjects": counts}, index=pd.Index(middle))
