"""DataFrames as tables that follow the theme: units under the names, numbers to three digits, rows lit up."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Mapping
from typing import Any

import ipywidgets as ipw
import pandas as pd

__all__ = ["TableView", "number"]


def number(value: Any) -> str:
    """Return a value as a table shows it: four significant digits, '–' where there is none."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float) and math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    return str(value)


class TableView:
    """A scrolling table.

    Attributes
    ----------
    root : Widget
    """

    def __init__(self) -> None:
        self.root = ipw.HTML()
        self.root.add_class("nlme-table")
        self.root.layout = ipw.Layout(width="100%")

    def show(
        self,
        frame: pd.DataFrame,
        *,
        units: Mapping[str, str] | None = None,
        text: Collection[str] = (),
        wide: Collection[str] = (),
        picked: Collection[Any] = (),
        by: str | None = None,
        index: str = "",
        caption: str = "",
    ) -> None:
        """Show a table.

        Parameters
        ----------
        frame : DataFrame
        units : mapping, optional
            Unit of a column, written under its name.
        text, wide : collection of str
            Columns to the left, and columns that may break into lines.
        picked, by : collection, str
            Rows lit up: those whose column `by` is in `picked`.
        index : str
            Heading of the index, shown as the first column; '' hides it.
        caption : str
            Name of the table, above it.
        """
        units = units or {}
        named = {*text, *wide}
        head = [f"<th class='text' scope='col'>{html.escape(index)}</th>"] if index else []
        for column in frame:
            unit = f"<br><span class='unit'>{html.escape(units[column])}</span>" if units.get(column) else ""
            kind = " class='text'" if column in named else ""
            head.append(f"<th{kind} scope='col'>{html.escape(str(column))}{unit}</th>")
        lit = frame[by].isin(list(picked)).tolist() if by else [False] * len(frame)
        body = []
        for key, row, on in zip(frame.index, frame.itertuples(index=False), lit, strict=True):
            cells = [f"<th class='text' scope='row'>{html.escape(number(key))}</th>"] if index else []
            for column, value in zip(frame, row, strict=True):
                kind = " ".join(["text"] * (column in named) + ["wide"] * (column in wide))
                cells.append(
                    f"<td{f' class={chr(39)}{kind}{chr(39)}' if kind else ''}>{html.escape(number(value))}</td>"
                )
            body.append(f"<tr{' class=' + chr(39) + 'picked' + chr(39) if on else ''}>{''.join(cells)}</tr>")
        name = f"<caption>{html.escape(caption)}</caption>" if caption else ""
        self.root.value = (
            # Reached by the Tab key, so that arrow keys scroll it.
            f"<div class='nlme-scroll' tabindex='0' role='group' aria-label='{html.escape(caption or 'Table')}'>"
            f"<table>{name}<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody>"
            "</table></div>"
        )
