"""EBEs against a covariate, with the shrinkage that says how far to trust the picture."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import covariate_summary, ebe_covariates, shrinkage
from nlmewidgets.diagnostics.shrinkage import warning
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED, TREND

__all__ = ["CovariatesPanel", "badge", "percent"]


def percent(share: float, decimals: int = 0) -> str:
    """Return a share as a percentage, without a minus sign before a zero."""
    if not np.isfinite(share):
        return "n/a"
    number = round(100.0 * share, decimals) + 0.0
    return f"{number:.{decimals}f} %"


def badge(value: float) -> str:
    """Return a shrinkage as a small label that turns into a warning where it is high."""
    if not np.isfinite(value):
        return "<span class='nlme-badge'>shrinkage n/a</span>"
    words = warning(value)
    colour = "var(--nlme-worse)" if words else "var(--nlme-trend)"
    title = f" title='{html.escape(words)}'" if words else ""
    mark = " ⚠" if words else ""
    return f"<span class='nlme-badge' style='color:{colour}'{title}>shrinkage {percent(value)}{mark}</span>"


class CovariatesPanel(Panel):
    """One figure per random effect: scatter with trend for numbers, boxes for categories."""

    title = "Covariates"

    def build(self) -> None:
        """Make the covariate choice and a figure per eta."""
        state = self.state
        self.places: dict[str, dict[str, Any]] = {}
        if not state.data.covariates or not state.model.space.between:
            what = "covariates" if state.model.space.between else "random effects"
            self.root.children = (ipw.HTML(f"<div class='nlme-empty'>There are no {what} to plot.</div>"),)
            return
        self.choice = ipw.Dropdown(options=list(state.data.covariates), description="Covariate")
        self.choice.layout = ipw.Layout(width="260px")
        self.choice.observe(lambda _: self._rebuild(), "value")
        self.grid = grid([], "repeat(auto-fill, minmax(300px, 1fr))")
        self.text = caption()
        self.root.children = (self.choice, self.grid, self.text)
        self._rebuild(draw=False)

    def _rebuild(self, draw: bool = True) -> None:
        data = self.state.data
        name = self.choice.value
        self.categorical = data.is_categorical(name)
        values = data.subject_covariates()[name]
        self.levels = sorted(values.unique(), key=str) if self.categorical else []
        self.places = {}
        cells = []
        for eta in self.state.model.space.between:
            place = self.places[eta] = self._figure(eta, name)
            cells.append(ipw.VBox([place["head"], place["frame"].figure], layout=ipw.Layout(min_width="0")))
        self.grid.children = cells
        if draw:
            self.draw()

    def _figure(self, eta: str, name: str) -> dict[str, Any]:
        data = self.state.data
        frame = Frame(
            Ruler(data.axis_label(name), "bottom", count=5), Ruler(f"EBE of {eta}", "left", count=5), height="250px"
        )
        scales = frame.scales
        points = bq.Scatter(
            x=[0.0],
            y=[0.0],
            scales=scales,
            colors=[FIT],
            default_size=36,
            labels=["subjects"],
            names=[f"ID {label}" for label in data.ids],
            display_names=False,
        )
        points.on_element_click(lambda _, event: self._clicked(event))
        picked = bq.Scatter(x=[0.0], y=[0.0], scales=scales, colors=[SELECTED], default_size=80, visible=False)
        zero = bq.Lines(x=[0.0, 1.0], y=[0.0, 0.0], scales=scales, colors=[MUTED], stroke_width=1, line_style="dotted")
        lines = bq.Lines(
            x=[0.0, 1.0],
            y=[0.0, 0.0],
            scales=scales,
            colors=[TREND],
            stroke_width=2,
            labels=["boxes" if self.categorical else "trend"],
        )
        if self.categorical:
            frame.x.categories([_level(level) for level in self.levels])
        frame.put(zero, lines, points, picked)
        return {"frame": frame, "points": points, "picked": picked, "zero": zero, "lines": lines, "head": ipw.HTML()}

    def _clicked(self, event: Any) -> None:
        self.state.toggle(self.state.point.problem.data.ids[int(event["data"]["index"])])

    def draw(self) -> None:
        """Bring points, trends and shrinkage up to date."""
        if not self.places:
            return
        point, name = self.state.point, self.choice.value
        table = ebe_covariates(point.problem, point.eta)
        shrunk = shrinkage(point.problem, point.values, point.eta)
        chosen = np.array([label in self.state.selected_ids for label in table.index])
        sentences = []
        for eta, place in self.places.items():
            summary = covariate_summary(table, eta, name, categorical=self.categorical)
            y = table[eta].to_numpy()
            x = self._positions(table[name])
            with place["points"].hold_sync():
                place["points"].x, place["points"].y = x, y
            with place["picked"].hold_sync():
                place["picked"].visible = bool(chosen.any())
                if chosen.any():
                    place["picked"].x, place["picked"].y = x[chosen], y[chosen]
            low, high = (
                (-0.6, len(self.levels) - 0.4) if self.categorical else (float(np.nanmin(x)), float(np.nanmax(x)))
            )
            if not self.categorical:
                place["frame"].x.span(low, high)
            place["frame"].y.span(min(0.0, float(np.nanmin(y))), max(0.0, float(np.nanmax(y))), sticky=True)
            place["zero"].x = [low, high]
            with place["lines"].hold_sync():
                place["lines"].x, place["lines"].y = self._lines(summary, low, high)
            place["head"].value = f"<b>{html.escape(eta)}</b> {badge(float(shrunk[eta]))}"
            sentences.append(self._words(eta, summary))
        high_ones = [eta for eta in self.places if warning(float(shrunk[eta]))]
        caution = f" {', '.join(high_ones)}: {warning(float(shrunk[high_ones[0]]))}." if high_ones else ""
        self.text.value = (
            f"<span class='soft'>EBEs at {html.escape(point.label)}. {' '.join(sentences)}{html.escape(caution)} "
            "Click a point to light up its subject.</span>"
        )

    def _positions(self, values: Any) -> Any:
        if not self.categorical:
            return values.to_numpy(float)
        place = {level: float(k) for k, level in enumerate(self.levels)}
        base = values.map(place).to_numpy(float)
        # Spread the points of a level a little, the same way every time.
        rank = np.zeros(len(base))
        for level in np.unique(base):
            members = np.flatnonzero(base == level)
            rank[members] = np.linspace(-0.12, 0.12, len(members)) if len(members) > 1 else 0.0
        return base + rank

    def _lines(self, summary: Any, low: float, high: float) -> tuple[Any, Any]:
        """Return the trend line, or boxes with whiskers, as one broken line."""
        if not self.categorical:
            row = summary.loc["trend"]
            return [low, high], [row["intercept"] + row["slope"] * low, row["intercept"] + row["slope"] * high]
        xs: list[float] = []
        ys: list[float] = []
        for k, (_, row) in enumerate(summary.iterrows()):
            a, b = k - 0.3, k + 0.3
            path = [
                (k, row["min"]), (k, row["q25"]), (a, row["q25"]), (a, row["q75"]), (k, row["q75"]), (k, row["max"]),
                (k, row["q75"]), (b, row["q75"]), (b, row["q25"]), (k, row["q25"]), (np.nan, np.nan),
                (a, row["median"]), (b, row["median"]), (np.nan, np.nan),
            ]  # fmt: skip
            xs += [p[0] for p in path]
            ys += [p[1] for p in path]
        return xs[:-1], ys[:-1]  # bqplot puts a curve's label at its last point, which must be one

    def _words(self, eta: str, summary: Any) -> str:
        if self.categorical:
            parts = ", ".join(
                f"{_level(i)} {row['median']:+.2f} (n = {int(row['n'])})" for i, row in summary.iterrows()
            )
            return f"{html.escape(eta)}: medians {html.escape(parts)}."
        row = summary.loc["trend"]
        if not np.isfinite(row["r"]):
            return f"{html.escape(eta)}: no trend can be computed."
        return f"{html.escape(eta)}: r = {row['r']:+.2f}, slope {row['slope']:+.3g}."


def _level(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)
