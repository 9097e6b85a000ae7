"""What leaves the environment besides code: a link, and tables of the last fit."""

from __future__ import annotations

import base64
import html
from typing import ClassVar

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Fit
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.session import SETTINGS

__all__ = ["TakeAwayPanel"]


class TakeAwayPanel(Panel):
    """The link of `Explorer.link`, and estimates and rows of the last fit as files."""

    title = "Link and tables"
    step: ClassVar[str] = "out"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": SETTINGS, "draw_tables": ("result",)}

    def build(self) -> None:
        """Make the field and the button."""
        self.link = ipw.Textarea(description="Link", layout=ipw.Layout(width="auto", height="110px"))
        self.link.style = {"description_width": "40px"}
        self.link.add_class("nlme-code")
        words = caption(
            "<span class='soft'>Model, sliders, method and where the data are: <code>nw.open('…')</code> opens "
            "it again. It holds no data and no fits.</span>"
        )
        self.make = ipw.Button(description="Make tables", icon="table", layout=ipw.Layout(width="130px"))
        self.make.tooltip = "Estimates with their precision, and one row per observation, of the last fit"
        self.make.on_click(lambda _: self.tables())
        self.text = caption()
        self.root.children = (self.link, words, ipw.HTML("<h4>Tables of the last fit</h4>"), self.make, self.text)
        self._making: Latest[Fit, dict[str, str]] = Latest(self._make, self._made, self._not_made, lock=self.state.lock)

    def draw(self) -> None:
        """Write the link of the moment."""
        try:
            self.link.value = self.state.link()
        except NlmeError as refusal:
            self.link.value = str(refusal)

    def draw_tables(self) -> None:
        """Offer tables where there is a fit."""
        there = self.state.result is not None
        self.make.disabled = not there
        self.text.value = "" if there else "<span class='soft'>No fit yet. Choose a method and press Start.</span>"

    def tables(self) -> None:
        """Make the tables beside the interface and offer them for download."""
        if self.state.result is not None:
            self.make.disabled = True
            self.text.value = "<span class='soft' aria-live='polite'>Making the tables …</span>"
            self._making.put(self.state.result)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for the tables."""
        self._making.wait(timeout)

    @staticmethod
    def _make(fit: Fit) -> dict[str, str]:
        return {
            "estimates.csv": fit.to_csv(),
            "estimates.tex": fit.to_latex(),
            "observations.csv": fit.table(n=0).to_csv(index=False),
        }

    def _not_made(self, refusal: NlmeError) -> None:
        self.make.disabled = False
        self.text.value = f"<div class='nlme-alert' role='alert'>{html.escape(str(refusal))}</div>"

    def _made(self, files: dict[str, str]) -> None:
        self.make.disabled = False
        links = []
        for name, text in files.items():
            code = base64.b64encode(text.encode()).decode("ascii")
            links.append(f"<a download='{name}' href='data:text/plain;base64,{code}'>download {name}</a>")
        self.text.value = " · ".join(links)
