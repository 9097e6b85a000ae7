"""What is computed beside the interface gives way while a slider is being served.

Threads of Python take turns of five milliseconds, and a message needs several turns to leave the kernel: beside a
computation that wants its turns too, a slider that is idle answers in half the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nlmewidgets.core.breath import watched

__all__ = ["give_way", "serving"]

_LONGEST = 0.25
"""Seconds that a computation waits for one slider, at most."""
_AFTER = 0.02
"""Seconds that it waits after: what was sent has to leave the kernel."""

_until = 0.0
_own = threading.local()


@contextmanager
def serving() -> Iterator[None]:
    """Have what is beside the interface wait while this is done, and until what it sent has left."""
    global _until  # one interpreter lock, one turn to give way in
    _until = time.perf_counter() + _LONGEST
    try:
        with watched(lambda: None):  # whoever serves does not wait, nor is it dropped half-way
            yield
    finally:
        _until = time.perf_counter() + _AFTER


def give_way() -> None:
    """Wait while a slider is served; after that go on for at least as long, so that no drag stops a fit."""
    began = now = time.perf_counter()
    if now >= _until or now < getattr(_own, "busy", 0.0):
        return
    while now < min(_until, began + _LONGEST):
        time.sleep(0.005)
        now = time.perf_counter()
    _own.busy = now + (now - began)
