"""Reading and checking records: every refusal names the row, the column, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.errors import DataError

__all__ = ["Reader"]

_ITEMS = ("ID", "TIME", "DV", "AMT", "EVID", "MDV")
_IGNORED = {"CMT", "L1", "L2"}
"""NONMEM items that a closed form has no use for; kept as columns, without effect."""

_LATER = {
    "RATE": "infusions",
    "SS": "steady-state doses",
    "ADDL": "additional doses",
    "CENS": "censored observations",
}
"""Items whose non-zero values change the meaning of a record and are not read yet."""


class Reader:
    """One pass over a table of records; `notes` says how ambiguous records were read."""

    def __init__(self, frame: pd.DataFrame, where: Callable[[int], str], options: Mapping[str, Any]) -> None:
        self.frame = frame
        self.where = where
        self.notes: list[str] = []
        options = dict(options)
        self.wanted_covariates = options.pop("covariates", None)
        units = dict(options.pop("units", None) or {})
        self._resolve_columns(options)
        back = {source: item for item, source in self.columns.items()}
        unknown = [c for c in units if c not in frame.columns and c not in back.values()]
        if unknown:
            raise DataError(f"units= names the column '{unknown[0]}', which the table does not have{self._have()}.")
        self.units: dict[str, str] = {back.get(column, str(column)): str(unit) for column, unit in units.items()}

    def _have(self) -> str:
        return f" (columns: {', '.join(map(str, self.frame.columns))})"

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
            found = [c for c in self.frame.columns if str(c).upper() == item]
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
        out["EVID"], out["AMT"] = evid, np.where(evid == 1, amt, 0.0)
        out["MDV"] = mdv
        out["DV"] = np.where(mdv == 0, dv, np.nan)
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
            what = _LATER.get(str(column).upper())
            if what is None or column in self.columns.values():
                continue
            values = pd.to_numeric(self.frame[column], errors="coerce").fillna(0).to_numpy()
            hits = np.flatnonzero(values != 0)
            if hits.size:
                raise DataError(
                    f"{column}={values[hits[0]]:g} at {self.where(int(hits[0]))} asks for {what}, which this version "
                    f"does not read; leave these records out or write them as single bolus doses."
                )

    def _ids(self) -> pd.Series:
        column = self.columns["ID"]
        values = self.frame[column]
        missing = np.flatnonzero(values.isna().to_numpy())
        if missing.size:
            raise DataError(f"{column} is missing at {self.where(int(missing[0]))}; every record needs a subject.")
        if pd.api.types.is_float_dtype(values) and bool((values == np.floor(values)).all()):
            return values.astype("int64")
        return values.astype(object) if not pd.api.types.is_numeric_dtype(values) else values

    def _numbers(self, item: str) -> np.ndarray:
        column = self.columns[item]
        return self._to_numbers(column, "a number, or '.' where it is missing")

    def _to_numbers(self, column: str, wanted: str) -> np.ndarray:
        values = self.frame[column]
        if not pd.api.types.is_numeric_dtype(values):
            converted = pd.to_numeric(values, errors="coerce")
            bad = np.flatnonzero((converted.isna() & values.notna()).to_numpy())
            if bad.size:
                text = str(values.iloc[bad[0]])
                hint = ""
                if "," in text and pd.notna(pd.to_numeric(text.replace(",", "."), errors="coerce")):
                    hint = " (a decimal comma? write a point)"
                elif text.lstrip()[:1] in "<>":
                    hint = " (below a limit of quantification? code it with the limit as a number)"
                raise DataError(
                    f"{column}={text!r} at {self.where(int(bad[0]))} is not a number{hint}; write {wanted}."
                )
            values = converted
        numbers = values.to_numpy(dtype=float)
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
        seen = ~np.isnan(dv)
        both = np.zeros(n, dtype=bool)
        self._nlme_layout = False
        if "EVID" in self.columns:
            evid = self._event_codes()
            missing = np.flatnonzero((evid == 1) & ~given)
            if missing.size:
                i = int(missing[0])
                raise DataError(f"{self.where(i)} is a dose (EVID=1) without an amount; give AMT, or set EVID to 0.")
        elif "MDV" not in self.columns and given.any() and self._amount_is_a_constant(amt, seen, out):
            evid = np.zeros(n, dtype=np.int64)
            self._nlme_layout = True
        else:
            evid = given.astype(np.int64)
            if "MDV" not in self.columns and (given & seen).any():
                both = self._measured_doses(given & seen, dv)
        negative = np.flatnonzero(given & (amt < 0))
        if negative.size:
            i = int(negative[0])
            raise DataError(f"AMT={amt[i]:g} at {self.where(i)} is negative; an amount is positive.")
        mdv = self._missing_flags(n)
        absent = (evid == 0) & (mdv == 0) & ~seen
        if absent.any():
            count = int(absent.sum())
            self.notes.append(f"{count} record{'s' if count > 1 else ''} without DV: predicted, not fitted.")
        mdv = np.where((evid != 0) | ~seen, 1, mdv)
        return evid, mdv, both

    def _measured_doses(self, both: np.ndarray, dv: np.ndarray) -> np.ndarray:
        """Return which dose records carry a measurement too: none where DV is 0 on all of them."""
        if (dv[both] == 0).all():
            self.notes.append("DV is 0 on every dose record: read as no measurement.")
            return np.zeros_like(both)
        return both

    def _event_codes(self) -> np.ndarray:
        column = self.columns["EVID"]
        codes = np.nan_to_num(self._to_numbers(column, "0, 1 or 2")).astype(np.int64)
        classic = codes >= 100  # RxODE's own coding: 101 is a dose into compartment 1
        if classic.any():
            self.notes.append(f"{column} of 101 and above is read as a dose (RxODE's coding).")
            codes = np.where(classic, 1, codes)
        bad = np.flatnonzero(~np.isin(codes, (0, 1, 2)))
        if bad.size:
            i = int(bad[0])
            raise DataError(
                f"{column}={codes[i]} at {self.where(i)} is not read by this version (0 observation, 1 dose, 2 other); "
                "split the subject at a reset, or leave the record out."
            )
        return codes

    def _missing_flags(self, n: int) -> np.ndarray:
        if "MDV" not in self.columns:
            return np.zeros(n, dtype=np.int64)
        column = self.columns["MDV"]
        flags = np.nan_to_num(self._to_numbers(column, "0 or 1"))
        return (flags != 0).astype(np.int64)

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
        count = int(both.sum())
        self.notes.append(
            f"{count} record{'s have' if count > 1 else ' has'} AMT and DV and there is no EVID or MDV column (first: "
            f"{self.where(int(np.flatnonzero(both)[0]))}): read as a dose and, right after it, an observation."
        )
        extra = out[both].copy()
        extra["EVID"], extra["AMT"], extra["MDV"], extra["DV"] = 0, 0.0, 0, dv[both]
        extra["_row"] = extra["_row"] + 0.5
        return pd.concat([out, extra]).sort_values("_row", kind="stable").reset_index(drop=True)

    def _covariates(self, out: pd.DataFrame) -> tuple[str, ...]:
        taken = set(self.columns.values())
        later = {c for c in self.frame.columns if str(c).upper() in _LATER or str(c).upper() in _IGNORED}
        if self.wanted_covariates is None:
            names = [c for c in self.frame.columns if c not in taken and c not in later]
        else:
            names = (
                [self.wanted_covariates] if isinstance(self.wanted_covariates, str) else list(self.wanted_covariates)
            )
            for name in names:
                if name not in self.frame.columns:
                    raise DataError(f"covariates= names '{name}', which the table does not have{self._have()}.")
        out["_row"] = np.arange(len(out), dtype=float)
        kept = []
        for name in names:
            values = self.frame[name]
            # An item may serve as covariate too (a baseline dose, say) under its own name.
            if name in taken and str(name) in out.columns:
                continue
            if pd.api.types.is_bool_dtype(values):
                values = values.astype(float)
            numeric = pd.to_numeric(values, errors="coerce")
            is_number = pd.api.types.is_numeric_dtype(values) or bool((numeric.notna() | values.isna()).all())
            column = numeric.astype(float) if is_number else values.astype(object)
            if column.isna().any():
                column = self._carry_forward(str(name), column, out["ID"], explicit=self.wanted_covariates is not None)
                if column is None:
                    continue
            out[str(name)] = column.to_numpy()
            kept.append(str(name))
        return tuple(kept)

    def _carry_forward(self, name: str, column: pd.Series, ids: pd.Series, *, explicit: bool) -> pd.Series | None:
        filled = column.groupby(ids.to_numpy()).ffill()
        filled = filled.groupby(ids.to_numpy()).bfill()
        lacking = np.flatnonzero(filled.isna().to_numpy())
        if lacking.size:
            subject = ids.iloc[lacking[0]]
            if explicit:
                raise DataError(
                    f"The covariate {name} is missing for all records of subject {subject} (first: "
                    f"{self.where(int(lacking[0]))}); give a value, or leave {name} out of covariates=."
                )
            self.notes.append(f"The column {name} is not used as a covariate: subject {subject} has no value.")
            return None
        self.notes.append(f"Missing values of {name} are the subject's previous (else next) value.")
        return filled

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
            row = int(out["_row"].iloc[i])
            raise DataError(
                f"TIME goes back from {times[i - 1]:g} to {times[i]:g} for subject {out['ID'].iloc[i]} at "
                f"{self.where(row)}; sort the records by time within each subject."
            )
