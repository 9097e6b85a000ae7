"""The diagnostics of a fit as linked figures: a subject picked in one is lit up in all."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import individual_curves
from nlmewidgets.diagnostics.linked import (
    Linked,
    linked,
    residual_words,
    simulated_residuals,
    subject_influence,
    thinned,
)
from nlmewidgets.panels.base import Panel, caption, grid, legend
from nlmewidgets.panels.cloud import Cloud
from nlmewidgets.panels.covariates import badge
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.leave_out import LeaveOut, left_out
from nlmewidgets.panels.state import Point
from nlmewidgets.panels.tables import TableView
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED

__all__ = ["LinkedPanel"]

_MOST = 1000
"""Points of a figure, which is what a browser draws at once without being felt."""
_TIMES = 81
_SHOWN = 5
"""Subjects in the table while nobody is selected."""


@dataclass(frozen=True, eq=False)
class _Request:
    point: Point
    method: str
    draws: bool
    estimates: bool  # the point is the end of a fit, where influence means something


@dataclass(frozen=True, eq=False)
class _Answer:
    request: _Request
    found: Linked
    shown: Ints
    cook: pd.Series | None


class LinkedPanel(Panel):
    """Small multiples at the values shown: predictions, residuals, random effects, curves; one selection."""

    title = "Diagnostics"
    step: ClassVar[str] = "judge"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "ask": ("point",),
        "draw": ("dvid", "excluded", "excluded_records"),
        "light": ("selected_ids",),
    }

    def build(self) -> None:
        """Make the figures, their choices and the table."""
        state = self.state
        time = self._time = state.data.axis_label("TIME", "Time")
        self.clouds = {
            name: Cloud(x, y, self._clicked)
            for name, x, y in (
                ("observed", "IPRED", "Observed"),
                ("population", time, ""),
                ("simulated", time, "NPDE"),
                ("within", "IPRED", "|IWRES|"),
                ("effects", "Random effect", "Random effect"),
                ("curves", time, ""),
            )
        }
        self.prediction = _choice("Prediction", [("individual", "IPRED"), ("population", "PRED")], 190)
        effects = list(state.model.space.between)
        covariates = [c for c in state.data.covariates if not state.data.is_categorical(c)]
        self.first = _choice("Across", [*effects, *covariates], 180)
        self.second = _choice("Up", [*effects, "iofv"], 170)
        if len(effects) > 1:
            self.second.value = effects[1]
        for widget in (self.prediction, self.first, self.second):
            widget.observe(lambda _: self.draw(), "value")
        self.samples = ipw.Checkbox(description="draws, not EBEs", indent=False, layout=ipw.Layout(width="130px"))
        self.samples.tooltip = "One draw of each subject's random effects given its data, which do not shrink"
        self.samples.observe(lambda _: self.ask(), "value")
        self.badges = ipw.HTML()
        self.text, self.status = caption(), caption()
        self.table = TableView()
        key = legend(
            ("dot", FIT, "each subject"),
            ("diamond", SELECTED, "selected"),
            ("cross", MUTED, "left out of the next fit"),
        )
        bar = ipw.HBox(
            [self.prediction, self.first, self.second, self.samples],
            layout=ipw.Layout(flex_flow="row wrap", align_items="center"),
        )
        self.leave_out = LeaveOut(state)
        self.root.children = (
            bar,
            self.badges,
            key,
            grid([c.root for c in self.clouds.values()], "repeat(auto-fill, minmax(250px, 1fr))"),
            self.text,
            self.status,
            self.table.root,
            self.leave_out.root,
        )
        self.found: _Answer | None = None
        self.simulated: tuple[str, Array] | None = None
        self._asking: Latest[_Request, _Answer | str] = Latest(self._answer, self._answered, lock=state.lock)
        self._simulating: Latest[_Answer, tuple[_Answer, tuple[str, Array]]] = Latest(
            self._simulate, self._simulated, lock=state.lock
        )

    # ------------------------------------------------------------------- computing

    def ask(self) -> None:
        """Ask for the tables at the values shown, beside the interface."""
        point, result = self.state.point, self.state.result
        ended = result is not None and point.values is result.values
        self._asking.put(_Request(point, self.state.method, self.samples.value, ended))

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the tables and the simulated residuals."""
        self._asking.wait(timeout)
        self._simulating.wait(timeout)

    @staticmethod
    def _answer(request: _Request) -> _Answer | str:
        point = request.point
        try:
            found = linked(point.problem, point.values, point.eta, method=request.method, draws=request.draws)
        except (NlmeError, np.linalg.LinAlgError) as refusal:
            return str(refusal)
        cook = None
        if request.estimates:
            try:
                cook = subject_influence(point.problem, point.values, point.eta, request.method)
            except (NlmeError, np.linalg.LinAlgError):
                cook = None
        return _Answer(request, found, thinned(found.observations, _MOST), cook)

    def _answered(self, answer: _Answer | str) -> None:
        if not self.visible:
            self._stale.add("ask")
            return
        if isinstance(answer, str):
            self.text.value = f"<div class='nlme-alert'>{html.escape(answer)}</div>"
            return
        earlier, self.found = self.found, answer
        if earlier is None or earlier.request.point is not answer.request.point:
            self.simulated = None
            self._simulating.put(answer)
        self.draw()

    def _simulate(self, answer: _Answer) -> tuple[_Answer, tuple[str, Array]]:
        point = answer.request.point
        n = 100 if getattr(point.problem.structure, "precision", 0.0) else 300

        def wanted(_: float) -> bool:
            found = self.found
            return found is not None and found.request.point is point

        try:
            return answer, simulated_residuals(point.problem, point.values, point.eta, n=n, progress=wanted)
        except (NlmeError, np.linalg.LinAlgError):
            return answer, ("NPDE", np.full(point.problem.n_obs, np.nan))

    def _simulated(self, done: tuple[_Answer, tuple[str, Array]]) -> None:
        if self.found is not None and self.found.request.point is done[0].request.point:
            self.simulated = done[1]
            self._draw_simulated()
            self.light()

    # --------------------------------------------------------------------- drawing

    def draw(self) -> None:
        """Bring every figure up to date."""
        if self.found is None:
            return
        found, state = self.found.found, self.state
        table = found.observations
        unit = state.data.output_unit(state.dvid)
        output = f" ({unit})" if unit else ""
        name = self.prediction.value
        population, within = table["CWRES"].to_numpy(), table["IWRES"].to_numpy()
        self._scatter("observed", table[name], table["DV"], "identity", f"{name}{output}", f"Observed{output}")
        self._scatter("population", table["TIME"], table["CWRES"], "normal", up="CWRES")
        self._scatter("within", table["IPRED"], table["IWRES"].abs(), "none", f"IPRED{output}", f"|{found.within}|")
        self._scatter("curves", table["TIME"], table["DV"], up=f"Observed{output}")
        rows = self._measured()
        self.clouds["population"].text.value = _soft(residual_words(population[rows], "CWRES"))
        self.clouds["within"].text.value = _soft(residual_words(within[rows], found.within))
        self.clouds["observed"].text.value = _soft("On the dotted line prediction and observation agree.")
        self._draw_effects()
        self._draw_simulated()
        kind = "one draw of each subject's random effects given its data" if found.drawn else "the EBEs"
        thin = (
            f" {len(self.found.shown)} of {len(table)} points are drawn." if len(self.found.shown) < len(table) else ""
        )
        self.text.value = _soft(
            f"At {self.found.request.point.label}, with {kind}. Click a point to select its subject, again to drop it; "
            f"the list at the top does the same.{thin}"
        )
        self.badges.value = " ".join(
            f"<b>{html.escape(eta)}</b> {badge(float(found.shrinkage[eta]))}&emsp;" for eta in found.shrinkage.index
        )
        self.light()

    def _measured(self) -> Any:
        assert self.found is not None
        return (self.found.found.observations["DVID"] == self.state.dvid).to_numpy()

    def _scatter(self, name: str, x: Any, y: Any, guides: str = "none", across: str = "", up: str = "") -> None:
        assert self.found is not None
        cloud, table = self.clouds[name], self.found.found.observations
        cloud.label(across or self._time, up)
        mine = self._measured()
        kept = np.zeros(len(table), dtype=bool)
        kept[self.found.shown] = True
        across_, up_ = (np.asarray(v, dtype=float)[mine] for v in (x, y))
        gone = left_out(self.found.request.point.problem.data, self.state)[mine]
        cloud.show(across_, up_, table["subject"].to_numpy()[mine], np.flatnonzero(kept[mine]), gone, guides)

    def _draw_effects(self) -> None:
        assert self.found is not None
        cloud, table = self.clouds["effects"], self.found.found.subjects
        x, y = self.first.value, self.second.value
        cloud.root.layout.display = None if x and y else "none"
        if not (x and y):
            return
        kind = "a draw" if self.found.found.drawn else "EBE"
        names = [
            n if n == "iofv" else self.state.data.axis_label(n) if n in self.state.data.covariates else n
            for n in (x, y)
        ]
        cloud.label(*(f"{n}, {kind}" if n in self.state.model.space.between else n for n in names))
        gone = np.isin(np.array(table.index, dtype=object), np.array(self.state.excluded, dtype=object))
        everyone = np.arange(len(table))
        across, up = (table[n].to_numpy(dtype=float) for n in (x, y))
        cloud.show(across, up, everyone, everyone, gone, "zero" if y != "iofv" else "none")
        cloud.text.value = _soft(
            "One point per subject" + ("; iofv: its part of the objective." if "iofv" in (x, y) else ".")
        )

    def _draw_simulated(self) -> None:
        cloud = self.clouds["simulated"]
        if self.found is None:
            return
        if self.simulated is None:
            cloud.text.value = "<span class='soft' aria-live='polite'>Simulating …</span>"
            return
        name, values = self.simulated
        table = self.found.found.observations
        self._scatter("simulated", table["TIME"], values, "normal", up=name)
        cloud.text.value = _soft(residual_words(values[self._measured()], name))

    def light(self) -> None:
        """Light the selected subjects up in every figure, with their curves and rows."""
        if self.found is None:
            return
        ids = list(self.found.request.point.problem.data.ids)
        numbers = np.array([ids.index(i) for i in self.state.selected_ids if i in ids], dtype=np.intp)
        for name, cloud in self.clouds.items():
            cloud.light(numbers, connect=name in ("population", "simulated"))
        self._draw_curves(numbers)
        self._draw_table()
        self.renew_numbers()

    def _draw_curves(self, numbers: Ints) -> None:
        """Draw the selected subjects' own curves, at the values shown."""
        assert self.found is not None
        cloud, point = self.clouds["curves"], self.found.request.point
        if not len(numbers):
            cloud.text.value = _soft("The curves of selected subjects appear here.")
            return
        several = len(self.state.dvids) > 1
        own = point.problem.data.subset([point.problem.data.ids[k] for k in numbers])
        shown = own.on_grid(_TIMES, dvid=self.state.dvid if several else None, follow=True)
        curves = individual_curves(point.problem.model.problem(shown), point.values, point.eta[:, numbers])
        cloud.curve(shown.time.reshape(len(numbers), -1), curves)
        names = ", ".join(str(point.problem.data.ids[k]) for k in numbers)
        cloud.text.value = _soft(f"ID {html.escape(names)}: observations, and the individual curve at the EBE.")

    def _draw_table(self) -> None:
        assert self.found is not None
        table = self.found.found.subjects
        if self.found.cook is not None:
            table = table.assign(cook=self.found.cook.reindex(table.index))
        chosen = [i for i in self.state.selected_ids if i in table.index]
        first = "cook" if "cook" in table else "iofv"
        rows = table.loc[chosen] if chosen else table.nlargest(_SHOWN, first)
        words = [c for c in rows if not pd.api.types.is_numeric_dtype(rows[c])]
        self.table.show(rows, text=words, index="ID")
        by = self.found.found.by.upper()
        what = "Selected" if chosen else f"Nobody is selected; the {len(rows)} with the largest {first}"
        cook = " cook: by how many standard errors the estimates would move without the subject (one step)."
        self.status.value = _soft(f"{what}. iofv: part of the {by} objective.{cook if 'cook' in table else ''}")

    def _clicked(self, number: int) -> None:
        assert self.found is not None
        self.state.toggle(self.found.request.point.problem.data.ids[number])


def _choice(name: str, options: list[Any], width: int) -> ipw.Dropdown:
    layout = ipw.Layout(width=f"{width}px")
    return ipw.Dropdown(options=options, description=name, style={"description_width": "70px"}, layout=layout)


def _soft(text: str) -> str:
    return f"<span class='soft'>{text}</span>"
