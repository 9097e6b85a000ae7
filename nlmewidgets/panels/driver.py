"""A fit that runs beside the interface: started, watched, stopped, waited for."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.panels.latest import report

__all__ = ["Job", "failure"]

_EVERY = 0.1
"""Seconds between two publications: ten a second are all an eye can use."""

_SHARE = 4.0
"""Time for iterations between two publications, in units of what a publication takes."""


def failure(error: Exception) -> str:
    """Return why a fit ended, or never began, as a sentence."""
    if isinstance(error, NlmeError):
        return str(error)
    return f"The fit failed ({type(error).__name__}: {error}); please report it."


class Job:
    """Pull a run's iterations in a thread (in the event loop where there are no threads).

    Parameters
    ----------
    run : Run or Race
        Whose `steps()` are pulled, and whose `result()` is the end.
    publish : callable(iterations)
        Takes new iterations in bundles, at most ten times a second.
    done : callable(result or None, error message)
        Called once at the end.
    each : callable(iteration), optional
        Called with every iteration while it still has all its arrays; it must be quick.
    """

    def __init__(
        self,
        run: Any,
        publish: Callable[[Sequence[Any]], None],
        done: Callable[[Any, str], None],
        each: Callable[[Any], None] | None = None,
    ) -> None:
        self.run = run
        self._publish = publish
        self._done = done
        self._each = each
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Job:
        """Start and return at once."""
        if sys.platform == "emscripten":
            self._task = asyncio.ensure_future(self._cooperate())
        else:
            self._thread = threading.Thread(target=self._work, daemon=True, name="nlmewidgets-fit")
            self._thread.start()
        return self

    def stop(self) -> None:
        """Ask the fit to end after the iteration in hand."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether the fit has been asked to end."""
        return self._stop.is_set()

    @property
    def alive(self) -> bool:
        """Whether the fit still runs."""
        if self._thread is not None:
            return self._thread.is_alive()
        return self._task is not None and not self._task.done()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end in short steps, so that an interrupt gets through; return whether it ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.alive and self._thread is not None:
            if deadline is not None and time.monotonic() > deadline:
                return False
            self._thread.join(0.05)
        return not self.alive

    def _show(self, iterations: Sequence[Any]) -> None:
        """Publish; whatever falls over there does not end the fit."""
        try:
            self._publish(iterations)
        except Exception:
            report()

    def _pull(self) -> Any:
        """Yield after every iteration, publishing as often as is useful; the end is in the last bundle."""
        history: list[Any] = []
        waiting: list[Any] = []
        began = due = time.monotonic()
        error = ""
        try:
            for iteration in self.run.steps():
                history.append(iteration)
                waiting.append(iteration)
                if self._each is not None:
                    self._each(iteration)
                if time.monotonic() >= due:
                    asked = time.monotonic()
                    self._show(waiting)
                    waiting = []
                    # A publication costs the fit its time: on a busy machine, publish less often.
                    due = time.monotonic() + max(_EVERY, _SHARE * (time.monotonic() - asked))
                if self._stop.is_set():
                    break
                yield
            if waiting:
                self._show(waiting)
            fit = self.run.result(history, stopped="Stopped by the user", elapsed=time.monotonic() - began)
        except Exception as problem:  # shown in the panel: a thread's traceback would be seen by nobody
            fit, error = None, failure(problem)
        self._done(fit, error)

    def _work(self) -> None:
        for _ in self._pull():
            pass

    async def _cooperate(self) -> None:
        for _ in self._pull():
            await asyncio.sleep(0)
