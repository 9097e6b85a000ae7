"""A race: several methods, or several starting values, at once and on one −2 log L scale."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption
from nlmewidgets.panels.driver import Job, failure
from nlmewidgets.panels.tables import TableView
from nlmewidgets.panels.theme import SERIES
from nlmewidgets.studies.race import Lane, Race, methods_race, starts_race

__all__ = ["RacePanel"]

_DASHES = {"solid": "", "dashed": "6 4", "dotted": "2 3", "dash_dotted": "6 3 2 3"}
_ROOM = 50.0
"""Above the best −2LL and twice the spread of the lanes: curves that come from farther enter from the top."""


class RacePanel(Panel):
    """Lanes against their own seconds, and a table of where they ended."""

    title = "Race"
    step: ClassVar[str] = "fit"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"buttons": ("running",)}

    def build(self) -> None:
        """Make the choices, the figure and the table."""
        self.race: Race | None = None
        methods = list(self.state.fitting.choices.values())
        self.kind = ipw.ToggleButtons(options=["methods", "starts"], value="methods")
        self.kind.style.button_width = "90px"
        self.kind.observe(lambda _: self._kind(), "value")
        self.methods = {
            c.name: ipw.Checkbox(description=c.name.upper(), value=c.name in ("focei", "laplace", "saem"), indent=False)
            for c in methods
        }
        for box in self.methods.values():
            box.layout = ipw.Layout(width="94px")
        self.number = ipw.BoundedIntText(value=4, min=2, max=12, description="Starts", layout=ipw.Layout(width="140px"))
        self.spread = ipw.BoundedFloatText(
            value=1.0, min=0.05, max=1.0, step=0.05, description="Spread", layout=ipw.Layout(width="160px")
        )
        self.spread.tooltip = "1: between 0 and twice the sliders' values"
        self.go = ipw.Button(description="Race", icon="flag-checkered", button_style="primary")
        self.halt = ipw.Button(description="Stop", icon="stop", button_style="danger", disabled=True)
        self.win = ipw.Button(description="Take winner", icon="trophy", disabled=True)
        self.go.layout = self.halt.layout = ipw.Layout(width="90px")
        self.win.layout = ipw.Layout(width="130px")
        for button, action in ((self.go, self.start), (self.halt, self.state.stop), (self.win, self.take)):
            button.on_click(lambda _, act=action: act())
        self.by_methods = ipw.HBox(list(self.methods.values()), layout=ipw.Layout(flex_flow="row wrap"))
        self.by_starts = ipw.HBox([self.number, self.spread])
        self.frame = Frame(Ruler("Seconds of its own", "bottom"), Ruler("−2LL (Laplace)", "left"), height="330px")
        self.key = ipw.HTML()
        self.key.add_class("nlme-legend")
        self.table = TableView()
        self.text = caption("<span class='soft'>Methods or starting values race from the sliders' values.</span>")
        self.root.children = (
            ipw.HBox([self.kind, self.go, self.halt, self.win], layout=ipw.Layout(flex_flow="row wrap")),
            self.by_methods,
            self.by_starts,
            self.key,
            self.frame.figure,
            self.text,
            self.table.root,
        )
        self.frame.figure.layout.display = "none"
        self._kind()

    def buttons(self) -> None:
        """Offer what can be done."""
        running = self.state.running
        self.go.disabled, self.halt.disabled = running, not running
        self.win.disabled = running or self.race is None or self.race.winner is None

    def _kind(self) -> None:
        methods = self.kind.value == "methods"
        self.by_methods.layout.display = None if methods else "none"
        self.by_starts.layout.display = "none" if methods else None

    def start(self) -> None:
        """Begin the race, unless something runs already."""
        state = self.state
        chosen = [name for name, box in self.methods.items() if box.value]
        if self.kind.value == "methods" and not chosen:
            self.text.value = "<div class='nlme-alert'>Choose at least one method.</div>"
            return
        with state.lock:
            if state.running:
                return
            state.running = True
        race = None
        try:
            model, data, seed = state.model_now, state.data_kept, state.seed
            if self.kind.value == "methods":
                options = {name: state.options_of(name) for name in chosen}
                race = methods_race(model, data, chosen, options=options, seed=seed)
            else:
                race = starts_race(
                    model,
                    data,
                    self.number.value,
                    method=state.method,
                    spread=self.spread.value,
                    options=state.method_options,
                    seed=seed,
                )
        except Exception as error:
            state.status, state.message = "failed", failure(error)
        finally:
            if race is None:
                state.running = False
        if race is None:
            return
        self.race = race
        self._lanes()
        state.control = None
        state.progress, state.status, state.message = 0.0, "running", "Racing …"
        state._job = Job(lambda: race, self._moved, self._ended).start()

    def _lanes(self) -> None:
        assert self.race is not None
        keys, marks = [], []
        for k, lane in enumerate(self.race.lanes):
            colour = SERIES[k % len(SERIES)]
            dash = list(_DASHES)[(k + k // len(SERIES)) % len(_DASHES)]
            marks.append(
                bq.Lines(
                    x=[0.0],
                    y=[0.0],
                    scales=self.frame.scales,
                    colors=[colour],
                    line_style=dash,
                    stroke_width=2,
                    visible=False,
                    labels=[lane.label],
                )
            )
            keys.append(
                "<span class='nlme-key'><svg width='26' height='8' aria-hidden='true'>"
                "<line x1='0' x2='26' y1='4' y2='4' "
                f"style='stroke:{colour}' stroke-width='2.5' stroke-dasharray='{_DASHES[dash]}'/></svg>&nbsp;"
                f"{html.escape(lane.label)}</span>"
            )
        self.lines = marks
        self.frame.put(*marks)
        self.key.value = "".join(keys)

    def _moved(self, _: Sequence[Lane]) -> None:
        state = self.state
        assert self.race is not None
        with state.lock:
            state.progress = self.race.progress
            running = [lane.label for lane in self.race.lanes if lane.open]
            if not (state._job and state._job.stopping):
                state.message = f"Racing: {', '.join(running) or 'done'}."
        self.draw()

    def draw(self) -> None:
        """Show where the lanes are."""
        race = self.race
        if race is None:
            return
        seen = [np.array(lane.minus2ll) for lane in race.lanes]
        known = [s[np.isfinite(s)] for s in seen]
        ends = [float(s[-1]) for s in known if len(s)]
        self.frame.figure.layout.display = None if ends else "none"
        if ends:
            low, high = min(float(s.min()) for s in known if len(s)), max(float(s.max()) for s in known if len(s))
            self.frame.y.span(low, min(high, low + _ROOM + 2.0 * (max(ends) - low)))
            self.frame.x.span(0.0, max(lane.seconds for lane in race.lanes), flush=True)
        for line, lane, y in zip(self.lines, race.lanes, seen, strict=True):
            there = np.isfinite(y)
            with line.hold_sync():
                line.visible = bool(there.any())
                if there.any():
                    line.x, line.y = np.array(lane.at[: len(y)])[there], y[there]
        table = race.table()
        shown = {c: table[c].map(lambda v: f"{v:.3f}" if np.isfinite(v) else "–") for c in ("OFV", "-2LL")}
        self.table.show(table.assign(**shown), text=("status",), index="lane")
        self.text.value = self._words(race)

    @staticmethod
    def _words(race: Race) -> str:
        best = race.winner
        text = (
            "Curves are −2LL by Laplace's approximation, the same for all lanes, each against its own computing time."
        )
        text += " The table has each method's own OFV, and −2LL by quadrature or importance sampling with its error."
        if best is not None:
            names = ", ".join(lane.label for lane in race.leaders)
            text = f"<b>Lowest −2LL so far, as far as its error tells: {html.escape(names)}.</b> {text}"
        failed = [f"{lane.label}: {lane.message}" for lane in race.lanes if lane.status == "failed"]
        return f"<span class='soft'>{text} {html.escape(' '.join(failed))}</span>"

    def _ended(self, race: Any, error: str) -> None:
        state = self.state
        with state.lock, state.ending():
            if race is None:
                state.status, state.message = "failed", error
            else:
                state.fits = (*state.fits, *race.fits)
                done = len(race.fits) == len(race.lanes)
                state.status = "converged" if done else "stopped"
                state.progress = 1.0 if done else state.progress
                state.message = f"{len(race.fits)} of {len(race.lanes)} lanes reached their end."
                state.message += f" Lowest −2LL: {', '.join(e.label for e in race.leaders)}." if race.leaders else ""
        self.draw()
        self.buttons()

    def take(self) -> None:
        """Show the winner everywhere and move the sliders to its estimates."""
        best = None if self.race is None else self.race.winner
        if best is None or best.fit is None or self.state.running:
            return
        fit, state = best.fit, self.state
        state.result, state.trace, state.status = fit, fit.trace, fit.status
        state.take_estimates()
        state.shown = fit.values
        state.point = state.point_of(fit, f"the winner's estimates ({best.label})")
