"""Live traces of the objective and every parameter."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid
from nlmewidgets.panels.theme import FIT, MUTED

__all__ = ["ConvergePanel"]

_MOST_POINTS = 400
_COLUMNS = 3


class ConvergePanel(Panel):
    """One small figure per trace; the boundary between SAEM's phases is a dashed line."""

    title = "Convergence"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": ("trace",)}

    def build(self) -> None:
        """Make the figures of all parameters that can move."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Choose a method and press Start.</div>")
        self.names = ["OFV", *self.state.model.names]
        self.traces: dict[str, Any] = {}
        self.phases: dict[str, Any] = {}
        self.frames: dict[str, Frame] = {}
        for name in self.names:
            frame = Frame(
                Ruler("Iteration", "bottom", count=4, offset=28),
                Ruler("", "left", count=4),
                height="164px",
                title=name,
                small=True,
            )
            line = bq.Lines(x=[0.0, 1.0], y=[0.0, 0.0], scales=frame.scales, colors=[FIT], stroke_width=1.5)
            phase = bq.Lines(
                x=[0.0, 0.0],
                y=[0.0, 1.0],
                scales={"x": frame.x.scale, "y": bq.LinearScale(min=0.0, max=1.0)},
                colors=[MUTED],
                line_style="dashed",
                stroke_width=1,
                visible=False,
            )
            frame.put(line, phase)
            self.traces[name], self.phases[name], self.frames[name] = line, phase, frame
        self.grid = grid([f.figure for f in self.frames.values()], f"repeat({_COLUMNS}, 1fr)")
        self.text = caption()
        self.root.children = (self.empty, self.grid, self.text)

    def draw(self) -> None:
        """Show the iterations so far, thinned to what a screen can show."""
        trace = self.state.trace
        self.empty.layout.display = "none" if trace else None
        self.grid.layout.display = self.text.layout.display = None if trace else "none"
        if not trace:
            return
        step = max(1, math.ceil(len(trace) / _MOST_POINTS))
        shown = list(trace[::step])
        if shown[-1] is not trace[-1]:
            shown.append(trace[-1])
        k = np.array([it.k for it in shown], dtype=float)
        rows = [{"OFV": it.ofv, **it.to_dict()} for it in shown]
        boundary = self._boundary(trace)
        for name in self.names:
            y = np.array([row[name] for row in rows])
            frame = self.frames[name]
            frame.x.span(0.0, max(float(k[-1]), 1.0))
            frame.y.span(float(np.nanmin(y)), float(np.nanmax(y)))
            with self.traces[name].hold_sync():
                self.traces[name].x, self.traces[name].y = k, y
            frame.figure.title = f"{name} = {y[-1]:.4g}" if name != "OFV" else f"OFV = {y[-1]:.3f}"
            phase = self.phases[name]
            if boundary is not None:
                phase.x = [boundary, boundary]
            phase.visible = boundary is not None
        last = trace[-1]
        by = f" (OFV by {html.escape(last.ofv_by)})" if last.ofv_by else ""
        self.text.value = (
            f"<span class='soft'>Iteration {last.k}, {html.escape(last.phase)}{by}. "
            f"{'The dashed line marks the end of the exploring phase. ' if boundary is not None else ''}"
            f"Omegas and sigmas are standard deviations.</span>"
        )

    @staticmethod
    def _boundary(trace: tuple[Any, ...]) -> float | None:
        """Return the iteration at which the last phase began, if the method has phases."""
        phases = [it.phase for it in trace]
        named = [p for p in dict.fromkeys(phases) if p != "burn-in"]
        if len(named) < 2:
            return None
        return float(trace[phases.index(named[-1])].k) - 0.5
