"""A page of individual fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import individual_curves
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid, legend
from nlmewidgets.panels.theme import DATA, FIT, MUTED

__all__ = ["IndividualsPanel"]

_TIMES = 61
_PER_PAGE = 12
_COLUMNS = 4


class IndividualsPanel(Panel):
    """Observations, individual curve (at the EBE) and typical curve of each subject, twelve a page."""

    title = "Individuals"
    step: ClassVar[str] = "initial"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw_output": ("dvid",), "draw": ("point", "selected_ids")}

    def build(self) -> None:
        """Make one small figure per place on the page; pages change their contents."""
        state = self.state
        data = state.data
        self._grid()
        self.pages = math.ceil(data.n_subjects / _PER_PAGE)
        self.page = ipw.BoundedIntText(
            value=1, min=1, max=self.pages, description=f"Page (of {self.pages})", style={"description_width": "90px"}
        )
        self.page.layout = ipw.Layout(width="160px")
        self.page.observe(self._turned, "value")
        self.same = ipw.ToggleButton(value=True, description="Same scale", tooltip="One observation axis for all")
        self.same.layout = ipw.Layout(width="96px")
        self.same.observe(self._scale, "value")
        count = min(_PER_PAGE, data.n_subjects)
        self.places = [self._place(k, count) for k in range(count)]
        controls = [self.same] if self.pages == 1 else [self.page, self.same]
        self.text = caption()
        self.key = legend(
            ("line", FIT, "individual curve"), ("dashed", MUTED, "typical curve"), ("dot", DATA, "observed")
        )
        cells = grid([p["frame"].figure for p in self.places], f"repeat({_COLUMNS}, 1fr)")
        self.root.children = (self.key, cells, ipw.HBox(controls), self.text)
        self._turned(None)

    def _grid(self) -> None:
        state = self.state
        shown = state.data.on_grid(_TIMES, dvid=state.dvid if len(state.dvids) > 1 else None)
        self.grid = state.model.problem(shown)
        self.times = self.grid.data.time[:_TIMES]

    def draw_output(self) -> None:
        """Show the output chosen."""
        if self.grid.data.dvid[0] != self.state.dvid:
            self._grid()
            self._turned(None)
            self.draw()

    def _place(self, k: int, count: int) -> dict[str, Any]:
        data = self.state.data
        # Labels stand at the left column and the bottom row only, as in any page of facets.
        bottom, left = k >= count - _COLUMNS, k % _COLUMNS == 0
        x = Ruler(data.axis_label("TIME", "Time") if bottom else "", "bottom", count=4, offset=28)
        y = Ruler(data.axis_label("DV", "DV") if left else "", "left", count=4, offset=34)
        x.span(float(self.times[0]), float(self.times[-1]))
        frame = Frame(x, y, height="176px" if bottom else "158px", title=" ", small=True)
        scales = frame.scales
        nothing = np.zeros(_TIMES)
        typical = bq.Lines(
            x=self.times, y=nothing, scales=scales, colors=[MUTED], stroke_width=1.5, line_style="dashed"
        )
        own = bq.Lines(x=self.times, y=nothing, scales=scales, colors=[FIT], stroke_width=2)
        points = bq.Scatter(x=data.time[:1], y=data.dv[:1], scales=scales, colors=[DATA], default_size=16)
        points.on_element_click(lambda mark, _: self._clicked(mark))
        frame.put(typical, own, points)
        return {"frame": frame, "typical": typical, "own": own, "points": points}

    def _scale(self, _: Any) -> None:
        self.draw()

    def _subjects(self) -> list[int]:
        first = (self.page.value - 1) * _PER_PAGE
        return list(range(first, min(first + _PER_PAGE, self.state.data.n_subjects)))

    def _clicked(self, mark: Any) -> None:
        for place, subject in zip(self.places, self._subjects(), strict=False):
            if place["points"] is mark:
                self.state.toggle(self.state.data.ids[subject])

    def _reach(self, subjects: list[int], *curves: Any) -> tuple[float, float]:
        """Return the range of these subjects' observations and curves."""
        data = self.state.data
        seen = data.dv[np.isin(data.subject, subjects) & self.state.measured]
        drawn = np.concatenate([c[subjects].ravel() for c in curves])
        every = np.concatenate([seen, drawn[np.isfinite(drawn)]])
        return (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)

    def _turned(self, change: Any) -> None:
        data = self.state.data
        subjects = self._subjects()
        for k, place in enumerate(self.places):
            shown = k < len(subjects)
            place["frame"].figure.layout.display = None if shown else "none"
            if shown:
                rows = (data.subject == subjects[k]) & self.state.measured
                with place["points"].hold_sync():
                    place["points"].x, place["points"].y = data.time[rows], data.dv[rows]
                place["frame"].figure.title = f"ID {data.ids[subjects[k]]}"
        if change is not None:
            self.draw()

    def draw(self) -> None:
        """Move the curves of the subjects on the page."""
        point, data = self.state.point, self.state.data
        curves = individual_curves(self.grid, point.values, point.eta)
        typical = individual_curves(self.grid, point.values, np.zeros_like(point.eta))
        subjects = self._subjects()
        shared = self._reach(subjects, curves, typical) if self.same.value else None
        for place, subject in zip(self.places, subjects, strict=False):
            for mark, curve in ((place["own"], curves[subject]), (place["typical"], typical[subject])):
                mark.visible = bool(np.isfinite(curve).all())
                if mark.visible:
                    mark.y = curve
            place["frame"].y.span(*(shared or self._reach([subject], curves, typical)), sticky=True)
            figure = place["frame"].figure
            mark = figure.add_class if data.ids[subject] in self.state.selected_ids else figure.remove_class
            mark("nlme-picked")
        self.text.value = (
            f"<span class='soft'>At {point.label}: the individual curve is at the subject's EBE, the typical curve at "
            "η = 0 for the subject's dose and covariates. Click an observation to select its subject.</span>"
        )
