"""The variance of an observation along time: what subjects differ by and what is left within one, as stacked areas."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics.variance_time import VarianceInTime, variance_in_time
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.theme import DATA, MUTED, SERIES

__all__ = ["VariancePanel"]

_TIMES, _DRAWS = 101, 3000
_FEW_TIMES, _FEW_DRAWS = 41, 200
"""Where predictions are integrated or observations drawn."""
_WRONG = 0.1
"""Share by which a linearised variance is off that is called out."""
_LABELLED = 0.08
"""Share of the figure's height from which an area has room for its name."""


@dataclass(frozen=True, eq=False)
class _Request:
    problem: Any
    values: Values
    subject: Any
    label: str
    draws: int


class VariancePanel(Panel):
    """Var(Y) = Var(E[Y|η]) + E[Var(Y|η)] of the output shown, for one subject's doses and covariates."""

    title = "Variance"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"ask": ("shown", "selected_ids", "dvid")}

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.found: VarianceInTime | None = None
        self.request: _Request | None = None
        self._grid: tuple[Any, Any] = (None, None)
        self._splitting: Latest[_Request, tuple[_Request, VarianceInTime | str]] = Latest(
            self._compute, self._computed, lock=state.lock
        )

    def build(self) -> None:
        """Make the figure."""
        data = self.state.data
        self.share = ipw.ToggleButton(
            value=False, description="Shares", tooltip="Parts of the whole in per cent, in place of variances"
        )
        self.share.layout = ipw.Layout(width="86px")
        self.share.observe(lambda _: self.draw(), "value")
        names = [(self.state.output_name(d), d) for d in self.state.dvids]
        self.output = ipw.Dropdown(options=names, value=self.state.dvid, description="Output")
        self.output.layout = ipw.Layout(width="220px", display=None if len(names) > 1 else "none")
        self.output.observe(lambda change: setattr(self.state, "dvid", change["new"]), "value")
        self.frame = Frame(Ruler(data.axis_label("TIME", "Time"), "bottom"), Ruler("Variance", "left"), height="380px")
        scales, none = self.frame.scales, [0.0, 1.0]
        self.labels = bq.Label(
            x=none, y=none, text=["", ""], scales=scales, colors=[DATA], default_size=12, align="start", visible=False
        )
        self.line = bq.Lines(
            x=none,
            y=none,
            scales=scales,
            colors=[DATA],
            line_style="dashed",
            stroke_width=1.5,
            labels=["total, linearised"],
        )
        # The upper edges once more: lines between areas of like colours, and the numbers of the table.
        self.edges = bq.Lines(x=none, y=[none], scales=scales, colors=[DATA], stroke_width=0.7, opacities=[0.6])
        self.areas: dict[str, Any] = {}
        self.key, self.text = ipw.HTML(), caption()
        self.key.add_class("nlme-legend")
        self.place = ipw.VBox([self.key, self.frame.figure])
        self.root.children = (ipw.HBox([self.output, self.share]), self.place, self.text)

    @property
    def subject(self) -> Any:
        """ID of whose doses and covariates count: the subject selected last, or the first."""
        return self.state.selected_ids[-1] if self.state.selected_ids else self.state.data.ids[0]

    @property
    def _dear(self) -> bool:
        """Whether predictions are integrated, or observations have to be drawn."""
        problem = self.state.problem
        return bool(getattr(problem.structure, "precision", 0.0)) or not problem.plain_rows.all()

    def ask(self) -> None:
        """Have the parts computed at the values shown."""
        state = self.state
        self.output.value = state.dvid
        key = (self.subject, state.dvid)
        if self._grid[0] != key:
            one = state.data.subset([self.subject])
            seen = list(dict.fromkeys(one.dvid.tolist()))
            if state.dvid not in seen:
                self._refuse(
                    f"ID {self.subject} has no observation of {state.output_name(state.dvid)}; select another."
                )
                return
            grid = one.on_grid(_FEW_TIMES if self._dear else _TIMES, dvid=state.dvid if len(state.dvids) > 1 else None)
            try:
                self._grid = (key, state.model.problem(grid))
            except NlmeError as refusal:
                self._refuse(str(refusal))
                return
        label = state.point.label if state.point.values is state.shown else "the values shown"
        if self.found is None:
            self.text.value = "<span class='soft' aria-live='polite'>Computing …</span>"
        draws = _FEW_DRAWS if self._dear else _DRAWS
        self._splitting.put(_Request(self._grid[1], state.shown, self.subject, label, draws))

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is being computed."""
        self._splitting.wait(timeout)

    @staticmethod
    def _compute(request: _Request) -> tuple[_Request, VarianceInTime | str]:
        try:
            return request, variance_in_time(request.problem, request.values, n=request.draws)
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as refusal:
            return request, str(refusal)

    def _computed(self, answer: tuple[_Request, VarianceInTime | str]) -> None:
        self.request, found = answer
        if isinstance(found, str):
            self._refuse(found)
        elif not np.isfinite(found.total).all():
            self._refuse("Some predictions are not numbers at these values, so there is no variance to split.")
        else:
            self.found = found
            self.draw()

    def _refuse(self, why: str) -> None:
        self.found = None
        self.place.layout.display = "none"
        self.text.value = f"<div class='nlme-alert'>{html.escape(why)}</div>"

    # -------------------------------------------------------------------------- drawing

    def _arrange(self, found: VarianceInTime) -> None:
        """Have an area for each part."""
        if list(self.areas) == list(found.parts):
            return
        between = [name for name, kind in found.kinds.items() if kind == "between" and name != "interaction"]
        colours = {name: (SERIES[k % len(SERIES)], 0.75 if k < len(SERIES) else 0.4) for k, name in enumerate(between)}
        residual = [name for name, kind in found.kinds.items() if kind == "residual"]
        colours |= {name: (MUTED, (0.55, 0.3)[k % 2]) for k, name in enumerate(residual)} | {
            "interaction": (DATA, 0.75)
        }
        self.areas = {}
        keys = []
        for name in found.parts:
            colour, opacity = colours[name]
            self.areas[name] = bq.Lines(
                x=[0.0, 1.0],
                y=[0.0, 0.0],
                scales=self.frame.scales,
                colors=[colour],
                stroke_width=0.5,
                fill="inside",
                fill_colors=[colour],
                fill_opacities=[opacity],
                close_path=True,
            )
            keys.append(
                "<span class='nlme-key'><span style='display:inline-block;width:14px;height:12px;margin-right:6px;"
                f"background:{colour};opacity:{opacity}'></span>{html.escape(name)}</span>"
            )
        keys.append(
            f"<span class='nlme-key'><span class='nlme-dashed' style='color:{DATA}'></span>total, linearised (FO)"
            "</span>"
        )
        self.key.value = "".join(keys)
        self.frame.put(*self.areas.values(), self.edges, self.line, self.labels)

    def draw(self) -> None:
        """Stack the parts."""
        found, share = self.found, self.share.value
        if found is None:
            return
        self.place.layout.display = None
        self._arrange(found)
        edges = found.stacked(share=share)
        factor = 100.0 if share else 1.0
        top = max(float(high.max()) for _, high in edges.values()) * factor
        there = bool(np.isfinite(found.linear).all()) and not share
        top = max(top, min(float(found.linear.max()), 3.0 * top)) if there else top
        unit = self.state.data.output_unit(self.state.dvid if len(self.state.dvids) > 1 else None)
        self.frame.y.axis.label = (
            "Share of the variance (%)" if share else f"Variance ({unit})²" if unit else "Variance"
        )
        self.frame.x.span(float(found.times[0]), float(found.times[-1]), flush=True)
        self.frame.y.span(0.0, top or 1.0, sticky=not share, flush=True)
        with self.edges.hold_sync():
            self.edges.labels = [f"up to {name}" for name in edges]
            self.edges.opacities = [0.6] * len(edges)
            self.edges.x, self.edges.y = found.times, factor * np.array([high for _, high in edges.values()])
        names = []
        for name, (low, high) in edges.items():
            with self.areas[name].hold_sync():
                self.areas[name].x = np.concatenate([found.times, found.times[::-1]])
                self.areas[name].y = factor * np.concatenate([high, low[::-1]])
            k = int(np.argmax(high - low))
            if factor * (high - low)[k] > _LABELLED * top:
                inside = min(k, round(0.85 * len(found.times)))  # a name at the edge would be cut
                names.append((float(found.times[inside]), factor * 0.5 * float((low + high)[inside]), name))
        with self.labels.hold_sync():
            self.labels.visible = bool(names)
            if names:
                self.labels.x, self.labels.y, self.labels.text = (list(v) for v in zip(*names, strict=True))
        with self.line.hold_sync():
            self.line.visible = there
            if there:
                self.line.x, self.line.y = found.times, found.linear
        self.text.value = f"<span class='soft'>{html.escape(self._words(found))}</span>"
        self.renew_numbers()

    def _words(self, found: VarianceInTime) -> str:
        assert self.request is not None
        state, data = self.state, self.state.data
        unit = f" {data.unit('TIME')}" if data.unit("TIME") else ""
        output = f" of {state.output_name(state.dvid)}" if len(state.dvids) > 1 else ""
        measured = data.output_unit(state.dvid if len(state.dvids) > 1 else None)
        k = int(np.argmax(found.total))
        parts = [
            f"Variance of an observation{output} with the doses and covariates of ID {self.request.subject}, at "
            f"{self.request.label}, from {self.request.draws} simulated subjects."
        ]
        if not found.total[k] > 0:
            return " ".join([*parts, "It is zero."])
        shares = {name: 100.0 * v[k] / found.total[k] for name, v in found.parts.items()}
        ordered = sorted(shares.items(), key=lambda p: -p[1])
        least = -math.inf if found.overlapping else 0.0  # below zero without correlations: simulation error
        listed = ", ".join(f"{name} {v:.0f} %" for name, v in ordered if abs(v) >= 1.0 and v > least)
        parts.append(
            f"Largest at {found.times[k]:.3g}{unit}: standard deviation {np.sqrt(found.total[k]):.3g}"
            f"{' ' + measured if measured else ''}, {100 * found.between[k] / found.total[k]:.0f} % of the variance "
            f"between subjects ({listed})."
        )
        known = np.isfinite(found.linear) & (found.total > 0.01 * found.total[k])
        if known.any():
            off = np.where(known, np.abs(found.linear / np.where(known, found.total, 1.0) - 1.0), 0.0)
            j = int(np.argmax(off))
            if off[j] > _WRONG:
                parts.append(
                    f"The linearised variance (dashed) is {100 * off[j]:.0f} % off at {found.times[j]:.3g}{unit}, and "
                    "so is what FO takes for it."
                )
            else:
                parts.append("The linearised variance (dashed) is close to it everywhere.")
        if found.overlapping:
            parts.append("Correlated effects share what they explain together; a negative interaction is not drawn.")
        return " ".join(parts)
