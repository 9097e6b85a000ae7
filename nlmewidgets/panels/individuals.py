"""A page of individual fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import individual_curves
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid, legend
from nlmewidgets.panels.theme import FIT, MUTED
from nlmewidgets.panels.view import ViewControls, group_look, groups_key

__all__ = ["IndividualsPanel"]

_TIMES = 61
_PER_PAGE = 12
_COLUMNS = 4


class IndividualsPanel(Panel):
    """Observations, individual curve (at the EBE) and typical curve of each subject, twelve a page."""

    title = "Individuals"
    step: ClassVar[str] = "initial"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "draw_view": ("dvid", "log_axis", "per_dose", "by"),
        "draw": ("point", "selected_ids"),
    }

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
        self.view = ViewControls(state)
        controls = ipw.HBox([*([self.page] if self.pages > 1 else []), self.same, *self.view.root])
        controls.layout = ipw.Layout(flex_flow="row wrap", grid_gap="2px 6px")
        self.text = caption()
        self.key = ipw.VBox()
        self.cells = grid([], f"repeat({_COLUMNS}, 1fr)")
        self.root.children = (self.key, self.cells, controls, self.view.refused, self.text)
        self._figures()

    def _grid(self) -> None:
        state = self.state
        shown = state.data.on_grid(_TIMES, dvid=state.dvid if len(state.dvids) > 1 else None, follow=True)
        self.grid = state.model.problem(shown)
        self.times = self.grid.data.time[:_TIMES]

    def draw_view(self) -> None:
        """Show the output chosen, on the axis and in the colours chosen."""
        if self.grid.data.dvid[0] != self.state.dvid:
            self._grid()
        if self._view != self._view_now():
            self._figures()
            self.draw()

    def _view_now(self) -> tuple[Any, ...]:
        state = self.state
        return state.dvid, state.log_axis, state.per_dose, state.by

    def _figures(self) -> None:
        state = self.state
        self._view = self._view_now()
        self.per, self.dv = state.per, state.seen
        self.rows = state.measured & (self.dv > 0) if state.log_axis else state.measured
        self.group, names = state.groups
        count = min(_PER_PAGE, state.data.n_subjects)
        self.places = [self._place(k, count) for k in range(count)]
        self.cells.children = [p["frame"].figure for p in self.places]
        curves = (("line", FIT, "individual curve"), ("dashed", MUTED, "typical curve"))
        self.key.children = (legend(*curves, *groups_key(names)),)
        self._turned(None)

    def _place(self, k: int, count: int) -> dict[str, Any]:
        data = self.state.data
        # Labels stand at the left column and the bottom row only, as in any page of facets.
        bottom, left = k >= count - _COLUMNS, k % _COLUMNS == 0
        x = Ruler(data.axis_label("TIME", "Time") if bottom else "", "bottom", count=4, offset=28)
        log, per_dose = self.state.log_axis, self.state.per_dose
        wide = 10 if log or per_dose else 0  # for numbers of more digits
        label = "DV per dose" if per_dose else self.state.axis_words("DV")  # the unit per dose would be cut
        y = Ruler(label if left else "", "left", count=3 if log else 4, offset=34 + wide, log=log)
        x.span(float(self.times[0]), float(self.times[-1]))
        frame = Frame(x, y, height="176px" if bottom else "158px", title=" ", small=True)
        frame.figure.fig_margin = frame.figure.fig_margin | {"left": frame.figure.fig_margin["left"] + wide}
        scales = frame.scales
        nothing = np.ones(_TIMES)
        typical = bq.Lines(
            x=self.times, y=nothing, scales=scales, colors=[MUTED], stroke_width=1.5, line_style="dashed",
            labels=["typical curve"],
        )  # fmt: skip
        own = bq.Lines(
            x=self.times, y=nothing, scales=scales, colors=[FIT], stroke_width=2, labels=["individual curve"]
        )
        points = bq.Scatter(
            x=self.times[:1], y=nothing[:1], scales=scales, default_size=16, labels=["observed"], **group_look(0)
        )
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
        seen = self.dv[np.isin(self.state.data.subject, subjects) & self.rows]
        drawn = np.concatenate([c[subjects].ravel() for c in curves])
        if self.state.log_axis and len(seen):
            drawn = np.maximum(drawn, self._bottom)
        every = np.concatenate([seen, drawn[np.isfinite(drawn)]])
        return (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)

    def _turned(self, change: Any) -> None:
        data = self.state.data
        subjects = self._subjects()
        for k, place in enumerate(self.places):
            shown = k < len(subjects)
            place["frame"].figure.layout.display = None if shown else "none"
            if shown:
                rows = (data.subject == subjects[k]) & self.rows
                points, look = place["points"], group_look(int(self.group[subjects[k]]))
                with points.hold_sync():
                    points.visible = bool(rows.any())
                    if points.visible:
                        points.x, points.y = data.time[rows], self.dv[rows]
                    points.colors, points.marker = look["colors"], look["marker"]
                place["frame"].figure.title = f"ID {data.ids[subjects[k]]}"
        if change is not None:
            self.draw()

    def draw(self) -> None:
        """Move the curves of the subjects on the page."""
        point, data = self.state.point, self.state.data
        curves = individual_curves(self.grid, point.values, point.eta)
        typical = individual_curves(self.grid, point.values, np.zeros_like(point.eta))
        if self.per is not None:
            curves, typical = curves / self.per[:, None], typical / self.per[:, None]
        subjects = self._subjects()
        shared = self._reach(subjects, curves, typical) if self.same.value else None
        for place, subject in zip(self.places, subjects, strict=False):
            for mark, curve in ((place["own"], curves[subject]), (place["typical"], typical[subject])):
                mark.visible = bool(np.isfinite(curve).all())
                if mark.visible:
                    mark.y = np.maximum(curve, self._bottom) if self.state.log_axis else curve
            place["frame"].y.span(*(shared or self._reach([subject], curves, typical)), sticky=True)
            figure = place["frame"].figure
            mark = figure.add_class if data.ids[subject] in self.state.selected_ids else figure.remove_class
            mark("nlme-picked")
        self.text.value = (
            f"<span class='soft'>At {point.label}: the individual curve is at the subject's EBE, the typical curve at "
            f"η = 0 for the subject's dose and covariates.{self._words()} Click an observation to select its subject."
            "</span>"
        )

    @property
    def _bottom(self) -> float:
        """The lowest value of a log axis; what is not positive runs along it."""
        seen = self.dv[self.rows]
        return 0.5 * float(seen.min()) if len(seen) else 0.1

    def _words(self) -> str:
        text = ""
        if self.grid.pointwise_rows.any():
            text = " There is no curve: classes and events have probabilities, not a prediction."
        if self.state.per_dose:
            text += f" {self.state.axis_words('DV')}: observations and curves are divided by the subject's dose."
        hidden = int((self.state.measured & ~self.rows).sum())
        if hidden:
            text += f" {hidden} observation{'s' if hidden > 1 else ''} ≤ 0 cannot be shown on a log axis."
        return text
