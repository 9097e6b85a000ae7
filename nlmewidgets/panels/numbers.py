"""The table behind each figure: what its marks hold, read from them when asked."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from typing import Any

import ipywidgets as ipw
import numpy as np
import pandas as pd

from nlmewidgets.panels.base import bq, caption
from nlmewidgets.panels.tables import TableView

__all__ = ["Numbers", "figures_of", "has_figures", "tables_of"]

_MOST_ROWS = 100


class Numbers:
    """A button under a panel's figures that shows the numbers in them as tables, and offers them as a file.

    Parameters
    ----------
    place : Widget
        In which figures are looked for.

    Attributes
    ----------
    root, open, figure : Widget
        `open` shows and hides; `figure` chooses where there are several.
    """

    def __init__(self, place: Any) -> None:
        self.place = place
        self.open = ipw.ToggleButton(
            value=False, description="Table", icon="table", tooltip="The numbers in the figure as a table"
        )
        self.open.layout = ipw.Layout(width="90px")
        self.figure = ipw.Dropdown(description="Figure", layout=ipw.Layout(width="420px", display="none"))
        self.figure.style = {"description_width": "56px"}
        self.text, self.body = caption(), ipw.VBox()
        self.root = ipw.VBox([ipw.HBox([self.open, self.figure]), self.body, self.text])
        self.root.add_class("nlme-numbers")
        self.open.observe(lambda _: self.show(), "value")
        self.figure.observe(lambda _: self._fill(), "value")
        self._syncing = False

    def show(self) -> None:
        """Read the figures there are, if the tables are open."""
        found = {_name(f, k): k for k, f in enumerate(figures_of(self.place), 1)}
        if not (self.open.value and found):
            self.body.children, self.figure.layout.display = (), "none"
            self.text.value = "<span class='soft'>No figure is shown yet.</span>" if self.open.value else ""
            return
        before = self.figure.label
        self._syncing = True
        try:
            self.figure.options = list(found.items())
            self.figure.index = list(found).index(before) if before in found else 0
        finally:
            self._syncing = False
        self.figure.layout.display = None if len(found) > 1 else "none"
        self._fill()

    def _fill(self) -> None:
        if self._syncing or self.figure.value is None:
            return
        figure = figures_of(self.place)[self.figure.value - 1]
        tables = tables_of(figure)
        parts: list[Any] = []
        links = []
        for name, table in tables.items():
            view = TableView()
            view.show(table.head(_MOST_ROWS), caption=name)
            parts.append(view.root)
            code = base64.b64encode(table.to_csv(index=False).encode()).decode("ascii")
            file = "".join(c if c.isalnum() else "-" for c in name)[:40] + ".csv"
            cut = f", the first {_MOST_ROWS} of {len(table)} rows shown" if len(table) > _MOST_ROWS else ""
            links.append(
                f"<a download='{html.escape(file)}' href='data:text/csv;base64,{code}'>{html.escape(name)}.csv</a>{cut}"
            )
        self.body.children = tuple(parts)
        nothing = "<span class='soft'>The figure is empty.</span>"
        self.text.value = f"Download {'; '.join(links)}." if links else nothing


def figures_of(place: Any) -> list[Any]:
    """Return the figures shown in a widget, in reading order."""
    return list(_walk(place, hidden=False))


def has_figures(place: Any) -> bool:
    """Return whether there is a figure in a widget, shown or not."""
    return any(True for _ in _walk(place, hidden=True))


def _walk(widget: Any, *, hidden: bool) -> Iterator[Any]:
    if not hidden and widget.layout.display == "none":
        return
    if isinstance(widget, bq.Figure):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from _walk(child, hidden=hidden)


def tables_of(figure: Any) -> dict[str, pd.DataFrame]:
    """Return the numbers of a figure's marks, those of the same abscissa side by side.

    A mark is named by its `labels`; where any mark of the figure is named, marks without a name (guides) are left out.
    """
    across, up = (_axis(figure, side) for side in ("bottom", "left"))
    marks = [m for m in figure.marks if m.visible and isinstance(m, bq.Lines | bq.Scatter)]
    marks = [m for m in marks if m.labels] or marks
    found: dict[str, pd.DataFrame] = {}
    for mark in marks:
        x, y = np.asarray(mark.x), np.atleast_2d(np.asarray(mark.y))
        kind = mark.labels[0] if mark.labels else "curve" if isinstance(mark, bq.Lines) else "points"
        names = [kind] if len(y) == 1 else [*mark.labels] if len(mark.labels) == len(y) else _numbered(kind, len(y))
        if x.ndim == 2:  # a curve of its own each
            for name, own, values in zip(names, x, y, strict=True):
                found[_free(found, name)] = pd.DataFrame({across: own, up: values}).dropna()
            continue
        own_names = getattr(mark, "names", None)
        who = {"subject": own_names} if own_names is not None and len(own_names) == len(x) else {}
        own = who | {across: x} | {(up if len(y) == 1 else n): v for n, v in zip(names, y, strict=True)}
        table = pd.DataFrame(own).dropna()
        if len(table):
            found[_free(found, kind)] = table
    return found


def _numbered(kind: str, count: int) -> list[str]:
    return [f"{kind} {k}" for k in range(1, count + 1)]


def _free(taken: dict[str, Any], name: str) -> str:
    return name if name not in taken else next(n for k in range(2, 999) if (n := f"{name} {k}") not in taken)


def _axis(figure: Any, side: str) -> str:
    labels = [a.label for a in figure.axes if a.side == side and a.label]
    return labels[0] if labels else {"bottom": "x", "left": "y"}[side]


def _name(figure: Any, number: int) -> str:
    title = figure.title.strip()
    axes = f"{_axis(figure, 'left')} against {_axis(figure, 'bottom')}"
    return f"{number}. {title or axes}"
