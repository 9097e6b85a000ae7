"""Covariates: how each is distributed over subjects, and how they go together."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import distribution
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid
from nlmewidgets.panels.tables import TableView
from nlmewidgets.panels.theme import FIT, SELECTED

__all__ = ["LookCovariatesPanel"]

_OFFSET = 32
"""Of the label of a small figure's vertical axis: two digits fit between."""

_MOST_PAIRED = 5
"""Numbers in the scatter matrix."""


class LookCovariatesPanel(Panel):
    """Bars per covariate, a scatter per pair of numbers, a table of correlations."""

    title = "Covariates"
    step: ClassVar[str] = "data"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": (), "draw_selected": ("selected_ids",)}

    def build(self) -> None:
        """Make the figures; only the selection moves in them."""
        data = self.state.data
        self.scatters: list[tuple[Any, Any, Any]] = []
        self.text = caption()
        if not data.covariates:
            self.root.children = (
                ipw.HTML(
                    "<div class='nlme-empty'>The data have no covariates; every column that is no NONMEM item would be "
                    "one.</div>"
                ),
            )
            return
        self.subjects = data.subject_covariates()
        numbers = [c for c in data.covariates if not data.is_categorical(c)]
        varied = [c for c in numbers if self.subjects[c].nunique() > 1]
        parts: list[Any] = [ipw.HTML("<h4>Distribution over subjects</h4>")]
        parts.append(grid([self._bars(c).figure for c in data.covariates], "repeat(auto-fill, minmax(230px, 1fr))"))
        pairs = [(a, b) for k, b in enumerate(varied[:_MOST_PAIRED]) for a in varied[:k]]
        if pairs:
            parts.append(ipw.HTML("<h4>Pairs of numbers</h4>"))
            parts.append(grid([self._pair(a, b).figure for a, b in pairs], "repeat(auto-fill, minmax(230px, 1fr))"))
        table = data.correlations()
        if len(table) > 1:
            view = TableView()
            view.show(table.round(2), index="Pearson r")
            parts += [ipw.HTML("<h4>Correlations over subjects</h4>"), view.root]
        parts.append(self.text)
        self.root.children = tuple(parts)

    def _bars(self, name: str) -> Frame:
        data = self.state.data
        table = distribution(data, name)
        categorical = data.is_categorical(name)
        x = Ruler(data.axis_label(name), "bottom", count=4)
        y = Ruler("Subjects", "left", count=4, offset=_OFFSET)
        y.span(0.0, float(table["subjects"].max()) * 1.05, flush=True)
        frame = Frame(x, y, height="190px", small=True)
        frame.figure.padding_y = 0.0
        counts = table["subjects"].to_numpy(float)
        if categorical:
            places = np.arange(len(table), dtype=float)
            left, right = places - 0.35, places + 0.35
            x.categories([_shorten(str(label), len(table)) for label in table.index])
        else:
            left, right = table["low"].to_numpy(float), table["high"].to_numpy(float)
            x.span(left[0], right[-1])
        # One outline with gaps, filled to the ground: bars of any width on a numerical axis.
        xs = np.column_stack([left, left, right, right, np.full(len(left), np.nan)]).ravel()[:-1]
        ys = np.column_stack([0 * counts, counts, counts, 0 * counts, np.full(len(left), np.nan)]).ravel()[:-1]
        outline = bq.Lines(
            x=xs, y=ys, scales=frame.scales, colors=[FIT], stroke_width=1, fill="bottom", fill_colors=[FIT],
            fill_opacities=[0.35], labels=["subjects"],
        )  # fmt: skip
        frame.put(outline)
        return frame

    def _pair(self, a: str, b: str) -> Frame:
        data = self.state.data
        x, y = Ruler(data.axis_label(a), "bottom", count=4), Ruler(data.axis_label(b), "left", count=4, offset=_OFFSET)
        p, q = self.subjects[a].to_numpy(float), self.subjects[b].to_numpy(float)
        x.span(p.min(), p.max())
        y.span(q.min(), q.max())
        frame = Frame(x, y, height="210px", small=True)
        points = bq.Scatter(
            x=p,
            y=q,
            scales=frame.scales,
            colors=[FIT],
            default_size=22,
            opacities=[0.75],
            labels=["subjects"],
            names=[f"ID {label}" for label in data.ids],
            display_names=False,
        )
        points.on_element_click(lambda _, event: self.state.toggle(data.ids[int(event["data"]["index"])]))
        picked = bq.Scatter(x=[0.0], y=[0.0], scales=frame.scales, colors=[SELECTED], default_size=70, visible=False)
        frame.put(points, picked)
        self.scatters.append((picked, p, q))
        return frame

    def draw(self) -> None:
        """Nothing: the figures do not change."""

    def draw_selected(self) -> None:
        """Light the selected subjects up, and say who they are."""
        data, chosen = self.state.data, self.state.selected_ids
        if not data.covariates:
            return
        rows = np.isin(np.array(data.ids, dtype=object), np.array(chosen, dtype=object))
        for picked, p, q in self.scatters:
            with picked.hold_sync():
                if rows.any():
                    picked.x, picked.y = p[rows], q[rows]
                picked.visible = bool(rows.any())
        varying = [c for c, row in data.describe().covariates.iterrows() if row["changes with time"] == "yes"]
        words = ["Values are those of each subject's first record."]
        if varying:
            words.append(f"Changing with time: {', '.join(map(str, varying))}.")
        for label in chosen[:3]:
            values = self.subjects.loc[label]
            about = ", ".join(f"{c} {_value(values[c])}{_unit(data, c)}" for c in data.covariates)
            words.append(f"Subject {label}: {about}.")
        if self.scatters and not chosen:
            words.append("Click a point to light its subject up everywhere.")
        self.text.value = f"<span class='soft'>{html.escape(' '.join(words))}</span>"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _unit(data: Any, column: str) -> str:
    return f" {data.unit(column)}" if data.unit(column) else ""


def _shorten(label: str, count: int) -> str:
    """Return a label that fits under its bar."""
    most = max(4, 26 // max(count, 1))
    return label if len(label) <= most else label[: most - 1] + "…"
