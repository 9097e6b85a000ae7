"""The card of a data set: what was measured, what its columns mean, where it comes from."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

__all__ = ["Dataset"]


def _as_it_is(table: pd.DataFrame) -> pd.DataFrame:
    return table


@dataclass(frozen=True)
class Dataset:
    """A shipped data set.

    Attributes
    ----------
    file : str
        CSV in this folder.
    description, source : str
        What was measured, and where it was published (or by which script it was simulated).
    units : mapping
        Unit by column; classes and counts have none.
    columns : mapping
        What each column means.
    truth : mapping
        The values it was simulated with; empty for measurements.
    model : str
        The equations it was simulated with; '' for measurements.
    prepare : callable
        From the file's table to records in NONMEM's layout.
    """

    file: str
    description: str
    source: str
    units: Mapping[str, str]
    columns: Mapping[str, str]
    truth: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = _as_it_is

    def table(self) -> pd.DataFrame:
        """Return columns with unit and meaning."""
        rows = {c: {"unit": self.units.get(c, ""), "meaning": m} for c, m in self.columns.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("column")

    def __repr__(self) -> str:
        width = max(map(len, self.columns))
        unit = {c: f" ({self.units[c]})" if self.units.get(c) else "" for c in self.columns}
        lines = [self.description, *(f"  {c:<{width}}  {m}{unit[c]}" for c, m in self.columns.items())]
        if self.model:
            lines.append(f"Model: {self.model}")
            lines.append("Truth: " + ", ".join(f"{k} = {v:g}" for k, v in self.truth.items()))
        return "\n".join([*lines, f"Source: {self.source}"])

    def _repr_html_(self) -> str:
        parts = [f"<p>{html.escape(self.description)}</p>", self.table().to_html(border=0)]
        if self.model:
            truth = ", ".join(f"{k} = {v:g}" for k, v in self.truth.items())
            parts.append(f"<p>Model: {html.escape(self.model)}<br>Truth: {html.escape(truth)}</p>")
        return "".join([*parts, f"<p>Source: {html.escape(self.source)}</p>"])
