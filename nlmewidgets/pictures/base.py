"""What every picture is made with: colours, axes with units, and the drawing that is handed out.

Pictures are made without a screen and without global state: matplotlib's `Figure` alone, never `pyplot`, so
threads may draw at once.  matplotlib comes with the extra ``pictures``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit import Fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "DARK", "GREEN", "GREY", "MARKS", "ORANGE", "PINK", "Drawing", "Picture", "empty", "grid", "label"]

# Okabe & Ito's palette, readable with every kind of colour vision; shapes say the same again.
BLUE, ORANGE, GREEN, PINK, DARK, GREY = "#0072b2", "#d55e00", "#007a5a", "#b3476f", "#333333", "#8a8a8a"
MARKS = (("o", BLUE), ("^", ORANGE), ("s", GREEN), ("D", PINK), ("v", DARK), ("P", GREY))

_STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "nlmewidgets",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture of a fit; shown by the last line of a cell.

    Attributes
    ----------
    name, title : str
    figure : matplotlib Figure
    read, misleads : str
        How to read it, and when it misleads, in a sentence each.
    """

    name: str
    title: str
    figure: Figure
    read: str = ""
    misleads: str = ""

    @property
    def svg(self) -> str:
        """The picture as SVG text, with a title for those who listen to it."""
        from matplotlib import rc_context

        buffer = io.StringIO()
        with rc_context(_STYLE):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        text = buffer.getvalue()
        start = text.index("<svg")
        head, rest = text[start:].split(">", 1)
        return f'{head} role="img" aria-label="{self.title}">{rest}'

    def save(self, path: str | Path) -> Path:
        """Write the picture in the format of the file's ending (svg, png, pdf) and return the path."""
        from matplotlib import rc_context

        target = Path(path)
        with rc_context(_STYLE):
            self.figure.savefig(target, dpi=160)
        return target

    def _repr_svg_(self) -> str:
        return self.svg


def _always(fit: Fit) -> str:
    return ""


@dataclass(frozen=True)
class Picture:
    """A kind of picture.

    Attributes
    ----------
    name, title : str
    draw : callable
        Fit → matplotlib Figure.
    read, misleads : str
        How to read it, and when it misleads, in a sentence each.
    refusal : callable
        Fit → why it cannot be drawn, '' if it can.
    options : tuple of str
        What `draw` takes besides the fit, by keyword.
    slow : bool
        Whether it needs refits: a report shows it only if asked to.
    """

    name: str
    title: str
    draw: Callable[..., Figure]
    read: str
    misleads: str
    refusal: Callable[[Fit], str] = _always
    options: tuple[str, ...] = ()
    slow: bool = False

    def __call__(self, fit: Fit, **options: Any) -> Drawing:
        """Return the picture of a fit.

        Raises
        ------
        NlmeError
            If it cannot be drawn of this fit, or has no such option, with the reason.
        """
        try:
            from matplotlib import rc_context
        except ModuleNotFoundError:
            raise ImportError(
                "Pictures need matplotlib: install the extra with pip install nlmewidgets[pictures]."
            ) from None
        if why := self.refusal(fit):
            raise NlmeError(why)
        for name in options:
            if name not in self.options:
                have = ", ".join(self.options) or "none"
                raise NlmeError(f"The picture '{self.name}' has no option '{name}' (its options: {have}).")
        with rc_context(_STYLE):
            return Drawing(self.name, self.title, self.draw(fit, **options), self.read, self.misleads)


def grid(
    n: int, columns: int = 3, *, width: float = 3.1, height: float = 2.5, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with n axes in rows of `columns`."""
    from matplotlib.figure import Figure

    columns = max(1, min(n, columns))
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows))
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for ax in axes[n:]:
        ax.remove()
    return figure, list(axes[:n])


def label(fit: Fit, column: str, text: str | None = None) -> str:
    """Return a column's name with its unit."""
    return fit.data.axis_label(column, text)


def empty(ax: Axes, text: str) -> None:
    """Say in an axis why it shows nothing."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=ax.transAxes, wrap=True)


def running(x: Array, y: Array, points: int = 40) -> tuple[Array, Array]:
    """Return a local linear trend of y over x with tricube weights on a third of the data."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 8 or not np.ptp(x) > 0:
        return np.zeros(0), np.zeros(0)
    at = np.linspace(x.min(), x.max(), points)
    distance = np.abs(at[:, None] - x)
    reach = np.partition(distance, max(5, len(x) // 3) - 1, axis=1)[:, max(5, len(x) // 3) - 1]
    # A little further than the last point reached, which else has no weight: all may lie at that one value.
    reach = np.maximum(1.01 * reach, 1e-9 * np.ptp(x))
    weight = np.clip(1.0 - (distance / reach[:, None]) ** 3, 0.0, None) ** 3
    total = weight.sum(axis=1)
    mx, my = weight @ x / total, weight @ y / total
    sxx = (weight * (x - mx[:, None]) ** 2).sum(axis=1)
    sxy = (weight * (x - mx[:, None]) * (y - my[:, None])).sum(axis=1)
    slope = np.where(sxx > 1e-12 * np.ptp(x) ** 2, sxy / np.maximum(sxx, 1e-300), 0.0)
    return at, my + slope * (at - mx)
