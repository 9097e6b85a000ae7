"""Initial estimates: a slider, a number field and a Fix toggle per population parameter."""

from __future__ import annotations

import math
from typing import Any

import ipywidgets as ipw

from nlmewidgets.panels.state import State

__all__ = ["InitialPanel", "ParameterRow"]

_DIGITS = 4
"""Significant digits a slider sets: what it can resolve."""

_STEPS = 1000
"""Positions of a slider.  They are integers because a front end rounds a slider's value to its steps and sends
that back, possibly late: of integers the rounding is nothing, and no parameter moves by being looked at."""


class ParameterRow:
    """One parameter: name and number field, slider, Fix toggle.

    The number field shows five significant digits; the parameter keeps all of them until it is
    moved.  A number beyond the slider's range widens the range.

    Parameters
    ----------
    state : State
    name, kind, label : str
        The parameter, its kind in `ParameterSpace.table`, and what stands in front of the field.
    """

    def __init__(self, state: State, name: str, kind: str, label: str) -> None:
        self.state = state
        self.name = name
        self.kind = kind
        value = float(state.params[name])
        row = state.model.table().loc[name]
        self.lower, self.upper = float(row["lower"]), float(row["upper"])
        self.log = self.lower == 0 and self.upper == math.inf
        self.low, self.high = self._range(value)
        self.slider = ipw.IntSlider(value=self.position(value), min=0, max=_STEPS, readout=False)
        self.slider.layout = ipw.Layout(flex="1 1 90px", min_width="70px", width="auto", margin="0 2px")
        self.slider.tooltip = f"{label}: drag, or use the arrow keys"
        self.field = ipw.Text(value=self._show(value), description=label, continuous_update=False)
        self.field.layout = ipw.Layout(width="186px", flex="0 0 auto")
        self.field.add_class("nlme-parameter")
        self.field.tooltip = f"{label}: type a number"
        self.fix = ipw.ToggleButton(value=name in state.fixed, description="Fix", tooltip=f"Keep {label} in a fit")
        self.fix.layout = ipw.Layout(width="40px", flex="0 0 auto")
        self.root = ipw.HBox([self.field, self.slider, self.fix], layout=ipw.Layout(align_items="center"))
        self._syncing = False
        self.slider.observe(self._slid, "value")
        self.field.observe(self._typed, "value")
        self.fix.observe(self._fixed, "value")

    # ---------------------------------------------------------- slider ↔ parameter

    def _range(self, value: float) -> tuple[float, float]:
        """Return a range that holds `value` and what a user may want to try from there."""
        if self.kind.endswith("correlation"):
            return -0.99, 0.99
        if self.log:
            return value / 10.0, value * 10.0
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
            self._refuse(f"'{change['new']}' is not a number.")
            return
        if not math.isfinite(value) or not self.lower < value < self.upper:
            bounds = f"above {self.lower:g}" if self.upper == math.inf else f"between {self.lower:g} and {self.upper:g}"
            self._refuse(f"{value:g} is outside its bounds: give a number {bounds}.")
            return
        self._set(value)

    def _refuse(self, why: str) -> None:
        self.state.notice = f"{self.name}: {why}"
        self.show(float(self.state.params[self.name]))

    def _set(self, value: float) -> None:
        self.state.params = {self.name: value}

    def _fixed(self, change: Any) -> None:
        if self._syncing:
            return
        others = tuple(n for n in self.state.fixed if n != self.name)
        self.state.fixed = (*others, self.name) if change["new"] else others

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

    def show_fixed(self, fixed: bool) -> None:
        """Bring the toggle to a state."""
        self._syncing = True
        try:
            self.fix.value = fixed
            self.fix.button_style = "info" if fixed else ""
        finally:
            self._syncing = False


_GROUPS = {
    "theta": "Typical values θ",
    "omega (SD)": "Between subjects ω (SD)",
    "iov (SD)": "Between occasions κ (SD)",
    "correlation": "Correlations of η",
    "sigma (SD)": "Residual σ (SD)",
    "residual correlation": "Correlations of residuals",
}


class InitialPanel:
    """All parameters, grouped, with Reset."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.rows: dict[str, ParameterRow] = {}
        children: list[Any] = []
        table = state.model.table()
        for kind, heading in _GROUPS.items():
            names = [str(n) for n in table.index[table["kind"] == kind]]
            if not names:
                continue
            children.append(ipw.HTML(f"<h4>{heading}</h4>"))
            for name in names:
                row = self.rows[name] = ParameterRow(state, name, kind, _short(name, kind))
                children.append(row.root)
        self.root = ipw.VBox(children)
        state.observe(self._params, "params")
        state.observe(self._fixed, "fixed")
        self._fixed(None)

    def _params(self, change: Any) -> None:
        old = change["old"] if isinstance(change["old"], dict) else {}
        for name, value in change["new"].items():
            if old.get(name) != value:
                self.rows[name].show(value)

    def _fixed(self, _: Any) -> None:
        for name, row in self.rows.items():
            row.show_fixed(name in self.state.fixed)


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
