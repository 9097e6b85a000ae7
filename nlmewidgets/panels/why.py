"""Why did it stop? The answer in words, and a button for every remedy."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw

from nlmewidgets.diagnostics.remedies import Remedy, remedies, remedies_of_refusal, why_stopped

__all__ = ["WhyBox", "carry_out"]


class WhyBox:
    """Stands under the fit box once a fit has ended.

    Attributes
    ----------
    root : Widget
    remedies : tuple of Remedy
    """

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        self.remedies: tuple[Remedy, ...] = ()
        self.words = ipw.HTML()
        self.words.add_class("nlme-caption")
        self.box = ipw.VBox()
        self.root = ipw.VBox([ipw.HTML("<h4>Why did it stop?</h4>"), self.words, self.box])
        explorer.observe(lambda _: self.show(), names=["running"])
        self.show()

    def show(self) -> None:
        """Say why the last fit ended; be silent while one runs, and before the first."""
        state = self.explorer
        failed = state.status == "failed"
        ended = not state.running and (failed or state.result is not None)
        self.root.layout.display = None if ended else "none"
        if not ended:
            return
        if failed:
            self.words.value = "<span class='soft'>The fit could not be made; the message says why.</span>"
            self.remedies = remedies_of_refusal(state.message, state.method)
        else:
            self.words.value = f"<span class='soft'>{html.escape(why_stopped(state.result, brief=True))}</span>"
            self.remedies = remedies(state.result)
        rows: list[Any] = []
        for remedy in self.remedies:
            text = ipw.HTML(f"<span class='soft'>{html.escape(remedy.words)}</span>")
            text.add_class("nlme-caption")
            button = ipw.Button(description=remedy.label, tooltip=remedy.words, icon="wrench")
            button.layout = ipw.Layout(width="auto", min_width="120px", align_self="flex-start")
            button.on_click(lambda _, r=remedy: carry_out(self.explorer, r))
            rows += [text, button]
        self.box.children = tuple(rows)


def carry_out(explorer: Any, remedy: Remedy) -> None:
    """Do what a remedy says on an explorer; fits begin at once, guesses move the sliders."""
    given = dict(remedy.arguments)
    if explorer.running:
        return
    if remedy.action == "resume":
        explorer.resume(**given)
    elif remedy.action == "guess":
        explorer.guess()
    elif remedy.action == "take":
        explorer.take_estimates()
        explorer.start()
    elif remedy.action == "fix":
        if explorer.status != "failed":
            explorer.take_estimates()
        explorer.params = {name: value for name, value in given.items() if value is not None}
        explorer.fixed = (*explorer.fixed, *(name for name in given if name not in explorer.fixed))
        explorer.start()
    elif remedy.action == "fit":
        explorer.method = given.pop("method")
        explorer.method_options = {**explorer.method_options, **given}
        explorer.start()
    elif remedy.action == "show":
        explorer.panel = given["panel"]
