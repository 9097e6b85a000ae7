"""Live traces of the objective, of how the method goes, and of every parameter."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.fit.history import QUANTITIES, History, history_of
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid, legend
from nlmewidgets.panels.theme import DATA, FIT, MUTED, SELECTED, TREND

__all__ = ["ConvergePanel"]

_MANY = 9
"""Figures beyond which they are smaller, four in a row."""


class ConvergePanel(Panel):
    """The objective over the whole width, small figures of the rest; dashed lines where a phase begins."""

    title = "Convergence"
    step: ClassVar[str] = "fit"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": ("trace",), "mark": ("iteration",)}

    def build(self) -> None:
        """Make what does not depend on the run: the objective's figure, and the words."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Choose a method and press Start.</div>")
        self.zoom = ipw.ToggleButton(
            value=False, description="Last half", tooltip="Scale the axes to the last half of the iterations"
        )
        self.zoom.layout = ipw.Layout(width="86px")
        self.zoom.observe(lambda _: self._changed("draw"), "value")
        self.key = legend(
            ("line", FIT, "objective and parameters"),
            ("line", TREND, "the method's own numbers"),
            ("dashed", MUTED, "a phase begins"),
            ("line", SELECTED, "iteration shown"),
        )
        self.traces: dict[str, _Trace] = {"OFV": _Trace("OFV", FIT, height="200px", wide=True)}
        self.grid = grid([], "repeat(3, minmax(0, 1fr))")
        self.text = caption()
        head = ipw.HBox([self.key, self.zoom], layout=ipw.Layout(align_items="center"))
        self.body = ipw.VBox([head, self.traces["OFV"].root, self.state.playback.root, self.grid, self.text])
        self.root.children = (self.empty, self.body)
        self._shown: tuple[str, ...] = ()

    def draw(self) -> None:
        """Show the iterations so far, thinned to what a screen can show."""
        trace = self.state.trace
        self.empty.layout.display = "none" if trace else None
        self.body.layout.display = None if trace else "none"
        if not trace:
            return
        history = history_of(trace)
        self._arrange(history)
        series = {"OFV": history.ofv, **history.own, **history.parameters}
        first = len(history.k) // 2 if self.zoom.value else 0
        begins = [p.first - 0.5 for p in history.phases[1:]]
        for name, y in series.items():
            self.traces[name].show(history.k, y, first, begins)
        self.traces["OFV"].name_phases(history.phases)
        self.text.value = self._words(history)
        self.mark()

    def mark(self) -> None:
        """Draw a line at the iteration that the panels show."""
        for trace in self.traces.values():
            trace.mark(self.state.iteration)

    def _arrange(self, history: History) -> None:
        """Have a small figure for each of the series there are."""
        names = (*history.own, *history.parameters)
        if names == self._shown:
            return
        self._shown = names
        many = len(names) > _MANY
        columns = 4 if many else 3
        self.traces = {"OFV": self.traces["OFV"]}
        for place, name in enumerate(names):
            own = QUANTITIES.get(name) if name in history.own else None
            self.traces[name] = _Trace(
                name if own is None else own.label,
                FIT if own is None else TREND,
                height="132px" if many else "154px",
                log=own is not None and own.log,
                labelled=place >= len(names) - columns,
            )
        self.grid.layout.grid_template_columns = f"repeat({columns}, minmax(0, 1fr))"
        self.grid.children = [self.traces[name].root for name in names]

    def _words(self, history: History) -> str:
        last = self.state.trace[-1]
        by = f" (OFV by {html.escape(last.ofv_by)})" if last.ofv_by else ""
        parts = [f"Iteration {last.k}, {html.escape(last.phase)}{by}."]
        if len(history.phases) > 1:
            listed = ", ".join(f"{html.escape(p.name)} from {p.first}" for p in history.phases)
            parts.append(f"Phases: {listed}.")
        for name in history.own:
            parts.append(f"{html.escape(QUANTITIES[name].label)}: {html.escape(QUANTITIES[name].text)}.")
        held = [name for name in last.space.names if last.space.is_fixed(name)]
        if held:
            parts.append(f"Not shown, for they are fixed: {html.escape(', '.join(held))}.")
        parts.append("Omegas and sigmas are standard deviations.")
        return f"<span class='soft'>{' '.join(parts)}</span>"


