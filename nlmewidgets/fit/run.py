"""The only loop: pull iterations from a method until it ends or is stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from typing import Any

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, MethodError
from nlmewidgets.core.model import Model
from nlmewidgets.core.verbs import VERBS
from nlmewidgets.fit.progress import ProgressLine, time_left
from nlmewidgets.fit.result import Fit
from nlmewidgets.fit.start import Run, bind, resolve, unusable_subjects
from nlmewidgets.methods import Iteration, Method

__all__ = ["Run", "fit", "fit_async", "ofv", "resume", "stream", "time_left"]


def stream(
    model: Model, data: Data, method: str | Method = "focei", *, seed: int | None = None, **options: Any
) -> Iterator[Iteration]:
    """Return a generator of frozen iterations; nothing runs between two pulls.

    Parameters
    ----------
    model, data
        The model, with its initial values, and the data.
    method : str
        One of `nlmewidgets.methods.METHODS`.
    seed : int, optional
        The same seed gives the same iterations.
    **options
        The method's fields.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("theophylline")
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> for it in nw.stream(model, data, method="focei"):
    ...     pass
    >>> it.status, round(it.ofv, 3)
    ('converged', 116.803)
    """
    return Run.prepare(model, data, method, seed, options).steps()


def fit(
    model: Model,
    data: Data,
    method: str | Method = "focei",
    *,
    seed: int | None = None,
    callback: Callable[[Iteration], Any] | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Fit:
    """Estimate the population parameters.

    Parameters
    ----------
    model, data
        The model, with its initial values, and the data.
    method : str
        One of `nlmewidgets.methods.METHODS`: 'fo', 'focei', 'laplace', 'agq', 'saem', ….
    seed : int, optional
        For methods that simulate; chosen and recorded if not given.
    callback : callable, optional
        Called with every iteration.
    stop : threading.Event, optional
        Set it (from another thread, or the callback) to end the fit after the current iteration.
    time_limit : float, optional
        Seconds after which to stop.
    progress : bool, optional
        Write a progress line to stderr; by default only to a terminal, for fits longer than a second.
    **options
        The method's fields.

    Returns
    -------
    Fit
        Also when interrupted, stopped or out of time: the values reached, with status 'stopped'.
    """
    run = Run.prepare(model, data, method, seed, options)
    return _drain(run, callback, stop, time_limit, progress)


def resume(
    fit: Fit,
    *,
    callback: Callable[[Iteration], Any] | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Fit:
    """Go on from a fit, see `Fit.resume`."""
    return _drain(Run.resume(fit, options), callback, stop, time_limit, progress)


def _drain(
    run: Run,
    callback: Callable[[Iteration], Any] | None,
    stop: threading.Event | None,
    time_limit: float | None,
    progress: bool | None,
) -> Fit:
    if time_limit is not None and not (isinstance(time_limit, Real) and time_limit >= 0):
        raise MethodError(f"time_limit={time_limit!r} is no number of seconds; give one from 0, or None.")
    line = ProgressLine(run.method, progress)
    began = time.monotonic()
    history: list[Iteration] = []
    stopped = ""
    steps = run.steps()
    try:
        for iteration in steps:
            history.append(iteration)
            line.show(iteration)
            if callback is not None:
                callback(iteration)
            if stop is not None and stop.is_set():
                stopped = "Stopped by the user"
                break
            if time_limit is not None and time.monotonic() - began > time_limit:
                stopped = f"Stopped at the time limit of {time_limit:g} s"
                break
    except KeyboardInterrupt:
        if not history:
            raise
        stopped = "Interrupted"
    finally:
        line.clear()
    try:
        return run.result(history, stopped=stopped, elapsed=time.monotonic() - began)
    except KeyboardInterrupt:  # a second one, or one while the objective at the end is computed
        return run.snapshot(history, time.monotonic() - began)


async def fit_async(
    model: Model,
    data: Data,
    method: str | Method = "focei",
    *,
    seed: int | None = None,
    callback: Callable[[Iteration], Any] | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
    **options: Any,
) -> Fit:
    """Estimate without blocking the event loop: the steps run in a thread, the callback in the loop.

    The arguments are those of `fit`, without a progress line.  Where there are no threads (Pyodide)
    the loop gets its turn between steps.  Cancelling the task waits for the step in flight and then
    ends.
    """
    run = Run.prepare(model, data, method, seed, options)
    began = time.monotonic()
    history: list[Iteration] = []
    steps = run.steps()
    stopped = ""
    pool = None if sys.platform == "emscripten" else ThreadPoolExecutor(1, thread_name_prefix="nlmewidgets-fit")
    loop = asyncio.get_running_loop()

    def some() -> list[Iteration]:
        """Pull iterations for about one frame, so that short ones do not pay for a thread switch each."""
        out: list[Iteration] = []
        until = time.monotonic() + 0.015
        for iteration in steps:
            out.append(iteration)
            if time.monotonic() > until:
                break
        return out

    async def away(work: Callable[[], Any]) -> Any:
        """Run `work` in the thread, if there is one; a cancellation waits for it."""
        if pool is None:
            await asyncio.sleep(0)
            return work()
        step = loop.run_in_executor(pool, work)
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait([step])
            raise

    try:
        while True:
            batch = await away(some)
            for iteration in batch:
                history.append(iteration)
                if callback is not None:
                    callback(iteration)
            if not batch or history[-1].status != "running":
                break
            if stop is not None and stop.is_set():
                stopped = "Stopped by the user"
                break
            if time_limit is not None and time.monotonic() - began > time_limit:
                stopped = f"Stopped at the time limit of {time_limit:g} s"
                break
        # Bringing objective and etas up to date may take as long as a step.
        return await away(lambda: run.result(history, stopped=stopped, elapsed=time.monotonic() - began))
    finally:
        if pool is not None:
            pool.shutdown(wait=True)


def ofv(model: Model, data: Data, method: str | Method = "focei", **options: Any) -> float:
    """Return a method's objective at the model's initial values.

    Raises
    ------
    DataError
        Naming the first subject whose objective is not a number.
    """
    chosen = resolve(method, options)
    problem = bind(model, data)
    refusal = chosen.refusal(problem)
    if refusal:
        raise MethodError(refusal)
    bad = unusable_subjects(problem)
    if bad:
        raise DataError(next(iter(bad.values())))
    return chosen.ofv(problem, model.values)


VERBS["fit"] = fit
VERBS["ofv"] = ofv
VERBS["resume"] = resume
