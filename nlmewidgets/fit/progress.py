"""How far a fit is, on one line."""

from __future__ import annotations

import sys
import time

from nlmewidgets.methods import Iteration, Method

__all__ = ["ProgressLine", "time_left"]


class ProgressLine:
    """One line on stderr that says how far a fit is and how long it may still take."""

    def __init__(self, method: Method, wanted: bool | None) -> None:
        self.active = sys.stderr.isatty() if wanted is None else wanted
        self.title = method.title
        self.began = time.monotonic()
        self.last = self.began + (0.0 if wanted else 0.8)
        self.width = 0

    def show(self, iteration: Iteration) -> None:
        """Write the line, at most five times a second."""
        now = time.monotonic()
        if not self.active or now - self.last < 0.2:
            return
        self.last = now
        left = time_left(now - self.began, iteration.progress)
        text = f"{self.title}: iteration {iteration.k}, {iteration.phase}, OFV {iteration.ofv:.3f}, {left}"
        sys.stderr.write("\r" + text.ljust(self.width))
        sys.stderr.flush()
        self.width = len(text)

    def clear(self) -> None:
        """Remove the line."""
        if self.width:
            sys.stderr.write("\r" + " " * self.width + "\r")
            sys.stderr.flush()


def time_left(elapsed: float, progress: float) -> str:
    """Say in words how long the rest may take."""
    if progress <= 0.02:
        return "time left unknown"
    seconds = elapsed * (1.0 - progress) / progress
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"
