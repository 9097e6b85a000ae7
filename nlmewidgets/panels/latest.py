"""Work beside the event loop in which only the latest request counts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Latest"]

Q = TypeVar("Q")
A = TypeVar("A")


class Latest(Generic[Q, A]):
    """Compute answers to requests in a thread; a request overtaken by a newer one is skipped.

    The thread ends as soon as there is nothing to do.  Where there are no threads (Pyodide) the
    answer is computed at once.

    Parameters
    ----------
    compute : callable
        Request → answer.
    publish : callable
        Takes every answer that is still wanted.
    """

    def __init__(self, compute: Callable[[Q], A], publish: Callable[[A], None]) -> None:
        self._compute = compute
        self._publish = publish
        self._lock = threading.Lock()
        self._request: list[Q] = []
        self._thread: threading.Thread | None = None

    def put(self, request: Q) -> None:
        """Ask for `request`, instead of anything still waiting."""
        if sys.platform == "emscripten":
            self._publish(self._compute(request))
            return
        with self._lock:
            self._request = [request]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="nlmewidgets-look")
                self._thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._request:
                    self._thread = None
                    return
                request = self._request.pop()
            try:
                answer = self._compute(request)
            except BaseException:  # the next request finds a worker all the same
                with self._lock:
                    self._thread = None
                raise
            with self._lock:
                overtaken = bool(self._request)
            if not overtaken:
                self._publish(answer)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being computed, and return whether that is so."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._thread is None
