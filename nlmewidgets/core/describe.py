"""What a study holds, in tables: records, doses, outputs, covariates and what was left out."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.exclusions import sentences

if TYPE_CHECKING:
    from nlmewidgets.core.data import Data

__all__ = ["Description", "correlations", "describe", "groups", "quantile_groups", "summary_by"]

_MOST_LEVELS = 8


@dataclass(frozen=True, eq=False)
class Description:
    """Tables about a study; shown by the last line of a cell.

    Attributes
    ----------
    study : Series
        Numbers of subjects, records, observations and doses, times and amounts, as text.
    outputs : DataFrame
        Per output: observations, subjects, least, median and largest DV, below the limit of
        quantification, missing, not positive.
    covariates : DataFrame
        Per covariate: unit, kind, summary over subjects, whether it changes with time.
    correlations : DataFrame
        Between covariates, over subjects.
    left_out, notes : tuple of str
        Exclusions, and how ambiguous records were read.
    """

    study: pd.Series
    outputs: pd.DataFrame
    covariates: pd.DataFrame
    correlations: pd.DataFrame
    left_out: tuple[str, ...]
    notes: tuple[str, ...]

    def _parts(self) -> list[tuple[str, Any]]:
        parts: list[tuple[str, Any]] = [("Study", self.study), ("Outputs", self.outputs)]
        if len(self.covariates):
            parts.append(("Covariates", self.covariates))
        if len(self.correlations) > 1:
            parts.append(("Correlations of covariates", self.correlations.round(2)))
        parts += [("Left out", self.left_out)] if self.left_out else []
        parts += [("How the records were read", self.notes)] if self.notes else []
        return parts

    def __repr__(self) -> str:
        blocks = []
        for title, part in self._parts():
            text = "\n".join(f"  {line}" for line in part) if isinstance(part, tuple) else part.to_string()
            blocks.append(f"{title}\n{text}")
        return "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        blocks = []
        for title, part in self._parts():
            if isinstance(part, tuple):
                body = "<ul>" + "".join(f"<li>{html.escape(line)}</li>" for line in part) + "</ul>"
            else:
                frame = part.to_frame("") if isinstance(part, pd.Series) else part
                body = frame.to_html(border=0, header=not isinstance(part, pd.Series), na_rep="–")
            blocks.append(f"<h4>{title}</h4>{body}")
        return "".join(blocks)


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _span(values: Any, unit: str = "") -> str:
    """Return 'median [least, largest] unit'."""
    x = np.asarray(values, dtype=float)
    text = f"{_number(np.median(x))} [{_number(x.min())}, {_number(x.max())}]"
    return f"{text} {unit}".strip()


def _counts(values: pd.Series) -> str:
    counts = values.value_counts(sort=False).sort_index(key=lambda i: i.map(str) if i.dtype == object else i)
    shown = [f"{_level(k)}: {n}" for k, n in list(counts.items())[:_MOST_LEVELS]]
    return ", ".join(shown) + (f", … ({len(counts)} levels)" if len(counts) > _MOST_LEVELS else "")


def _level(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)


def describe(data: Data) -> Description:
    """Return the tables; see `Data.describe`."""
    records, n = data.records, data.n_subjects
    per_subject = np.bincount(data.subject, minlength=n)
    dosed = data.dosed
    study = {
        "subjects": str(n),
        "records": str(len(records)),
        "observations": str(data.n_obs),
        "observations per subject": _span(per_subject),
        "time": f"{_number(records['TIME'].min())} to {_number(records['TIME'].max())} {data.unit('TIME')}".strip(),
        "doses": str(int(dosed.sum())),
    }
    silent = int((per_subject == 0).sum())
    if silent:
        study["subjects without an observation"] = str(silent)
    if dosed.any():
        study["doses per subject"] = _span(np.bincount(data.record_subject[dosed], minlength=n))
        amounts = records["AMT"][dosed]
        few = np.sort(amounts.unique())
        unit = data.unit("AMT")
        study["amounts"] = f"{', '.join(map(_number, few))} {unit}".strip() if len(few) <= 6 else _span(amounts, unit)
        for item, words in (("RATE", "infusions"), ("SS", "steady-state doses"), ("ADDL", "with additional doses")):
            count = int((records[item][dosed] != 0).sum())
            if count:
                study[words] = str(count)
    if records["OCC"].nunique() > 1:
        study["occasions"] = str(records["OCC"].nunique())
    return Description(
        pd.Series(study, name="study"),
        _outputs(data),
        _covariates(data),
        correlations(data),
        tuple(sentences(data)),
        tuple(data.notes),
    )


def _outputs(data: Data) -> pd.DataFrame:
    records = data.records
    slots = records["EVID"].to_numpy() == 0
    label = records["DVID"].to_numpy()
    rows = {}
    for name in pd.unique(label[slots]):
        here = slots & (label == name)
        seen = here & data.observed
        dv = records["DV"].to_numpy(dtype=float)[seen]
        censored = int((records["CENS"].to_numpy()[seen] != 0).sum())
        empty = not len(dv)
        rows[name] = {
            "unit": data.output_unit(name),
            "observations": len(dv),
            "subjects": len(np.unique(data.record_subject[seen])),
            "min": np.nan if empty else dv.min(),
            "median": np.nan if empty else np.median(dv),
            "max": np.nan if empty else dv.max(),
            "BLQ": censored,
            "missing": int((here & ~data.observed).sum()),
            "not positive": int((dv <= 0).sum()),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("output")


def _covariates(data: Data) -> pd.DataFrame:
    table, records = data.subject_covariates(), data.records
    rows = {}
    for name in data.covariates:
        values = table[name]
        categorical = data.is_categorical(name)
        every = records[name].to_numpy()
        varies = bool(np.any(every != every[data._first][data.record_subject]))
        rows[name] = {
            "unit": data.unit(name),
            "kind": "category" if categorical else "number",
            "summary": _counts(values) if categorical else _span(values),
            "changes with time": "yes" if varies else "no",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("covariate")


def correlations(data: Data) -> pd.DataFrame:
    """Return Pearson correlations over subjects; see `Data.correlations`."""
    table = data.subject_covariates()
    columns = {}
    for name in data.covariates:
        values = table[name]
        if not data.is_categorical(name):
            columns[name] = values.to_numpy(dtype=float)
        elif values.nunique() == 2:
            columns[name] = (
                values.rank(method="dense").to_numpy(dtype=float)
                if values.dtype != object
                else ((values.astype(str) == max(map(str, values.unique()))).to_numpy(dtype=float))
            )
    frame = pd.DataFrame(columns)
    kept = [c for c in frame if frame[c].nunique() > 1]
    return frame[kept].corr() if kept else pd.DataFrame()


def groups(data: Data, name: str, bins: int = 3) -> tuple[NDArray[np.object_], list[str]]:
    """Return each subject's level of a covariate (its quantile group, of a number), and the levels in order.

    Raises
    ------
    DataError
        If there is no such covariate, or `bins` is no number of groups.
    """
    column = data.covariate_name(name)
    values = data.subject_covariates()[column].reset_index(drop=True)
    if data.is_categorical(column):
        order = sorted(values.unique(), key=str if values.dtype == object else None)
        return values.map(_level).to_numpy(dtype=object), [_level(v) for v in order]
    return quantile_groups(values.to_numpy(dtype=float), bins)


def quantile_groups(values: Array, bins: int) -> tuple[NDArray[np.object_], list[str]]:
    """Return the quantile group of each number as text 'a to b', and the groups in order."""
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise DataError(f"bins={bins!r} is not a number of groups; give 1, 2, 3, …")
    cuts = np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)))
    if len(cuts) == 1:
        return np.full(len(values), _number(cuts[0]), dtype=object), [_number(cuts[0])]
    place = np.clip(np.searchsorted(cuts, values, side="right") - 1, 0, len(cuts) - 2)
    labels = [f"{_number(a)} to {_number(b)}" for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    used = np.unique(place)
    return np.array(labels, dtype=object)[place], [labels[k] for k in used]


def summary_by(data: Data, name: str, bins: int = 3) -> pd.DataFrame:
    """Return one row per level (or third) of a covariate; see `Data.summary_by`."""
    of_subject, order = groups(data, name, bins)
    rows = {}
    for label in order:
        members = of_subject == label
        dv = data.dv[members[data.subject]]
        doses = data.dosed & members[data.record_subject]
        rows[label] = {
            "subjects": int(members.sum()),
            "observations": len(dv),
            "median DV": np.median(dv) if len(dv) else np.nan,
            "min DV": dv.min() if len(dv) else np.nan,
            "max DV": dv.max() if len(dv) else np.nan,
            "doses": int(doses.sum()),
            "median dose": data.records["AMT"][doses].median() if doses.any() else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(data.axis_label(data.covariate_name(name)))
