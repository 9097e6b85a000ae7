"""The model: its equations, and another structure in its place."""

from __future__ import annotations

import html
from typing import ClassVar

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.library.diagram import diagram
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.structures import StructureChooser
from nlmewidgets.panels.tables import TableView
from nlmewidgets.report.page import mathematics

__all__ = ["EquationsPanel", "StructurePanel"]


class EquationsPanel(Panel):
    """Picture, equations and parameters of the model."""

    title = "Equations"
    step: ClassVar[str] = "model"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": ("params", "fixed")}

    def build(self) -> None:
        """Show what does not move."""
        model = self.state.model
        name = html.escape(model.name or "Model")
        drawn = diagram(model)
        picture = f"<div role='img' aria-label='Compartments of {name}'>{drawn}</div>" if drawn else ""
        equations = ipw.HTML(f"<h3>{name}</h3>{picture}{mathematics(model)}")
        equations.add_class("nlme-equations")
        self.parameters = TableView()
        words = caption(
            "<span class='soft'>θ are typical values (medians where parameters are log-normal), ω and σ standard "
            "deviations. To change the declaration, make a model in a cell and hand it over: "
            "<code>explorer.use(model)</code>; panels and sliders follow.</span>"
        )
        self.root.children = (equations, ipw.HTML("<h4>Parameters at the sliders</h4>"), self.parameters.root, words)

    def draw(self) -> None:
        """Bring the parameters up to date."""
        state = self.state
        table = state.model.table()
        table["value"] = [float(state.params[n]) for n in table.index]
        table["fixed"] = ["yes" if n in state.fixed else "" for n in table.index]
        self.parameters.show(table, text=("kind", "fixed"), index="parameter")


class StructurePanel(Panel):
    """Another structure of the library, by words and picture, in the place of the model."""

    title = "Change structure"
    step: ClassVar[str] = "model"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": ("running",)}

    def build(self) -> None:
        """Make the chooser."""
        self.chooser = StructureChooser()
        self.use = ipw.Button(description="Use this structure", button_style="primary", icon="check")
        self.use.layout = ipw.Layout(width="180px")
        self.use.on_click(lambda _: self.take())
        self.text = caption()
        self.root.children = (self.chooser, self.use, self.text)

    def draw(self) -> None:
        """Wait for a running fit."""
        self.use.disabled = self.state.running
        self.text.value = "<span class='soft'>Fits made so far stay in the list of runs.</span>"

    def take(self) -> None:
        """Go on with the structure chosen and starting values found from the data."""
        try:
            self.state.use(self.chooser.model(self.state.data)).guess()
        except NlmeError as refusal:
            self.text.value = f"<div class='nlme-alert' role='alert'>{html.escape(str(refusal))}</div>"
