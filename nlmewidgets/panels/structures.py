"""Choosing a structure of the library by words and picture."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import pandas as pd
import traitlets as tl

from nlmewidgets import library
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.library.text import formulas, picture
from nlmewidgets.panels.base import caption
from nlmewidgets.panels.tables import TableView

__all__ = ["StructureChooser"]

_OWN = "the structure's own"
_ERRORS = (_OWN, "Additive", "Proportional", "Combined")


class StructureChooser(ipw.HBox):
    """Search, list, picture, equations and parameters of the library's structures, and a residual error.

    Attributes
    ----------
    structure : str
        Name in the library.
    """

    structure = tl.Unicode("")

    def __init__(self) -> None:
        super().__init__()
        self._syncing = False
        self.words = ipw.Text(
            description="Search", placeholder="e.g. oral 2 compartments, infusion, Emax", continuous_update=True
        )
        self.words.style = {"description_width": "56px"}
        self.words.layout = ipw.Layout(width="auto")
        self.words.observe(lambda change: self.search(change["new"]), "value")
        self.found = ipw.Select(options=[], rows=10, description="Structures", layout=ipw.Layout(width="auto"))
        self.found.style = {"description_width": "0px"}
        self.found.add_class("nlme-found")
        self.found.observe(self._chosen, "value")
        self.error = ipw.Dropdown(options=_ERRORS, description="Residual error", style={"description_width": "100px"})
        self.error.layout = ipw.Layout(width="auto")
        self.search_text = caption()
        self.picture = ipw.HTML()
        self.equations = caption()
        self.parameters = TableView()
        left = ipw.VBox(
            [self.words, self.found, self.error, self.search_text],
            layout=ipw.Layout(flex="0 1 540px", min_width="300px"),
        )
        right = ipw.VBox([self.picture, self.equations, self.parameters.root], layout=ipw.Layout(flex="1 1 420px"))
        right.layout.min_width = "0"
        right.layout.padding = "0 0 0 20px"
        self.children = (left, right)
        self.observe(lambda _: self._show(), "structure")
        self.search("")

    def search(self, words: str) -> StructureChooser:
        """List the structures that match a few words, best first, and show the first."""
        try:
            hits = library.search(words)
        except NlmeError as refusal:
            self.search_text.value = f"<div class='nlme-alert' role='alert'>{html.escape(str(refusal))}</div>"
            return self
        self.search_text.value = (
            f"<span class='soft' aria-live='polite'>{len(hits)} structure{'s' if len(hits) != 1 else ''}.</span>"
        )
        self._syncing = True
        try:
            self.found.options = [(str(title), str(name)) for name, title in hits["title"].items()]
            self.found.index = 0
        finally:
            self._syncing = False
        self.structure = self.found.value
        return self

    def _chosen(self, change: Any) -> None:
        if change["new"] and not self._syncing:
            self.structure = change["new"]

    def _show(self) -> None:
        entry = library.describe(self.structure)
        if self.found.value != self.structure:
            self._syncing = True
            try:
                if self.structure not in [value for _, value in self.found.options]:
                    self.found.options = [(entry.title, entry.name)]
                self.found.value = self.structure
            finally:
                self._syncing = False
        self.picture.value = f"<div role='img' aria-label='{html.escape(entry.title)}'>{picture(entry)}</div>"
        lines = "".join(f"<div><code>{html.escape(line)}</code></div>" for line in formulas(entry.model))
        note = f"<div class='soft'>{html.escape(entry.note)}</div>" if entry.note else ""
        self.equations.value = f"<h4>{html.escape(entry.title)}</h4>{lines}{note}"
        rows = [(a.name, a.meaning, a.unit) for a in entry.arguments]
        self.parameters.show(
            pd.DataFrame(rows, columns=["parameter", "meaning", "unit"]),
            text=("parameter", "meaning", "unit"),
            wide=("meaning",),
        )

    @property
    def name(self) -> str:
        """The title of the structure chosen."""
        return library.describe(self.structure).title

    def model(self, data: Data | None = None) -> Model:
        """Return the structure with its own starting values, and a residual error of the size of the data.

        Raises
        ------
        NlmeError
            If the residual error does not suit the structure.
        """
        entry = library.describe(self.structure)
        if self.error.value == _OWN:
            return entry.function()
        size = float(abs(data.dv[data.dv == data.dv]).mean()) if data is not None else 1.0
        sizes = {"Additive": (0.2 * size,), "Proportional": (0.2,), "Combined": (0.05 * size, 0.15)}
        kind: Any = library.RESIDUALS[self.error.value]
        residual = kind(*sizes[self.error.value])
        outputs = list(entry.model.outputs)
        return entry.function(residual=residual if len(outputs) == 1 else dict.fromkeys(outputs, residual))
