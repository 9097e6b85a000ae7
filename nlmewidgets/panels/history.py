"""Undo and redo of what the sliders hold."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

__all__ = ["LENGTH", "TOGETHER", "History"]

LENGTH = 200
"""Entries kept; the oldest are forgotten."""

TOGETHER = 0.5
"""Seconds within which moves of the same parameter are one entry: a drag is."""

TRAITS = ("params", "fixed", "refit")


class History:
    """What the watched traits of a state have been, and where in that we are.

    Parameters
    ----------
    state : State
        Its traits `params`, `fixed` and `refit` are followed from here on.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        self._entries: list[dict[str, Any]] = [self._now()]
        self._here = 0
        self._last: tuple[str, float] = ("", 0.0)
        self._restoring = False
        state.observe(self._changed, names=list(TRAITS))
        self._tell()

    def _now(self) -> dict[str, Any]:
        return {name: getattr(self._state, name) for name in TRAITS}

    def _changed(self, change: Any) -> None:
        if self._restoring or (self._state.following and change["name"] != "params"):
            return  # of Fix and Refit, which exclude one another, the outer change is recorded
        what, now = self._what(change), time.monotonic()
        following = what == self._last[0] != "" and now - self._last[1] < TOGETHER and not self.can_redo
        # What is refitted follows a move: both are undone together.
        if (following or self._state.following) and self._here > 0:
            self._entries[self._here] = self._now()
        else:
            self._entries = [*self._entries[: self._here + 1], self._now()][-LENGTH:]
            self._here = len(self._entries) - 1
        if not self._state.following:
            self._last = (what, now)
        self._tell()

    @staticmethod
    def _what(change: Any) -> str:
        """Return the name of the one parameter that moved, '' where it is something else."""
        if change["name"] != "params" or not isinstance(change["old"], Mapping):
            return ""
        moved = [name for name, value in change["new"].items() if change["old"].get(name) != value]
        return moved[0] if len(moved) == 1 else ""

    def cut(self) -> None:
        """Let the next change be an entry of its own, whatever came before."""
        self._last = ("", 0.0)

    @property
    def can_undo(self) -> bool:
        """Whether there is anything to go back to."""
        return self._here > 0

    @property
    def can_redo(self) -> bool:
        """Whether anything was undone since the last change."""
        return self._here < len(self._entries) - 1

    def go(self, steps: int) -> None:
        """Go so many entries back (negative) or forward; as far as there are any."""
        there = min(max(self._here + steps, 0), len(self._entries) - 1)
        if there == self._here:
            return
        self._here = there
        self.cut()
        self._restoring = True
        try:
            with self._state.consequence():
                for name, value in self._entries[there].items():
                    setattr(self._state, name, value)
        finally:
            self._restoring = False
        self._tell()

    def _tell(self) -> None:
        self._state.can_undo, self._state.can_redo = self.can_undo, self.can_redo
