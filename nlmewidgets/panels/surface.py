"""The objective over two parameters as contours, with the way the fit took; a click sets the sliders."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics.surface import LEVELS, Surface, surface
from nlmewidgets.fit.scale import is_log
from nlmewidgets.panels.base import Frame, Panel, Ruler, background, bq, caption, legend
from nlmewidgets.panels.driver import Job
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED, TREND

__all__ = ["SurfacePanel"]

_POINTS = {False: 33, True: 17}
"""Points along each parameter, held and re-optimised."""
_ZOOMS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, eq=False)
class _Request:
    """What a surface is asked for: pulled by a `Job`."""

    model: Any
    data: Any
    problem: Any
    values: Values
    names: tuple[str, str]
    method: str
    profile: bool
    zoom: float
    eta: Array | None
    label: str

    def steps(self) -> Iterator[Surface]:
        """Yield the surface after every point."""
        problem = self.problem if self.data is self.problem.data else self.model.problem(self.data)
        start = self.eta if problem is self.problem else None
        return surface(
            problem,
            self.values,
            self.names,
            method=self.method,
            profile=self.profile,
            zoom=self.zoom,
            points=_POINTS[self.profile],
            start=start,
        )

    @staticmethod
    def result(history: Sequence[Surface], **_: Any) -> Surface:
        """Return the surface as far as it came."""
        return history[-1]


class SurfacePanel(Panel):
    """Contours of −2 log L at the quantiles of χ², computed beside the interface from coarse to fine."""

    title = "Surface"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"place": ("shown", "params"), "path": ("trace",)}

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.surface: Surface | None = None
        self.asked: _Request | None = None
        self._drawn_for: _Request | None = None
        self._job: Job | None = None

    def build(self) -> None:
        """Make the choices and the figure."""
        space = self.state.model.space
        names = list(space.names)
        free = [n for n in names if not space.is_fixed(n)] or names
        if len(names) < 2:
            text = "A surface is over two parameters; this model has one."
            self.root.children = (ipw.HTML(f"<div class='nlme-empty'>{text}</div>"),)
            return
        second = next(n for n in [*free, *names] if n != free[0])
        self.first = _choice("Across", names, free[0], 170, "Parameter along the horizontal axis")
        self.second = _choice("Up", names, second, 145, "Parameter along the vertical axis")
        others = [("held", False), ("re-optimised", True)]
        self.others = _choice("Others", others, False, 180, "What the other parameters do at every point")
        self.zoom = _choice("Range", [(f"× {z:g}", z) for z in _ZOOMS], 1.0, 130, "Factor of the ranges")
        for box in (self.first, self.second, self.others, self.zoom):
            box.observe(lambda _: self._changed_choice(), "value")
        self.go = ipw.Button(description="Draw", icon="map-o", button_style="primary", tooltip="Compute the surface")
        self.halt = ipw.Button(description="Stop", icon="stop", disabled=True, tooltip="Keep what has been computed")
        for button, action in ((self.go, self.start), (self.halt, self.stop)):
            button.layout = ipw.Layout(width="84px")
            button.on_click(lambda _, act=action: act())
        self.bar = ipw.FloatProgress(min=0.0, max=1.0, layout=ipw.Layout(width="120px", visibility="hidden"))
        self.empty = ipw.HTML(
            "<div class='nlme-empty'>The objective over two parameters: choose them and press Draw. It is computed "
            "beside the interface, from coarse to fine.</div>"
        )
        self.key = legend(
            ("line", FIT, "rise of −2 log L (at the line)"),
            ("line", SELECTED, "way of the fit"),
            ("dot", MUTED, "where it began"),
            ("diamond", TREND, "values shown"),
            ("frame", TREND, "sliders, where they are elsewhere"),
        )
        self.place_of_figure = ipw.VBox()
        self.text = caption()
        self.body = ipw.VBox([self.key, self.place_of_figure, self.text])
        self.body.layout.display = "none"
        row = ipw.Layout(flex_flow="row wrap", align_items="center")
        choices = ipw.HBox([self.first, self.second, self.others, self.zoom], layout=row)
        self.root.children = (choices, ipw.HBox([self.go, self.halt, self.bar], layout=row), self.empty, self.body)

    # ------------------------------------------------------------------------ computing

    def start(self) -> None:
        """Compute the surface of the parameters chosen around the values shown, in place of one being computed."""
        state = self.state
        if self.first.value == self.second.value:
            self._say("<div class='nlme-alert'>A surface is over two different parameters; choose another.</div>")
            return
        point = state.point
        fitting = point.problem.n_subjects == state.problem.n_subjects
        request = _Request(
            state.model,
            state.data_kept,
            state.problem,
            point.values,
            (self.first.value, self.second.value),
            state.method,
            self.others.value,
            self.zoom.value,
            point.eta if fitting else None,
            point.label,
        )
        self.stop()
        self.asked = request
        self.go.disabled, self.halt.disabled = True, False
        self.bar.value, self.bar.layout.visibility = 0.0, "visible"
        self._say("<span class='soft' aria-live='polite'>Computing …</span>")
        self._job = Job(
            lambda: request,
            lambda new: self._publish(request, new[-1]),
            lambda found, error: self._ended(request, found, error),
        ).start()

    def stop(self) -> None:
        """End the computation after the point in hand; what it reached stays."""
        if self._job is not None:
            self._job.stop()

    close = stop

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the surface being computed."""
        if self._job is not None:
            self._job.wait(timeout)

    def _changed_choice(self) -> None:
        if self.asked is not None:
            self.start()

    def _publish(self, request: _Request, found: Surface) -> None:
        with self.state.lock:
            if request is not self.asked:
                return
            self.bar.value = found.done
            if len(found.ofv) and (self.surface is None or self.surface.ofv is not found.ofv):
                self.surface = found
                self.draw()

    def _ended(self, request: _Request, found: Surface | None, error: str) -> None:
        with self.state.lock:
            if request is not self.asked:
                return
            self.go.disabled, self.halt.disabled = False, True
            self.bar.layout.visibility = "hidden"
            if found is None:
                self._say(f"<div class='nlme-alert'>{html.escape(error)}</div>")
                return
            if not len(found.ofv):
                self._say("<span class='soft'>Stopped before there was anything to draw.</span>")
                return
            self.surface = found
            self.draw()

    # -------------------------------------------------------------------------- drawing

    def _say(self, text: str) -> None:
        self.body.layout.display, self.empty.layout.display = None, "none"
        self.text.value = text

    def _figure(self) -> None:
        """Make the figure of the parameters asked for."""
        assert self.asked is not None
        space, names = self.state.model.space, self.asked.names
        x, y = (
            Ruler(_label(space, name), side, log=is_log(space, name))
            for name, side in zip(names, ("bottom", "left"), strict=True)
        )
        y.axis.label_offset = "48px"
        self.frame = Frame(x, y, height="420px")
        scales, none = self.frame.scales, [1.0, 1.0]
        widths = dict(zip(LEVELS, (1.0, 1.6, 2.6, 1.4, 0.8), strict=True))
        self.lines = {
            level: bq.Lines(
                x=none,
                y=none,
                scales=scales,
                colors=[FIT],
                stroke_width=widths[level],
                visible=False,
                labels=[f"rise of {level:g}"],
            )
            for level in LEVELS
        }
        self.labels = bq.Label(
            x=none,
            y=none,
            text=["", ""],
            scales=scales,
            colors=[FIT],
            default_size=11,
            x_offset=4,
            y_offset=-8,
            visible=False,
        )
        self.way = bq.Lines(
            x=none, y=none, scales=scales, colors=[SELECTED], stroke_width=1.8, labels=["way of the fit"], visible=False
        )
        self.stations = bq.Scatter(x=none, y=none, scales=scales, colors=[SELECTED], default_size=16, visible=False)
        self.begin = bq.Scatter(x=none, y=none, scales=scales, colors=[MUTED], default_size=90, visible=False)
        self.here = bq.Scatter(
            x=none, y=none, scales=scales, colors=[TREND], default_size=90, marker="diamond", labels=["values shown"]
        )
        self.sliders = bq.Scatter(
            x=none, y=none, scales=scales, colors=[TREND], default_size=110, marker="square", fill=False, visible=False
        )
        self.clicks = background(scales, self.clicked)
        self.frame.put(
            *self.lines.values(), self.labels, self.way, self.begin, self.stations, self.sliders, self.here, self.clicks
        )
        self.place_of_figure.children = (self.frame.figure,)

    def draw(self) -> None:
        """Draw the surface as far as it is."""
        found = self.surface
        if found is None or self.asked is None:
            return
        self.body.layout.display, self.empty.layout.display = None, "none"
        if self._drawn_for is None or self._drawn_for.names != self.asked.names:
            self._figure()
        self._drawn_for = self.asked
        for ruler, axis in zip((self.frame.x, self.frame.y), found.axes, strict=True):
            ruler.span(float(np.nanmin(axis)), float(np.nanmax(axis)))
        with self.clicks.hold_sync():
            self.clicks.x = [float(np.nanmin(found.axes[0])), float(np.nanmax(found.axes[0]))]
            self.clicks.y = [float(np.nanmin(found.axes[1])), float(np.nanmax(found.axes[1]))]
        self.within = _within(found)
        places: list[tuple[float, float, str]] = []
        for level, (x, y) in found.contours().items():
            line = self.lines[level]
            with line.hold_sync():
                line.visible = len(x) > 1
                if line.visible:
                    line.x, line.y = x, y
                    # To the right and on top in turn: labels of neighbours would overlap.
                    k = int(np.nanargmax(y if len(places) % 2 else x))
                    places.append((float(x[k]), float(y[k]), f"{level:g}"))
        with self.labels.hold_sync():
            self.labels.visible = bool(places)
            if places:
                self.labels.x, self.labels.y, self.labels.text = (list(v) for v in zip(*places, strict=True))
        self.place()
        self.path()
        self.renew_numbers()

    def place(self) -> None:
        """Move the mark of the values shown, and say what is drawn."""
        if self._drawn_for is None or self.surface is None:
            return
        numbers = self.state.model.space.to_dict(self.state.shown)
        x, y = (numbers[name] for name in self._drawn_for.names)
        with self.here.hold_sync():
            self.here.x, self.here.y = [x], [y]
        slid = [self.state.params[name] for name in self._drawn_for.names]
        with self.sliders.hold_sync():
            self.sliders.visible = not np.allclose(slid, (x, y))
            self.sliders.x, self.sliders.y = slid[:1], slid[1:]
        self.text.value = self._words(self.surface, numbers)

    def path(self) -> None:
        """Draw the parameters' way through the iterations of the run."""
        if self._drawn_for is None:
            return
        across, up = self._drawn_for.names
        way = [(it[across], it[up]) for it in (i.to_dict() for i in self.state.trace) if across in it and up in it]
        x, y = (np.array(v) for v in zip(*way, strict=True)) if way else (np.zeros(0), np.zeros(0))
        for mark, some in ((self.way, slice(None)), (self.stations, slice(None)), (self.begin, slice(1))):
            with mark.hold_sync():
                mark.visible = len(x) > 0
                if mark.visible:
                    mark.x, mark.y = x[some], y[some]

    def clicked(self, x: float, y: float) -> None:
        """Move the sliders to where the surface was clicked."""
        if self._drawn_for is not None:
            self.state.history.cut()
            places = zip(self._drawn_for.names, (x, y), strict=True)
            self.state.move(**{name: float(f"{value:.4g}") for name, value in places})

    def _words(self, found: Surface, numbers: Mapping[str, float]) -> str:
        request = self._drawn_for
        assert request is not None
        a, b = (html.escape(n) for n in found.names)
        n = found.ofv.shape[0]
        held = "re-optimised at every point" if found.profiled else f"held at {html.escape(request.label)}"
        parts = [
            f"OFV ({found.by.upper()}) over {a} and {b} on {n} × {n} points, the other parameters {held}.",
            f"Lowest {found.minimum:.2f}, near "
            + " and ".join(f"{k} = {v:.4g}" for k, v in found.lowest.items())
            + ".",
        ]
        if found.centre - found.minimum > 0.1:
            parts.append(f"That is {found.centre - found.minimum:.2f} below {html.escape(request.label)}.")
        parts.append(self.within)
        if np.isfinite(found.correlation) and abs(found.correlation) > 0.8:
            parts.append(
                f"By the curvature the two are correlated {found.correlation:+.2f}: what one loses the other can make "
                "up for."
            )
        gone = int((~np.isfinite(found.ofv)).sum())
        if gone:
            parts.append(f"At {gone} points the objective is no number.")
        left = len(self.state.excluded) + len(self.state.excluded_records)
        if left:
            parts.append("Subjects and observations left out do not count.")
        before = self.state.model.space.to_dict(found.base)
        free = {name for name in numbers if not self.state.model.space.is_fixed(name)} if found.profiled else set()
        if any(not np.isclose(numbers[k], before[k], rtol=1e-6) for k in numbers if k not in {*found.names, *free}):
            parts.append("<b>Other parameters have moved since; press Draw to see the surface there.</b>")
        if self.state.trace:
            parts.append("Along the way of the fit the others moved too: its height is not that of the surface.")
        parts.append("A click moves the sliders there.")
        return f"<span class='soft'>{' '.join(parts)}</span>"


def _within(found: Surface) -> str:
    """Say how far the 5.99 contour reaches."""
    ranges = found.extent(5.99)
    words = []
    for name, (low, high) in ranges.items():
        if np.isnan(low) or np.isnan(high):
            return "The region within 5.99 of it is smaller than the grid's squares."
        start = "beyond the figure" if np.isinf(low) else f"{low:.4g}"
        end = "beyond the figure" if np.isinf(high) else f"{high:.4g}"
        words.append(f"{html.escape(name)} from {start} to {end}")
    kind = "a 95 % region of both" if found.profiled else "with the others held, narrower than a confidence region"
    return f"Within 5.99 of it ({kind}): {', '.join(words)}."


def _label(space: Any, name: str) -> str:
    """Return a parameter's name with what it is a standard deviation of, for an axis."""
    if name in space.omega_names:
        return f"{name} (standard deviation of a random effect)"
    return name


def _choice(name: str, options: Sequence[Any], value: Any, width: int, tooltip: str) -> ipw.Dropdown:
    return ipw.Dropdown(
        options=options,
        value=value,
        description=name,
        tooltip=tooltip,
        style={"description_width": "initial"},
        layout=ipw.Layout(width=f"{width}px"),
    )
