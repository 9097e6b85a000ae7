"""Records left out of an analysis: which, why and how many; every step is kept and can be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.condition import matching
from nlmewidgets.core.errors import DataError

if TYPE_CHECKING:
    from nlmewidgets.core.data import Data

__all__ = ["Exclusion", "exclude", "exclusion_code", "filtered", "history", "replay", "sentences", "steps", "without"]

OBSERVATION_ITEMS = frozenset({"DV", "CENS", "LIMIT", "DVID"})
DOSE_ITEMS = frozenset({"AMT", "RATE", "ADDL", "II", "SS"})
"""A condition on one kind of item is about the records that have it: the others stay."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Exclusion:
    """One step of leaving records out.

    Attributes
    ----------
    what : str
        In words.
    reason : str
    removed : (records,) bool
        Which records it matches, over all that were read (``data.complete``).
    condition : str
        The text of a filter, else ''.
    ids : tuple
        The subjects named, else ().
    """

    what: str
    reason: str
    removed: Mask
    condition: str = ""
    ids: tuple[Any, ...] = ()


def _left(data: Data) -> Mask:
    """Return which of all records are still there."""
    left = np.ones(len(data.complete), dtype=bool)
    for step in data.exclusions:
        left &= ~step.removed
    return left


def _with(data: Data, steps: tuple[Exclusion, ...], doing: str) -> Data:
    """Return the data with exactly these steps."""
    base = data.complete
    left = np.ones(len(base), dtype=bool)
    for step in steps:
        left &= ~step.removed
    observations = (base["EVID"].to_numpy() == 0) & (base["MDV"].to_numpy() == 0)
    if not (left & observations).any():
        raise DataError(f"{doing} leaves no observation; nothing was left out.")
    records = base[left].reset_index(drop=True)
    return replace(data, records=records, base=base if steps else None, exclusions=steps)


def filtered(data: Data, keep: Any, reason: str) -> Data:
    """Return the data with the records that satisfy `keep`; see `Data.filter`."""
    base = data.complete
    if isinstance(keep, str):
        wanted, used = matching(base, keep)
        text = " ".join(keep.split())
        what = f"all but {text}"
        evid = base["EVID"].to_numpy()
        about_observations, about_doses = bool(used & OBSERVATION_ITEMS), bool(used & DOSE_ITEMS)
        if about_observations and not about_doses:
            wanted = wanted | (evid != 0)
        elif about_doses and not about_observations:
            wanted = wanted | (evid == 0)
        step = Exclusion(what, reason, ~wanted, condition=text)
    else:
        keep_rows = keep(data.records) if callable(keep) else keep
        step = Exclusion(
            "all but where a mask is true", reason, _spread(data, ~_mask(keep_rows, len(data.records), "filter()"))
        )
    return _with(data, (*data.exclusions, step), f"The filter {keep!r}" if isinstance(keep, str) else "The filter")


def exclude(data: Data, ids: Any, records: Any, reason: str) -> Data:
    """Return the data without some subjects or records; see `Data.exclude`."""
    if (ids is None) == (records is None):
        raise DataError("exclude() needs either ids= or records=; give one of them.")
    if ids is not None:
        wanted = [ids] if isinstance(ids, str) or not isinstance(ids, Iterable) else list(ids)
        labels = data.complete["ID"]
        have = set(data.ids)
        unknown = [i for i in wanted if i not in have]
        if not wanted:
            raise DataError("exclude() was given no ID; name at least one subject.")
        if unknown:
            raise DataError(f"ID {unknown[0]!r} is not in the data; its IDs are {data.ids[0]!r} … {data.ids[-1]!r}.")
        what = f"ID {_list(wanted)}"
        step = Exclusion(what, reason, labels.isin(wanted).to_numpy(), ids=tuple(wanted))
        return _with(data, (*data.exclusions, step), f"Leaving out ID {_list(wanted)}")
    rows = _rows(records, len(data.records))
    what = f"records {_list(np.flatnonzero(rows).tolist())}"
    step = Exclusion(what, reason, _spread(data, rows))
    return _with(data, (*data.exclusions, step), "Leaving out these records")


def without(data: Data, step: int | None) -> Data:
    """Return the data with one step (from 1) undone, or all."""
    steps = data.exclusions
    if step is None:
        return _with(data, (), "") if steps else data
    if isinstance(step, bool) or not isinstance(step, Integral) or not 1 <= step <= len(steps):
        many = f"its steps are 1 to {len(steps)}" if steps else "nothing was left out"
        raise DataError(f"There is no exclusion {step!r}; {many} (see data.history).")
    return _with(data, (*steps[: step - 1], *steps[step:]), "")


def _spread(data: Data, rows: Mask) -> Mask:
    """Return a choice among the present records as one among all."""
    out = np.zeros(len(data.complete), dtype=bool)
    out[np.flatnonzero(_left(data))[rows]] = True
    return out


def _mask(value: Any, n: int, who: str) -> Mask:
    mask = np.asarray(value)
    if mask.dtype != bool or mask.shape != (n,):
        raise DataError(
            f"{who} needs a condition such as 'TIME < 24', or true or false for each of the {n} records; it was given "
            f"{_describe(mask)}."
        )
    return mask


