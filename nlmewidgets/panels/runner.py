"""The runs of an exploration: one at a time, beside the interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import traitlets as tl

from nlmewidgets.fit import Fit, Run, time_left
from nlmewidgets.fit.history import thinned
from nlmewidgets.fit.live import look
from nlmewidgets.panels.driver import Job, failure
from nlmewidgets.panels.fitting import FitBox
from nlmewidgets.panels.playback import Playback
from nlmewidgets.panels.state import Point, State
from nlmewidgets.panels.workspace import Workspace

__all__ = ["Runner"]


class Runner(State):
    """An exploration that fits: start, follow, stop, resume.

    Attributes
    ----------
    options : dict
        By method, the options that differ from their defaults.
    seed : int or None
        For methods that simulate.
    control : object or None
        What extends or ends the phase of the run in progress, where its method has phases.
    """

    panel = tl.Unicode()
    options = tl.Dict()
    seed: int | None = 1
    control: Any = None
    workspace: Workspace | None = None
    playback: Playback
    fitting: FitBox
    _job: Job | None = None
    _traced: Fit | None = None
    _began = 0.0

    @property
    def method_options(self) -> dict[str, Any]:
        """Options of the method chosen that differ from their defaults."""
        return self.options_of(self.method)

    @method_options.setter
    def method_options(self, options: Mapping[str, Any]) -> None:
        self.options = self.options | {self.method: dict(options)}

    def options_of(self, method: str) -> dict[str, Any]:
        """Return the options set for a method."""
        return self.options.get(method, {})  # type: ignore[no-any-return]

    def set_option(self, name: str, value: Any, default: Any) -> None:
        """Set an option of the method chosen; the default is no option."""
        kept = {k: v for k, v in self.method_options.items() if k != name}
        self.options = self.options | {self.method: kept if value == default else kept | {name: value}}

    def start(self) -> Self:
        """Start a fit from the slider values; a running one is left alone."""

        def ready() -> Callable[[], Run]:
            model, data, options = self.model_now, self.data_kept, dict(self.method_options)
            return partial(Run.prepare, model, data, self.method, self.seed, options)

        return self._launch(ready)

    def resume(self, **options: Any) -> Self:
        """Go on from where the last fit ended, with its method.

        Parameters
        ----------
        **options
            Options of the method to change; those in the box count where it shows the same method.
        """
        fit = self.result
        if fit is None:
            self.message = "There is no fit to go on from yet; press Start."
            return self
        shown = {} if fit.method != self.method else self.fitting.options_shown()
        before = self.trace if self._traced is fit else fit.trace
        return self._launch(lambda: partial(Run.resume, fit, shown | options), before)

    def _launch(self, ready: Callable[[], Callable[[], Run]], before: tuple[Any, ...] = ()) -> Self:
        """Prepare and run beside the interface what is asked for at this moment, unless something runs already."""
        with self.lock:  # two clicks may be at work at once
            if self.running:
                return self
            self.running = True  # enables Stop, inside this very callback
        begun = False
        try:
            begun = self._begin(ready, before)
        finally:  # an interrupt comes here too, and a panel that falls over
            if not begun:
                self.running = False
        return self

    def _begin(self, ready: Callable[[], Callable[[], Run]], before: tuple[Any, ...]) -> bool:
        """Start what is asked for, and return whether that could be done."""
        try:
            prepare = ready()
        except Exception as error:
            self.status, self.message = "failed", failure(error)
            return False
        if self._job is not None:
            self._job.stop()  # the objective of one that was stopped may still be on its way
        self.progress, self.status, self.message = 0.0, "running", "Starting …"
        begun = partial(self._begun, before)
        self._job = Job(prepare, self._iterations, self._ended, self._each, begun=begun, cut=self._cut)
        self._job.start()
        return True

    def _begun(self, before: tuple[Any, ...], run: Run) -> None:
        """Have the panels show a run that is prepared."""
        with self.lock:
            self._began = time.monotonic()
            self.control = getattr(run.method, "control", None)
            self.playback.begin()
            self._traced, self.trace = None, before
            if not before:
                self.chains.clear()
            if self.panel != "microscope":
                self.panel = "converge"

    def stop(self) -> Self:
        """Ask a running fit to end; what it reached becomes the result."""
        with self.lock:  # one that has just ended keeps its own words
            if self.running and self._job is not None and self._job.alive:
                self.message = "Stopping after the iteration in hand …"
                self._job.stop()
        return self

    def extend(self, iterations: int) -> None:
        """Let the phase in progress of a running fit go on for so many iterations more."""
        if self.running and self.control is not None:
            self.control.extend(iterations)

    def end_phase(self) -> None:
        """End the phase in progress of a running fit after the iteration in hand."""
        if self.running and self.control is not None:
            self.control.end_phase()

    @property
    def traced_problem(self) -> Any:
        """The problem that the iterations in `trace` are of; that of all data where the fit left subjects out."""
        job = self._job
        if self.running and job is not None and isinstance(job.run, Run):
            own = job.run.problem
        else:
            own = self.problem if self.result is None else self.result.problem
        return own if own.n_subjects == self.problem.n_subjects else self.problem

    def _each(self, iteration: Any) -> None:
        """Keep the chains of an iteration, if anybody looks at them."""
        if self.record_chains:
            self.chains.take(iteration)

    def _iterations(self, new: Sequence[Any]) -> None:
        with self.lock:
            last = new[-1]
            self.trace = thinned((*self.trace, *new))
            self.playback.live()
            self.progress = last.progress
            elapsed = time.monotonic() - self._began
            left = time_left(elapsed, last.progress)
            if self.workspace is not None and self._job is not None:
                self.workspace.iterate(self._job.run, self.trace, elapsed)
            if not (self._job and self._job.stopping):
                self.message = f"Iteration {last.k}, {last.phase}: OFV {last.ofv:.3f}, {left}."

    def _cut(self, fit: Fit) -> Callable[[Fit | None, str], None]:
        """Show a fit that was stopped as it is; its own objective is being computed, and takes its place then."""
        self._ended(fit, "", " Its own objective is being computed …")
        return partial(self._completed, fit)

    def _completed(self, cut: Fit, fit: Fit | None, error: str) -> None:
        """Put a fit with its own objective in the place of what it was when it was stopped."""
        with self.lock:
            if self.result is cut and not self.running:
                self.message = error if fit is None else _said(fit)
            if fit is None:
                return
            self.fits = tuple(fit if f is cut else f for f in self.fits)
            if self.result is cut:
                self.result = fit
                self._traced = fit if self._traced is cut else self._traced
                if self.shown is cut.values and self.iteration is None:
                    self.shown, self.point = fit.values, self.point_of(fit)

    def _ended(self, fit: Fit | None, error: str, more: str = "") -> None:
        with self.lock, self.ending():
            if self.workspace is not None:
                self.workspace.ended()
            if fit is None:
                self.status, self.message = "failed", error
            else:
                self.playback.end()
                self.result = self._traced = fit
                self.fits = (*self.fits, fit)
                self.status = fit.status
                self.message = _said(fit) + more
                self.progress = 1.0 if fit.status == "converged" else self.progress
                self.shown = fit.values
                self.point = self.point_of(fit)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Let nothing run after what is done in here, whatever a panel that draws its end trips over."""
        try:
            yield
        finally:
            self.running = False

    def point_of(self, fit: Fit, label: str = "") -> Point:
        """Return where a fit ended, for all subjects: those that it left out are judged by it too."""
        label = label or f"the {fit.method.upper()} estimates ({fit.status})"
        if fit.n_subjects == self.problem.n_subjects and fit.n_obs == self.problem.n_obs:
            return Point(fit.problem, fit.values, fit.etas.T, label)
        return Point(self.problem, fit.values, look(self.problem, fit.values, fit.method).eta, label)


def _said(fit: Fit) -> str:
    return f"{fit.message} OFV {fit.ofv:.4f} ({fit.ofv_by}) in {fit.elapsed:.2f} s."
