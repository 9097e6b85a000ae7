"""A fit that runs beside the interface: prepared, started, watched, stopped, waited for."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nlmewidgets.core.breath import Stopped, watched
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.panels.courtesy import give_way
from nlmewidgets.panels.latest import report

__all__ = ["Job", "failure"]

_EVERY = 0.1
"""Seconds between two publications: ten a second are all an eye can use."""

_STOPPED = "Stopped by the user"

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
    prepare : callable
        Makes the run, whose `steps()` are pulled, and whose `result()` is the end.
    publish : callable(iterations)
        Takes new iterations in bundles, at most ten times a second.
    done : callable(result or None, error message)
        Called once at the end.
    each : callable(iteration), optional
        Called with every iteration while it still has all its arrays; it must be quick.
    begun : callable(run), optional
        Called when the run is prepared.
    cut : callable(result), optional
        Called with the run's `cut()` when it is stopped, if its result takes computing; what it returns takes the
        place of `done`.

    Attributes
    ----------
    run : object or None
        Once it is prepared.
    """

    def __init__(
        self,
        prepare: Callable[[], Any],
        publish: Callable[[Sequence[Any]], None],
        done: Callable[[Any, str], None],
        each: Callable[[Any], None] | None = None,
        *,
        begun: Callable[[Any], None] | None = None,
        cut: Callable[[Any], Callable[[Any, str], None]] | None = None,
    ) -> None:
        self.run: Any = None
        self._prepare = prepare
        self._begun = begun
        self._cut = cut
        self._publish = publish
        self._done = done
        self._each = each
        self._stop = threading.Event()
        self._history: list[Any] = []
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
        """Ask the fit to end with the iterations it has; the first is waited for."""
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

    def _breath(self) -> None:
        """Between two predictions: end where that is asked for, and give way to the interface."""
        if self._stop.is_set() and self._history:
            raise Stopped
        self._wait()

    def _wait(self) -> None:
        if self._thread is not None:
            give_way()

    def _steps(self) -> Iterator[Any]:
        """Yield the run's iterations; one that is stopped half-way is none."""
        steps = self.run.steps()
        while True:
            try:
                with watched(self._breath):
                    iteration = next(steps)
            except (StopIteration, Stopped):
                return
            yield iteration

    def _result(self, elapsed: float) -> Any:
        """Return the end; what takes computing after a stop is shown as it is first, and another stop leaves it so."""
        cut = None if self._cut is None or not self.run.finishes else self._cut
        while True:
            if shown := cut is not None and self._stop.is_set():
                assert cut is not None
                self._done = cut(self.run.cut(self._history, stopped=_STOPPED, elapsed=elapsed))
                self._stop.clear()
                cut = None
            try:
                with watched(self._breath if shown or cut is not None else self._wait):
                    return self.run.result(self._history, stopped=_STOPPED, elapsed=elapsed)
            except Stopped:
                if cut is None:
                    raise

    def _pull(self) -> Any:
        """Yield after every iteration, publishing as often as is useful; the end is in the last bundle."""
        history, waiting = self._history, list[Any]()
        error = ""
        try:
            self.run = self._prepare()
            if self._begun is not None:
                self._begun(self.run)
            began = due = time.monotonic()
            for iteration in self._steps():
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
            fit = self._result(time.monotonic() - began)
        except Stopped:
            return
        except Exception as problem:  # shown in the panel: a thread's traceback would be seen by nobody
            fit, error = None, failure(problem)
        self._done(fit, error)

    def _work(self) -> None:
        for _ in self._pull():
            pass

    async def _cooperate(self) -> None:
        for _ in self._pull():
            await asyncio.sleep(0)
