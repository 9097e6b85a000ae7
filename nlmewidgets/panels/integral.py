"""One subject's integral over its random effects: the integrand, and what each approximation puts in its place."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics.integrand import Integrand, integrand
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.tables import TableView
from nlmewidgets.panels.theme import DATA, FIT, MUTED, SELECTED, TREND, WARN

__all__ = ["IntegralPanel"]

_POINTS = {1: 201, 2: 61}
"""Grid points along each of one or two etas."""
_DRAWS = 200
_MARKS = {
    "fo": (WARN, "dotted"),
    "foce": (TREND, "dash_dotted"),
    "focei": (SELECTED, "dashed"),
    "laplace": (FIT, "solid"),
}
"""Colour and line of each approximation."""
_DASHES = {"solid": "", "dashed": "6 4", "dotted": "2 3", "dash_dotted": "6 3 2 3"}


@dataclass(frozen=True, eq=False)
class _Request:
    problem: Any
    values: Values
    subject: Any
    etas: tuple[str, ...]
    nodes: int
    draws: int
    label: str


@dataclass(frozen=True, eq=False)
class _Answer:
    request: _Request
    found: Integrand
    lines: Mapping[str, tuple[Any, Any]]


class IntegralPanel(Panel):
    """Contours of one subject's integrand (a curve, of one eta), with Gaussians, quadrature nodes or draws on it."""

    title = "Integral"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"ask": ("shown", "selected_ids")}

    def __init__(self, state: Any) -> None:
        super().__init__(state)
        self.answer: _Answer | None = None
        self._looking: Latest[_Request, _Answer | str] = Latest(self._compute, self._computed, lock=state.lock)

    def build(self) -> None:
        """Make the choices and the figure."""
        names = list(self.state.model.space.eta)
        if not names:
            text = "The model has no random effects, so there is no integral to approximate."
            self.root.children = (ipw.HTML(f"<div class='nlme-empty'>{text}</div>"),)
            return
        second = [("none", ""), *((n, n) for n in names)]
        self.first = _choice("Across", names, names[0], "Random effect along the horizontal axis")
        self.second = _choice("Up", second, names[1] if len(names) > 1 else "", "Random effect along the vertical axis")
        self.points = _choice(
            "Points", ["nodes", "draws", "none"], "nodes", "Quadrature nodes, or draws given the data"
        )
        self.nodes = ipw.BoundedIntText(value=3, min=1, max=9, description="Nodes", layout=ipw.Layout(width="110px"))
        self.nodes.style.description_width = "initial"
        for box in (self.first, self.second, self.points, self.nodes):
            box.observe(lambda _: self.ask(), "value")
        self.boxes = {
            name: ipw.Checkbox(
                value=name in ("focei", "laplace"),
                description=name.upper() if name != "laplace" else "Laplace",
                indent=False,
                layout=ipw.Layout(width="90px"),
            )
            for name in _MARKS
        }
        for box in self.boxes.values():
            box.observe(lambda _: self.draw(), "value")
        self.key, self.text, self.table = ipw.HTML(), caption(), TableView()
        self.key.add_class("nlme-legend")
        self.place = ipw.VBox()
        row = ipw.Layout(flex_flow="row wrap", align_items="center")
        self.root.children = (
            ipw.HBox([self.first, self.second, self.points, self.nodes], layout=row),
            ipw.HBox(list(self.boxes.values()), layout=row),
            self.key,
            self.place,
            self.text,
            self.table.root,
        )
        self._shape: tuple[str, ...] = ()

    @property
    def subject(self) -> Any:
        """ID of the subject shown: the one selected last, or the first."""
        return self.state.selected_ids[-1] if self.state.selected_ids else self.state.data.ids[0]

    def ask(self) -> None:
        """Have the integrand computed at the values shown."""
        if not self.state.model.space.eta:
            return
        etas = tuple(n for n in dict.fromkeys((self.first.value, self.second.value)) if n)
        if self.answer is None:
            self.text.value = "<span class='soft' aria-live='polite'>Computing …</span>"
        self._looking.put(
            _Request(
                self.state.problem,
                self.state.shown,
                self.subject,
                etas,
                self.nodes.value,
                _DRAWS if self.points.value == "draws" else 0,
                self.state.point.label if self.state.point.values is self.state.shown else "the values shown",
            )
        )

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is being computed."""
        self._looking.wait(timeout)

    @staticmethod
    def _compute(request: _Request) -> _Answer | str:
        r = request
        points = _POINTS[len(r.etas)]
        try:
            found = integrand(
                r.problem, r.values, r.subject, r.etas, points=points, nodes=r.nodes, reach=3.5, draws=r.draws
            )
            return _Answer(r, found, {name: found.lines(name) for name in ("exact", *found.approximations)})
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as refusal:
            return str(refusal)

    def _computed(self, answer: _Answer | str) -> None:
        if isinstance(answer, str):
            self.place.layout.display = self.table.root.layout.display = "none"
            self.text.value = f"<div class='nlme-alert'>{html.escape(answer)}</div>"
            return
        self.answer = answer
        self.draw()

    def _figure(self, names: tuple[str, ...]) -> None:
        """Make the figure of one or two etas."""
        y = Ruler(names[1] if len(names) == 2 else "Density over the exact one's highest", "left")
        self.frame = Frame(Ruler(names[0], "bottom"), y, height="400px")
        scales, none = self.frame.scales, [0.0, 1.0]
        self.exact = bq.Lines(
            x=none, y=none, scales=scales, colors=[DATA], stroke_width=6, opacities=[0.35], labels=["exact"]
        )
        self.lines = {
            name: bq.Lines(
                x=none,
                y=none,
                scales=scales,
                colors=[colour],
                line_style=dash,
                stroke_width=1.8,
                visible=False,
                labels=[name],
            )
            for name, (colour, dash) in _MARKS.items()
        }
        self.dots = bq.Scatter(x=none, y=none, scales=scales, colors=[MUTED], default_size=40, visible=False)

        self.frame.put(self.dots, self.exact, *self.lines.values())
        self.place.children = (self.frame.figure,)
        self._shape = names

    def draw(self) -> None:
        """Show the integrand with the approximations chosen."""
        if self.answer is None:
            return
        found = self.answer.found
        self.place.layout.display = self.table.root.layout.display = None
        if self._shape != found.names:
            self._figure(found.names)
        with self.exact.hold_sync():
            self.exact.x, self.exact.y = self.answer.lines["exact"]
        for name, box in self.boxes.items():
            there = name in found.approximations
            box.disabled, box.tooltip = not there, found.refused.get(name, "")
            line = self.lines[name]
            with line.hold_sync():
                line.visible = box.value and there and len(self.answer.lines[name][0]) > 1
                if line.visible:
                    line.x, line.y = self.answer.lines[name]
        self._dots(found)
        for ruler, axis in zip((self.frame.x, self.frame.y), found.axes, strict=False):
            ruler.span(float(axis[0]), float(axis[-1]), sticky=True)
        if len(found.names) == 1:
            shown = [self.answer.lines["exact"][1], *(line.y for line in self.lines.values() if line.visible)]
            self.frame.y.span(0.0, max(float(np.max(y)) for y in shown), sticky=True, flush=True)
        self.table.show(found.contributions.rename(columns={"minus2ll": "−2LL", "difference": "error"}), index="by")
        self._keys(found)
        self.text.value = f"<span class='soft'>{html.escape(self._words(found))}</span>"
        self.renew_numbers()

    def _dots(self, found: Integrand) -> None:
        """Show quadrature nodes, larger where they count more, or draws."""
        nodes = self.points.value == "nodes"
        at = found.nodes if nodes else found.draws
        at = at[(at >= [a[0] for a in found.axes]).all(axis=1) & (at <= [a[-1] for a in found.axes]).all(axis=1)]
        with self.dots.hold_sync():
            self.dots.visible = self.points.value != "none" and len(at) > 0
            if self.dots.visible:
                self.dots.x, self.dots.y = at[:, 0], at[:, 1] if len(found.names) == 2 else np.full(len(at), 0.0)
                self.dots.labels = ["quadrature nodes" if nodes else "draws given the data"]
                self.dots.default_size = 70 if nodes else 14
                self.dots.opacities = [0.9 if nodes else 0.5]

    def _keys(self, found: Integrand) -> None:
        shown = [(n if n == "laplace" else n.upper(), *_MARKS[n]) for n, line in self.lines.items() if line.visible]
        keys = [
            "<span class='nlme-key'><svg width='26' height='8' aria-hidden='true'><line x1='0' x2='26' y1='4' y2='4' "
            f"style='stroke:{colour}' stroke-width='2.5' stroke-dasharray='{_DASHES[dash]}'/></svg>&nbsp;"
            f"{name.capitalize() if name == 'laplace' else name}</span>"
            for name, colour, dash in shown
        ]
        wide = "width:20px;height:6px;opacity:0.35;background:currentColor;display:inline-block;margin-right:6px"
        keys.insert(0, f"<span class='nlme-key'><span style='color:{DATA};{wide}'></span>exact</span>")
        if self.dots.visible:
            what = "quadrature nodes" if self.points.value == "nodes" else "draws given the data"
            keys.append(f"<span class='nlme-key'><span class='nlme-dot' style='color:{MUTED}'></span>{what}</span>")
        self.key.value = "".join(keys)

    def _words(self, found: Integrand) -> str:
        table, request = found.contributions, self.answer.request if self.answer else None
        assert request is not None
        last = table.index[-1]
        what = "Contours at 1, 2 and 3 standard deviations of each Gaussian, at the same falls of the exact density"
        if len(found.names) == 1:
            what = "The exact density and each Gaussian, on one scale"
        held = [n for n in self.state.model.space.eta if n not in found.names]
        parts = [
            f"ID {found.subject} at {request.label}: p(y, η) over {' and '.join(found.names)}"
            f"{', the others at the mode' if held else ''}. {what}."
        ]
        if np.isfinite(table["minus2ll"].iloc[-1]):
            parts.append(
                f"−2LL of its data is {table['minus2ll'].iloc[-1]:.3f} by quadrature ({last.split(', ')[-1]})."
            )
            errors = table["difference"].reindex([n for n in _MARKS if n in table.index]).dropna()
            listed = ", ".join(f"{'Laplace' if n == 'laplace' else n.upper()} {v:+.3f}" for n, v in errors.items())
            parts.append(f"Errors: {listed}.")
        if found.refused:
            parts.append(f"Not for these data: {', '.join(n.upper() for n in found.refused)}.")
        if not self.state.selected_ids:
            parts.append("Select a subject at the top to see another.")
        return " ".join(parts)


def _choice(name: str, options: Any, value: Any, tooltip: str) -> ipw.Dropdown:
    box = ipw.Dropdown(options=options, value=value, description=name, tooltip=tooltip)
    box.style.description_width = "initial"
    box.layout = ipw.Layout(width="175px")
    return box
