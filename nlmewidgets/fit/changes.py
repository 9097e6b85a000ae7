"""How far estimates are from other values, in units of their standard errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nlmewidgets.fit.result import Fit

__all__ = ["changes", "changes_in_words"]

_LARGE = 2.0
"""Standard errors: a change that noise alone seldom makes."""


def changes(fit: Fit, earlier: Mapping[str, float], errors: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return how far each estimate is from an earlier value.

    Parameters
    ----------
    fit : Fit
    earlier : mapping
        Values by parameter: initial ones, or another fit's estimates; a parameter that has none gets no change.
    errors : mapping, optional
        Standard errors by parameter, those of ``fit.se`` without it.

    Returns
    -------
    DataFrame
        earlier, estimate, se, rse_%, change, change_se (in standard errors) by parameter; what was fixed has no se.
    """
    table = pd.DataFrame(index=list(fit.start.names))
    table["earlier"] = [float(earlier.get(name, np.nan)) for name in table.index]
    table["estimate"] = fit.estimates
    table["se"] = fit.se if errors is None else pd.Series(errors, dtype=float)
    table["rse_%"] = 100.0 * table["se"] / table["estimate"].abs()
    table["change"] = table["estimate"] - table["earlier"]
    table["change_se"] = table["change"] / table["se"].where(table["se"] > 0)
    return table


def changes_in_words(table: pd.DataFrame) -> str:
    """Return in a sentence which parameters of `changes` moved by two standard errors or more; '' without any se."""
    known = table["change_se"].dropna()
    if known.empty:
        return ""
    far = known[known.abs() >= _LARGE].sort_values(key=np.abs, ascending=False)
    if far.empty:
        return "No estimate is two standard errors or more away."
    told = ", ".join(f"{name} by {value:+.1f}" for name, value in far.items())
    return f"Two standard errors or more away: {told}."
