"""The only loop: pull iterations from a method until it ends or is stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, MethodError, ModelError
from nlmewidgets.core.influence import idle_parameters
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.symbols import Level
from nlmewidgets.core.verbs import VERBS
from nlmewidgets.fit.result import Fit
from nlmewidgets.methods import METHODS, Iteration, Method

__all__ = ["Run", "fit", "fit_async", "ofv", "stream"]


def resolve(method: str | Method, options: dict[str, Any]) -> Method:
    """Return the method object for a name and options.

    Raises
    ------
    MethodError
        If there is no such method or option.
    """
    if isinstance(method, Method):
        return method.with_options({f.name: getattr(method, f.name) for f in fields(method)} | options)
    name = str(method).lower()
    if name not in METHODS:
        raise MethodError(f"There is no method '{method}' in this version; there are {', '.join(METHODS)}.")
    return METHODS[name].with_options(options)


def bind(model: Model, data: Data) -> Problem:
    """Return the model bound to data with at least one observation."""
    problem = model.problem(data)
    if not problem.n_obs:
        raise DataError("The data have no observation to fit: every DV is missing; check DV, MDV and EVID.")
    for symbol in model.covariate_symbols:
        if isinstance(symbol, Level) and symbol.details[1] not in data.levels(symbol.column):
            have = ", ".join(map(str, data.levels(symbol.column)))
            raise DataError(
                f"The model has an effect of {symbol.column} {symbol.level}, a level that is not in the data ({have}); "
                "remove it, or correct its spelling."
            )
    if not np.isfinite(data.dv).all():
        raise DataError("The data have no DV: a grid of on_grid() is for predictions; fit the data it was made of.")
    return problem


@dataclass(frozen=True, eq=False)
class Run:
    """A fit about to start: everything checked, nothing computed.

    Attributes
    ----------
    excluded : dict
        Subjects that are left out because their objective is not a number, with the reason.
    """

    model: Model
    data: Data
    problem: Problem
    method: Method
    seed: int
    excluded: dict[Any, str]

    @classmethod
    def prepare(cls, model: Model, data: Data, method: str | Method, seed: int | None, options: dict[str, Any]) -> Run:
        """Check that the method can treat the model and that the model can be evaluated.

        Raises
        ------
        MethodError
            If the method cannot treat this model.
        DataError
            If no subject's prediction is a number at the initial values.
        """
        chosen = resolve(method, options)
        if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
            raise MethodError(f"seed={seed!r} is not a whole number from 0; give one, or None to have it chosen.")
        problem = bind(model, data)
        refusal = chosen.refusal(problem)
        if refusal:
            raise MethodError(refusal)
        if problem.occasions.within and problem.occasions.most < 2:
            raise DataError(
                f"The model has inter-occasion variability ({', '.join(problem.space.within)}), but every subject has "
                "one occasion; name the column that numbers them with occ=, or leave iov= out."
            )
        excluded = unusable_subjects(problem)
        if excluded:
            kept = [i for i in data.ids if i not in excluded]
            if not kept:
                raise DataError(next(iter(excluded.values())))
            problem = model.problem(data.subset(kept))
        idle = idle_parameters(problem)
        if idle:
            raise ModelError(
                f"The parameter {idle[0]} cannot influence any observation of these data; fix it (fixed=True), or "
                "leave it out of the model."
            )
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        return cls(model, data, problem, chosen, int(seed), excluded)

    def steps(self) -> Iterator[Iteration]:
        """Yield the method's iterations; the first and the last name the subjects left out."""
        rng = np.random.default_rng(self.seed)
        previous: Iteration | None = None
        for iteration in self.method.steps(self.problem, self.model.values, rng):
            ends = iteration.k == 0 or iteration.status != "running"
            shown = self._noted(iteration) if ends and self.excluded else iteration
            if previous is not None:
                previous.release()
            yield shown
            previous = shown

    def _noted(self, iteration: Iteration) -> Iteration:
        note = " ".join(f"Subject {i} is left out: {why}" for i, why in self.excluded.items())
        return replace(iteration, message=f"{iteration.message} {note}".strip())

    def result(self, history: list[Iteration], *, stopped: str = "", elapsed: float = 0.0) -> Fit:
        """Return the Fit of the iterations so far; `stopped` says why, if before the method's own end."""
        last = history[-1]
        if last.status == "running":
            after = f"{last.k} iteration{'' if last.k == 1 else 's'}"
            last = self._noted(replace(last, status="stopped", message=f"{stopped or 'Stopped'} after {after}."))
        last = self.method.finish(self.problem, last)
        return Fit.of(
            self.model, self.data, self.problem, self.method, last, history, self.seed, elapsed, self.excluded
        )


def unusable_subjects(problem: Problem) -> dict[Any, str]:
    """Return the subjects whose likelihood is not a number at the initial values, with the reason."""
    values = problem.space.initial
    with np.errstate(all="ignore"):
        slots = problem.slots(problem.typical(values.theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
        f = problem.predict(slots)
        value = problem.minus2ll(f, values.sigma)
    bad = np.flatnonzero(~np.isfinite(value))
    return {problem.data.ids[i]: problem.explain_nonfinite(f, int(i), slots) for i in bad}


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
    line = _ProgressLine(run.method, progress)
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
    return run.result(history, stopped=stopped, elapsed=time.monotonic() - began)


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


class _ProgressLine:
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


VERBS["fit"] = fit
VERBS["ofv"] = ofv
