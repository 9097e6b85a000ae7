"""The fits of a session: where each began, on one −2 log L scale when asked, two of them side by side."""

from __future__ import annotations

import html
from typing import ClassVar, NamedTuple

import ipywidgets as ipw
import pandas as pd

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Comparison, Fit, compare
from nlmewidgets.fit.lineage import Difference, data_words, difference, origins
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.tables import TableView

__all__ = ["RunsPanel"]


_NOTHING = 0.01
"""Standard errors that an estimate may move without a word."""


class _Pair(NamedTuple):
    """Two fits to set side by side; `errors`: with changes in standard errors, which take a while."""

    names: tuple[str, str]
    one: Fit
    two: Fit
    errors: bool


class RunsPanel(Panel):
    """A row per fit: where it began, status, objective, estimates; buttons compare them and take them as a start."""

    title = "Runs"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": ("fits",)}

    def build(self) -> None:
        """Make the tables."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Every fit you make is listed here.</div>")
        self.table, self.scale, self.tests = TableView(), TableView(), TableView()
        self.starts = ipw.HBox(layout=ipw.Layout(flex_flow="row wrap", align_items="center"))
        self.place = ipw.Button(
            description="One scale", icon="balance-scale", tooltip="−2 log L of every run, by quadrature or sampling"
        )
        self.place.layout = ipw.Layout(width="120px")
        self.place.on_click(lambda _: self.compare())
        self.text = caption()
        self.first, self.second = (
            ipw.Dropdown(options=[""], description=name, layout=ipw.Layout(width="200px"))
            for name in ("Compare run", "with run")
        )
        for box in (self.first, self.second):
            box.style.description_width = "initial"
            box.observe(lambda _: self.set_side_by_side(), "value")
        self.facts, self.estimates = TableView(), TableView()
        self.code, self.verdict = ipw.HTML(), caption()
        self.pair = ipw.VBox(
            [
                ipw.HTML("<h4>Side by side</h4>"),
                ipw.HBox([self.first, self.second]),
                self.verdict,
                ipw.HBox([self.facts.root, self.estimates.root], layout=ipw.Layout(flex_flow="row wrap", width="100%")),
                self.code,
            ]
        )
        self.body = ipw.VBox(
            [self.table.root, self.starts, self.place, self.text, self.scale.root, self.tests.root, self.pair]
        )
        self.root.children = (self.empty, self.body)
        self._filling = False
        self._comparing: Latest[dict[str, Fit], Comparison] = Latest(
            compare, self._compared, self._not_compared, lock=self.state.lock
        )
        self._differing: Latest[_Pair, tuple[_Pair, Difference]] = Latest(
            self._differ, self._differed, lock=self.state.lock
        )

    def draw(self) -> None:
        """List the fits."""
        fits = named(self.state.fits)
        self.empty.layout.display = "none" if fits else None
        self.body.layout.display = None if fits else "none"
        if not fits:
            return
        began = origins(list(fits.values()))
        rows = {
            name: {"began at": start, "data": data_words(f), "status": f.status, "OFV": f.ofv, "by": f.ofv_by}
            | {"seconds": f.elapsed}
            | f.estimates.to_dict()
            for (name, f), start in zip(fits.items(), began, strict=True)
        }
        words = ("began at", "data", "status", "by")
        self.table.show(exact(pd.DataFrame.from_dict(rows, orient="index")), text=words, index="run")
        self.scale.root.layout.display = self.tests.root.layout.display = "none"
        self.text.value = (
            "<span class='soft'>'began at': whose estimates or starting values a run began with. Objectives of "
            "different methods are not comparable; 'One scale' computes −2 log L of every run.</span>"
        )
        self._offer(fits)

    def _offer(self, fits: dict[str, Fit]) -> None:
        """Offer every run as a start, and the last two side by side."""
        buttons = []
        for name, fit in fits.items():
            button = ipw.Button(description=name, tooltip=f"Move the sliders to the estimates of run {name}")
            button.layout = ipw.Layout(width="auto")
            button.on_click(lambda _, fit=fit, name=name: self.use_as_start(fit, name))
            buttons.append(button)
        self.starts.children = (ipw.HTML("Use as start:"), *buttons)
        names = list(fits)
        self.pair.layout.display = None if len(names) > 1 else "none"
        self._filling = True
        try:
            kept = [box.value for box in (self.first, self.second)]
            for box in (self.first, self.second):
                box.options = names
            if len(names) > 1:
                self.first.value = kept[0] if kept[0] in names else names[-2]
                self.second.value = names[-1]
        finally:
            self._filling = False
        self.set_side_by_side()

    def use_as_start(self, fit: Fit, name: str = "") -> None:
        """Move the sliders to a fit's estimates, as far as the model of the moment has its parameters."""
        state = self.state
        known = {n: float(v) for n, v in fit.estimates.items() if n in state.model.names}
        state.history.cut()
        state.move(**known)
        left = [n for n in state.model.names if n not in known]
        text = f"The sliders are at the estimates of run {name}; Start goes on from there."
        if left:
            text += f" It has no {', '.join(left)}: there the sliders stay."
        self.text.value = f"<span aria-live='polite'>{html.escape(text)}</span>"

    def set_side_by_side(self) -> None:
        """Compare the two runs chosen, beside the interface: first all but the standard errors."""
        if self._filling:
            return
        fits = named(self.state.fits)
        names = (self.first.value, self.second.value)
        if not all(n in fits for n in names):
            return
        if names[0] == names[1]:
            self._show_pair(False)
            self.verdict.value = "<span class='soft'>Choose two different runs.</span>"
            return
        self._differing.put(_Pair(names, fits[names[0]], fits[names[1]], errors=False))

    def _show_pair(self, shown: bool) -> None:
        for widget in (self.facts.root, self.estimates.root, self.code):
            widget.layout.display = None if shown else "none"

    @staticmethod
    def _differ(pair: _Pair) -> tuple[_Pair, Difference]:
        return pair, difference(pair.one, pair.two, errors=pair.errors)

    def _differed(self, answer: tuple[_Pair, Difference]) -> None:
        pair, found = answer
        self._show_pair(True)
        titles = dict(zip(("first", "second"), pair.names, strict=True))
        moved = {"change": found.estimates["change"].map("{:+.3g}".format)}
        if "SEs" in found.estimates:
            moved["SEs"] = (found.estimates["SEs"].round(2) + 0.0).map("{:+.2f}".format)  # no −0.00
        for view, table in ((self.facts, found.facts), (self.estimates, found.estimates.assign(**moved))):
            view.root.layout.width = "auto"
            text = list(titles.values()) if view is self.facts else ()
            view.show(table.rename(columns=titles), text=text, index=str(table.index.name))
        rows = "<br>".join(html.escape(line) for line in found.code)
        self.code.value = (
            f"<div class='nlme-caption'><span class='soft'>Declaration, {html.escape(pair.names[0])} (−) and "
            f"{html.escape(pair.names[1])} (+), initial values aside:</span><br><code>{rows}</code></div>"
            if rows
            else "<div class='nlme-caption'><span class='soft'>The declarations are the same.</span></div>"
        )
        verdict = found.verdict
        for word, name in titles.items():
            verdict = verdict.replace(f"The {word}", f"Run {name}").replace(f"the {word}", f"run {name}")
        self.verdict.value = f"<span class='soft'>{html.escape(f'{verdict} {self._moved(found, pair)}')}</span>"
        if not pair.errors:
            self._differing.put(pair._replace(errors=True))

    @staticmethod
    def _moved(found: Difference, pair: _Pair) -> str:
        if "SEs" not in found.estimates:
            return "Computing standard errors …"
        known = found.estimates["SEs"].dropna()
        if not len(known):
            return f"Run {pair.names[0]} has no standard errors to count changes in."
        if known.abs().max() < _NOTHING:
            return f"No estimate moved by {_NOTHING:g} standard errors of run {pair.names[0]}."
        most = str(known.abs().idxmax())
        return (
            f"Furthest apart: {most}, by {known[most]:+.2g} standard errors of run {pair.names[0]} "
            f"({pair.one.uncertainty.kind}; SEs)."
        )

    def compare(self) -> None:
        """Put all fits on one scale, beside the interface."""
        fits = named(self.state.fits)
        if fits:
            self.place.disabled = True
            self.text.value = "<span class='soft' aria-live='polite'>Computing −2 log L …</span>"
            self._comparing.put(fits)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the comparisons."""
        if self.drawn:
            self._comparing.wait(timeout)
            self._differing.wait(timeout)

    def _not_compared(self, refusal: NlmeError) -> None:
        self.place.disabled = False
        self.text.value = f"<div class='nlme-alert'>{html.escape(str(refusal))}</div>"

    def _compared(self, found: Comparison) -> None:
        self.place.disabled = False
        words = [c for c in found.table if not pd.api.types.is_numeric_dtype(found.table[c])]
        self.scale.show(exact(found.table), text=words, index="run")
        self.scale.root.layout.display = None
        if len(found.tests):
            words = [c for c in found.tests if not pd.api.types.is_numeric_dtype(found.tests[c])]
            self.tests.show(found.tests, text=words)
            self.tests.root.layout.display = None
        self.text.value = "<br>".join(f"<span class='soft'>{html.escape(n)}</span>" for n in found.notes)


_OBJECTIVES = ("OFV", "-2LL", "AIC", "BIC", "BICc", "dAIC")


def exact(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with objectives to three decimals: it is their differences that count."""
    shown = {c: table[c].map(lambda v: f"{v:.3f}" if pd.notna(v) else "–") for c in _OBJECTIVES if c in table}
    return table.assign(**shown)


def named(fits: tuple[Fit, ...]) -> dict[str, Fit]:
    """Return fits by number and method."""
    return {f"{k} {fit.method}": fit for k, fit in enumerate(fits, 1)}