def _describe(array: NDArray[Any]) -> str:
    return f"an array of {array.dtype} of shape {array.shape}" if array.shape else repr(array.item())


def _rows(records: Any, n: int) -> Mask:
    values = np.atleast_1d(np.asarray(records))
    if values.dtype == bool:
        return _mask(values, n, "exclude(records=)")
    if values.dtype.kind not in "iu" or not values.size:
        raise DataError(f"records={records!r} is not a list of record numbers; number them as in data.records.")
    wrong = values[(values < 0) | (values >= n)]
    if wrong.size:
        raise DataError(f"There is no record {wrong[0]}; the records are numbered 0 to {n - 1}, as in data.records.")
    out = np.zeros(n, dtype=bool)
    out[values] = True
    return out


def _list(values: Sequence[Any], most: int = 8) -> str:
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, … ({len(values)})"


def history(data: Data) -> pd.DataFrame:
    """Return one row per step: what, why, how many records, whose."""
    base = data.complete
    evid, mdv, label = base["EVID"].to_numpy(), base["MDV"].to_numpy(), base["ID"].to_numpy()
    gone = np.zeros(len(base), dtype=bool)
    rows = []
    for step in data.exclusions:
        new = step.removed & ~gone
        before = pd.unique(label[~gone])
        gone |= new
        after = set(label[~gone])
        lost = [i for i in before if i not in after]
        observations = int((new & (evid == 0) & (mdv == 0)).sum())
        doses = int((new & ((evid == 1) | (evid == 4))).sum())
        rows.append(
            {
                "what": step.what,
                "reason": step.reason,
                "records": int(new.sum()),
                "observations": observations,
                "doses": doses,
                "subjects": len(lost),
                "who": _list(pd.unique(label[new]).tolist()),
                "note": _dose_note(base, new, gone, lost),
            }
        )
    columns = ["what", "reason", "records", "observations", "doses", "subjects", "who", "note"]
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(1, len(rows) + 1, name="step"))


def _dose_note(base: pd.DataFrame, new: Mask, gone: Mask, lost: list[Any]) -> str:
    """Say so where a dose was left out before an observation that stays."""
    evid, time, label = base["EVID"].to_numpy(), base["TIME"].to_numpy(), base["ID"].to_numpy()
    dropped = new & ((evid == 1) | (evid == 4)) & ~np.isin(label, np.array(lost, dtype=label.dtype))
    stays = ~gone & (evid == 0)
    if not dropped.any() or not stays.any():
        return ""
    last = pd.Series(time[stays]).groupby(label[stays]).max()
    after = pd.Series(label[dropped]).map(last).to_numpy(dtype=float)
    count = int((after >= time[dropped]).sum())
    return f"{count} dose{'s' if count != 1 else ''} before observations that stay" if count else ""


def sentences(data: Data) -> list[str]:
    """Return one sentence per step."""
    out = []
    for step, row in history(data).iterrows():
        parts = [f"{row[k]} {k if row[k] != 1 else k[:-1]}" for k in ("observations", "doses", "subjects") if row[k]]
        counts = f"{row['records']} record{'s' if row['records'] != 1 else ''}"
        counts += f" ({', '.join(parts)})" if parts else ""
        text = f"{step}. {row['what']}: {counts}"
        text += f"; {row['note']}" if row["note"] else ""
        out.append(text + (f" — {row['reason']}" if row["reason"] else ""))
    return out


def steps(data: Data) -> list[dict[str, Any]]:
    """Return the steps as JSON-ready values for `replay`: a filter, IDs or record numbers each, and the reason."""
    out: list[dict[str, Any]] = []
    gone = np.zeros(len(data.complete), dtype=bool)
    for step in data.exclusions:
        new = step.removed & ~gone
        if step.condition:
            how: dict[str, Any] = {"filter": step.condition}
        elif step.ids:
            how = {"ids": list(step.ids)}
        else:
            how = {"records": (np.cumsum(~gone) - 1)[new].tolist()}
        gone |= new
        if new.any() or not (step.ids or not step.condition):
            out.append(how | ({"reason": step.reason} if step.reason else {}))
    return out


def replay(data: Data, entries: Iterable[Mapping[str, Any]]) -> Data:
    """Return the data with the steps of `steps` made again.

    Raises
    ------
    DataError
        If a step does not fit these data.
    """
    for entry in entries:
        reason = str(entry.get("reason", ""))
        if "filter" in entry:
            data = filtered(data, str(entry["filter"]), reason)
        else:
            data = exclude(data, entry.get("ids"), entry.get("records"), reason)
    return data


def exclusion_code(data: Data, variable: str) -> list[str]:
    """Return source lines that leave the same records out again."""
    lines = []
    for step in steps(data):
        reason = f", reason={step['reason']!r}" if "reason" in step else ""
        if "filter" in step:
            call = f"filter({step['filter']!r}{reason})"
        elif "ids" in step:
            call = f"exclude(ids={step['ids']!r}{reason})"
        else:
            call = f"exclude(records={step['records']!r}{reason})"
        lines.append(f"{variable} = {variable}.{call}")
    return lines
