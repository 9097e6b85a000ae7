"""A run played back, or followed while it is running: every panel shows the iteration chosen."""

from __future__ import annotations

import time
from typing import Any

import ipywidgets as ipw
import traitlets as tl

from nlmewidgets.fit.history import iteration_at
from nlmewidgets.fit.live import Look, look
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.state import Point

__all__ = ["Playback"]

_Sought = tuple[Any, Any]
"""An iteration whose etas are sought, and the problem they are of."""

_EVERY = 0.2
"""Seconds between two iterations shown of a running fit: each is drawn by the visible panel."""


class Playback:
    """A slider over the iterations of a run.

    It sets the explorer's `shown` and `point`, which every panel draws.  Where a history has let go of the random
    effects of an iteration, their modes are sought beside the interface.

    Attributes
    ----------
    root : Widget
    slider, play, newest, follow : Widget
    """

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        self._seeking: Latest[_Sought, tuple[_Sought, Look]] = Latest(self._seek, self._sought, lock=explorer.lock)
        self._wanted: Any = None  # the iteration last chosen or followed
        self._syncing = False
        self._due = 0.0
        self._paused = False
        self.slider = ipw.IntSlider(
            description="Iteration", min=0, max=1, style={"description_width": "60px"}, continuous_update=True
        )
        self.slider.layout = ipw.Layout(flex="1 1 220px")
        self.play = ipw.Play(min=0, max=1, interval=150, show_repeat=False, tooltip="Play the run back")
        self.newest = ipw.Button(description="Newest", icon="fast-forward", tooltip="Show the newest iteration again")
        self.newest.layout = ipw.Layout(width="96px")
        self.newest.on_click(lambda _: self.to_newest())
        self.follow = ipw.Checkbox(description="follow the run", indent=False, value=explorer.follow)
        self.follow.layout = ipw.Layout(width="130px")
        tl.link((explorer, "follow"), (self.follow, "value"))
        self.root = ipw.HBox(
            [self.play, self.slider, self.newest, self.follow], layout=ipw.Layout(align_items="center", width="100%")
        )
        self.slider.observe(lambda change: self._chosen(change["new"]), "value")
        self.play.observe(lambda change: self._chosen(change["new"]), "value")
        explorer.observe(lambda _: self._lengthened(), "trace")
        explorer.observe(lambda _: self._show(), "iteration")
        explorer.observe(lambda _: self._slid(), "params")

    # ------------------------------------------------------------------- a running fit

    def begin(self) -> None:
        """Have the panels follow the run that begins."""
        if self._paused:
            self._paused, self.explorer.follow = False, True
        self.end()
        self._due = 0.0

    def end(self) -> None:
        """Choose no iteration any more, leaving what the panels show."""
        self._wanted = None
        self._choose_silently(None)

    def live(self) -> None:
        """Show the newest iteration of a running fit, at most five times a second."""
        explorer = self.explorer
        if explorer.follow and explorer.iteration is None and time.monotonic() >= self._due:
            self._put(explorer.trace[-1])
            self._due = time.monotonic() + _EVERY

    def _slid(self) -> None:
        """Give way to the sliders: who moves them wants to see what they do."""
        self.end()
        if self.explorer.running and self.explorer.follow:
            self._paused, self.explorer.follow = True, False

    # ------------------------------------------------------------------------- the slider

    def to_newest(self) -> None:
        """Show the newest iteration, or the fit that ended."""
        if self.explorer.iteration is None:
            self._show()
        self.explorer.iteration = None

    def _lengthened(self) -> None:
        trace = self.explorer.trace
        last = trace[-1].k if trace else 0
        self._syncing = True
        try:
            self.slider.max = self.play.max = max(last, 1)
            if self.explorer.iteration is None:
                self.slider.value = self.play.value = last
        finally:
            self._syncing = False

    def _chosen(self, k: int) -> None:
        if not self._syncing and self.explorer.trace:
            self.explorer.iteration = k

    def _choose_silently(self, k: int | None) -> None:
        self._syncing = True
        try:
            self.explorer.iteration = k
        finally:
            self._syncing = False

    def _show(self) -> None:
        """Have every panel show the iteration chosen."""
        explorer = self.explorer
        k = explorer.iteration
        if self._syncing or not explorer.trace:
            return
        if k is None:
            self._wanted = None
            self._lengthened()
            if not explorer.running and explorer.result is not None:
                fit = explorer.result
                explorer.shown, explorer.point = fit.values, explorer.point_of(fit)
            else:
                self._put(explorer.trace[-1])
            return
        self._syncing = True
        try:
            self.slider.value = self.play.value = k
        finally:
            self._syncing = False
        self._put(iteration_at(explorer.trace, k))

    def _put(self, iteration: Any) -> None:
        explorer = self.explorer
        explorer.shown = iteration.values
        problem, self._wanted = explorer.traced_problem, iteration
        if iteration.eta.shape[1] == problem.n_subjects:
            explorer.point = Point(problem, iteration.values, iteration.eta, f"iteration {iteration.k}")
        else:
            self._seeking.put((iteration, problem))

    def _seek(self, request: _Sought) -> tuple[_Sought, Look]:
        iteration, problem = request
        return request, look(problem, iteration.values, self.explorer.method)

    def _sought(self, found: tuple[_Sought, Look]) -> None:
        (iteration, problem), seen = found
        if iteration is self._wanted:
            label = f"iteration {iteration.k}, etas sought again"
            self.explorer.point = Point(problem, seen.values, seen.eta, label)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for etas that are being sought."""
        self._seeking.wait(timeout)
