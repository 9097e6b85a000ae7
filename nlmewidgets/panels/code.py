"""The exploration as code, to paste into a cell."""

from __future__ import annotations

from typing import ClassVar

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.panels.base import Panel, caption

__all__ = ["CodePanel"]


class CodePanel(Panel):
    """What `Explorer.to_code` returns, always up to date."""

    title = "Code"
    step: ClassVar[str] = "out"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {
        "draw": ("params", "fixed", "method", "options", "selected_ids", "excluded", "excluded_records", "ofv")
    }

    def build(self) -> None:
        """Make the text field."""
        self.text = ipw.Textarea(layout=ipw.Layout(width="auto", height="420px"))
        self.text.add_class("nlme-code")
        self.text.tooltip = "Python code of this exploration"
        words = caption(
            "Paste this into a new cell: it declares the model at the slider values and prints the same objective."
        )
        self.root.children = (words, self.text)

    def draw(self) -> None:
        """Write the code at the values of the moment."""
        try:
            self.text.value = self.state.to_code()
        except NlmeError as refusal:
            self.text.value = f"# {refusal}"
