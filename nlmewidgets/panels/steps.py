"""The five steps of the environment: a row of them, and under it the panels of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets as ipw

from nlmewidgets.panels.base import Panel

__all__ = ["STEPS", "Steps"]

STEPS = {
    "data": "1 Data",
    "model": "2 Model",
    "initial": "3 Initial estimates",
    "fit": "4 Fit",
    "judge": "5 Judge",
    "out": "Out",
}
"""Title of each step by its name, in order."""


class Steps:
    """Shows one panel: that of the explorer's `panel`, in the tabs of its step.

    Parameters
    ----------
    explorer : Explorer
        Whose traits `step` and `panel` it follows and sets.
    panels : mapping
        Name → panel.

    Attributes
    ----------
    row, place : Widget
        The row of steps, and where the panels are.
    tabs : mapping
        Step → its tabs.
    """

    def __init__(self, explorer: Any, panels: Mapping[str, Panel]) -> None:
        self.explorer = explorer
        self.panels = panels
        self.names = {step: [n for n, p in panels.items() if p.step == step] for step in STEPS}
        self.last = {step: names[0] for step, names in self.names.items()}
        self.row = ipw.ToggleButtons(
            options=[(title, step) for step, title in STEPS.items()],
            value=explorer.step,
            style={"button_width": "auto"},
        )
        self.row.add_class("nlme-steps")
        self.tabs: dict[str, Any] = {}
        for step, names in self.names.items():
            tabs = ipw.Tab(children=[panels[n].root for n in names], titles=[panels[n].title for n in names])
            tabs.layout = ipw.Layout(width="100%", min_width="0")
            tabs.selected_index = 0
            tabs.observe(lambda change, step=step: self._tab(step, change["new"]), "selected_index")
            self.tabs[step] = tabs
        self.place = ipw.VBox(
            list(self.tabs.values()), layout=ipw.Layout(flex="1 1 420px", min_width="0", width="auto")
        )
        self.row.observe(lambda change: setattr(explorer, "step", change["new"]), "value")
        explorer.observe(lambda change: self._step(change["new"]), names=["step"])
        explorer.observe(lambda _: self.show(), names=["panel"])
        self.show()

    def _step(self, step: str) -> None:
        if self.panels[self.explorer.panel].step != step:
            self.explorer.panel = self.last[step]

    def _tab(self, step: str, index: int | None) -> None:
        if index is not None and self.explorer.step == step:
            self.explorer.panel = self.names[step][index]

    def show(self) -> None:
        """Bring row, tabs and panels to the explorer's `panel`."""
        name = self.explorer.panel
        step = self.panels[name].step
        self.last[step] = name
        self.explorer.step = self.row.value = step
        self.tabs[step].selected_index = self.names[step].index(name)
        for own, tabs in self.tabs.items():
            tabs.layout.display = None if own == step else "none"
        with self.explorer.attaching():  # a panel is built when it is first shown
            for own, panel in self.panels.items():
                (panel.show if own == name else panel.hide)()
