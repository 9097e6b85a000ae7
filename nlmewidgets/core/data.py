"""NONMEM-style records → validated observations, doses and covariates with a subject index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.describe import Description, correlations, describe, summary_by
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.exclusions import Exclusion, exclude, filtered, history, sentences, without
from nlmewidgets.core.grid import grid_records
from nlmewidgets.core.records import RECORD_COLUMNS, Reader
from nlmewidgets.core.table import read_table
from nlmewidgets.core.verbs import VERBS

__all__ = ["Data"]


@dataclass(frozen=True, eq=False)
class Data:
    """Records of a study: who was observed when, what was given, what was measured.

    Make one with `read_csv` or `from_frame`; the constructor expects validated columns.

    Attributes
    ----------
    records : DataFrame
        One row per record, subjects contiguous: ID TIME EVID AMT CMT RATE ADDL II SS MDV DV CENS LIMIT
        DVID OCC, then the covariates.  CMT and DVID may hold names.
    covariates : tuple of str
        Names of the covariate columns.
    units : dict
        Unit of a column by name, for axes and tables.
    notes : tuple of str
        How ambiguous records were read; shown with the data, never silent.
    origin : dict
        Where the data came from, so that an exploration can be exported as code.
    base : DataFrame or None
        All records that were read, where some were left out since.
    exclusions : tuple of Exclusion
        The steps of leaving them out; `history` is their table.
    """

    records: pd.DataFrame
    covariates: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    origin: Mapping[str, Any] = field(default_factory=dict)
    base: pd.DataFrame | None = None
    exclusions: tuple[Exclusion, ...] = ()

    # ------------------------------------------------------------- construction

    @classmethod
    def read_csv(cls, path: str | Path, *, sep: str = ",", content: bytes | None = None, **columns: Any) -> Data:
        r"""Read a comma-separated file in NONMEM's layout.

        Parameters
        ----------
        path : path
            The file; ``.``, ``NA`` and empty fields are missing values.
        sep : str
            The field separator, one character, or ``r"\s+"`` for white space.
        content : bytes, optional
            What the file holds, where it was uploaded and `path` is only its name.
        **columns
            As for `from_frame`.

        Raises
        ------
        DataError
            Naming the file's row (the header is row 1), the column, the value and the remedy.
        """
        file = Path(path)
        frame, rows, notes = read_table(file, sep, content)
        options = {**({} if sep == "," else {"sep": sep}), **columns}
        if isinstance(options.get("covariates"), Iterable) and not isinstance(options["covariates"], str):
            options["covariates"] = list(options["covariates"])
        origin = {"kind": "csv", "path": str(path), "options": options}
        return cls._from_frame(frame, lambda i: f"row {rows[i]} of '{file.name}'", origin, notes, **columns)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **columns: Any) -> Data:
        """Take the records of a DataFrame.

        Parameters
        ----------
        frame : DataFrame
            One row per record.
        id, time, dv, amt, evid, mdv, cmt, rate, addl, ii, ss, dvid, occ, cens, limit, date : str, optional
            The column that holds each of NONMEM's items; without it the NONMEM name is looked for in
            any case.  ``amt=None`` (or any other ``=None``) says that the file has no such item.
        covariates : sequence of str, optional
            Columns to keep as covariates; without it, all remaining columns.
        units : mapping, optional
            Unit of each column by its name in the file, e.g. ``{"Time": "h"}``; of an output by its name in DVID.

        Raises
        ------
        DataError
            Naming the row (its index label), the column, the value and the remedy.
        """
        if not isinstance(frame, pd.DataFrame):
            raise DataError(f"from_frame() needs a DataFrame and was given a {type(frame).__name__}.")
        labels = frame.index.tolist()
        where = lambda i: f"the row with index {labels[i]!r}"  # noqa: E731
        return cls._from_frame(frame.reset_index(drop=True), where, {"kind": "frame"}, [], **columns)

    @classmethod
    def _from_frame(
        cls,
        frame: pd.DataFrame,
        where: Callable[[int], str],
        origin: Mapping[str, Any],
        notes: list[str],
        **columns: Any,
    ) -> Data:
        reader = Reader(frame, where, columns)
        records, covariates = reader.read()
        return cls(records, covariates, reader.units, (*notes, *reader.notes), origin)

    # ------------------------------------------------------------------ arrays

    @cached_property
    def ids(self) -> tuple[Any, ...]:
        """Labels of the subjects, in order of first appearance."""
        return tuple(self.records["ID"].iloc[self._first].tolist())

    @cached_property
    def _changes(self) -> Ints:
        label = self.records["ID"].to_numpy()
        return np.concatenate(([0], np.cumsum(label[1:] != label[:-1]))).astype(np.intp)

    @cached_property
    def _first(self) -> Ints:
        return np.flatnonzero(np.diff(self._changes, prepend=-1))

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return len(self._first)

    @cached_property
    def record_subject(self) -> Ints:
        """Subject number of each record, (records,) int."""
        return self._changes

    @cached_property
    def observed(self) -> NDArray[np.bool_]:
        """Which records are observations to be fitted, (records,) bool."""
        return (self.records["MDV"].to_numpy() == 0) & (self.records["EVID"].to_numpy() == 0)

    @cached_property
    def dosed(self) -> NDArray[np.bool_]:
        """Which records are doses (EVID 1 or 4), (records,) bool."""
        return np.isin(self.records["EVID"].to_numpy(), (1, 4))

    @cached_property
    def reset(self) -> NDArray[np.bool_]:
        """Which records empty every compartment first (EVID 3 or 4), (records,) bool."""
        return self.records["EVID"].to_numpy() >= 3

    @property
    def n_obs(self) -> int:
        """Number of observations."""
        return int(self.observed.sum())

    @cached_property
    def time(self) -> Array:
        """TIME of each observation, (obs,) float."""
        return self.records["TIME"].to_numpy()[self.observed]

    @cached_property
    def dv(self) -> Array:
        """DV of each observation, (obs,) float."""
        return self.records["DV"].to_numpy()[self.observed]

    @cached_property
    def cens(self) -> NDArray[np.int64]:
        """CENS of each observation: 0 measured, 1 below DV, -1 above it; (obs,) int."""
        return self.records["CENS"].to_numpy()[self.observed]

    @cached_property
    def limit(self) -> Array:
        """LIMIT of each observation: the other end of a censoring interval, or NaN; (obs,) float."""
        return self.records["LIMIT"].to_numpy()[self.observed]

    @cached_property
    def dvid(self) -> NDArray[Any]:
        """DVID of each observation: the number or name of its output, (obs,)."""
        return self.records["DVID"].to_numpy()[self.observed]

    @cached_property
    def occ(self) -> NDArray[Any]:
        """OCC of each observation: its occasion, (obs,)."""
        return self.records["OCC"].to_numpy()[self.observed]

    @cached_property
    def subject(self) -> Ints:
        """Subject number of each observation, (obs,) int."""
        return self.record_subject[self.observed]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything an objective can depend on."""
        digest = hashlib.sha256()
        for name in dict.fromkeys((*RECORD_COLUMNS, *self.covariates)):
            values = self.records[name].to_numpy()
            digest.update(f"{name}:{values.dtype.kind}:".encode())
            if values.dtype.kind in "if":
                values = np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values
                digest.update(values.astype(f"<{values.dtype.kind}8").tobytes())
            else:
                digest.update(repr(values.tolist()).encode())
        return digest.hexdigest()

    # --------------------------------------------------------------- covariates

    def covariate_name(self, name: str) -> str:
        """Return the column that `name` means: itself, or the only column equal up to case.

        Raises
        ------
        DataError
            If there is no such column.
        """
        if name in self.covariates:
            return name
        alike = [c for c in self.covariates if c.lower() == name.lower()]
        if len(alike) == 1:
            return alike[0]
        have = ", ".join(self.covariates) or "none"
        told = f"The column {name} is not used as a covariate: it "
        for note in self.notes:
            if note.startswith(told):
                why = note.removeprefix(told).removesuffix(".")
                raise DataError(
                    f"The model uses the covariate '{name}', which {why}; fill it in, or leave these subjects out."
                )
        raise DataError(
            f"The model uses the covariate '{name}', which is not in the data (covariates: {have}); add the column, or "
            "name it in covariates=."
        )

    def is_categorical(self, name: str) -> bool:
        """Whether a covariate is a class: text, or few different whole numbers.

        Few is at most five, and at most one for every two subjects.
        """
        values = self.records[self.covariate_name(name)]
        if not pd.api.types.is_numeric_dtype(values):
            return True
        different = values.unique()
        return len(different) <= min(5, self.n_subjects // 2) and bool(np.all(different == np.floor(different)))

    def numeric_covariate(self, name: str) -> Array:
        """Return a covariate as numbers, one per record.

        Raises
        ------
        DataError
            If it is missing or holds text.
        """
        column = self.covariate_name(name)
        values = self.records[column]
        if not pd.api.types.is_numeric_dtype(values):
            levels = ", ".join(map(str, pd.unique(values)[:4]))
            raise DataError(
                f"The model uses the covariate '{column}', which holds text ({levels}); code it as numbers, "
                "or use nw.category() for one effect per level."
            )
        return values.to_numpy(dtype=float)

    def varies(self, name: str) -> bool:
        """Whether a covariate changes within a subject."""
        values = self.records[self.covariate_name(name)].to_numpy()
        return bool(np.any(values != values[self._first][self.record_subject]))

    def levels(self, name: str) -> tuple[Any, ...]:
        """Return the different values of a covariate in increasing order: numbers, or text as text."""
        values = self.records[self.covariate_name(name)]
        if pd.api.types.is_numeric_dtype(values):
            return tuple(np.unique(values.to_numpy(dtype=float)).tolist())
        return tuple(sorted(set(map(str, values))))

    def indicator(self, name: str, level: Any, levels: Sequence[Any]) -> Array:
        """Return 1 on records where a covariate has a level, 0 elsewhere.

        Raises
        ------
        DataError
            If a record has a level that is not among `levels`, naming the subject.
        """
        column = self.covariate_name(name)
        values = self.records[column]
        is_number = pd.api.types.is_numeric_dtype(values)
        found = values.to_numpy(dtype=float) if is_number else np.array(list(map(str, values)), dtype=object)
        known = np.isin(found, [v for v in levels if isinstance(v, str) is not is_number])
        if not known.all():
            i = int(np.flatnonzero(~known)[0])
            shown = ", ".join(repr(v) if isinstance(v, str) else f"{v:g}" for v in levels)
            value = f"{found[i]:g}" if is_number else repr(found[i])
            raise DataError(
                f"Subject {self.ids[self.record_subject[i]]} has {column} {value}, which is not among the levels of "
                f"the model ({shown}); add it to nw.category(), or leave the subject out."
            )
        return (found == level).astype(float)

    def subject_covariates(self) -> pd.DataFrame:
        """Return each subject's covariates (at its first record), indexed by ID."""
        return self.records.iloc[self._first].set_index("ID")[list(self.covariates)]

    def unit(self, column: str) -> str:
        """Return the unit of a column, or ''."""
        return self.units.get(column, "")

    def output_unit(self, output: Any = None) -> str:
        """Return the unit of an output (of the first one): its own, else that of DV."""
        name = self.dvid[0] if output is None and self.n_obs else output
        return self.units.get(name, self.unit("DV"))

    def axis_label(self, column: str, text: str | None = None) -> str:
        """Return `text` (or the column's name) with its unit, for an axis."""
        unit = self.unit(column)
        return f"{text or column} ({unit})" if unit else (text or column)

    # --------------------------------------------------------------- variations

    def subset(self, ids: Sequence[Any]) -> Data:
        """Return the data of some subjects only.

        Raises
        ------
        DataError
            If an ID is not in the data.
        """
        wanted = list(ids)
        have = set(self.ids)
        unknown = [i for i in wanted if i not in have]
        if not wanted:
            raise DataError("subset() was given no ID; name at least one subject.")
        if unknown:
            raise DataError(f"ID {unknown[0]!r} is not in the data; its IDs are {self.ids[0]!r} … {self.ids[-1]!r}.")
        keep = self.records["ID"].isin(wanted)
        records = self.records[keep].reset_index(drop=True)
        if self.base is None:
            return replace(self, records=records, origin={"kind": "frame"})
        rows = self.base["ID"].isin(wanted).to_numpy()
        steps = tuple(replace(step, removed=step.removed[rows]) for step in self.exclusions)
        base = self.base[rows].reset_index(drop=True)
        return replace(self, records=records, base=base, exclusions=steps, origin={"kind": "frame"})

    def on_grid(self, points: int = 100, times: Array | None = None, dvid: Any = None, *, follow: bool = False) -> Data:
        """Return the same subjects and events, observed on a grid of times instead (DV missing).

        Doses, resets and other events stay as they are; OCC and the covariates of a time are those of
        the record that ends its interval.  Where a subject's TIME starts again after a reset, the grid
        is on the first stretch.

        Parameters
        ----------
        points : int
            Number of equally spaced times from 0 (or the first TIME) to the last TIME.
        times : (points,) float, optional
            The times themselves.
        follow : bool
            Crowd half of the points where the records are: a curve bends where a study looks closely.
        dvid : DVID or list of them, optional
            The outputs observed at each time; without it, those of the data.

        Raises
        ------
        DataError
            If the data have no observation of an output named.
        """
        all_times = self.records["TIME"].to_numpy()
        if times is None:
            times = np.linspace(min(0.0, all_times.min()), all_times.max(), points)
            if follow:
                # Samples meant for one time are taken a little apart, and are one knot.
                cell = max(np.ptp(times), 1e-300) / max(points // 2, 1)
                knots = times[0] + cell * np.unique(np.round((np.append(all_times, times[0]) - times[0]) / cell))
                share = np.linspace(0.0, 1.0, len(knots))
                share += (knots - times[0]) / max(np.ptp(knots), 1e-300)
                times = np.interp(np.linspace(0.0, share[-1], points), share, knots)
        times = np.sort(np.asarray(times, dtype=float))
        have = list(pd.unique(self.dvid))
        outputs = have if dvid is None else list(dvid) if isinstance(dvid, list | tuple) else [dvid]
        unknown = [o for o in outputs if o not in have]
        if unknown or not outputs:
            shown = ", ".join(map(str, have)) or "none"
            raise DataError(f"dvid={dvid!r} names no output that was observed (DVID: {shown}).")
        columns = list(dict.fromkeys(("OCC", *(c for c in self.covariates if c not in ("CMT", "DVID")))))
        grid = grid_records(self.records, self.record_subject, times, outputs, columns)
        return replace(self, records=grid, base=None, exclusions=(), origin={"kind": "frame"})

    # --------------------------------------------------------------- exclusions

    @property
    def complete(self) -> pd.DataFrame:
        """All records that were read, with those left out since."""
        return self.records if self.base is None else self.base

    def filter(self, keep: Any, *, reason: str = "") -> Data:
        """Return the data with the records that satisfy a condition; the step is kept in `history`.

        Parameters
        ----------
        keep : str, array of bool, or callable
            A condition on columns such as ``"TIME < 24 & SEX == 'male'"`` (parsed, never run as code), one truth
            value per record, or a function that makes them from the DataFrame of records.
        reason : str
            Shown wherever the step is.

        Notes
        -----
        A condition that uses DV, CENS, LIMIT or DVID is about observations, one that uses AMT, RATE, ADDL,
        II or SS about doses: the other records stay.  Every other condition is about every record.

        Raises
        ------
        DataError
            Naming the part of the condition that cannot be read, or if no observation is left.

        Examples
        --------
        >>> import nlmewidgets as nw
        >>> nw.datasets.load("theophylline").filter("TIME <= 12", reason="first half day")
        Data: 12 subjects, 112 observations, 12 doses; covariates WT, DOSE
          left out: 1. all but TIME <= 12: 20 records (20 observations) — first half day
        """
        return filtered(self, keep, reason)

    def exclude(self, *, ids: Any = None, records: Any = None, reason: str = "") -> Data:
        """Return the data without some subjects or records; the step is kept in `history`.

        Parameters
        ----------
        ids : label or sequence of labels
            Subjects to leave out.
        records : sequence of int, or array of bool
            Numbers of records as in ``data.records``, from 0.
        reason : str

        Raises
        ------
        DataError
            If an ID or record does not exist, or no observation is left.
        """
        return exclude(self, ids, records, reason)

    def without_exclusion(self, step: int) -> Data:
        """Return the data with one step of `history` (numbered from 1) undone."""
        return without(self, step)

    def restored(self) -> Data:
        """Return the data with nothing left out."""
        return without(self, None)

    @property
    def history(self) -> pd.DataFrame:
        """One row per filter or exclusion: what, reason, numbers of records, observations, doses, subjects; whose."""
        return history(self)

    # ------------------------------------------------------------------- tables

    def describe(self) -> Description:
        """Return what the study holds: records, doses, outputs, covariates, what was left out."""
        return describe(self)

    def correlations(self) -> pd.DataFrame:
        """Return Pearson correlations of the covariates over subjects.

        A covariate with two levels counts as 0 and 1; one with more levels that are no numbers is left out.
        """
        return correlations(self)

    def summary_by(self, name: str, bins: int = 3) -> pd.DataFrame:
        """Return subjects, observations and doses per level of a covariate, or per quantile group of a number."""
        return summary_by(self, name, bins)

    def nca(self, **options: Any) -> pd.DataFrame:
        """Return a non-compartmental analysis; see `nlmewidgets.diagnostics.nca`."""
        found: pd.DataFrame = VERBS["nca"](self, **options)
        return found

    # ------------------------------------------------------------------ display

    def __repr__(self) -> str:
        counts = {"subject": self.n_subjects, "observation": self.n_obs, "dose": int(self.dosed.sum())}
        text = "Data: " + ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items())
        if self.covariates:
            text += f"; covariates {', '.join(self.covariates)}"
        left_out = (f"  left out: {sentence}" for sentence in sentences(self)) if self.exclusions else ()
        return "\n".join([text, *(f"  note: {note}" for note in self.notes), *left_out])

    def __len__(self) -> int:
        return len(self.records)
