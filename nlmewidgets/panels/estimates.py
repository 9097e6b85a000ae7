"""The last fit's estimates beside initial ones, or another fit's, the change in standard errors."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.fit.changes import changes, changes_in_words
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.tables import TableView

__all__ = ["EstimatesPanel"]

_INITIAL = "its initial estimates"
_SLIDERS = "the sliders"


class EstimatesPanel(Panel):
    """One row per parameter; standard errors are found beside the interface when the tab is opened."""

    title = "Estimates"
    step: ClassVar[str] = "fit"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "draw_choices": ("fits", "result"),
        "draw": ("result", "errors", "params"),
    }

    def build(self) -> None:
        """Make the table and the choice of what it compares with."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Choose a method and press Start.</div>")
        self.other = ipw.Dropdown(description="Compare with", layout=ipw.Layout(width="420px"))
        self.other.style.description_width = "92px"
        self.other.observe(lambda _: self.draw(), "value")
        self.view, self.text = TableView(), caption()
        self.body = ipw.VBox([self.other, self.view.root, self.text])
        self.root.children = (self.empty, self.body)

    def draw_choices(self) -> None:
        """Offer initial estimates, the sliders and the other fits."""
        fits = [f for f in self.state.fits if f is not self.state.result]
        number = {id(f): k for k, f in enumerate(self.state.fits, 1)}
        named = [(f"fit {number[id(f)]}, {f.method.upper()}, OFV {f.ofv:.3f}", number[id(f)]) for f in fits]
        options = [(_INITIAL, _INITIAL), (_SLIDERS, _SLIDERS), *named]
        if list(self.other.options) != options:
            kept = self.other.value
            self.other.options = options
            self.other.value = kept if kept in [value for _, value in options] else _INITIAL

    def draw(self) -> None:
        """Show the estimates of the last fit."""
        fit = self.state.result
        self.empty.layout.display = "none" if fit is not None else None
        self.body.layout.display = None if fit is not None else "none"
        if fit is None:
            return
        self.state.find_errors()
        errors = self.state.errors or dict.fromkeys(fit.start.names, np.nan)
        table = changes(fit, self._earlier(), errors)
        said = changes_in_words(table)
        head = "Initial" if self.other.value == _INITIAL else "Sliders" if self.other.value == _SLIDERS else "Other fit"
        names = {"earlier": head, "estimate": "Estimate", "se": "SE", "rse_%": "RSE %", "change": "Change"}
        self.view.show(
            table.rename(columns=names | {"change_se": "Change in SE"}), index="Parameter", caption="Estimates"
        )
        if not self.state.errors:
            said = "<span aria-live='polite'>The standard errors are being found …</span>"
        elif not said:
            said = html.escape(f"There are no standard errors: {fit.uncertainty.message}" if _has(fit) else "")
            said = said or "This fit has no standard errors."
        what = f"Estimates by {fit.method.upper()} ({fit.status}); omegas and sigmas are standard deviations."
        self.text.value = f"<span class='soft'>{said} {html.escape(what)}</span>"

    def _earlier(self) -> dict[str, float]:
        state, chosen = self.state, self.other.value
        if chosen == _SLIDERS:
            return dict(state.params)
        if chosen == _INITIAL or chosen is None:
            space = state.result.start.space
            return dict(space.to_dict(space.initial))
        return {str(name): float(value) for name, value in state.fits[chosen - 1].estimates.items()}

    def wait(self, timeout: float | None = None) -> None:
        """Wait for standard errors that are being found."""
        self.state._errors.wait(timeout)


def _has(fit: Any) -> bool:
    """Whether the uncertainty was found, so that asking for its message costs nothing."""
    return bool(fit._uncertainties)
