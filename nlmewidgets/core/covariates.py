"""Columns of a table as covariates: numbers or text, one value for every record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.errors import DataError
from nlmewidgets.core.table import map_unique, numeric

__all__ = ["CovariateColumns"]


@dataclass(frozen=True)
class CovariateColumns:
    """Reads the covariates of a table.

    Attributes
    ----------
    frame : DataFrame
    where : callable
        Record number → words for the place.
    notes : list of str
        Where to say how a column was read.
    ids : Series
        Subject of each record.
    explicit : bool
        Whether the user named the covariates: one that cannot be used is then refused, not left out.
    """

    frame: pd.DataFrame
    where: Callable[[int], str]
    notes: list[str]
    ids: pd.Series
    explicit: bool

    def read(self, name: Any) -> pd.Series | None:
        """Return a column without missing values; None if it is left out, with a note.

        Raises
        ------
        DataError
            If it cannot be used and the user named it.
        """
        values = self.frame[name]
        if values.dtype.kind in "mM":
            values = values.astype(str).where(values.notna(), None)
        if values.dtype.kind == "c":
            return self._leave_out(name, "holds complex numbers")
        number = numeric(values)
        is_text = (number.isna() & values.notna()).to_numpy()
        if is_text.any():
            if not is_text[values.notna().to_numpy()].all():
                i = int(np.flatnonzero(is_text)[0])
                self.notes.append(
                    f"{name} is read as text: {str(values.iloc[i])!r} at {self.where(i)} is not a number."
                )
            return self._filled(name, map_unique(values, str))
        column = pd.Series(number.to_numpy(dtype=float, na_value=np.nan))
        infinite = np.flatnonzero(np.isinf(column.to_numpy()))
        if infinite.size:
            return self._leave_out(name, f"is infinite at {self.where(int(infinite[0]))}")
        return self._filled(name, column)

    def _filled(self, name: Any, column: pd.Series) -> pd.Series | None:
        """Carry each subject's last value forward, and its first one back."""
        if not column.isna().any():
            return column
        ids = self.ids.to_numpy()
        filled = column.groupby(ids).ffill().groupby(ids).bfill()
        lacking = np.flatnonzero(filled.isna().to_numpy())
        if lacking.size:
            i = int(lacking[0])
            return self._leave_out(
                name, f"is missing on all records of subject {self.ids.iloc[i]} (first: {self.where(i)})"
            )
        self.notes.append(f"Missing values of {name} are the subject's previous (else next) value.")
        return filled

    def _leave_out(self, name: Any, why: str) -> pd.Series | None:
        if self.explicit:
            raise DataError(f"The covariate {name} {why}; give numbers, or leave {name} out of covariates=.")
        self.notes.append(f"The column {name} is not used as a covariate: it {why}.")
        return None
