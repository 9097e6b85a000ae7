"""Handles on the typical curve: dragged to a level, or given a time and a level in fields."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, NamedTuple

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.panels.base import bq, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.theme import FIT

__all__ = ["Handles"]

_COUNT = 9
"""Handles along the curve: as many as can be told apart."""


class _Wish(NamedTuple):
    """Where the curve is to pass, from which values on, and whether the drag goes on."""

    time: float
    level: float
    since: Values
    begins: bool = True
    last: bool = True


class Handles:
    """Drag the typical curve; the values are found beside the interface, the latest wish first.

    Parameters
    ----------
    state : State
    ended : callable
        Called when the curve is where it was asked to be: while a handle is dragged its axis must stay.

    Attributes
    ----------
    toggle : ToggleButton
    time, level : BoundedFloatText, FloatText
    pass_here : Button
    fields, text : Widget
    mark : Scatter
    """

    def __init__(self, state: Any, ended: Callable[[], None]) -> None:
        self.state, self._ended = state, ended
        self._wishes: Latest[_Wish, str] = Latest(self._move, self._say, lock=state.lock, droppable=False)
        self._since: Values | None = None
        self._moved = False
        self._curve: tuple[Array, Array] = (np.zeros(1), np.zeros(1))
        self.toggle = ipw.ToggleButton(description="Drag curve", tooltip="Handles to drag the typical curve by")
        self.toggle.layout = ipw.Layout(width="auto", padding="0 8px")
        self.toggle.observe(lambda _: self._toggled(), "value")
        times = state.data.time
        self.time = ipw.BoundedFloatText(value=0.0, min=0.0, max=float(times.max()), description="Pass at time")
        self.level = ipw.FloatText(description="the level")
        for field, label in ((self.time, "82px"), (self.level, "58px")):
            field.style.description_width = label
            field.layout = ipw.Layout(width="170px")
        self.time.value = float(np.median(times))
        self.time.observe(lambda _: self._show_level(), "value")
        self.pass_here = ipw.Button(description="Pass here", tooltip="Move the free typical values as little as needed")
        self.pass_here.layout = ipw.Layout(width="96px")
        self.pass_here.on_click(lambda _: self.ask(self.time.value, self.level.value))
        self.fields = ipw.HBox([self.time, self.level, self.pass_here], layout=ipw.Layout(display="none"))
        self.text = caption()

    def _toggled(self) -> None:
        self.fields.layout.display = None if self.toggle.value else "none"
        self.text.value = (
            "Drag a point of the curve: the typical values that are not fixed (F) move as little as it takes."
            if self.toggle.value
            else ""
        )
        self.place(*self._curve)

    def new_mark(self, scales: Any) -> Any:
        """Return the handles of a new figure."""
        seen = np.unique(self.state.data.time[self.state.measured])
        self._times = np.unique(np.quantile(seen, np.linspace(0.0, 1.0, _COUNT)[1:-1], method="nearest"))
        self.mark = bq.Scatter(
            x=self._times,
            y=np.ones(len(self._times)),
            scales=scales,
            colors=[FIT],
            default_size=110,
            opacities=[0.85],
            enable_move=True,
            restrict_y=True,
            visible=False,
        )
        self.mark.on_drag_start(lambda _, __: self._begin())
        self.mark.on_drag(lambda _, event: self._dragged(event, last=False))
        self.mark.on_drag_end(lambda _, event: self._dragged(event, last=True))
        return self.mark

    def place(self, times: Array, curve: Array) -> None:
        """Put the handles on the curve, except while one is being dragged."""
        self._curve = times, curve
        if self.dragging:
            return
        good = self.toggle.value and bool(np.isfinite(curve).all())
        with self.mark.hold_sync():
            if good:
                self.mark.x = self._times
                self.mark.y = np.interp(self._times, times, curve)
            self.mark.visible = good
        if good:
            self._show_level()

    def _show_level(self) -> None:
        self.level.value = float(f"{np.interp(self.time.value, *self._curve):.4g}")

    # ------------------------------------------------------------------------- dragging

    @property
    def dragging(self) -> bool:
        """Whether a handle is held."""
        return self._since is not None

    def _begin(self) -> None:
        self._since, self._moved = self.state.values, False

    def _dragged(self, event: Any, *, last: bool) -> None:
        since = self.state.values if self._since is None else self._since
        time, level = float(self._times[int(event["index"])]), float(event["point"]["y"])
        # What is refitted after every move would undo the drag under the hand: it waits for its end.
        if last or not self.state.refit:
            self._wishes.put(_Wish(time, level, since, not self._moved, last))
            self._moved = True
        if last:
            self._since = None

    def ask(self, time: float, level: float) -> None:
        """Have the curve pass a level at a time, in the units shown."""
        self._wishes.put(_Wish(float(time), float(level), self.state.values))

    def _move(self, wish: _Wish) -> str:
        try:
            self.state.drag(wish.time, wish.level, since=wish.since, begins=wish.begins)
        except NlmeError as refusal:
            return str(refusal)
        pulled = self.state.pulled
        return str(pulled.words(self.state.unit_shown, self.state.data.unit("TIME")))

    def _say(self, words: str) -> None:
        self.text.value = f"<span aria-live='polite'>{html.escape(words)}</span>"
        if not self.dragging:
            self._ended()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for values that are being sought."""
        self._wishes.wait(timeout)
