"""A sampling design to try: times to drag, doses and subjects, and what standard errors and shrinkage it promises."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics.sampling import Precision, efficiency, precision, sampling_design
from nlmewidgets.diagnostics.shrinkage import HIGH_SHRINKAGE
from nlmewidgets.panels.base import Frame, Panel, Ruler, background, bq, caption, legend
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.tables import TableView
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED

__all__ = ["DesignPanel"]

_TIMES = 121
_MOST = 40
"""Samples of a subject at most."""
_IMPRECISE = 50.0
"""Relative standard error, per cent, that is called out."""


@dataclass(frozen=True)
class _Plan:
    """A design, as it is asked for."""

    subject: Any
    times: tuple[float, ...]
    dose: float | None
    subjects: int

    @property
    def words(self) -> str:
        """Return it in a few words."""
        samples = f"{len(self.times)} sample{'s' if len(self.times) > 1 else ''}"
        return f"{self.subjects} subject{'s' if self.subjects > 1 else ''} × {samples}"


@dataclass(frozen=True, eq=False)
class _Request:
    model: Any
    data: Any
    dvid: Any
    values: Values
    plan: _Plan
    pinned: _Plan | None
    full: bool
    span: tuple[float, float]
    label: str


@dataclass(frozen=True, eq=False)
class _Answer:
    request: _Request
    times: Array
    curve: Array
    now: Precision
    before: Precision | None


class DesignPanel(Panel):
    """Sampling times on a time axis, computed anew beside the interface while they are dragged."""

    title = "Design"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"ask": ("shown", "fixed", "dvid")}

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.answer: _Answer | None = None
        self.pinned: _Plan | None = None
        self.touched: int | None = None
        self._quiet = False
        self._planning: Latest[_Request, _Answer | str] = Latest(self._compute, self._computed, lock=state.lock)

    def build(self) -> None:
        """Make the choices, the axis and the tables."""
        data = self.state.data
        self.subject = ipw.Dropdown(options=list(data.ids), description="Doses of ID", layout=ipw.Layout(width="170px"))
        self.subject.style.description_width = "initial"
        unit = data.unit("AMT")
        self.dose = ipw.FloatText(description=f"Dose ({unit})" if unit else "Dose", layout=ipw.Layout(width="150px"))
        self.number = ipw.BoundedIntText(value=data.n_subjects, min=1, max=100_000, description="Subjects")
        self.number.layout = ipw.Layout(width="140px")
        self.full = ipw.Dropdown(
            options=[("full", True), ("reduced", False)],
            description="Information",
            tooltip="Full: the variance of the data moves with the typical values too",
            layout=ipw.Layout(width="170px"),
        )
        for box in (self.dose, self.number, self.full):
            box.style.description_width = "initial"
        unit = data.unit("TIME")
        self.text_times = ipw.Text(
            description=f"Samples ({unit})" if unit else "Samples at", continuous_update=False, placeholder="1, 4, 12"
        )
        self.text_times.style.description_width = "initial"
        self.text_times.layout = ipw.Layout(flex="1 1 260px")
        self.add = ipw.Button(description="Add", icon="plus", tooltip="A sample in the middle of the widest gap")
        self.drop = ipw.Button(description="Remove", icon="minus", tooltip="Take out the sample touched last")
        self.pin = ipw.Button(
            description="Pin design", icon="thumb-tack", tooltip="Compare with this design from here on"
        )
        self.reset = ipw.Button(description="As observed", tooltip="The design of this subject in the data")
        actions = ((self.add, self.add_sample), (self.drop, self.remove), (self.pin, self.pin_design))
        for button, action in (*actions, (self.reset, self.as_observed)):
            button.layout = ipw.Layout(width="auto")
            button.on_click(lambda _, act=action: act())
        time, y = data.axis_label("TIME", "Time"), data.axis_label("DV", "Typical curve")
        self.frame = Frame(Ruler(time, "bottom"), Ruler(y, "left"), height="300px")
        scales, none = self.frame.scales, [0.0, 1.0]
        unit_scale = {"x": scales["x"], "y": bq.LinearScale(min=0.0, max=1.0)}
        self.curve = bq.Lines(
            x=none, y=none, scales=scales, colors=[FIT], stroke_width=2, labels=["typical curve"], visible=False
        )
        self.stems = bq.Lines(x=none, y=none, scales=unit_scale, colors=[SELECTED], stroke_width=1)
        self.points = bq.Scatter(
            x=none,
            y=none,
            scales=unit_scale,
            colors=[SELECTED],
            default_size=110,
            labels=["samples"],
            enable_move=True,
            restrict_x=True,
            update_on_move=True,
        )
        self.kept = bq.Scatter(
            x=none,
            y=none,
            scales=unit_scale,
            colors=[MUTED],
            default_size=70,
            marker="triangle-up",
            visible=False,
            labels=["pinned samples"],
        )
        self.clicks = background(unit_scale, lambda x, _: self.add_sample(x))
        self.frame.put(self.clicks, self.curve, self.stems, self.kept, self.points)
        self.points.observe(lambda change: self._dragged(change["new"]), "x")
        self.points.on_drag_start(lambda _, event: self._touch(int(event["index"])))
        self.key = legend(
            ("line", FIT, "typical curve"),
            ("dot", SELECTED, "sample: drag it"),
            ("triangle-up", MUTED, "pinned design"),
        )
        self.text, self.table, self.shrunk = caption(), TableView(), TableView()
        row = ipw.Layout(flex_flow="row wrap", align_items="center", width="100%")
        self.root.children = (
            ipw.HBox([self.subject, self.dose, self.number, self.full], layout=row),
            ipw.HBox([self.text_times, self.add, self.drop, self.pin, self.reset], layout=row),
            self.key,
            self.frame.figure,
            self.text,
            ipw.HBox([self.table.root, self.shrunk.root], layout=ipw.Layout(flex_flow="row wrap", width="100%")),
        )
        self.subject.observe(lambda _: self.as_observed(), "value")
        for box in (self.dose, self.number, self.full):
            box.observe(lambda _: self.ask(), "value")
        self.text_times.observe(lambda change: self._typed(change["new"]), "value")
        chosen = [i for i in self.state.selected_ids if i in data.ids]
        with self._silence():
            self.subject.value = (chosen or data.ids)[0]
        self.times: tuple[float, ...] = ()
        self._observed()

    # --------------------------------------------------------------------------- design

    @property
    def plan(self) -> _Plan:
        """The design of the moment."""
        dose = self.dose.value if self.dose.layout.display != "none" else None
        return _Plan(self.subject.value, tuple(sorted(self.times)), dose, self.number.value)

    def set_times(self, times: Sequence[float]) -> None:
        """Sample at these times."""
        self.times = tuple(float(t) for t in times)[:_MOST]
        self._place()
        self.ask()

    def as_observed(self) -> None:
        """Take doses and sampling times of the subject chosen as they are in the data."""
        if not self._quiet:
            self._observed()
            self.ask()

    def _observed(self) -> None:
        """Show the subject's own doses and times; samples before its first dose tell nothing and are left out."""
        one = self.state.data.subset([self.subject.value])
        dosed = np.flatnonzero(one.dosed)
        with self._silence():
            self.dose.layout.display = None if len(dosed) else "none"
            if len(dosed):
                self.dose.value = float(one.records["AMT"].to_numpy()[dosed[0]])
        first = float(one.records["TIME"].to_numpy()[dosed[0]]) if len(dosed) else -math.inf
        every = np.unique(one.time)
        later = every[every > first]
        self.times = tuple(float(t) for t in (later if len(later) else every))[:_MOST]
        self.touched = None
        low, high = float(min(0.0, one.records["TIME"].min())), float(one.records["TIME"].max())
        self.span = (low, high if high > low else low + 1.0)
        self.frame.x.span(*self.span)
        self._place()

    def add_sample(self, time: float | None = None) -> None:
        """Add a sample at a time, or in the middle of the widest gap."""
        if len(self.times) >= _MOST:
            return
        if time is None:
            ends = np.unique([self.span[0], *self.times, self.span[1]])
            gap = int(np.argmax(np.diff(ends)))
            time = 0.5 * (ends[gap] + ends[gap + 1])
        self.touched = len(self.times)
        self.set_times((*self.times, self._rounded(float(time))))

    def remove(self) -> None:
        """Take out the sample touched last; without one the latest, but never the only one."""
        if len(self.times) > 1:
            gone = self.touched if self.touched is not None else int(np.argmax(self.times))
            self.touched = None
            self.set_times([t for k, t in enumerate(self.times) if k != gone])

    def pin_design(self) -> None:
        """Compare with the design of the moment from here on."""
        self.pinned = self.plan
        with self.kept.hold_sync():
            self.kept.visible = True
            self.kept.x, self.kept.y = list(self.pinned.times), [0.06] * len(self.pinned.times)
        self.ask()

    def _touch(self, number: int) -> None:
        self.touched = number
        self._name_touched()

    def _name_touched(self) -> None:
        known = self.touched is not None and self.touched < len(self.times)
        self.drop.description = (
            f"Remove {self.times[self.touched]:g}" if known and self.touched is not None else "Remove"
        )
        self.drop.disabled = len(self.times) < 2

    def _dragged(self, x: Any) -> None:
        if self._quiet:
            return
        low, high = self.span
        new = tuple(self._rounded(min(max(float(t), low), high)) for t in x)
        moved = [k for k, (a, b) in enumerate(zip(new, self.times, strict=False)) if a != b]
        if len(new) != len(self.times) or not moved:
            return
        self.touched, self.times = moved[0], new
        self._place(points=False)  # the front end holds the point that is dragged
        self.ask()

    def _typed(self, text: str) -> None:
        if self._quiet:
            return
        try:
            times = [float(word) for word in text.replace(";", ",").replace(",", " ").split()]
        except ValueError:
            times = []
        if not times or not np.isfinite(times).all() or min(times) < self.span[0]:
            self.text.value = (
                "<div class='nlme-alert'>Samples are numbers, apart by commas, none of them before "
                f"{self.span[0]:g}: 1, 4, 12.</div>"
            )
            return
        self.touched = None
        self.span = (self.span[0], max(self.span[1], *times))
        self.frame.x.span(*self.span)
        self.set_times(times)

    def _rounded(self, time: float) -> float:
        step = 10.0 ** math.floor(math.log10((self.span[1] - self.span[0]) / 100.0))
        return float(f"{round(time / step) * step:.12g}")

    def _place(self, *, points: bool = True) -> None:
        """Show the times as points and as text."""
        n = len(self.times)
        with self._silence():
            if points:
                with self.points.hold_sync():
                    self.points.x, self.points.y = list(self.times), [0.06] * n
            self.text_times.value = ", ".join(f"{t:g}" for t in sorted(self.times))
        with self.stems.hold_sync():
            self.stems.x = np.repeat(self.times, 3)[:-1]
            self.stems.y = np.tile([0.0, 1.0, np.nan], n)[:-1]
        with self.clicks.hold_sync():
            self.clicks.x, self.clicks.y = list(self.span), [0.0, 1.0]
        self._name_touched()

    @contextmanager
    def _silence(self) -> Iterator[None]:
        """Within it, what widgets are set to is no action of a person."""
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    # ------------------------------------------------------------------------ computing

    def ask(self) -> None:
        """Have the design of the moment, and the pinned one, computed at the values shown."""
        if self._quiet:
            return
        state = self.state
        if self.answer is None:
            self.text.value = "<span class='soft' aria-live='polite'>Computing …</span>"
        self._planning.put(
            _Request(
                state.model_now,
                state.data,
                state.dvid if len(state.dvids) > 1 else None,
                state.shown,
                self.plan,
                self.pinned,
                self.full.value,
                self.span,
                state.point.label if state.point.values is state.shown else "the values shown",
            )
        )

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is being computed."""
        self._planning.wait(timeout)

    @staticmethod
    def _compute(request: _Request) -> _Answer | str:
        def planned(plan: _Plan) -> Precision:
            one = sampling_design(request.data, plan.subject, plan.times, dose=plan.dose)
            return precision(request.model.problem(one), request.values, plan.subjects, full=request.full)

        try:
            plan, times = request.plan, np.linspace(*request.span, _TIMES)
            outputs = None if request.dvid is None else [request.dvid]
            drawn = request.model.problem(
                sampling_design(request.data, plan.subject, times, dose=plan.dose, outputs=outputs)
            )
            nothing = np.zeros((drawn.n_eta, drawn.n_subjects))
            with np.errstate(all="ignore"):
                curve = drawn.predict(drawn.slots(drawn.typical(request.values.theta).slots, nothing))
            before = None if request.pinned is None else planned(request.pinned)
            return _Answer(
                request, drawn.data.time, np.broadcast_to(curve, drawn.data.time.shape), planned(plan), before
            )
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as refusal:
            return str(refusal)

    def _computed(self, answer: _Answer | str) -> None:
        if isinstance(answer, str):
            self.table.root.layout.display = self.shrunk.root.layout.display = "none"
            self.text.value = f"<div class='nlme-alert'>{html.escape(answer)}</div>"
            return
        self.answer = answer
        self.draw()

    # -------------------------------------------------------------------------- drawing

    def draw(self) -> None:
        """Show what the design promises."""
        answer = self.answer
        assert answer is not None
        known = np.isfinite(answer.curve)
        self.curve.visible = bool(known.all())
        if known.all():
            with self.curve.hold_sync():
                self.curve.x, self.curve.y = answer.times, answer.curve
            self.frame.y.span(min(0.0, float(answer.curve.min())), float(answer.curve.max()), sticky=True, flush=True)
        now, before = answer.now, answer.before
        table = pd.DataFrame({"value": now.table["value"], "SE": now.table["se"], "RSE %": now.table["rse"]})
        shrunk = pd.DataFrame({"shrinkage %": 100.0 * now.shrinkage["sd"]}) if len(now.shrinkage) else pd.DataFrame()
        if before is not None:
            table["RSE % pinned"] = before.table["rse"]
            if len(before.shrinkage):
                shrunk["pinned"] = 100.0 * before.shrinkage["sd"]
        for view, frame, index in ((self.table, table, "parameter"), (self.shrunk, shrunk, "random effect")):
            view.root.layout.display = None if len(frame) else "none"
            view.root.layout.width = "auto"
            if len(frame):
                view.show(frame, index=index)
        self.text.value = f"<span class='soft'>{self._words(answer)}</span>"
        self.renew_numbers()

    def _words(self, answer: _Answer) -> str:
        data, now, plan = self.state.data, answer.now, answer.request.plan
        unit = f" {data.unit('TIME')}" if data.unit("TIME") else ""
        given = ""
        if plan.dose is not None:
            given = f" after {plan.dose:g}{' ' + data.unit('AMT') if data.unit('AMT') else ''}"
        outputs = f" of each of {len(self.state.dvids)} outputs" if len(self.state.dvids) > 1 else ""
        parts = [
            f"{plan.words} at {', '.join(f'{t:g}' for t in plan.times)}{unit}{outputs}{given}, with doses and "
            f"covariates of ID {plan.subject}; at {answer.request.label}."
        ]
        known = now.table["rse"].dropna()
        if len(known):
            parts.append(f"Least precise: {known.idxmax()}, with a relative standard error of {known.max():.3g} %.")
            poor = [name for name in known.index if known[name] > _IMPRECISE]
            if len(poor) > 1:
                parts.append(f"Above {_IMPRECISE:g} %: {', '.join(poor)}.")
        if now.message:
            parts.append(now.message)
        high = [n for n, v in now.shrinkage["sd"].items() if v >= HIGH_SHRINKAGE] if len(now.shrinkage) else []
        if high:
            parts.append(f"Shrinkage of {', '.join(high)} will be {100 * HIGH_SHRINKAGE:g} % or more.")
        parts += now.notes
        if answer.before is not None and answer.request.pinned is not None:
            parts.append(self._compared(answer.request.pinned, now, answer.before))
        if len(known):
            parts.append("Standard errors by the expected information, linearised (FO): what a fit can reach at best.")
        return html.escape(" ".join(parts))

    @staticmethod
    def _compared(pinned: _Plan, now: Precision, before: Precision) -> str:
        ratio = efficiency(now, before)
        if not math.isfinite(ratio):
            return (
                f"There is no efficiency against the pinned design ({pinned.words}): one does not identify the model."
            )
        per = ratio * before.n_subjects / now.n_subjects
        samples = now.n_subjects * now.n_obs / (before.n_subjects * before.n_obs)
        return (
            f"Against the pinned design ({pinned.words}): D-efficiency {ratio:.3g} with {samples:.3g} times the "
            f"samples; per subject {per:.3g}."
        )
