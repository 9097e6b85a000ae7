"""The environment where widgets cannot show: one picture and a table, as they were when the cell ran."""

from __future__ import annotations

import base64
import html
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.panels.base import round_ticks

__all__ = ["still", "words"]

_WIDTH, _HEIGHT = 620, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 44
_MOST_POINTS = 2_000
"""Observations drawn: more would be a blot, and stay in the notebook's file."""


def words(explorer: Any) -> str:
    """Return in one sentence what the explorer holds."""
    name = explorer.model.name or "Model"
    shown = f"OFV {explorer.ofv:.3f} ({explorer.objective_by})" if np.isfinite(explorer.ofv) else "no objective yet"
    data = explorer.data
    text = f"{name}: {data.n_subjects} subjects, {data.n_obs} observations; {shown} at the sliders"
    if explorer.result is not None:
        text += f"; last fit by {explorer.result.method}: OFV {explorer.result.ofv:.3f}, {explorer.result.status}"
    return text + "."


def still(explorer: Any) -> str:
    """Return the explorer as HTML without scripts: what it is about, the population curve, the values."""
    fitted = None if explorer.result is None else dict(explorer.result.estimates)
    head = "<tr><th style='text-align:left'>Parameter</th><th>Slider</th>"
    head += "<th>Last fit</th></tr>" if fitted else "</tr>"
    rows = ""
    for name, value in explorer.params.items():
        fixed = " (fixed)" if name in explorer.fixed else ""
        rows += f"<tr><td style='text-align:left'>{html.escape(name)}{fixed}</td><td>{value:.5g}</td>"
        rows += (
            f"<td>{fitted[name]:.5g}</td></tr>"
            if fitted and name in fitted
            else "<td></td></tr>"
            if fitted
            else "</tr>"
        )
    return (
        f"<p><b>{html.escape(words(explorer))}</b></p>{_picture(explorer)}"
        f"<p>Curves at {html.escape(explorer.point.label)}.</p><table>{head}{rows}</table>"
        "<p><i>A picture of the environment; run the cell in JupyterLab, Notebook 7 or Voilà for sliders "
        "and fits.</i></p>"
    )


def _picture(explorer: Any) -> str:
    """Return the population panel's curves as an image; nothing where it has not been drawn."""
    panel = explorer.panels["population"]
    if not panel.drawn:
        return ""
    data = explorer.data
    rows = panel.rows[:: max(1, -(-len(panel.rows) // _MOST_POINTS))]
    time, dv = data.time[rows], explorer.seen[rows]
    curve, band = np.asarray(panel.typical.y), np.asarray(panel.band.y)
    shown = [dv, *([curve] if panel.typical.visible else []), *([band.ravel()] if panel.band.visible else [])]
    every = np.concatenate(shown)
    low, high = float(every.min()), float(every.max())
    first, last = float(panel.times[0]), float(panel.times[-1])
    x = _Axis(first, last, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low - 0.04 * (high - low), high + 0.04 * (high - low), _HEIGHT - _BOTTOM, _TOP)
    parts = [f"<rect width='{_WIDTH}' height='{_HEIGHT}' fill='#fff'/>"]
    for value, text in y.ticks(6):
        parts.append(f"<path d='M{_LEFT} {value:.1f}H{_WIDTH - _RIGHT}' stroke='#ddd'/>")
        parts.append(f"<text x='{_LEFT - 6}' y='{value + 4:.1f}' text-anchor='end'>{text}</text>")
    for value, text in x.ticks(7):
        parts.append(f"<text x='{value:.1f}' y='{_HEIGHT - _BOTTOM + 16}' text-anchor='middle'>{text}</text>")
    if panel.band.visible:
        there, back = _path(x(panel.times), y(band[0])), _path(x(panel.times[::-1]), y(band[1][::-1]))
        parts.append(f"<path d='M{there}L{back}Z' fill='#0072b2' fill-opacity='0.16'/>")
    dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in zip(x(time), y(dv), strict=True))
    parts.append(f"<path d='{dots}' stroke='#4d4d4d' stroke-width='4' stroke-linecap='round' stroke-opacity='0.75'/>")
    if panel.typical.visible:
        line = _path(x(panel.times), y(curve))
        parts.append(f"<path d='M{line}' fill='none' stroke='#0072b2' stroke-width='2.5'/>")
    names = html.escape(panel.frame.x.axis.label), html.escape(panel.frame.y.axis.label)
    parts.append(f"<text x='{(_LEFT + _WIDTH) / 2}' y='{_HEIGHT - 8}' text-anchor='middle'>{names[0]}</text>")
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f"<text transform='translate(14 {middle}) rotate(-90)' text-anchor='middle'>{names[1]}</text>")
    svg = (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{_HEIGHT}' font-family='sans-serif' "
        f"font-size='12' fill='#222'>{''.join(parts)}</svg>"
    )
    about = f"{names[1]} against {names[0]}: observations (dots), typical curve, 90 % of simulated observations (area)"
    return f"<img alt='{about}' src='data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}'/>"


class _Axis:
    """A linear map from values to pixels."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0
        self.start, self.end = start, end

    def __call__(self, values: Array) -> Array:
        return self.start + (np.asarray(values) - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[float, str]]:
        values, decimals = round_ticks(self.low, self.high, count)
        values = np.round(values, decimals) + 0.0  # no −0
        return [(float(place), f"{value:.{decimals}f}") for place, value in zip(self(values), values, strict=True)]


def _path(x: Array, y: Array) -> str:
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
