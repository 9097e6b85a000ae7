"""The controls of the view that the panels of curves share: log axis, per dose, colour by covariate."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import traitlets as tl

from nlmewidgets.panels.theme import GROUPS

__all__ = ["ViewControls", "group_look", "groups_key"]


class ViewControls:
    """One row of controls; each panel of curves has its own, and all say the same.

    Attributes
    ----------
    log, per_dose : ToggleButton
    by : Dropdown
    refused : HTML
        Why something cannot be shown that way.
    root : list of Widget
    """

    def __init__(self, state: Any) -> None:
        self.state = state
        self.log = ipw.ToggleButton(description="Log axis", tooltip="Logarithmic observation axis")
        self.per_dose = ipw.ToggleButton(description="Per dose", tooltip="Observations and curves divided by the dose")
        for button in (self.log, self.per_dose):
            button.layout = ipw.Layout(width="auto", padding="0 8px")
        self.per_dose.layout.display = None if state.data.dosed.any() else "none"
        self.by = ipw.Dropdown(options=state.by_choices(), description="Colour by")
        self.by.style.description_width = "64px"
        self.by.layout = ipw.Layout(width="190px", display=None if len(self.by.options) > 1 else "none")
        self.refused = ipw.HTML()
        tl.link((state, "log_axis"), (self.log, "value"))
        tl.link((state, "by"), (self.by, "value"))
        self.per_dose.value = state.per_dose
        state.observe(lambda change: setattr(self.per_dose, "value", change["new"]), "per_dose")
        self.per_dose.observe(self._asked, "value")
        self.root = [self.log, self.per_dose, self.by]

    def _asked(self, change: Any) -> None:
        """Divide by the dose, or say in place why that cannot be."""
        self.refused.value = ""
        try:
            self.state.per_dose = change["new"]
        except tl.TraitError as refusal:
            self.per_dose.value = False
            self.refused.value = f"<div class='nlme-alert nlme-caption' role='alert'>{html.escape(str(refusal))}</div>"


def group_look(group: int) -> dict[str, Any]:
    """Return the traits of a mark that make a group of observations known from the others: colour and shape."""
    colour, marker = GROUPS[group % len(GROUPS)]
    return {"colors": [colour], "marker": marker}


def groups_key(names: list[str]) -> list[tuple[str, str, str]]:
    """Return what a legend says of the groups, see `base.legend`."""
    looks = (GROUPS[k % len(GROUPS)] for k in range(len(names)))
    return [(marker, colour, name) for (colour, marker), name in zip(looks, names, strict=True)]
