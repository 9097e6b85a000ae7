"""Reading and checking records: every refusal names the row, the column, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.covariates import CovariateColumns
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.table import MISSING

__all__ = ["Reader"]

_ITEMS = ("ID", "TIME", "DV", "AMT", "EVID", "MDV")
_IGNORED = {"CMT", "II", "LIMIT", "DVID", "L1", "L2"}
"""NONMEM items without effect here unless they are named in covariates=."""

_LATER = {
    "RATE": "an infusion",
    "SS": "a steady-state dose",
    "ADDL": "additional doses",
    "CENS": "a censored observation",
}
"""Items whose non-zero values change the meaning of a record and are not read yet."""


class Reader:
    """One pass over a table of records; `notes` says how ambiguous records were read."""

    def __init__(self, frame: pd.DataFrame, where: Callable[[int], str], options: Mapping[str, Any]) -> None:
        self.frame = frame
        self.where = where
        self.notes: list[str] = []
        options = dict(options)
        wanted = options.pop("covariates", None)
        if wanted is not None and not isinstance(wanted, Iterable):
            raise DataError(f"covariates={wanted!r} is not a list of column names.")
        self.wanted_covariates = [wanted] if isinstance(wanted, str) else None if wanted is None else list(wanted)
        units = options.pop("units", None) or {}
        if not isinstance(units, Mapping):
            raise DataError(f"units={units!r} is not a mapping of columns to units, e.g. {{'TIME': 'h'}}.")
        self._resolve_columns(options)
        self.frame = frame.apply(_without_missing_words)
        back = {source: item for item, source in self.columns.items()}
        unknown = [c for c in units if c not in frame.columns and c not in back.values()]
        if unknown:
            raise DataError(f"units= names the column '{unknown[0]}', which the table does not have{self._have()}.")
        self.units: dict[str, str] = {back.get(column, str(column)): str(unit) for column, unit in units.items()}

    def _have(self) -> str:
        return f" (columns: {', '.join(map(str, self.frame.columns)) or 'none'})"

    def _resolve_columns(self, options: dict[str, Any]) -> None:
        self.columns: dict[str, str] = {}
        doubled = self.frame.columns[self.frame.columns.duplicated()]
        if len(doubled):
            raise DataError(f"The column '{doubled[0]}' appears twice; rename one of the two.")
        for item in _ITEMS:
            key = item.lower()
            if key in options:
                column = options.pop(key)
                if column is None:
                    continue
                if column not in self.frame.columns:
                    raise DataError(f"{key}='{column}' names a column that the table does not have{self._have()}.")
                self.columns[item] = column
                continue
            found = [c for c in self.frame.columns if _item(c) == item]
            if len(found) > 1:
                raise DataError(f"The columns {found[0]} and {found[1]} are both '{item}'; say which with {key}=.")
            if found:
                self.columns[item] = found[0]
        if options:
            known = ", ".join(f"{item.lower()}=" for item in _ITEMS)
            raise DataError(f"'{next(iter(options))}=' is not an option; use {known}, covariates=, units=.")
        for item in ("ID", "DV"):
            if item not in self.columns:
                raise DataError(f"There is no {item} column{self._have()}; name it with {item.lower()}=.")
        used: dict[Any, str] = {}
        for item, column in self.columns.items():
            if column in used:
                raise DataError(
                    f"The column '{column}' is named for {used[column]} and for {item}; it can be one of them."
                )
            used[column] = item

    # ---------------------------------------------------------------- the pass

    def read(self) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return the validated records and the names of the covariates."""
        if self.frame.empty:
            raise DataError("The table has a header but no records; it needs one line per record.")
        self._refuse_later_items()
        out = pd.DataFrame({"ID": self._ids()})
        dv = self._numbers("DV")
        amt = self._numbers("AMT") if "AMT" in self.columns else np.full(len(self.frame), np.nan)
        out["TIME"] = self._times(len(out))
        evid, mdv, both = self._events(dv, amt, out)
        self._refuse_several(evid, mdv)
        out["EVID"], out["AMT"] = evid, np.where(evid == 1, amt, 0.0)
        out["MDV"] = mdv
        out["DV"] = np.where(mdv == 0, dv, np.nan)
        out["_row"] = np.arange(len(out), dtype=float)
        covariates = self._covariates(out)
        if self._nlme_layout:
            out = self._one_dose_each(out)
        elif both.any():
            out = self._split_both(out, both, dv)
        out = self._sort_subjects(out)
        self._check_times(out)
        if not ((out["MDV"] == 0) & (out["EVID"] == 0)).any():
            raise DataError("There is no observation: every record is a dose or has no DV; check EVID, MDV and DV.")
        return out.drop(columns="_row"), covariates

    def _refuse_later_items(self) -> None:
        for column in self.frame.columns:
            what = _LATER.get(_item(column))
            if what is None or column in self.columns.values():
                continue
            values = np.nan_to_num(self._to_numbers(column, "0"))
            hits = np.flatnonzero(values != 0)
            if hits.size:
                raise DataError(
                    f"{column}={values[hits[0]]:g} at {self.where(int(hits[0]))} asks for {what}, which this version "
                    f"does not read; write it as plain records (EVID, AMT, DV) or leave the record out."
                )

    def _refuse_several(self, evid: np.ndarray, mdv: np.ndarray) -> None:
        """Refuse doses into several compartments and observations of several outputs."""
        for item, rows, what, remedy in (
            ("CMT", evid == 1, "doses into different compartments", "keep the doses into one of them"),
            ("DVID", (evid == 0) & (mdv == 0), "observations of several outputs", "keep the records of one of them"),
        ):
            column = next((c for c in self.frame.columns if _item(c) == item), None)
            if column is None or column in self.columns.values() or column in (self.wanted_covariates or ()):
                continue
            codes = self.frame[column][rows].dropna().map(_label)
            other = codes.index[codes != codes.iloc[0]] if len(codes) else []
            if len(other):
                raise DataError(
                    f"{column}={codes.iloc[0]} at {self.where(int(codes.index[0]))} and {column}={codes[other[0]]} at "
                    f"{self.where(int(other[0]))} are {what}, which this version does not read; {remedy}."
                )

    def _ids(self) -> pd.Series:
        column = self.columns["ID"]
        values = self.frame[column]
        missing = np.flatnonzero(values.isna().to_numpy())
        if missing.size:
            raise DataError(f"{column} is missing at {self.where(int(missing[0]))}; every record needs a subject.")
        if pd.api.types.is_float_dtype(values) and bool((values == np.floor(values)).all()):
            return pd.Series(self._to_numbers(column, "a name or number").astype("int64"))
        if pd.api.types.is_integer_dtype(values):
            return values.astype("int64")
        labels = values.tolist()
        if all(isinstance(label, Real) for label in labels):
            return pd.Series(pd.to_numeric(labels))
        return pd.Series(list(map(str, labels)), dtype=object)

    def _numbers(self, item: str) -> np.ndarray:
        column = self.columns[item]
        return self._to_numbers(column, "a number, or '.' where it is missing")

    def _to_numbers(self, column: str, wanted: str) -> np.ndarray:
        values = self.frame[column]
        if values.dtype.kind in "mMc":
            what = {"m": "durations", "M": "dates", "c": "complex numbers"}[values.dtype.kind]
            raise DataError(f"{column} holds {what}; write {wanted}.")
        if not pd.api.types.is_numeric_dtype(values):
            converted = pd.to_numeric(values, errors="coerce")
            bad = np.flatnonzero((converted.isna() & values.notna()).to_numpy())
            if bad.size:
                text = str(values.iloc[bad[0]])
                hint = ""
                if "," in text and pd.notna(pd.to_numeric(text.replace(",", "."), errors="coerce")):
                    hint = " (a decimal comma? write a point)"
                elif text[:1] in "<>":
                    hint = " (beyond a limit of quantification? leave it missing, or write a number)"
                raise DataError(
                    f"{column}={text!r} at {self.where(int(bad[0]))} is not a number{hint}; write {wanted}."
                )
            values = converted
        numbers = values.to_numpy(dtype=float, na_value=np.nan)
        infinite = np.flatnonzero(np.isinf(numbers))
        if infinite.size:
            raise DataError(f"{column} is infinite at {self.where(int(infinite[0]))}; write {wanted}.")
        return numbers

    def _times(self, n: int) -> np.ndarray:
        if "TIME" not in self.columns:
            self.notes.append("There is no TIME column: TIME is 0 for every record.")
            return np.zeros(n)
        column = self.columns["TIME"]
        times = self._to_numbers(column, "hours, days or any other number (dates and clock times are not read)")
        missing = np.flatnonzero(np.isnan(times))
        if missing.size:
            raise DataError(f"{column} is missing at {self.where(int(missing[0]))}; every record needs a time.")
        return times

    def _events(self, dv: np.ndarray, amt: np.ndarray, out: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return EVID (0 observation, 1 dose, 2 other), MDV, and which records are a dose and an observation."""
        n = len(dv)
        given = np.nan_to_num(amt) != 0
        negative = np.flatnonzero(given & (amt < 0))
        if negative.size:
            i = int(negative[0])
            raise DataError(f"{self._amt}={amt[i]:g} at {self.where(i)} is negative; an amount is positive.")
        seen = ~np.isnan(dv)
        both = np.zeros(n, dtype=bool)
        mdv = self._missing_flags(n)
        self._nlme_layout = False
        if "EVID" in self.columns:
            evid = self._event_codes()
            self._check_amounts(evid, given, amt)
            unread = (evid != 0) & seen & (dv != 0)
            if unread.any():
                self.notes.append(
                    f"{self.columns['DV']} is not read on {_count(unread, 'record')} with "
                    f"{self.columns['EVID']} 1 or 2 (first: {self.where(int(np.flatnonzero(unread)[0]))}): an "
                    "observation needs a record of its own."
                )
        elif not mdv.any() and given.any() and self._amount_is_a_constant(amt, seen & (dv != 0), out):
            evid = np.zeros(n, dtype=np.int64)
            self._nlme_layout = True
        else:
            evid = given.astype(np.int64)
            both = given & seen & (mdv == 0)
            if both.any():
                both = self._measured_doses(both, dv)
        absent = (evid == 0) & (mdv == 0) & ~seen
        if absent.any():
            self.notes.append(f"{_count(absent, 'record')} without {self.columns['DV']}: predicted, not fitted.")
        return evid, np.where((evid != 0) | ~seen, 1, mdv), both

    @property
    def _amt(self) -> str:
        return self.columns.get("AMT", "AMT")

    def _check_amounts(self, evid: np.ndarray, given: np.ndarray, amt: np.ndarray) -> None:
        """Refuse doses without an amount, and amounts on records that are no doses."""
        column = self.columns["EVID"]
        missing = np.flatnonzero((evid == 1) & ~given)
        if missing.size:
            raise DataError(
                f"{column}=1 at {self.where(int(missing[0]))} is a dose, but {self._amt} is missing or 0; give the "
                f"amount, or set {column} to 0."
            )
        idle = np.flatnonzero((evid != 1) & given)
        if idle.size:
            i = int(idle[0])
            raise DataError(
                f"{self._amt}={amt[i]:g} at {self.where(i)} is no dose because {column}={evid[i]}; set {column} to 1 "
                f"or {self._amt} to 0, or pass evid=None to have doses told by their amount."
            )

    def _measured_doses(self, both: np.ndarray, dv: np.ndarray) -> np.ndarray:
        """Return which dose records carry a measurement too: none where DV is 0 on all of them."""
        if (dv[both] == 0).all():
            self.notes.append(f"{self.columns['DV']} is 0 on every dose record: read as no measurement.")
            return np.zeros_like(both)
        return both

    def _event_codes(self) -> np.ndarray:
        column = self.columns["EVID"]
        codes = np.nan_to_num(self._to_numbers(column, "0, 1 or 2"))
        # RxODE's own coding: compartment·100 + 1 is a bolus; higher and other codes are infusions, resets, …
        classic = (codes > 100) & (codes < 10_000) & (codes % 100 == 1)
        compartments = np.unique(codes[classic])
        if compartments.size > 1:
            first, second = (int(np.flatnonzero(codes == c)[0]) for c in compartments[:2])
            raise DataError(
                f"{column}={codes[first]:g} at {self.where(first)} and {column}={codes[second]:g} at "
                f"{self.where(second)} are doses into different compartments, which this version does not read; keep "
                "the doses into one of them."
            )
        if classic.any():
            self.notes.append(f"{column}={compartments[0]:g} is read as a dose (RxODE's coding).")
            codes = np.where(classic, 1, codes)
        bad = np.flatnonzero(~np.isin(codes, (0, 1, 2)))
        if bad.size:
            i = int(bad[0])
            raise DataError(
                f"{column}={codes[i]:g} at {self.where(i)} is not read by this version (0 observation, 1 dose, 2 "
                "other); make what follows a reset a subject of its own, or leave the record out."
            )
        return codes.astype(np.int64)

    def _missing_flags(self, n: int) -> np.ndarray:
        if "MDV" not in self.columns:
            return np.zeros(n, dtype=np.int64)
        column = self.columns["MDV"]
        flags = np.nan_to_num(self._to_numbers(column, "0 or 1"))
        bad = np.flatnonzero(~np.isin(flags, (0, 1)))
        if bad.size:
            i = int(bad[0])
            raise DataError(
                f"{column}={flags[i]:g} at {self.where(i)} is not 0 (measured) or 1 (missing DV); correct it."
            )
        return flags.astype(np.int64)

    def _amount_is_a_constant(self, amt: np.ndarray, seen: np.ndarray, out: pd.DataFrame) -> bool:
        """Whether AMT is repeated on every record of a subject with observations, as R's nlme lays it out."""
        if not (seen.any() and np.all(np.nan_to_num(amt) != 0)):
            return False
        grouped = pd.Series(amt).groupby(out["ID"].to_numpy())
        return bool((grouped.nunique() == 1).all()) and bool((grouped.size() > 1).any())

    def _one_dose_each(self, out: pd.DataFrame) -> pd.DataFrame:
        amount = pd.Series(self._numbers("AMT"))
        self.notes.append(
            f"{self.columns['AMT']} is repeated on every record: read as one dose per subject at time 0, before its "
            "observations."
        )
        first = ~out["ID"].duplicated().to_numpy()
        doses = out[first].copy()
        doses["TIME"] = np.minimum(0.0, doses["TIME"].to_numpy())
        doses["EVID"], doses["MDV"], doses["DV"] = 1, 1, np.nan
        doses["AMT"] = amount.to_numpy()[first]
        doses["_row"] = doses["_row"] - 0.5
        return pd.concat([doses, out]).sort_values("_row", kind="stable").reset_index(drop=True)

    def _split_both(self, out: pd.DataFrame, both: np.ndarray, dv: np.ndarray) -> pd.DataFrame:
        self.notes.append(
            f"{_count(both, 'record')} with {self._amt} and {self.columns['DV']}, and there is no EVID column (first: "
            f"{self.where(int(np.flatnonzero(both)[0]))}): read as a dose and, right after it, an observation."
        )
        extra = out[both].copy()
        extra["EVID"], extra["AMT"], extra["MDV"], extra["DV"] = 0, 0.0, 0, dv[both]
        extra["_row"] = extra["_row"] + 0.5
        return pd.concat([out, extra]).sort_values("_row", kind="stable").reset_index(drop=True)

    def _covariates(self, out: pd.DataFrame) -> tuple[str, ...]:
        """Add the covariates to `out` and return their names."""
        columns = CovariateColumns(self.frame, self.where, self.notes, out["ID"], self.wanted_covariates is not None)
        kept = []
        for name in self._covariate_names():
            column = columns.read(name)
            if column is not None:
                out[str(name)] = pd.Series(column.to_numpy(), dtype=column.dtype)
                kept.append(str(name))
        return tuple(kept)

    def _covariate_names(self) -> list[Any]:
        items = {*_ITEMS, "_row"}
        if self.wanted_covariates is None:
            names = []
            for column in self.frame.columns:
                if column in self.columns.values() or _item(column) in _IGNORED or _item(column) in _LATER:
                    continue
                if _item(column) in items:
                    source = self.columns.get(_item(column))
                    self.notes.append(
                        f"The column {column} is not used" + (f": {source} is read as {column}." if source else ".")
                    )
                    continue
                names.append(column)
            return names
        names = list(dict.fromkeys(self.wanted_covariates))
        for name in names:
            if name not in self.frame.columns:
                raise DataError(f"covariates= names '{name}', which the table does not have{self._have()}.")
            if str(name) in items:
                raise DataError(
                    f"covariates= names '{name}', which is a NONMEM item; copy it to a column of another name."
                )
        return names

    def _sort_subjects(self, out: pd.DataFrame) -> pd.DataFrame:
        codes, _ = pd.factorize(out["ID"])
        if np.any(np.diff(codes) < 0):
            self.notes.append("The records of some subjects are not contiguous: they were brought together by ID.")
            out = out.iloc[np.argsort(codes, kind="stable")].reset_index(drop=True)
        return out

    def _check_times(self, out: pd.DataFrame) -> None:
        times = out["TIME"].to_numpy()
        codes, _ = pd.factorize(out["ID"])
        back = np.flatnonzero((np.diff(times) < 0) & (np.diff(codes) == 0))
        if back.size:
            i = int(back[0]) + 1
            where = self.where(int(out["_row"].iloc[i]))
            raise DataError(
                f"{self.columns['TIME']} goes back from {times[i - 1]:g} to {times[i]:g} for subject "
                f"{out['ID'].iloc[i]} at {where}; sort each subject's records by time, or give a second occasion an ID "
                "of its own."
            )


def _item(column: Any) -> str:
    """Return a column's name as NONMEM would write it."""
    return str(column).strip().upper()


def _label(code: Any) -> str:
    return f"{code:g}" if isinstance(code, Real) else str(code)


def _count(rows: np.ndarray, word: str) -> str:
    n = int(rows.sum())
    return f"{n} {word}{'' if n == 1 else 's'}"


def _without_missing_words(column: pd.Series) -> pd.Series:
    """Return text without the spaces around it, missing where it is a word for that."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if pd.api.types.is_numeric_dtype(column) or column.dtype.kind in "mM":
        return column
    clean = [v.strip() if isinstance(v, str) else v for v in column.tolist()]
    return pd.Series(
        [None if isinstance(v, str) and v in MISSING else v for v in clean], index=column.index, dtype=object
    )
