"""Many tasks, in this process or on an executor: in any order, with the time left, and stoppable."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import islice
from typing import Any

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.model import Model
from nlmewidgets.fit import Fit, time_left
from nlmewidgets.fit.store import data_from_dict, data_to_dict, model_from_dict, model_to_dict

__all__ = ["Bound", "bare", "completed", "whole"]


@dataclass(frozen=True, eq=False)
class Bound:
    """A model and data that can be sent to another process: as the text they are saved as."""

    model: Any
    data: Any
    key: str

    @classmethod
    def of(cls, model: Model, data: Data) -> Bound:
        """Return the parcel of a model and data."""
        parts = model_to_dict(model), data_to_dict(data)
        return cls(*parts, key=f"{parts[1]['sha256']} {parts[0]!r}")

    def open(self) -> tuple[Model, Data]:
        """Return the model and the data; those opened last are kept."""
        return _opened(self)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self.key == other.key


@lru_cache(maxsize=4)
def _opened(parcel: Bound) -> tuple[Model, Data]:
    return model_from_dict(parcel.model), data_from_dict(parcel.data, "a task")


_LIGHT = [f.name for f in fields(Fit) if f.name not in ("start", "data")]


def bare(fit: Fit) -> dict[str, Any]:
    """Return a fit without its model and data, to be sent between processes."""
    return {name: getattr(fit, name) for name in _LIGHT}


def whole(parts: dict[str, Any], model: Model, data: Data) -> Fit:
    """Return the fit of `bare` with its model and data."""
    return Fit(start=model, data=data, **parts)


@contextmanager
def _pool(workers: int, executor: Executor | None) -> Iterator[Executor | None]:
    if executor is not None:
        yield executor
    elif workers > 1 and sys.platform != "emscripten":
        # Pyodide has no module of processes that could be imported.
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        # Started afresh: a copy of a process with threads may hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield pool
    else:
        yield None


def completed(
    work: Callable[[Any], Any],
    tasks: Sequence[Any],
    *,
    workers: int = 1,
    executor: Executor | None = None,
    what: str = "fits",
    progress: bool | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (place, result) of tasks as they are completed; ends early when stopped, out of time or interrupted.

    Parameters
    ----------
    work : callable
        A function of a module, so that another process can find it.
    tasks : sequence
    workers : int
        Processes; 1, or where there are none (Pyodide): this one, one task after the other.
    executor : Executor, optional
        Where to run the tasks instead.
    what : str
        The tasks in the progress line.
    progress : bool, optional
        Write a progress line to stderr; by default only to a terminal.
    stop : threading.Event, optional
        Set it to end after the tasks at work.
    time_limit : float, optional
        Seconds after which no task is begun.

    Raises
    ------
    MethodError
        If the number of workers is not a positive whole number.
    """
    if not isinstance(workers, int) or workers < 1:
        raise MethodError(f"workers={workers!r} is not a whole number from 1.")
    began = time.monotonic()
    line = sys.stderr.isatty() if progress is None else progress

    def over() -> bool:
        out_of_time = time_limit is not None and time.monotonic() - began > time_limit
        return out_of_time or (stop is not None and stop.is_set())

    def counted(done: int) -> None:
        if line:
            left = time_left(time.monotonic() - began, done / len(tasks))
            sys.stderr.write(f"\r{done} of {len(tasks)} {what}, {left}".ljust(60))
            sys.stderr.write("\r" + " " * 60 + "\r" if done == len(tasks) else "")
            sys.stderr.flush()

    with _pool(min(workers, max(len(tasks), 1)), executor) as pool:
        results = _in_turn(work, tasks, over) if pool is None else _at_once(work, tasks, over, pool, 2 * workers)
        try:
            for done, result in enumerate(results, 1):
                counted(done)
                yield result
        except KeyboardInterrupt:
            if pool is not None and executor is None:
                pool.shutdown(wait=False, cancel_futures=True)


def _in_turn(work: Callable[[Any], Any], tasks: Sequence[Any], over: Callable[[], bool]) -> Iterator[tuple[int, Any]]:
    for place, task in enumerate(tasks):
        if over():
            return
        yield place, work(task)


def _at_once(
    work: Callable[[Any], Any], tasks: Sequence[Any], over: Callable[[], bool], pool: Executor, ahead: int
) -> Iterator[tuple[int, Any]]:
    # A few ahead of the workers: what is not begun need not be undone.
    waiting: dict[Future[Any], int] = {}
    queue = iter(enumerate(tasks))
    while True:
        if not over():
            for place, task in islice(queue, ahead - len(waiting)):
                waiting[pool.submit(work, task)] = place
        if not waiting:
            return
        ready, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
        for future in ready:
            yield waiting.pop(future), future.result()
        if over():
            for future in [f for f in waiting if f.cancel()]:
                waiting.pop(future)
