"""The fits of a session side by side, on one −2 log L scale when asked."""

from __future__ import annotations

import html
from typing import Any, ClassVar

import ipywidgets as ipw
import pandas as pd

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Comparison, Fit, compare
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.tables import TableView

__all__ = ["RunsPanel"]


class RunsPanel(Panel):
    """A row per fit: method, status, objective, estimates; a button puts them on one scale."""

    title = "Runs"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": ("fits",)}

    def build(self) -> None:
        """Make the tables."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Every fit you make is listed here.</div>")
        self.table, self.scale, self.tests = TableView(), TableView(), TableView()
        self.place = ipw.Button(
            description="One scale", icon="balance-scale", tooltip="−2 log L of every run, by quadrature or sampling"
        )
        self.place.layout = ipw.Layout(width="120px")
        self.place.on_click(lambda _: self.compare())
        self.text = caption()
        self.body = ipw.VBox([self.table.root, self.place, self.text, self.scale.root, self.tests.root])
        self.root.children = (self.empty, self.body)
        self._comparing: Latest[dict[str, Fit], Comparison | NlmeError] = Latest(self._compare, self._compared)

    def draw(self) -> None:
        """List the fits."""
        fits = named(self.state.fits)
        self.empty.layout.display = "none" if fits else None
        self.body.layout.display = None if fits else "none"
        if not fits:
            return
        rows = {
            name: {"status": f.status, "OFV": f.ofv, "by": f.ofv_by, "seconds": f.elapsed} | f.estimates.to_dict()
            for name, f in fits.items()
        }
        self.table.show(exact(pd.DataFrame.from_dict(rows, orient="index")), text=("status", "by"), index="run")
        self.scale.root.layout.display = self.tests.root.layout.display = "none"
        self.text.value = (
            "<span class='soft'>Objectives of different methods are not comparable; 'One scale' computes −2 log L of "
            "every run.</span>"
        )

    def compare(self) -> None:
        """Put all fits on one scale, beside the interface."""
        fits = named(self.state.fits)
        if fits:
            self.place.disabled = True
            self.text.value = "<span class='soft' aria-live='polite'>Computing −2 log L …</span>"
            self._comparing.put(fits)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the comparison."""
        self._comparing.wait(timeout)

    @staticmethod
    def _compare(fits: dict[str, Fit]) -> Comparison | NlmeError:
        try:
            return compare(fits)
        except NlmeError as refusal:
            return refusal

    def _compared(self, found: Any) -> None:
        self.place.disabled = False
        if isinstance(found, NlmeError):
            self.text.value = f"<div class='nlme-alert'>{html.escape(str(found))}</div>"
            return
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
