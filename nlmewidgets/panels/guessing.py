"""Starting values found from the data, beside the interface."""

from __future__ import annotations

import threading
from typing import Any

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.panels.latest import Latest
from nlmewidgets.studies import Guess

__all__ = ["Guessing"]

_SECONDS = 10.0
"""Seconds a guess may take."""


class Guessing:
    """The button *Guess*, and the search behind it.

    Attributes
    ----------
    button : Button
    """

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        self._search: Latest[Model, Guess] = Latest(self._find, self._found, self._refused, lock=explorer.lock)
        self._ended = threading.Event()
        self.button = ipw.Button(description="Guess", tooltip="Find starting values from the data", icon="magic")
        self.button.layout = ipw.Layout(width="84px")
        self.button.on_click(lambda _: self.start())

    def start(self) -> None:
        """Look for starting values, unless that is being done, and move the sliders to them."""
        if not self.button.disabled:
            self.button.disabled = True
            self.explorer.message = "Looking for starting values …"
            self._search.put(self.explorer.model_now)

    def end(self) -> None:
        """End a search at once."""
        self._ended.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the search to end, and return whether it did."""
        return self._search.wait(timeout)

    def _find(self, model: Model) -> Guess:
        return model.guess(self.explorer.data, seconds=_SECONDS, stop=self._ended.is_set)  # type: ignore[no-any-return]

    def _refused(self, refusal: NlmeError) -> None:
        self.button.disabled = False
        self.explorer.message = str(refusal)

    def _found(self, found: Guess) -> None:
        explorer = self.explorer
        self.button.disabled = False
        space = found.model.space
        explorer.params = space.to_dict(space.initial)
        explorer.message = f"Starting values by {found.message[0].lower()}{found.message[1:]}"
