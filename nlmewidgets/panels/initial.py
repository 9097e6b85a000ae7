"""Initial estimates: a slider, a number field, an arrow, Fix and Refit per population parameter."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import ipywidgets as ipw

from nlmewidgets.fit.arrows import Arrow
from nlmewidgets.fit.scale import refusal
from nlmewidgets.panels.base import caption
from nlmewidgets.panels.state import State

__all__ = ["InitialPanel", "ParameterRow"]

_DIGITS = 4
"""Significant digits a slider sets: what it can resolve."""

_STEPS = 1000
"""Positions of a slider.  They are integers because a front end rounds a slider's value to its steps and sends
that back, possibly late: of integers the rounding is nothing, and no parameter moves by being looked at."""


_ARROWS = {True: "→", False: "←"}


class ParameterRow:
    """One parameter: name and number field, slider, arrow, Fix (F) and Refit (R).

    The arrow points to where the exact gradient says the objective is lower; pressing it moves there.

    The number field shows five significant digits; the parameter keeps all of them until it is
    moved.  A number beyond the slider's range widens the range.

    Parameters
    ----------
    state : State
    name, kind, label : str
        The parameter, its kind in `ParameterSpace.table`, and what stands in front of the field.
    looks : mapping of Layout, optional
        Shared by all rows.
    """

    def __init__(
        self, state: State, name: str, kind: str, label: str, looks: Mapping[str, ipw.Layout] | None = None
    ) -> None:
        looks = _looks() if looks is None else looks
        self.state = state
        self.name = name
        self.kind = kind
        value = float(state.params[name])
        row = state.model.table().loc[name]
        self.lower, self.upper = float(row["lower"]), float(row["upper"])
        self.log = self.lower == 0 and self.upper == math.inf
        self.low, self.high = self._range(value)
        self.label = label
        self.slider = ipw.IntSlider(
            value=self.position(value), min=0, max=_STEPS, readout=False, layout=looks["slider"]
        )
        self.slider.tooltip = f"{label}: drag, or use the arrow keys"
        self.field = ipw.Text(
            value=self._show(value), description=_breakable(label), continuous_update=False, layout=looks["field"]
        )
        self.field.add_class("nlme-parameter")
        self.field.tooltip = f"{label}: type a number"
        self.arrow = ipw.Button(disabled=True, tooltip=f"{name}: no gradient yet", layout=looks["button"])
        self.arrow.on_click(lambda _: state.nudge(name))
        self.fix = ipw.ToggleButton(
            value=name in state.fixed, description="F", tooltip=f"Fix {name}: keep it in a fit", layout=looks["button"]
        )
        self.refit = ipw.ToggleButton(
            value=name in state.refit,
            description="R",
            tooltip=f"Refit {name}: optimise it anew whenever another parameter moves",
            layout=looks["button"],
        )
        self.row = ipw.HBox([self.field, self.slider, self.arrow, self.fix, self.refit], layout=looks["row"])
        self.row.add_class("nlme-row")
        self.root = ipw.VBox([self.row])
        self.refused = ""
        self._syncing = False
        self.slider.observe(self._slid, "value")
        self.field.observe(self._typed, "value")
        self.fix.observe(lambda change: self._toggled("fixed", change), "value")
        self.refit.observe(lambda change: self._toggled("refit", change), "value")
        self.show_arrow(None)

    # ---------------------------------------------------------- slider ↔ parameter

    def _range(self, value: float) -> tuple[float, float]:
        """Return a range that holds `value` and what a user may want to try from there."""
        if self.kind.endswith("correlation"):
            return -0.99, 0.99
        if self.log:
            return (value / 10.0, value * 10.0) if value > 0 else (1e-3, 1.0)
        reach = 2.0 * max(abs(value), 0.5)
        low, high = value - reach, value + reach
        if self.lower > -math.inf:
            room = (self.upper - self.lower) if self.upper < math.inf else reach
            low = max(low, self.lower + 1e-3 * room)
        if self.upper < math.inf:
            room = (self.upper - self.lower) if self.lower > -math.inf else reach
            high = min(high, self.upper - 1e-3 * room)
        return low, high

    def position(self, value: float) -> int:
        """Return the slider position nearest to a value."""
        if self.log and value <= 0:  # at a bound, where a fit may have ended
            return 0
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(_STEPS * min(max(share, 0.0), 1.0))

    def value_at(self, position: int) -> float:
        """Return the value of a slider position, rounded to what the slider can resolve."""
        share = position / _STEPS
        if self.log:
            value = self.low * (self.high / self.low) ** share
        else:
            value = self.low + share * (self.high - self.low)
            if abs(value) < 1e-9 * (self.high - self.low):
                value = 0.0
        return float(f"{value:.{_DIGITS}g}")

    @staticmethod
    def _show(value: float) -> str:
        return f"{value:.5g}"

    def _slid(self, change: Any) -> None:
        if not self._syncing and change["new"] != self.position(float(self.state.params[self.name])):
            self._set(self.value_at(change["new"]))

    def _typed(self, change: Any) -> None:
        if self._syncing:
            return
        try:
            value = float(str(change["new"]).strip())
        except ValueError:
            self._refuse(f"'{change['new']}' is not a number; {self.name} stays.")
            return
        why = refusal(self.state.model.space, self.name, value)
        if why:
            self._refuse(f"{why[:-1]}; its value stays.")
        else:
            self._set(value)

    def _refuse(self, why: str) -> None:
        """Say under the row why a number is refused, and keep the value."""
        self.show(float(self.state.params[self.name]))
        self.refused = why
        alert = caption(f"<div class='nlme-alert' role='alert'>{html.escape(why)}</div>")
        self.root.children = (self.row, alert)

    def _set(self, value: float) -> None:
        self.state.move(**{self.name: value})
        self._accept()

    def _accept(self) -> None:
        if self.refused:
            self.refused, self.root.children = "", (self.row,)

    def _toggled(self, trait: str, change: Any) -> None:
        if self._syncing:
            return
        others = tuple(n for n in getattr(self.state, trait) if n != self.name)
        setattr(self.state, trait, (*others, self.name) if change["new"] else others)

    def show(self, value: float) -> None:
        """Bring field and slider to a value without setting the parameter."""
        self._syncing = True
        try:
            self.field.value = self._show(value)
            if not self.low <= value <= self.high and not self.kind.endswith("correlation"):
                around = self._range(value)
                self.low, self.high = min(self.low, around[0]), max(self.high, around[1])
            self.slider.value = self.position(value)
        finally:
            self._syncing = False
        self._accept()

    def show_toggles(self) -> None:
        """Bring Fix and Refit to what the state says."""
        self._syncing = True
        try:
            for button, names in ((self.fix, self.state.fixed), (self.refit, self.state.refit)):
                button.value = self.name in names
                button.button_style = "info" if button.value else ""
        finally:
            self._syncing = False

    def show_arrow(self, arrow: Arrow | None) -> None:
        """Show which way the objective falls; nothing where that is not known."""
        size = arrow.size if arrow is not None else 0
        text = "" if arrow is None else "–" if arrow.silent else _ARROWS[arrow.up] if size else "·"
        with self.arrow.hold_sync():
            self.arrow.description = text
            self.arrow.disabled = not size
            words = "" if arrow is None else arrow.words()
            self.arrow.tooltip = words + (" Press to move there." if size else "")
            self.arrow._dom_classes = ("nlme-arrow", f"nlme-arrow-{size}")


_GROUPS = {
    "theta": "Typical values θ",
    "omega (SD)": "Between subjects ω (SD)",
    "iov (SD)": "Between occasions κ (SD)",
    "correlation": "Correlations of η",
    "sigma (SD)": "Residual σ (SD)",
    "residual correlation": "Correlations of residuals",
}


class InitialPanel:
    """All parameters, grouped, with Undo and Redo.

    Attributes
    ----------
    rows : dict of ParameterRow
    undo, redo : Button
    root : Widget
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.rows: dict[str, ParameterRow] = {}
        self.undo = ipw.Button(icon="undo", tooltip="Undo the last change of the sliders", disabled=True)
        self.redo = ipw.Button(icon="repeat", tooltip="Redo what was undone", disabled=True)
        self.undo.layout = self.redo.layout = ipw.Layout(width="34px", flex="0 0 auto")
        self.undo.on_click(lambda _: state.undo())
        self.redo.on_click(lambda _: state.redo())
        children: list[Any] = []
        table = state.model.table()
        looks = _looks()
        for kind, heading in _GROUPS.items():
            names = [str(n) for n in table.index[table["kind"] == kind]]
            if not names:
                continue
            children.append(ipw.HTML(f"<h4>{heading}</h4>"))
            for name in names:
                row = self.rows[name] = ParameterRow(state, name, kind, _short(name, kind), looks)
                children.append(row.root)
        self.text = caption()
        self.root = ipw.VBox([*children, self.text])
        state.observe(self._params, "params")
        state.observe(lambda _: self._toggles(), ["fixed", "refit"])
        state.observe(lambda _: self._arrows(), "arrows")
        state.observe(lambda _: self._history(), ["can_undo", "can_redo"])
        self._toggles()
        self._arrows()
        self._history()

    def _params(self, change: Any) -> None:
        old = change["old"] if isinstance(change["old"], dict) else {}
        for name, value in change["new"].items():
            if old.get(name) != value:
                self.rows[name].show(value)
        self.root.add_class("nlme-stale")  # the arrows are still those from before

    def _toggles(self) -> None:
        for row in self.rows.values():
            row.show_toggles()

    def _arrows(self) -> None:
        arrows = self.state.arrows
        for name, row in self.rows.items():
            row.show_arrow(arrows.get(name))
        self.root.remove_class("nlme-stale")
        best = max(arrows.values(), key=lambda arrow: arrow.gain, default=None)
        if best is None:
            words = ""
        elif best.size:
            words = f"{best.words()} No other arrow promises more."
        else:
            words = "No arrow: no parameter by itself lowers the OFV by 0.01 here."
        self.text.value = f"<span class='soft'>{html.escape(words)}</span>"

    def _history(self) -> None:
        self.undo.disabled, self.redo.disabled = not self.state.can_undo, not self.state.can_redo


def _looks() -> dict[str, ipw.Layout]:
    """Return the layouts that all rows share."""
    return {
        "slider": ipw.Layout(flex="1 1 60px", min_width="60px", width="auto", margin="0 2px"),
        "field": ipw.Layout(width="174px", flex="0 0 auto"),
        "button": ipw.Layout(width="24px", flex="0 0 auto", margin="2px 1px", padding="0"),
        "row": ipw.Layout(align_items="center"),
    }


def _breakable(label: str) -> str:
    """Return a label that a line may break after an underscore of."""
    return label.replace("_", "_\u200b")


def _short(name: str, kind: str) -> str:
    """Return the label within its group: omega_CL is CL under the heading of the omegas."""
    if kind == "omega (SD)":
        return name.removeprefix("omega_")
    if kind == "iov (SD)":
        return name.removeprefix("iov_")
    if kind == "residual correlation":
        return name.removeprefix("rho_").replace("_", ", ", 1)
    if kind == "correlation":
        return name.removeprefix("corr_").replace("_", ", ", 1)
    return name
