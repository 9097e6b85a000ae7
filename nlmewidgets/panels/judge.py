"""Judging a fit: its pictures, each with how to read it and when it misleads, and the report."""

from __future__ import annotations

import base64
import html
import tempfile
import time
from pathlib import Path
from typing import ClassVar

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Fit, time_left
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.pictures import PICTURES, Drawing

__all__ = ["JudgePanel"]


class JudgePanel(Panel):
    """One picture at a time of the last fit, drawn beside the interface."""

    title = "Pictures"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"draw": ("result",)}

    def build(self) -> None:
        """Make the chooser and the place of the picture."""
        self.empty = ipw.HTML("<div class='nlme-empty'>No fit yet. Choose a method and press Start.</div>")
        choices = [(p.title, p.name) for p in PICTURES.values()]
        self.picture = ipw.Dropdown(options=choices, description="Picture", style={"description_width": "56px"})
        self.picture.layout = ipw.Layout(width="420px")
        self.picture.observe(lambda _: self.draw(), "value")
        self.samples = ipw.Checkbox(description="draws, not EBEs", indent=False, layout=ipw.Layout(width="130px"))
        self.samples.tooltip = "One draw of each subject's random effects given its data, which do not shrink"
        self.samples.observe(lambda _: self.draw(), "value")
        self.save = ipw.Button(description="Report", icon="file-text", tooltip="Everything about the fit as one file")
        self.save.layout = ipw.Layout(width="96px")
        self.save.on_click(lambda _: self.report())
        self.link = ipw.HTML()
        self.link.add_class("nlme-caption")
        self.image = ipw.HTML()
        self.image.add_class("nlme-picture")
        self.text = caption()
        self.body = ipw.VBox(
            [
                ipw.HBox([self.picture, self.samples, self.save, self.link], layout=ipw.Layout(align_items="center")),
                self.image,
                self.text,
            ]
        )
        self.root.children = (self.empty, self.body)
        self._drawing: Latest[tuple[Fit, str, bool], Drawing] = Latest(
            self._make, self._made, self._not_made, lock=self.state.lock
        )
        self._reporting: Latest[Fit, str] = Latest(self._write, self._written, self._not_written, lock=self.state.lock)

    def draw(self) -> None:
        """Ask for the picture chosen of the last fit."""
        fit = self.state.result
        self.empty.layout.display = "none" if fit is not None else None
        self.body.layout.display = None if fit is not None else "none"
        if fit is None:
            return
        self.link.value = ""
        switched = "samples" in PICTURES[self.picture.value].options
        self.samples.layout.display = None if switched else "none"
        self.text.value = "<span class='soft' aria-live='polite'>Drawing …</span>"
        self._drawing.put((fit, self.picture.value, switched and self.samples.value))

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is being drawn or written."""
        self._drawing.wait(timeout)
        self._reporting.wait(timeout)

    @staticmethod
    def _make(request: tuple[Fit, str, bool]) -> Drawing:
        fit, name, samples = request
        return PICTURES[name](fit, **({"samples": True} if samples else {}))

    def _not_made(self, refusal: NlmeError) -> None:
        self.image.value = f"<div class='nlme-empty'>{html.escape(str(refusal))}</div>"
        self.text.value = ""

    def _made(self, drawing: Drawing) -> None:
        self.image.value = drawing.svg
        self.text.value = f"<b>Reading.</b> {html.escape(drawing.read)} <b>Beware.</b> {html.escape(drawing.misleads)}"

    def report(self) -> None:
        """Write the report beside the interface and offer it for download."""
        fit = self.state.result
        if fit is not None:
            self.save.disabled = True
            self.link.value = "<span class='soft' aria-live='polite'>Writing the report …</span>"
            self._reporting.put(fit)

    def _write(self, fit: Fit) -> str:
        began = time.monotonic()

        def tell(share: float) -> None:
            left = time_left(time.monotonic() - began, share)
            words = f"Writing the report: {100 * share:.0f} %, {left} …"
            with self.state.lock:
                self.link.value = f"<span class='soft' aria-live='polite'>{words}</span>"

        with tempfile.TemporaryDirectory() as folder:
            return fit.report(Path(folder) / "report.html", progress=tell).read_text(encoding="utf-8")

    def _not_written(self, refusal: NlmeError) -> None:
        self.save.disabled = False
        self.link.value = html.escape(str(refusal))

    def _written(self, text: str) -> None:
        self.save.disabled = False
        code = base64.b64encode(text.encode()).decode("ascii")
        self.link.value = f"<a download='report.html' href='data:text/html;base64,{code}'>download report.html</a>"
