"""Work beside the event loop in which only the latest request counts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

from nlmewidgets.core.breath import Stopped, watched
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.panels.courtesy import give_way

__all__ = ["Latest", "report"]

Q = TypeVar("Q")
A = TypeVar("A")


def report() -> None:
    """Report the exception in hand as a thread's are that ends by one, and go on."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Latest(Generic[Q, A]):
    """Compute answers to requests in a thread; a request overtaken by a newer one is skipped, or dropped half-way.

    The thread ends as soon as there is nothing to do.  Where there are no threads (Pyodide) the
    answer is computed at once.

    Parameters
    ----------
    compute : callable
        Request → answer.
    publish : callable
        Takes every answer that is still wanted.
    refused : callable, optional
        Takes the refusal, if computing ends in one; of any other exception, a sentence that says so.
    lock : context manager, optional
        Held while an answer or a refusal is taken: that of what it changes.
    droppable : bool
        Whether computing may be ended half-way when a newer request comes.
    """

    def __init__(
        self,
        compute: Callable[[Q], A],
        publish: Callable[[A], None],
        refused: Callable[[NlmeError], None] | None = None,
        *,
        lock: AbstractContextManager[Any] | None = None,
        droppable: bool = True,
    ) -> None:
        self._compute = compute
        self._publishing = lock or nullcontext()
        self._publish = publish
        self._refused = refused
        self._droppable = droppable
        self._lock = threading.Condition()
        self._request: list[tuple[Q, float]] = []
        self._thread: threading.Thread | None = None
        self._hurry = 0

    def put(self, request: Q) -> None:
        """Ask for `request`, instead of anything still waiting."""
        if sys.platform == "emscripten":
            self._answer(request)
            return
        with self._lock:
            self._ask(request, 0.0)

    def offer(self, request: Q, rest: float) -> None:
        """Ask for `request` if nothing else is waiting and nothing else is asked for during `rest` seconds."""
        if sys.platform == "emscripten":
            self._answer(request)
            return
        with self._lock:
            if not any(pause == 0.0 for _, pause in self._request):
                self._ask(request, rest)

    def _ask(self, request: Q, rest: float) -> None:
        self._request = [(request, rest)]
        self._lock.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="nlmewidgets-look")
            self._thread.start()

    @property
    def overtaken(self) -> bool:
        """Whether something else was asked for since the request being computed; it may end early."""
        with self._lock:
            return bool(self._request)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._request:
                    self._thread = None
                    return
                request, rest = self._request.pop()
                if rest and self._lock.wait_for(lambda: self._request or self._hurry, rest) and self._request:
                    continue
            try:
                self._answer(request)
            except Exception:  # while whoever waits is still waiting
                report()

    def _answer(self, request: Q) -> None:
        try:
            with watched(self._breath):
                answer = self._compute(request)
        except Stopped:
            return
        except Exception as error:
            if self._refused is None:
                raise
            if isinstance(error, NlmeError):
                refusal = error
            else:
                report()
                refusal = NlmeError(f"This failed ({type(error).__name__}: {error}); please report it.")
            with self._publishing:
                if not self.overtaken:
                    self._refused(refusal)
            return
        with self._publishing:
            if not self.overtaken:
                self._publish(answer)

    def _breath(self) -> None:
        """Give way to the interface; drop what nobody waits for any more."""
        if self._droppable and self._request:
            raise Stopped
        if self._thread is not None:
            give_way()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being computed, and return whether that is so; what rests is computed at once."""
        with self._lock:
            thread = self._thread
            self._hurry += 1
            self._lock.notify()
        if thread is not None:
            thread.join(timeout)
        with self._lock:
            self._hurry -= 1
            return self._thread is None
