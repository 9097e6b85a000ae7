"""All observations with the typical curve, the prediction band and the selected subjects' curves."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, ClassVar, NamedTuple

import ipywidgets as ipw
import numpy as np
import traitlets as tl

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics import individual_curves, population_band, typical_curve
from nlmewidgets.fit.ribbon import Ribbon, ribbon, typical_slopes
from nlmewidgets.fit.scale import moved
from nlmewidgets.panels.base import CLOUD, Frame, Panel, Ruler, background, bq, caption, dots, legend
from nlmewidgets.panels.handles import Handles
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.theme import BAND, FIT, SELECTED, TREND
from nlmewidgets.panels.view import ViewControls, group_look, groups_key

__all__ = ["PopulationPanel"]

_TIMES = 81
_SIMULATED = 360
"""Curves simulated for the band; the same random draws at every redraw."""
_SLOW = 0.03
"""Seconds: a band that takes longer (differential equations) follows the typical curve, beside the sliders."""
_WIDE, _NEAR = 2.0, 0.03
"""The figure's width in units of its height, and how near to an observation a click must be, in the same unit."""
_REST = 0.1
"""Seconds without a move after which such a band is computed: a drag keeps the processor for its curve."""


class _Beside(NamedTuple):
    """What follows the typical curve: the band's edges (2, times), its slopes (thetas, times) if they are wanted."""

    grid: Problem
    values: Values
    edges: Array
    slopes: Array | None = None


