"""Reading and checking records: every refusal names the row, the column, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.clock import read_times
from nlmewidgets.core.columns import DATES, ITEMS, SHARED, Columns, count, item_name
from nlmewidgets.core.covariates import CovariateColumns
from nlmewidgets.core.dosing import Codes, Flags, check_dosing, read_dosing, steady_infusions
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.suspicion import suspicions
from nlmewidgets.core.table import map_unique

__all__ = ["RECORD_COLUMNS", "Reader"]

RECORD_COLUMNS = (
    *("ID", "TIME", "EVID", "AMT", "CMT", "RATE", "ADDL", "II", "SS", "MDV"),
    *("DV", "CENS", "LIMIT", "DVID", "OCC"),
)
"""The columns of `Data.records` before the covariates."""

_NEITHER = {"AMT": 0.0, "RATE": 0.0, "ADDL": 0, "II": 0.0, "SS": 0}
"""What a record without a dose has in the columns of a dose."""


class Reader:
    """One pass over a table of records; `notes` says how ambiguous records were read."""

    def __init__(self, frame: pd.DataFrame, where: Callable[[int], str], options: Mapping[str, Any]) -> None:
        self.columns = Columns(frame, where, options)
        self.notes = self.columns.notes
        self.units = self.columns.units
        self.where = where

    def read(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the validated records and the names of the covariates."""
        columns = self.columns
        if not len(columns):
            raise DataError("The table has a header but no records; it needs one line per record.")
        out = pd.DataFrame({"ID": self._ids()})
        dv, amt = columns.numbers("DV"), columns.numbers("AMT")
        out["TIME"] = read_times(columns, pd.factorize(out["ID"])[0])
        dosing = read_dosing(columns)
        negative = np.flatnonzero(np.nan_to_num(amt) < 0)
        if negative.size:
            columns.refuse("AMT", int(negative[0]), amt, "is negative; an amount is positive")
        given = np.nan_to_num(amt) != 0
        compartment = columns.labels("CMT", 0)
        evid, mdv, both = self._events(dv, amt, steady_infusions(given, dosing), out, compartment)
        dosed = np.isin(evid, (1, 4))
        dosing = check_dosing(columns, dosing, dosed, given)
        self._check_compartments(compartment, evid)
        out["EVID"], out["AMT"], out["CMT"] = evid, np.where(dosed, np.nan_to_num(amt), 0.0), compartment
        out["RATE"], out["ADDL"], out["II"], out["SS"] = dosing
        out["MDV"] = mdv
        out["DV"] = np.where(mdv == 0, dv, np.nan)
        cens, limit = self._censoring(dv, (mdv == 0) | both)
        out["CENS"], out["LIMIT"] = np.where(mdv == 0, cens, 0), limit
        out["DVID"] = self._outputs((mdv == 0) | both)
        out["OCC"] = self._occasions(out["ID"])
        out["_row"] = np.arange(len(out), dtype=float)
        covariates = self._covariates(out)
        if self._nlme_layout:
            out = self._one_dose_each(out, amt)
        elif both.any():
            out = self._split_both(out, both, dv, cens)
        out = self._sort_subjects(out)
        out = self._check_times(self._start_occasions(out))
        if not ((out["MDV"] == 0) & (out["EVID"] == 0)).any():
            raise DataError("There is no observation: every record is a dose or has no DV; check EVID, MDV and DV.")
        self.notes.extend(suspicions(out, columns))
        return out.drop(columns="_row"), covariates

    # ------------------------------------------------------------ who and when

    def _ids(self) -> pd.Series:
        if "ID" not in self.columns:
            self.notes.append("There is no ID: all records are of one subject.")
            return pd.Series(np.ones(len(self.columns), dtype=np.int64))
        column = self.columns.source["ID"]
        values = self.columns.frame[column]
        missing = np.flatnonzero(values.isna().to_numpy())
        if missing.size:
            raise DataError(f"{column} is missing at {self.where(int(missing[0]))}; every record needs a subject.")
        if pd.api.types.is_float_dtype(values) and bool((values == np.floor(values)).all()):
            return pd.Series(self.columns.to_numbers(column, "a name or number").astype("int64"))
        if pd.api.types.is_integer_dtype(values):
            return values.astype("int64")
        if all(isinstance(label, Real) for label in values.unique()):
            return pd.Series(pd.to_numeric(values.to_numpy()))
        return map_unique(values, str)

    # -------------------------------------------------------------- what happens

    def _events(
        self, dv: Array, amt: Array, steady: Flags, out: pd.DataFrame, compartment: pd.Series
    ) -> tuple[Codes, Codes, Flags]:
        """Return EVID, MDV, and which records are a dose and an observation."""
        columns = self.columns
        if "EVID" not in columns:
            steady = steady & (np.nan_to_num(dv) == 0)  # else its rate is a column that is filled on every record
        given = (np.nan_to_num(amt) != 0) | steady
        seen = ~np.isnan(dv) if "DV" in columns else np.ones(len(dv), dtype=bool)
        both = np.zeros(len(dv), dtype=bool)
        mdv = columns.codes("MDV", "0 (measured) or 1 (missing DV)", lambda v: np.isin(v, (0, 1)))
        self._nlme_layout = False
        if "EVID" in columns:
            evid = self._event_codes(compartment)
            self._check_amounts(evid, given, amt)
            unread = (evid != 0) & seen & (np.nan_to_num(dv) != 0)
            if unread.any():
                self.notes.append(
                    f"{columns.name('DV')} is not read on {count(unread, 'record')} with {columns.name('EVID')} other "
                    f"than 0 {columns.first(unread)}: an observation needs a record of its own."
                )
        elif not mdv.any() and self._amount_is_a_constant(amt, seen & (dv != 0), out):
            evid = np.zeros(len(dv), dtype=np.int64)
            self._nlme_layout = True
        else:
            evid = given.astype(np.int64)
            both = given & seen & (mdv == 0) & ("DV" in columns)
            if both.any() and (dv[both] == 0).all():
                self.notes.append(f"{columns.name('DV')} is 0 on every dose record: read as no measurement.")
                both = np.zeros_like(both)
        if "DV" not in columns:
            self.notes.append("There is no DV: the records that are no doses are predicted, not fitted.")
        absent = (evid == 0) & (mdv == 0) & ~seen
        if absent.any():
            self.notes.append(f"{count(absent, 'record')} without {columns.name('DV')}: predicted, not fitted.")
        return evid, np.where((evid != 0) | ~seen, 1, mdv), both

    def _check_amounts(self, evid: Codes, given: Flags, amt: Array) -> None:
        """Refuse doses without an amount, and amounts on records that are no doses."""
        event, amount = self.columns.name("EVID"), self.columns.name("AMT")
        dosed = np.isin(evid, (1, 4))
        missing = np.flatnonzero(dosed & ~given)
        if missing.size:
            i = int(missing[0])
            raise DataError(
                f"{event}={evid[i]} at {self.where(i)} is a dose, but {amount} is missing or 0; give the amount, or "
                f"set {event} to 0."
            )
        idle = np.flatnonzero(~dosed & (np.nan_to_num(amt) != 0))
        if idle.size:
            i = int(idle[0])
            raise DataError(
                f"{amount}={amt[i]:g} at {self.where(i)} is no dose because {event}={evid[i]}; set {event} to "
                f"{1 if evid[i] != 3 else 4} or {amount} to 0, or pass evid=None to have doses told by their amount."
            )

    def _event_codes(self, compartment: pd.Series) -> Codes:
        codes = np.nan_to_num(self.columns.numbers("EVID", "0, 1, 2, 3 or 4"))
        # RxODE's own coding: compartment·100 + 1 is a bolus; higher and other codes are infusions and others.
        classic = (codes > 100) & (codes < 10_000) & (codes % 100 == 1)
        if classic.any():
            found = np.unique(codes[classic])
            shown = " and ".join(f"{self.columns.name('EVID')}={c:g}" for c in found)
            self.notes.append(f"{shown} {'is' if len(found) == 1 else 'are'} read as a dose (RxODE's coding).")
            compartment[classic] = (codes[classic] // 100).astype(np.int64)
            codes = np.where(classic, 1, codes)
        bad = np.flatnonzero(~np.isin(codes, (0, 1, 2, 3, 4)))
        if bad.size:
            self.columns.refuse(
                "EVID",
                int(bad[0]),
                codes,
                "is no kind of event (0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose); correct it",
            )
        return codes.astype(np.int64)

    def _amount_is_a_constant(self, amt: Array, seen: Flags, out: pd.DataFrame) -> bool:
        """Whether AMT is repeated on every record of a subject with observations, as R's nlme lays it out."""
        if not (seen.any() and np.all(np.nan_to_num(amt) != 0)):
            return False
        if any(item in self.columns for item in ("RATE", "ADDL", "II", "SS")):
            return False
        grouped = pd.Series(amt).groupby(out["ID"].to_numpy())
        return bool((grouped.nunique() == 1).all()) and bool((grouped.size() > 1).any())

    def _check_compartments(self, compartment: pd.Series, evid: Codes) -> None:
        if compartment.dtype == object:
            return
        values = compartment.to_numpy()
        bad = np.flatnonzero((values < 0) | (values != np.floor(values)))
        if bad.size:
            why = (
                "turns a compartment off, which is not possible here; leave the record out"
                if values[bad[0]] < 0 and evid[bad[0]] == 2
                else "is no compartment; write its number from 1, its name, or 0 for the usual one"
            )
            self.columns.refuse("CMT", int(bad[0]), values, why)

    # ------------------------------------------------------------- what was seen

    def _censoring(self, dv: Array, seen: Flags) -> tuple[Codes, Array]:
        columns = self.columns
        cens = columns.codes(
            "CENS", "0 (measured), 1 (below the limit in DV) or -1 (above it)", lambda v: np.isin(v, (-1, 0, 1))
        )
        limit = columns.numbers("LIMIT")
        blind = np.flatnonzero((cens != 0) & np.isnan(dv))
        if blind.size:
            columns.refuse(
                "CENS",
                int(blind[0]),
                cens,
                f"is a censored observation, but {columns.name('DV')} is missing; write "
                "the limit of quantification there",
            )
        idle = (cens != 0) & ~seen
        if idle.any():
            columns.notes.append(
                f"{columns.name('CENS')} is not read on {count(idle, 'record')} without an observation "
                f"{columns.first(idle)}."
            )
        cens = np.where(seen, cens, 0)
        wrong = np.flatnonzero((cens != 0) & (cens * (dv - limit) <= 0))
        if wrong.size:
            i = int(wrong[0])
            side = "below" if cens[i] == 1 else "above"
            columns.refuse(
                "LIMIT",
                i,
                limit,
                f"is not {side} {columns.name('DV')}={dv[i]:g}, the limit of an observation with "
                f"{columns.name('CENS')}={cens[i]}; correct one of them, or leave {columns.name('LIMIT')} missing",
            )
        return cens, limit

    def _outputs(self, seen: Flags) -> pd.Series:
        """Return DVID; 1 (or '') where there is no observation and the file says nothing."""
        columns = self.columns
        labels = columns.labels("DVID", 1)
        if "DVID" in columns:
            unnamed = np.flatnonzero(columns.frame[columns.source["DVID"]].isna().to_numpy() & seen)
            if unnamed.size:
                raise DataError(
                    f"{columns.name('DVID')} is missing at {self.where(int(unnamed[0]))}; every observation needs the "
                    "number or name of its output."
                )
        return labels

    def _occasions(self, ids: pd.Series) -> pd.Series:
        """Return OCC, a missing one being the subject's previous (else next)."""
        columns = self.columns
        if "OCC" not in columns:
            return columns.labels("OCC", 1)
        column = columns.frame[columns.source["OCC"]]
        if column.isna().any():
            grouped = column.groupby(ids.to_numpy())
            filled = grouped.ffill().groupby(ids.to_numpy()).bfill()
            columns.notes.append(
                f"Missing values of {columns.name('OCC')} are the subject's previous (else next) value."
            )
            columns.frame = columns.frame.assign(**{columns.source["OCC"]: filled})
        return columns.labels("OCC", 1)

    # ----------------------------------------------------------------- covariates

    def _covariates(self, out: pd.DataFrame) -> tuple[str, ...]:
        """Add the covariates to `out` and return their names."""
        columns = self.columns
        reader = CovariateColumns(columns.frame, self.where, self.notes, out["ID"], columns.wanted is not None)
        kept = []
        for name in self._covariate_names():
            if str(name) in RECORD_COLUMNS:  # an item that serves as covariate too
                kept.append(str(name))
                continue
            column = reader.read(name)
            if column is not None:
                out[str(name)] = pd.Series(column.to_numpy(), dtype=column.dtype)
                kept.append(str(name))
        return tuple(kept)

    def _covariate_names(self) -> list[Any]:
        columns = self.columns
        used = set(columns.source.values())
        if columns.wanted is None:
            names = []
            for column in columns.frame.columns:
                if column in used or column in columns.unused:
                    continue
                item = "DATE" if item_name(column) in DATES else item_name(column)
                if item in ITEMS or item == "_ROW":
                    source = columns.source.get(item)
                    self.notes.append(
                        f"The column {column} is not used" + (f": {source} is read as {column}." if source else ".")
                    )
                    continue
                names.append(column)
            return names
        names = list(dict.fromkeys(columns.wanted))
        for name in names:
            if name not in columns.frame.columns:
                raise DataError(f"covariates= names '{name}', which the table does not have{columns.have()}.")
            shared = name in SHARED and columns.source.get(name) == name
            if (str(name) in RECORD_COLUMNS or str(name) == "_row") and not shared:
                raise DataError(
                    f"covariates= names '{name}', which is a NONMEM item; copy it to a column of another name."
                )
        return names

    # ---------------------------------------------------------------- whole table

    def _one_dose_each(self, out: pd.DataFrame, amount: Array) -> pd.DataFrame:
        self.notes.append(
            f"{self.columns.name('AMT')} is repeated on every record: read as one dose per subject at time 0, before "
            "its observations."
        )
        first = ~out["ID"].duplicated().to_numpy()
        doses = out[first].copy()
        doses["TIME"] = np.minimum(0.0, doses["TIME"].to_numpy())
        doses["EVID"], doses["MDV"], doses["DV"], doses["CENS"] = 1, 1, np.nan, 0
        doses["AMT"] = amount[first]
        doses["_row"] = doses["_row"] - 0.5
        return pd.concat([doses, out]).sort_values("_row", kind="stable").reset_index(drop=True)

    def _split_both(self, out: pd.DataFrame, both: Flags, dv: Array, cens: Codes) -> pd.DataFrame:
        columns = self.columns
        self.notes.append(
            f"{count(both, 'record')} with {columns.name('AMT')} and {columns.name('DV')}, and there is no EVID column "
            f"{columns.first(both)}: read as a dose and, right after it, an observation."
        )
        extra = out[both].assign(EVID=0, MDV=0, DV=dv[both], CENS=cens[both], **_NEITHER)
        extra["_row"] = extra["_row"] + 0.5
        return pd.concat([out, extra]).sort_values("_row", kind="stable").reset_index(drop=True)

    def _sort_subjects(self, out: pd.DataFrame) -> pd.DataFrame:
        codes, _ = pd.factorize(out["ID"])
        if np.any(np.diff(codes) < 0):
            self.notes.append(
                "The records of some subjects are not contiguous: they were brought together by ID (NONMEM would take "
                "them for new subjects)."
            )
            out = out.iloc[np.argsort(codes, kind="stable")].reset_index(drop=True)
        return out

    def _start_occasions(self, out: pd.DataFrame) -> pd.DataFrame:
        """Put a reset where TIME starts again with another OCC."""
        if "OCC" not in self.columns:
            return out
        occasion: Ints = pd.factorize(out["OCC"])[0]
        again = np.append(False, _goes_back(out) & (np.diff(occasion) != 0))
        if not again.any():
            return out
        row = int(out["_row"].iloc[np.flatnonzero(again)[0]])
        self.notes.append(
            f"{self.columns.name('TIME')} starts again with another {self.columns.name('OCC')} in "
            f"{count(again, 'place')} (first: {self.where(row)}): read as a reset (EVID 3) there."
        )
        reset = out[again].assign(EVID=3, MDV=1, DV=np.nan, CENS=0, **_NEITHER)
        order = np.concatenate((np.flatnonzero(again) - 0.5, np.arange(len(out))))
        return pd.concat([reset, out]).iloc[np.argsort(order, kind="stable")].reset_index(drop=True)

    def _check_times(self, out: pd.DataFrame) -> pd.DataFrame:
        times = out["TIME"].to_numpy()
        back = np.flatnonzero(_goes_back(out))
        if back.size:
            i = int(back[0]) + 1
            where = self.where(int(out["_row"].iloc[i]))
            raise DataError(
                f"{self.columns.name('TIME')} goes back from {times[i - 1]:g} to {times[i]:g} for subject "
                f"{out['ID'].iloc[i]} at {where}; sort each subject's records by time, or mark a new start with EVID 3 "
                "(reset) or another OCC."
            )
        return out


def _goes_back(out: pd.DataFrame) -> Flags:
    """Return for each record but the first whether TIME goes back there without a reset."""
    subject: Ints = pd.factorize(out["ID"])[0]
    reset = out["EVID"].to_numpy() >= 3
    return (np.diff(out["TIME"].to_numpy()) < 0) & (np.diff(subject) == 0) & ~reset[1:]
