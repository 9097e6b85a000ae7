"""Typical curves over a study as a small SVG picture."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model

__all__ = ["curves"]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 250.0, 138.0, 48.0, 30.0, 16.0, 12.0
MOST = 3
"""Dose groups drawn."""
MOST_POINTS = 80


def curves(model: Model, data: Data) -> str:
    """Return the observations and the typical curve of each dose group (three at most), one picture per output."""
    few = data.subset([data.ids[i] for i in _groups(data)])
    labels = list(pd.unique(few.dvid))
    plan = few.on_grid(80)
    grid = model.predict(plan)
    parts = []
    for label in labels:
        seen = data.dvid == label
        parts.append(
            _plot(
                data.time[seen],
                data.dv[seen],
                grid[plan.dvid == label],
                data.axis_label("TIME", "time"),
                str(label) if len(labels) > 1 else "",
                data.output_unit(label) or "",
            )
        )
    return "".join(parts)


def _groups(data: Data) -> list[int]:
    """Return the subjects whose histories of doses differ from all before them."""
    table = data.records[data.dosed]
    doses = {k: tuple(g["AMT"].round(3)) for k, g in table.groupby("ID", sort=False)}
    seen: dict[Any, int] = {}
    for i, label in enumerate(data.ids):
        seen.setdefault(doses.get(label), i)
    return list(seen.values())[:MOST]


def _plot(t: Array, y: Array, grid: pd.DataFrame, axis: str, title: str, unit: str) -> str:
    all_t = np.concatenate([t, grid["TIME"].to_numpy(dtype=float)])
    all_y = np.concatenate([y, grid["PRED"].to_numpy(dtype=float), [0.0]])
    all_y = all_y[np.isfinite(all_y)]
    left, right = float(all_t.min()), float(all_t.max())
    low, high = float(all_y.min()), float(all_y.max())
    low = 0.0 if -0.05 * high < low < 0 else low  # a little noise below 0 is no reason for an axis

    def x_of(value: Any) -> Any:
        return LEFT + (np.asarray(value, dtype=float) - left) / (right - left or 1.0) * (WIDTH - LEFT - RIGHT)

    def y_of(value: Any) -> Any:
        return HEIGHT - BOTTOM - (np.asarray(value, dtype=float) - low) / (high - low or 1.0) * (HEIGHT - BOTTOM - TOP)

    marks = [f'<path class="axis" d="M{LEFT},{TOP} V{HEIGHT - BOTTOM} H{WIDTH - RIGHT}"/>']
    keep = np.linspace(0, len(t) - 1, min(len(t), MOST_POINTS)).astype(int)
    dots = "".join(f"M{x:.1f},{v:.1f}h0" for x, v in zip(x_of(t[keep]), y_of(y[keep]), strict=True) if np.isfinite(v))
    marks.append(f'<path class="dots" d="{dots}"/>')
    for _, one in grid.groupby("ID", sort=False):
        points = zip(x_of(one["TIME"]), y_of(one["PRED"]), strict=True)
        marks.append('<polyline points="' + " ".join(f"{x:.1f},{v:.1f}" for x, v in points if np.isfinite(v)) + '"/>')
    for value, place in ((low, HEIGHT - BOTTOM), (high, TOP + 5)):
        marks.append(f'<text x="{LEFT - 5}" y="{place:.0f}" text-anchor="end">{_short(value)}</text>')
    for value, anchor in ((left, "start"), (right, "end")):
        where = LEFT if anchor == "start" else WIDTH - RIGHT
        marks.append(f'<text x="{where}" y="{HEIGHT - BOTTOM + 12}" text-anchor="{anchor}">{value:.4g}</text>')
    marks.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{escape(axis)}</text>')
    head = " ".join(x for x in (title, f"({unit})" if unit else "") if x)
    marks.append(f'<text x="{WIDTH - RIGHT}" y="10" text-anchor="end">{escape(head)}</text>')
    words = f"typical {title or 'curve'} from {low:.3g} to {high:.3g}"
    return (
        f'<svg class="curve" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" '
        f'width="{WIDTH:.0f}" height="{HEIGHT:.0f}" role="img" aria-label="{escape(words)}">{STYLE}'
        f"{''.join(marks)}</svg>"
    )


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.3g}"


STYLE = (
    "<style>.curve text{font:9.5px sans-serif;fill:currentColor}.curve .axis{fill:none;stroke:currentColor;opacity:.6}"
    ".curve polyline{fill:none;stroke:#0072b2;stroke-width:1.8}"
    ".curve .dots{stroke:#d55e00;stroke-width:3.4;stroke-linecap:round;opacity:.6}</style>"
)