class PopulationPanel(Panel):
    """The population curve over the data."""

    title = "Population"
    step: ClassVar[str] = "initial"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "draw_view": ("dvid", "log_axis", "per_dose", "by"),
        "draw_population": ("shown",),
        "draw_ribbon": ("ribbon", "ribbon_by", "touched", "errors"),
        "draw_selected": ("point", "selected_ids"),
    }

    def build(self) -> None:
        """Make the figure; observations are drawn once, lines move."""
        state = self.state
        self._bands: Latest[tuple[Problem, Values], _Beside] = Latest(self._rested, self._banded, lock=state.lock)
        self._cost = 0.0
        self._bandless = ""
        self._slopes: Array | None = None
        self._grid()
        draws = max(1, round(_SIMULATED / self.grid.n_subjects))
        rng = np.random.default_rng(0)
        self.normal = _even_normal(rng, self.grid.n_eta, draws, self.grid.n_subjects)
        # One residual per curve: the quantiles at each time are right, and smooth along it.
        self.noise = np.repeat(_even_normal(rng, 1, draws, self.grid.n_subjects)[0], _TIMES, axis=1)
        self.text = caption()
        self.key = ipw.VBox()
        self.box = ipw.VBox()
        self.view = ViewControls(state)
        self.handles = Handles(state, self.draw_population)
        self.ribbon_text = caption()
        self._ribbon_controls()
        # Which output the figures show; a choice only where there is one.
        names = [(state.output_name(d), d) for d in state.dvids]
        self.output = ipw.Dropdown(options=names, value=state.dvid, description="Output")
        self.output.layout = ipw.Layout(width="220px")
        tl.link((self.output, "value"), (state, "dvid"))
        controls = ipw.HBox(
            [
                *([self.output] if len(names) > 1 else []),
                *self.view.root,
                self.parameter,
                self.change,
                self.handles.toggle,
            ]
        )
        controls.layout = ipw.Layout(flex_flow="row wrap", grid_gap="2px 6px")
        under = (self.handles.fields, self.view.refused, self.handles.text, self.ribbon_text, self.text)
        self.root.children = (self.key, self.box, controls, *under)
        self._figure()

    def _ribbon_controls(self) -> None:
        """Make the choice of a parameter whose ribbon is drawn, and of the change that it shows."""
        state = self.state
        thetas = [p.name for p in self.grid.space.theta]
        options = [("off", ""), ("moved last", "moved"), *((name, name) for name in thetas)]
        self.parameter = ipw.Dropdown(options=options, description="Ribbon", layout=ipw.Layout(width="190px"))
        self.parameter.style.description_width = "50px"
        self.parameter.tooltip = "Where along the typical curve a parameter matters"
        if state.ribbon not in [value for _, value in options]:
            state.ribbon = ""
        tl.link((state, "ribbon"), (self.parameter, "value"))
        self.change = ipw.Dropdown(options=["10 %", "30 %", "1 SE"], description="±", layout=ipw.Layout(width="100px"))
        self.change.style.description_width = "16px"
        self.change.tooltip = "The change of the parameter that the ribbon shows"
        tl.link((state, "ribbon_by"), (self.change, "value"))

    def _grid(self) -> None:
        state = self.state
        self.grid_data = state.data.on_grid(_TIMES, dvid=state.dvid if len(state.dvids) > 1 else None, follow=True)
        self.grid = state.model.problem(self.grid_data)
        self.times = self.grid_data.time[:_TIMES]

    def draw_view(self) -> None:
        """Show the output chosen, on the axis and in the colours chosen."""
        if self.grid_data.dvid[0] != self.state.dvid:
            self._grid()
        if self._view != self._view_now():
            self._figure()
            self.draw_population()
            self.draw_selected()

    def _view_now(self) -> tuple[Any, ...]:
        state = self.state
        return state.dvid, state.log_axis, state.per_dose, state.by

    def _figure(self) -> None:
        state, data = self.state, self.state.data
        self._view = self._view_now()
        self.per, self.dv = state.per, state.seen
        x = Ruler(data.axis_label("TIME", "Time"), "bottom")
        wide = 10 if state.log_axis or state.per_dose else 0  # for numbers of more digits
        y = Ruler(state.axis_words(self._label("Observation")), "left", log=state.log_axis, offset=42 + wide)
        x.span(float(self.times[0]), float(self.times[-1]))
        self.frame = Frame(x, y, height="400px")
        self.frame.figure.fig_margin = self.frame.figure.fig_margin | {"left": 58 + wide}
        scales = self.frame.scales
        self.band = bq.Lines(
            x=self.times,
            y=np.ones((2, _TIMES)),
            scales=scales,
            colors=[BAND],
            stroke_width=0.5,
            opacities=[0.6, 0.6],
            fill="between",
            fill_colors=[BAND],
            fill_opacities=[0.16],
            labels=["5 % of simulated observations", "95 % of simulated observations"],
        )
        self.typical = bq.Lines(
            x=self.times, y=np.ones(_TIMES), scales=scales, colors=[FIT], stroke_width=2.5, labels=["typical curve"]
        )
        self.ribbon = bq.Lines(
            x=self.times,
            y=np.ones((2, _TIMES)),
            scales=scales,
            colors=[TREND],
            stroke_width=1,
            line_style="dashed",
            fill="between",
            fill_colors=[TREND],
            fill_opacities=[0.3],
            visible=False,
            labels=["ribbon, below", "ribbon, above"],
        )
        self.picked = bq.Lines(
            x=self.times,
            y=np.ones((1, _TIMES)),
            scales=scales,
            colors=[SELECTED],
            stroke_width=2,
            visible=False,
            labels=["selected subject"],
        )
        shown = state.measured
        self.rows = np.flatnonzero(shown & (self.dv > 0) if state.log_axis else shown)
        group, names = state.groups
        cloud = len(names) == 1 and len(self.rows) > CLOUD
        self.points, under, over = [], [], []
        if cloud:
            who = [f"ID {data.ids[i]}" for i in data.subject[self.rows]]
            under.append(dots(data.time[self.rows], self.dv[self.rows], scales, labels=["observed"], names=who))
            cover = background(self.frame.unit, self._clicked_near)
            cover.x = cover.y = [0.0, 1.0]
            over.append(cover)
            self.frame.figure.add_class("nlme-cloud")
        for k in range(0 if cloud else len(names)):
            rows = self.rows[group[data.subject[self.rows]] == k]
            mark = bq.Scatter(
                x=data.time[rows],
                y=self.dv[rows],
                scales=scales,
                default_size=18 if len(names) == 1 else 26,
                opacities=[0.75],
                visible=bool(len(rows)),
                labels=[names[k] if len(names) > 1 else "observed"],
                names=[f"ID {data.ids[i]}" for i in data.subject[rows]],
                display_names=False,
                **group_look(k),
            )
            mark.on_element_click(lambda _, event, rows=rows: self._clicked(rows, event))
            self.points.append(mark)
        self.picked_points = bq.Scatter(
            x=self.times[:1], y=np.ones(1), scales=scales, colors=[SELECTED], default_size=38, visible=False
        )
        self.frame.put(
            *under,
            self.band,
            self.ribbon,
            self.typical,
            self.picked,
            *self.points,
            self.picked_points,
            *over,
            self.handles.new_mark(scales),
        )
        self._names, self._keyed = names, ""
        self._key()
        self.box.children = (self.frame.figure,)

    def _key(self, ribbon: str = "") -> None:
        self.key.children = (
            legend(
                ("area", BAND, "90 % of simulated observations"),
                ("line", FIT, "typical curve"),
                *([("area", TREND, ribbon)] if ribbon else []),
                *groups_key(self._names),
                ("line", SELECTED, "selected subject"),
            ),
        )

    def _label(self, single: str) -> str:
        return self.state.output_name(self.state.dvid) if len(self.state.dvids) > 1 else single

    def _line(self, y: Any) -> Any:
        """Return a curve as it can be drawn: on a log axis what is not positive runs along the bottom."""
        return np.where(np.asarray(y) > self._bottom, y, self._bottom) if self.state.log_axis else y

    @property
    def _bottom(self) -> float:
        """The lowest value of the log axis: a little below the smallest positive observation."""
        seen = self.dv[self.state.measured]
        seen = seen[seen > 0]
        return 0.5 * float(seen.min()) if len(seen) else 0.1

    def _clicked(self, rows: Any, event: Any) -> None:
        data = self.state.data
        self.state.toggle(data.ids[int(data.subject[rows[int(event["data"]["index"])]])])

    def _clicked_near(self, x: float, y: float) -> None:
        """Select the subject of the observation nearest to a click, in shares of the figure's width and height."""
        data = self.state.data
        across = self.frame.x.share(data.time[self.rows]) - x
        up = self.frame.y.share(self.dv[self.rows]) - y
        far = np.hypot(_WIDE * across, up)
        nearest = int(far.argmin())
        if far[nearest] < _NEAR:
            self.state.toggle(data.ids[int(data.subject[self.rows[nearest]])])

    def draw_population(self) -> None:
        """Move the typical curve and the band to the values shown; hide them where there are none."""
        values = self.state.shown
        self._curve = typical_curve(self.grid, values, self.per)
        self.typical.visible = bool(np.isfinite(self._curve).all())
        if self.typical.visible:
            self.typical.y = self._line(self._curve)
        self.handles.place(self.times, self._line(self._curve))
        if self._cost > _SLOW:
            self._bands.put((self.grid, values))
        else:
            self._banded(self._band((self.grid, values)))

    def _rested(self, request: tuple[Problem, Values]) -> _Beside:
        """Return the band when the sliders rest; of values that are no longer shown, nothing."""
        if sys.platform != "emscripten":  # where nothing is beside the interface, waiting would be waiting
            time.sleep(_REST)
        return self._band(request) if request[1] is self.state.shown else _Beside(*request, np.empty(0))

    def _band(self, request: tuple[Problem, Values]) -> _Beside:
        grid, values = request
        began = time.perf_counter()
        try:
            edges = population_band(grid, values, self.normal, self.noise, (0.05, 0.95), self.per).to_numpy().T
        except NlmeError as refusal:
            edges, self._bandless = np.full((2, _TIMES), np.nan), str(refusal)
        slopes = typical_slopes(grid, values, self.per)[1] if self.state.ribbon else None
        self._cost = time.perf_counter() - began
        return _Beside(grid, values, edges, slopes)

    def _banded(self, found: _Beside) -> None:
        """Draw the band and the ribbon, unless another output or other values are shown by now."""
        grid, values, edges, slopes = found
        if grid is not self.grid or values is not self.state.shown:
            return
        self.band.visible = bool(np.isfinite(edges).all())
        if self.band.visible:
            self.band.y = self._line(edges)
            self._span(self._curve, edges)
        else:
            self._span()
        self._slopes = slopes
        self._show_ribbon()

    def draw_ribbon(self) -> None:
        """Show the ribbon of the parameter chosen."""
        if self.state.ribbon and self._slopes is None:
            self.draw_population()  # finds the slopes too
        else:
            self._show_ribbon()

    def _show_ribbon(self) -> None:
        state = self.state
        found, why = (None, "") if not state.ribbon or self._slopes is None else self._ribbon(self._slopes)
        with self.ribbon.hold_sync():
            self.ribbon.visible = found is not None and self.typical.visible and bool(np.isfinite(found.effect).all())
            if found is not None and self.ribbon.visible:
                self.ribbon.y = self._line(np.stack([found.low, found.high]))
        keyed = f"{found.name} ± {found.change}" if found is not None else ""
        if keyed != self._keyed:
            self._keyed = keyed
            self._key(keyed)
        self.change.layout.display = None if state.ribbon else "none"
        if found is not None and self.ribbon.visible:
            why += found.words(state.unit_shown, state.data.unit("TIME"))
        self.ribbon_text.value = html.escape(why)

    def _ribbon(self, slopes: Array) -> tuple[Ribbon | None, str]:
        """Return the ribbon asked for, and why it is none or another one."""
        state, space = self.state, self.grid.space
        name = state.touched if state.ribbon == "moved" else state.ribbon
        value = space.to_dict(state.shown).get(name, np.nan)
        change, why = "10 %" if state.ribbon_by == "10 %" else "30 %", ""
        amount = moved(space, name, value, float(change[:2]) / 100.0) - value
        if state.ribbon_by == "1 SE":
            error = state.errors.get(name, np.nan)
            if np.isfinite(error):
                amount, change = error, "1 SE"
            elif state.result is None:
                why = "There is no fit yet that has standard errors; the ribbon is of 30 %. "
            elif not state.errors:
                state.find_errors()
                why = "The standard errors are being found; until then the ribbon is of 30 %. "
            else:
                why = f"The last fit has no standard error of {name}; the ribbon is of 30 %. "
        found = ribbon(self.grid, name, self.times, self._curve, slopes, amount, change)
        if found is None:
            return None, f"{name} moves the spread of the observations, not the typical curve."
        return found, why

    def wait(self, timeout: float | None = None) -> None:
        """Wait for a band or standard errors that are being computed."""
        self.handles.wait(timeout)
        self._bands.wait(timeout)
        self.state._errors.wait(timeout)

    def draw_selected(self) -> None:
        """Move the selected subjects' curves, and say what is shown."""
        point, data = self.state.point, self.state.data
        chosen = [i for i, label in enumerate(data.ids) if label in self.state.selected_ids]
        rows = self.rows[np.isin(data.subject[self.rows], chosen)]
        own = None
        if chosen and point.eta.shape[1] == self.grid.n_subjects:
            own = individual_curves(self.grid, point.values, point.eta)[chosen]
            own = own if self.per is None else own / self.per[chosen, None]
            own = self._line(own) if np.isfinite(own).all() else None
        with self.picked.hold_sync(), self.picked_points.hold_sync():
            if own is not None:
                self.picked.y = own
            if len(rows):
                self.picked_points.x, self.picked_points.y = data.time[rows], self.dv[rows]
            self.picked.visible, self.picked_points.visible = own is not None, bool(len(rows))
        self.text.value = self._words(chosen)

    def _span(self, *curves: Any) -> None:
        """Fit the observation axis to data and curves, unless a curve is being dragged along it."""
        if self.handles.dragging:
            return
        seen = [self.dv[self.rows], *(self._line(c).ravel() for c in curves)]
        every = np.concatenate(seen)
        every = every[np.isfinite(every)]
        if not len(every):
            return
        low, high = (self._bottom if self.state.log_axis else float(every.min())), float(every.max())
        # A curve gone astray must not flatten the data into a line.
        most = 20.0 * float(np.abs(self.dv[self.state.measured]).max(initial=0.0)) or high
        self.frame.y.span(max(low, -most), min(high, most), sticky=True)

    def _words(self, chosen: list[int]) -> str:
        state, data = self.state, self.state.data
        text = f"<span class='soft'>Curves at {html.escape(state.point.label)}."
        if self.grid.pointwise_rows.any():
            text += " There is no curve: classes and events have probabilities, not a prediction."
        elif state.data.dosed.any():
            text += " The typical curve is averaged over the subjects' doses and covariates."
        if self._bandless:
            text += f" There is no band: {html.escape(self._bandless)}"
        if state.per_dose:
            text += " Observations and curves are divided by each subject's dose."
        hidden = int((self.dv[state.measured] <= 0).sum()) if state.log_axis else 0
        if hidden:
            text += f" {hidden} observation{'s' if hidden > 1 else ''} ≤ 0 cannot be shown on a log axis."
        if chosen:
            text += " Selected: " + ", ".join(html.escape(str(data.ids[i])) for i in chosen) + "."
        else:
            text += " Click an observation to light up its subject everywhere."
        return text + "</span>"


def _even_normal(rng: Any, variables: int, draws: int, subjects: int) -> Any:
    """Return standard normal draws, each variable stratified: a Latin hypercube, so that few give smooth bands."""
    count = draws * subjects
    scores = np.array([NormalDist().inv_cdf((k + 0.5) / count) for k in range(count)])
    shuffled = [rng.permutation(scores) for _ in range(variables)]
    return np.reshape(shuffled, (variables, draws, subjects))
