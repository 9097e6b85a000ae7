"""Where a long computation takes breath: whoever runs it may have it wait there, or end it.

The code that computes calls `breathe` before every prediction and in every step of an integration, and knows nothing
of who is watching; without a watcher that costs a tenth of a microsecond.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Stopped", "breathe", "watched"]


class Stopped(BaseException):
    """Raised by a watcher to end a computation; it is no error, so what handles errors on the way lets it through."""


_here = threading.local()


def breathe() -> None:
    """Do what the watcher of this thread does, if there is one."""
    watcher = getattr(_here, "watcher", None)
    if watcher is not None:
        watcher()


@contextmanager
def watched(watcher: Callable[[], None]) -> Iterator[None]:
    """Within it, every breath that this thread takes calls the watcher, which may wait or raise `Stopped`.

    Examples
    --------
    >>> breaths = []
    >>> with watched(lambda: breaths.append("in and out")):
    ...     breathe()
    >>> breathe()
    >>> breaths
    ['in and out']
    """
    before = getattr(_here, "watcher", None)
    _here.watcher = watcher
    try:
        yield
    finally:
        _here.watcher = before
