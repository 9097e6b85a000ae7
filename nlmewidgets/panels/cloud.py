"""A scatter of observations or subjects in which a click picks a subject and picked ones stand out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.panels.base import Frame, Ruler, bq, caption
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED

__all__ = ["Cloud"]


class Cloud:
    """Points that belong to subjects, with guides behind them.

    The points are drawn once; picking moves two small marks only, for a scatter is slow.

    Parameters
    ----------
    x, y : str
        Labels of the axes.
    click : callable
        Takes the number of the subject whose point was clicked.
    height : str
    """

    def __init__(self, x: str, y: str, click: Callable[[int], None], *, height: str = "230px") -> None:
        self.frame = Frame(Ruler(x, "bottom", count=5), Ruler(y, "left", count=5), height=height)
        self.text = caption()
        self.root = ipw.VBox([self.frame.figure, self.text], layout=ipw.Layout(min_width="0"))
        scales, none = self.frame.scales, [0.0, 1.0]
        self.guides = bq.Lines(x=none, y=none, scales=scales, colors=[MUTED], stroke_width=1, line_style="dotted")
        self.points = bq.Scatter(x=none, y=none, scales=scales, colors=[FIT], default_size=22, labels=["points"])
        self.gone = bq.Scatter(
            x=none, y=none, scales=scales, colors=[MUTED], default_size=30, marker="cross", labels=["left out"]
        )
        self.lines = bq.Lines(
            x=none, y=none, scales=scales, colors=[SELECTED], stroke_width=1.5, labels=["selected, lines"]
        )
        self.picked = bq.Scatter(
            x=none, y=none, scales=scales, colors=[SELECTED], default_size=64, marker="diamond", labels=["selected"]
        )
        for mark in (self.guides, self.points, self.gone, self.lines, self.picked):
            mark.visible = False
        self._own: dict[Any, Ints] = {}
        for mark in (self.points, self.gone, self.picked):
            mark.on_element_click(lambda source, event: click(int(self._own[source][int(event["data"]["index"])])))
        self.frame.put(self.guides, self.points, self.gone, self.lines, self.picked)
        self._x = self._y = np.zeros(0)
        self._subject: Ints = np.zeros(0, dtype=np.intp)

    def label(self, x: str, y: str) -> None:
        """Name the axes."""
        self.frame.x.axis.label, self.frame.y.axis.label = x, y

    def show(self, x: Array, y: Array, subject: Ints, shown: Ints, gone: Any, guides: str = "zero") -> None:
        """Show points.

        Parameters
        ----------
        x, y, subject : (points,)
        shown : (k,) int
            Which are drawn.
        gone : (points,) bool
            Which are left out of the fit: drawn as crosses.
        guides : "zero", "normal", "identity" or "none"
            Dotted lines: at 0, at 0 and ±1.96, along y = x.
        """
        self._x, self._y, self._subject = x, y, subject
        finite = np.isfinite(x) & np.isfinite(y)
        self._place(self.points, shown[finite[shown] & ~gone[shown]])
        self._place(self.gone, np.flatnonzero(gone & finite))
        if finite.any():
            low, high = (float(x[finite].min()), float(x[finite].max()))
            bottom, top = (float(y[finite].min()), float(y[finite].max()))
            if guides == "identity":
                low, high = min(low, bottom), max(high, top)
                bottom, top = low, high
            elif guides == "normal":
                bottom, top = min(bottom, -2.2), max(top, 2.2)
            self.frame.x.span(low, high, sticky=True)
            self.frame.y.span(bottom, top, sticky=True)
            self._guide(guides, low, high)
        else:
            self.guides.visible = False

    def _guide(self, kind: str, low: float, high: float) -> None:
        levels = {"zero": [0.0], "normal": [0.0, -1.96, 1.96]}.get(kind, [])
        with self.guides.hold_sync():
            self.guides.visible = kind != "none"
            if kind == "identity":
                self.guides.x, self.guides.y = [low, high], [low, high]
            elif levels:
                self.guides.x, self.guides.y = [[low, high]] * len(levels), [[v, v] for v in levels]

    def _place(self, mark: Any, rows: Ints) -> None:
        with mark.hold_sync():
            mark.visible = bool(len(rows))
            self._own[mark] = self._subject[rows]
            if len(rows):
                mark.x, mark.y = self._x[rows], self._y[rows]

    def light(self, numbers: Ints, *, connect: bool = False) -> None:
        """Light the subjects with these numbers up; `connect` their points in order of x."""
        rows = np.flatnonzero(np.isin(self._subject, numbers) & np.isfinite(self._x) & np.isfinite(self._y))
        self._place(self.picked, rows)
        with self.lines.hold_sync():
            self.lines.visible = connect and len(rows) > 1
            if self.lines.visible:
                order = rows[np.lexsort((self._x[rows], self._subject[rows]))]
                breaks = np.flatnonzero(np.diff(self._subject[order])) + 1
                self.lines.x = np.insert(self._x[order], breaks, np.nan)
                self.lines.y = np.insert(self._y[order], breaks, np.nan)

    def curve(self, x: Array, y: Array) -> None:
        """Draw curves (curves, points) of the subjects lit up."""
        apart = np.full((len(x), 1), np.nan)
        with self.lines.hold_sync():
            self.lines.visible = bool(np.isfinite(y).any())
            self.lines.x = np.hstack([x, apart]).ravel()[:-1]
            self.lines.y = np.hstack([y, apart]).ravel()[:-1]
