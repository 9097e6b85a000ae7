"""From a file to a fit without a line of code: upload, choose a structure, start."""

from __future__ import annotations

import html
import os
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as tl

from nlmewidgets import datasets
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.panels import upload
from nlmewidgets.panels.base import caption
from nlmewidgets.panels.explore import Explorer
from nlmewidgets.panels.look import DataLook
from nlmewidgets.panels.structures import StructureChooser
from nlmewidgets.panels.theme import style

__all__ = ["DATA_VARIABLE", "StartPage", "page"]

DATA_VARIABLE = "NLMEWIDGETS_DATA"
"""Environment variable in which the command line hands the app a file."""

_NONE = "none"


class StartPage(ipw.VBox):
    """Where an exploration begins: data, a structure of the library, Start.

    Everything a click does is a method or a trait, so that the page works headless too.

    Parameters
    ----------
    data : Data, optional
        Data already there.
    model : Model, optional
        A model already there; then only data are asked for.
    workspace : path or True, optional
        For the explorer.
    **options
        For the explorer.

    Attributes
    ----------
    data : Data or None
    structure : str
        Name in the library.
    explorer : Explorer or None
        Once started.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> page = nw.explore()                                   # doctest: +SKIP
    >>> page.read("my.csv", content)                          # doctest: +SKIP
    >>> page.structure = "oral_1cpt"                          # doctest: +SKIP
    >>> page.start().explorer.start().wait()                  # doctest: +SKIP
    """

    data = tl.Any(None, allow_none=True)
    structure = tl.Unicode("")
    explorer = tl.Any(None, allow_none=True)

    def __init__(
        self,
        data: Data | None = None,
        model: Model | None = None,
        *,
        workspace: str | Path | bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self._model = model
        self._options = options | ({"workspace": workspace} if workspace else {})
        self._file: tuple[str, bytes] | None = None
        self._syncing = False
        self.add_class("nlme")
        self._page = ipw.VBox([self._data_box(), self._structure_box(), self._start_box()])
        self.children = (style(), self._page)
        self.observe(lambda _: self._show_data(), "data")
        self.observe(lambda _: self._ready(), "structure")
        self.data = data
        self._show_data()

    # ------------------------------------------------------------------------ data

    def _data_box(self) -> ipw.Widget:
        self.upload = ipw.FileUpload(accept=".csv,.txt,.tsv,.dat", multiple=False, description="Upload a file")
        self.upload.tooltip = "A table in NONMEM's layout: one row per record"
        self.upload.layout = ipw.Layout(width="190px")
        self.upload.observe(self._uploaded, "value")
        self.example = ipw.Dropdown(
            options=[("choose …", ""), *((name, name) for name in datasets.names())],
            description="or an example",
            style={"description_width": "100px"},
            layout=ipw.Layout(width="320px"),
        )
        self.example.observe(self._example_chosen, "value")
        self.columns: dict[str, ipw.Dropdown] = {}
        for item, label in upload.ITEMS.items():
            box = ipw.Dropdown(options=[_NONE], description=label, style={"description_width": "150px"})
            box.layout = ipw.Layout(width="330px")
            box.observe(self._column_chosen, "value")
            self.columns[item] = box
        self._mapping = ipw.VBox(
            [
                ipw.HTML("<h4>Which column is what</h4>"),
                ipw.HBox(list(self.columns.values()), layout=ipw.Layout(flex_flow="row wrap")),
            ]
        )
        self._mapping.layout.display = "none"
        self.data_text = caption()
        self.look = ipw.Accordion(children=[ipw.VBox()], titles=["Look at the data"], selected_index=None)
        self.look.observe(lambda _: self._show_look(), "selected_index")
        self.look.layout.display = "none"
        return ipw.VBox(
            [
                ipw.HTML("<h3>1. Data</h3>"),
                ipw.HBox([self.upload, self.example], layout=ipw.Layout(align_items="center", flex_flow="row wrap")),
                self._mapping,
                self.data_text,
                self.look,
            ]
        )

    def read(self, name: str, content: bytes) -> StartPage:
        """Take a file; what cannot be read is said in a sentence, and the columns can be named."""
        self._file = (name, bytes(content))
        columns = upload.columns_of(self._file[1])
        guessed = upload.suggestion(columns)
        self._syncing = True
        try:
            for item, box in self.columns.items():
                box.options = [_NONE, *dict.fromkeys(columns)]
                box.value = guessed.get(item, _NONE)
            self.example.value = ""
        finally:
            self._syncing = False
        self._mapping.layout.display = None
        self._read()
        return self

    def _read(self) -> None:
        if self._file is None:
            return
        name, content = self._file
        try:
            self.data = upload.read(
                name, content, {k: None if b.value == _NONE else b.value for k, b in self.columns.items()}
            )
        except DataError as refusal:
            self.data = None
            self._say(self.data_text, str(refusal))

    def _uploaded(self, change: Any) -> None:
        if change["new"]:
            received = change["new"][0]
            self.read(str(received["name"]), bytes(received["content"]))

    def _column_chosen(self, _: Any) -> None:
        if not self._syncing:
            self._read()

    def _example_chosen(self, change: Any) -> None:
        if change["new"] and not self._syncing:
            self._file = None
            self._mapping.layout.display = "none"
            self.data = datasets.load(change["new"])

    def _show_data(self) -> None:
        data = self.data
        if data is None:
            self.data_text.value = (
                "<span class='soft'>One row per dose or observation, with columns such as ID, TIME, AMT, DV and "
                "covariates; commas, semicolons, tabs or blanks between them. The file goes to "
                "this server only.</span>"
            )
        else:
            name = str(data.origin.get("path") or data.origin.get("name") or "Data")
            covariates = ", ".join(data.covariates) or "none"
            head = (
                f"<b>{html.escape(name)}</b>: {data.n_subjects} subjects, {data.n_obs} observations, "
                f"{int(data.dosed.sum())} doses; covariates {html.escape(covariates)}."
            )
            notes = "".join(f"<li>{html.escape(note)}</li>" for note in data.notes)
            self.data_text.value = f"<div role='status'>{head}{f'<ul>{notes}</ul>' if notes else ''}</div>"
        self.look.layout.display = "none" if data is None else None
        self.look.selected_index = None
        self.look.children[0].children = ()
        self._ready()

    def _show_look(self) -> None:
        box = self.look.children[0]
        if self.look.selected_index == 0 and self.data is not None and not box.children:
            box.children = (DataLook(self.data),)

    # ------------------------------------------------------------------- structure

    def _structure_box(self) -> ipw.Widget:
        self.chooser = StructureChooser()
        tl.link((self.chooser, "structure"), (self, "structure"))
        box = ipw.VBox([ipw.HTML("<h3>2. Model</h3>"), self.chooser])
        if self._model is not None:
            box.layout.display = "none"
        return box

    def model(self) -> Model:
        """Return the model chosen: the structure with its own starting values, and the residual error.

        Raises
        ------
        NlmeError
            If the residual error does not suit the structure.
        """
        return self._model if self._model is not None else self.chooser.model(self.data)

    # ----------------------------------------------------------------------- start

    def _start_box(self) -> ipw.Widget:
        self.go = ipw.Button(description="Start", button_style="primary", icon="play", disabled=True)
        self.go.tooltip = "Open the environment, with starting values found from the data"
        self.go.on_click(lambda _: self.start())
        self.start_text = caption()
        return ipw.VBox([ipw.HTML("<h3>3. Start</h3>"), ipw.HBox([self.go]), self.start_text])

    def _ready(self) -> None:
        self.go.disabled = self.data is None
        if self.data is None:
            self.start_text.value = "<span class='soft'>Upload a file or choose an example first.</span>"
        else:
            name = self._model.name or "your model" if self._model is not None else self.chooser.name
            self.start_text.value = (
                f"<span class='soft'>Opens the environment on these data with “{html.escape(name)}” and looks for "
                "starting values; then press Start there to fit.</span>"
            )

    def start(self) -> StartPage:
        """Open the environment and look for starting values; a refusal is shown in a sentence."""
        if self.data is None:
            self._say(self.start_text, "There are no data yet: upload a file or choose an example.")
            return self
        self.go.disabled = True
        self.start_text.value = "<span class='soft' aria-live='polite'>Opening …</span>"
        try:
            explorer = Explorer(self.model(), self.data, **self._options)
        except NlmeError as refusal:
            self._ready()
            self._say(self.start_text, str(refusal))
            return self
        back = ipw.Button(description="Other data or structure", icon="arrow-left", layout=ipw.Layout(width="200px"))
        back.on_click(lambda _: self.back())
        self.explorer = explorer
        shown: Any = (style(), back, explorer)
        self.children = shown
        if explorer.workspace is None or not explorer.workspace.restored:
            explorer.guess()
        self._ready()
        return self

    def back(self) -> None:
        """Close the environment and show the page again, as it was."""
        if self.explorer is not None:
            self.explorer.close()
            self.explorer = None
        self.children = (style(), self._page)

    def close(self) -> None:
        """Close the page and the explorer in it."""
        if self.explorer is not None:
            self.explorer.close()
        super().close()

    @staticmethod
    def _say(where: ipw.HTML, text: str) -> None:
        where.value = f"<div class='nlme-alert' role='alert'>{html.escape(text)}</div>"


def page() -> StartPage:
    """Return the page of the app, with the file that the command line named."""
    made = StartPage()
    given = os.environ.get(DATA_VARIABLE)
    if given:
        path = Path(given)
        try:
            made.read(path.name, path.read_bytes())
        except OSError as error:
            made._say(made.data_text, f"'{path}' cannot be read ({error.strerror}); upload a file.")
    return made