class _Trace:
    """One figure of one series, with a line where each phase begins."""

    def __init__(
        self,
        title: str,
        colour: str,
        *,
        height: str,
        log: bool = False,
        wide: bool = False,
        labelled: bool = True,
    ) -> None:
        self.title, self.log = title, log
        x = Ruler("Iteration" if labelled else "", "bottom", count=8 if wide else 4, offset=28)
        y = Ruler("", "left", count=4 if wide else 3, log=log)
        self.frame = Frame(x, y, height=height, small=True)
        self.figure = self.frame.figure
        self.figure.fig_margin = self.figure.fig_margin | {"left": 52, "top": 8}
        self.head = caption()  # names the figure: a figure's own title would be cut where the figure is narrow
        self.head.add_class("nlme-head")
        self.root = ipw.VBox([self.head, self.figure], layout=ipw.Layout(min_width="0"))
        unit = {"x": x.scale, "y": bq.LinearScale(min=0.0, max=1.0)}
        self.line = bq.Lines(
            x=[0.0, 1.0],
            y=[1.0, 1.0],
            scales=self.frame.scales,
            colors=[colour],
            stroke_width=1.5,
            labels=[title],
        )
        self.phases = bq.Lines(
            x=[0.0], y=[0.0], scales=unit, colors=[MUTED], line_style="dashed", stroke_width=1, visible=False
        )
        self.marker = bq.Lines(
            x=[0.0, 0.0], y=[0.0, 1.0], scales=unit, colors=[SELECTED], stroke_width=1.5, visible=False
        )
        self.names = bq.Label(
            x=[0.0], y=[0.0], text=[""], scales=unit, colors=[DATA], default_size=11, x_offset=4, y_offset=2
        )
        self.frame.put(self.phases, self.line, self.marker, *([self.names] if wide else []))

    def show(self, k: Any, y: Any, first: int, begins: list[float]) -> None:
        """Move the line; the axes fit what there is from the point `first` on."""
        known = y[first:][np.isfinite(y[first:])]
        self.frame.x.span(float(k[first]), max(float(k[-1]), float(k[first]) + 1.0), flush=True)
        if len(known):
            self.frame.y.span(float(known.min()), float(known.max()))
        self.line.visible = bool(len(known))
        if len(known):
            with self.line.hold_sync():
                there = np.isfinite(y)  # a curve's last point must be a number
                self.line.x, self.line.y = k[there], y[there]
        last = y[np.isfinite(y)]
        shown = f" = {_number(self.title, last[-1])}" if len(last) else ""
        self.head.value = f"<b>{html.escape(self.title)}</b>{shown}"
        with self.phases.hold_sync():
            self.phases.visible = bool(begins)
            if begins:
                # One broken line; the last point must be a number.
                self.phases.x = np.repeat(begins, 3)[:-1]
                self.phases.y = np.tile([0.0, 1.0, np.nan], len(begins))[:-1]

    def mark(self, k: int | None) -> None:
        """Draw a line at an iteration; none at None."""
        with self.marker.hold_sync():
            self.marker.visible = k is not None
            if k is not None:
                self.marker.x = [k, k]

    def name_phases(self, phases: tuple[Any, ...]) -> None:
        """Write the phases' names where they begin, if there are several."""
        several = len(phases) > 1
        low = self.frame.x.scale.min
        with self.names.hold_sync():
            self.names.visible = several
            if several:
                seen = [p for p in phases if p.last >= low]
                self.names.x = [max(float(p.first) - 0.5, low) for p in seen]
                self.names.y = np.full(len(seen), 0.9)
                self.names.text = [p.name for p in seen]


def _number(title: str, value: float) -> str:
    return f"{value:.3f}" if title == "OFV" else f"{value:.4g}"
