"""SAEM under the microscope: one subject's chains, how often proposals are accepted, and what a new draw counts."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.fit.history import phases_of
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, legend
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED, TREND, WARN

__all__ = ["MicroscopePanel"]

_POINTS = 400
_CHAIN_LINES = 5

_KERNELS = {"acceptance": ("random walks", TREND), "met": ("proposals around the modes", WARN)}
"""Numbers of an iteration that are shares of proposals accepted: the kernel's words and its colour."""


class MicroscopePanel(Panel):
    """Chains of one random effect of one subject with the running mean, acceptance, and the step size γ."""

    title = "SAEM"
    step: ClassVar[str] = "fit"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": ("trace", "selected_ids"), "mark": ("iteration",)}

    def build(self) -> None:
        """Make figures and choices; from now on the chains of every run are recorded."""
        state = self.state
        state.record_chains = True
        names = list(state.problem.space.between) or ["none"]
        self.empty = ipw.HTML()
        self.subject = ipw.Dropdown(options=[(str(i), i) for i in state.data.ids], description="Subject")
        self.eta = ipw.Dropdown(options=[(name, k) for k, name in enumerate(names)], description="Effect")
        for choice in (self.subject, self.eta):
            choice.layout = ipw.Layout(width="200px")
            choice.style.description_width = "56px"
            choice.observe(lambda _: self.draw(), "value")
        self.key = ipw.VBox()
        self._keyed: tuple[str, ...] = ("none yet",)
        self.chains = _frame("η", "240px", False)
        self.rates = _frame("Accepted", "150px", False)
        self.gamma = _frame("γ", "150px", True)
        self.lines = _line(self.chains, [f"chain {k + 1}" for k in range(_CHAIN_LINES)], MUTED, 1.0, 0.65)
        self.mean = _line(self.chains, ["mean over chains"], FIT, 2.5)
        self.zero = _line(self.chains, ["η = 0"], MUTED, 1.0, style="dashed")
        self.accepted = {
            name: _line(self.rates, [f"accepted: {words}"], colour, 1.5) for name, (words, colour) in _KERNELS.items()
        }
        self.step_size = _line(self.gamma, ["step size γ"], SELECTED, 2.0)
        frames = (self.chains, self.rates, self.gamma)
        unit = [{"x": f.x.scale, "y": bq.LinearScale(min=0.0, max=1.0)} for f in frames]
        looks: dict[str, Any] = {"x": [0.0], "y": [0.0], "visible": False}
        self.phases = [bq.Lines(scales=u, colors=[MUTED], line_style="dashed", stroke_width=1, **looks) for u in unit]
        self.markers = [bq.Lines(scales=u, colors=[SELECTED], stroke_width=1, **looks) for u in unit]
        marks: tuple[tuple[Any, ...], ...] = (
            (self.lines, self.zero, self.mean),
            tuple(self.accepted.values()),
            (self.step_size,),
        )
        for frame, own, phase, marker in zip(frames, marks, self.phases, self.markers, strict=True):
            frame.put(phase, *own, marker)
        self.rates.y.span(0.0, 1.0)
        self.gamma.y.span(0.0, 1.0)
        self.text = caption()
        choices = ipw.HBox([self.subject, self.eta])
        figures = [frame.figure for frame in frames]
        self.body = ipw.VBox([choices, self.key, *figures, self.text])
        self.root.children = (self.empty, self.body)
        self._selected: tuple[Any, ...] = ()
        self._at: Array = np.zeros(0)
        self._each: Array = np.zeros((0, 0))

    def draw(self) -> None:
        """Show the run so far."""
        state = self.state
        self._follow_selection()
        run = [it for it in state.trace if "gamma" in it.details]
        shown = bool(run) and bool(state.problem.n_eta)
        self.empty.layout.display = "none" if shown else None
        self.body.layout.display = None if shown else "none"
        if not shown:
            why = "The last run was not by SAEM." if state.trace else "No run of SAEM yet."
            say = f"{why} Choose SAEM and press Start; leave this tab open to see the chains move."
            self.empty.value = f"<div class='nlme-empty'>{say}</div>"
            return
        thin = run[:: max(1, len(run) // _POINTS)]
        k = np.array([it.k for it in thin], dtype=float)
        low, high = float(run[0].k), max(float(run[-1].k), run[0].k + 1.0)
        for frame in (self.chains, self.rates, self.gamma):
            frame.x.span(low, high, flush=True)
        self._draw_chains(run, low, high)
        self._legend(tuple(name for name in _KERNELS if any(name in it.details for it in run[-3:])))
        for name, line in self.accepted.items():
            share = np.array([it.details.get(name, 0.0) for it in thin])
            _show(line, k[share > 0], share[share > 0])  # a sweep without proposals of a kind says 0
        _show(self.step_size, k, np.array([it.details["gamma"] for it in thin]))
        begins = [phase.first - 0.5 for phase in phases_of(state.trace)[1:]]
        for mark in self.phases:
            x, y = np.repeat(begins, 3)[:-1], np.tile([0.0, 1.0, np.nan], len(begins))[:-1]
            _show(mark, x, y)
        self.text.value = f"<span class='soft'>{self._words(run, k)}</span>"
        self.mark()

    def mark(self) -> None:
        """Draw a line at the iteration that the panels show."""
        k = self.state.iteration
        for marker in self.markers:
            _show(marker, np.zeros(0) if k is None else np.array([k, k], dtype=float), np.array([0.0, 1.0]))

    def _legend(self, kernels: tuple[str, ...]) -> None:
        """Say what the lines are, of the kernels that the run has."""
        if kernels != self._keyed:
            self._keyed = kernels
            accepted = (("line", _KERNELS[name][1], f"accepted: {_KERNELS[name][0]}") for name in kernels)
            self.key.children = (
                legend(
                    ("line", MUTED, "single chains"),
                    ("line", FIT, "mean over chains, averaged while smoothing"),
                    *accepted,
                    ("line", SELECTED, "step size γ; iteration shown"),
                ),
            )

    def _follow_selection(self) -> None:
        chosen = self.state.selected_ids
        if chosen != self._selected:
            self._selected = chosen
            if chosen:
                self.subject.value = chosen[-1]

    def _draw_chains(self, run: list[Any], low: float, high: float) -> None:
        eta, subject = int(self.eta.value), self.state.data.ids.index(self.subject.value)
        whole = self.state.chains.n_subjects == self.state.data.n_subjects  # else the run left subjects out
        nothing: tuple[Array, Array] = (np.zeros(0), np.zeros((0, 0)))
        self._at, each = self.state.chains.of(eta, subject) if whole else nothing
        every = max(1, len(self._at) // _POINTS)
        self._each = each[:_CHAIN_LINES]
        _show(self.lines, self._at[::every], self._each[:, ::every])
        # The running mean of the runs' history: at most some hundred iterations keep it.
        kept = [it for it in run if it.eta.shape[1] == self.state.data.n_subjects]
        mean = np.array([it.eta[eta, subject] for it in kept])
        _show(self.mean, np.array([it.k for it in kept], dtype=float), mean)
        _show(self.zero, np.array([low, high]), np.zeros(2))
        every_number = np.concatenate([self._each.ravel(), mean, [0.0]])
        self.chains.y.span(float(every_number.min()), float(every_number.max()), sticky=True)

    def _words(self, run: list[Any], k: Array) -> str:
        last = run[-1]
        what = html.escape(f"{self.eta.label} of subject {self.subject.value}")
        text = f"Iteration {last.k}, {html.escape(last.phase)}: {what}"
        if len(self._at):
            spread = self._each[:, -min(50, self._each.shape[1]) :].std()
            text += f", {len(self._each)} of its chains (SD over their last iterations {spread:.2g}). "
            if self._at[0] > 1:
                text += f"They are recorded from iteration {self._at[0]:.0f} on, when this tab was first open. "
        else:
            text += (
                ": no chains were recorded (this tab was not open, or subjects were left out); start or resume a run. "
            )
        for detail, (words, _) in _KERNELS.items():
            shares = [it.details[detail] for it in run[-60:] if it.details.get(detail)]
            if shares:
                aim = " (0.4 is aimed at)" if detail == "acceptance" else ""
                text += f"Accepted of {words}: {np.mean(shares):.2f}{aim}. "
        gamma = last.details["gamma"]
        if gamma < 1.0:
            return text + f"γ = {gamma:.3g}: a new draw counts this much, and estimates settle as it falls."
        return text + "γ = 1: each draw replaces the one before, so the estimates move fast and stay noisy."


def _frame(label: str, height: str, bottom: bool) -> Frame:
    x = Ruler("Iteration" if bottom else "", "bottom", count=8, offset=28)
    return Frame(x, Ruler(label, "left", count=4, offset=40), height=height, small=True)


def _line(
    frame: Frame, labels: list[str], colour: str, width: float, opacity: float = 1.0, style: str = "solid"
) -> Any:
    return bq.Lines(
        x=[0.0, 1.0],
        y=[0.0, 0.0],
        scales=frame.scales,
        colors=[colour],
        stroke_width=width,
        opacities=[opacity] * _CHAIN_LINES,
        line_style=style,
        labels=labels,
        visible=False,
    )


def _show(mark: Any, x: Array, y: Array) -> None:
    """Move a line; hide it where there is nothing to draw."""
    with mark.hold_sync():
        mark.visible = bool(len(x))
        if len(x):
            mark.x, mark.y = x, y
