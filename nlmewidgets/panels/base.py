"""What panels share: figures with labelled axes, captions, and drawing only what is visible."""

from __future__ import annotations

import base64
import html
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # bqplot and traittypes announce their own deprecations on import
    import bqplot as bq

__all__ = ["CLOUD", "Frame", "Panel", "Ruler", "background", "bq", "caption", "dots", "grid", "legend", "round_ticks"]

CLOUD = 1_000
"""Points beyond which every redraw of a figure takes a browser tens of milliseconds, if each is a mark of its own."""


class Panel:
    """A view of the state; built when first shown, redrawn only while visible.

    Attributes
    ----------
    state : State
        Or another `Selection`, for a panel about data alone.
    root : Widget
        What is displayed.
    title : str
        The name of its tab.
    step : str
        The step it belongs to, see `panels.steps.STEPS`.
    numbers : Numbers or None
        The table behind its figures.
    parts : mapping
        Which method draws again after a change of which traits.
    """

    title = ""
    step: ClassVar[str] = "judge"
    numbers: Any = None
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": ("point", "selected_ids")}

    def __init__(self, state: Any) -> None:
        self.state = state
        self.root = ipw.VBox()
        self.visible = False
        self._built = False
        self._stale = set(self.parts)
        for part, traits in self.parts.items():
            if traits:  # observing no names would be observing all of them
                state.observe(lambda _, part=part: self._changed(part), names=list(traits))

    def show(self) -> None:
        """Make the panel visible: build it if need be and draw what changed meanwhile."""
        with self.state.lock:  # a running fit draws from a thread of its own
            if not self._built:
                self.build()
                self._built = True
            self.visible = True
            self._draw_stale()

    def hide(self) -> None:
        """Stop drawing until shown again."""
        self.visible = False

    @property
    def drawn(self) -> bool:
        """Whether it has been shown, and so has its marks."""
        return self._built

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is computed beside the interface, if anything is."""

    def close(self) -> None:
        """End what is computed beside the interface, if anything is: the panel is shown no more."""

    def _changed(self, part: str) -> None:
        with self.state.lock:
            self._stale.add(part)
            if self.visible:
                self._draw_stale()

    def _draw_stale(self) -> None:
        for part in self.parts:
            if part in self._stale:
                self._stale.discard(part)
                getattr(self, part)()
        self.renew_numbers()

    def renew_numbers(self) -> None:
        """Have the table behind the figures, and up to date; for panels that draw beside the interface."""
        from nlmewidgets.panels.numbers import Numbers, has_figures  # which reads the figures made here

        if self.numbers is None and has_figures(self.root):
            self.numbers = Numbers(self.root)
            self.root.children = (*self.root.children, self.numbers.root)
        elif self.numbers is not None and self.numbers.open.value:
            self.numbers.show()

    def build(self) -> None:
        """Make the widgets and put them into `root`."""
        raise NotImplementedError


class Ruler:
    """A scale and its axis, with the domain and the ticks set here: round numbers, and no jitter.

    While something is dragged the domain grows at once and shrinks only when it is far too large.

    Parameters
    ----------
    label : str
        Text with unit; '' for none.
    side : str
        'bottom' or 'left'.
    count : int
        About how many ticks.
    log : bool
        Logarithmic; the domain must then be positive.
    """

    def __init__(self, label: str, side: str, *, count: int = 6, log: bool = False, offset: int | None = None) -> None:
        self.log = log
        self.count = count
        self.scale = bq.LogScale() if log else bq.LinearScale()
        vertical = side == "left"
        self.axis = bq.Axis(
            scale=self.scale,
            label=label,
            side=side,
            grid_lines="solid" if vertical else "none",
            grid_color="var(--jp-border-color3, #eee)",
            label_offset=f"{offset or (42 if vertical else 32)}px",
        )
        self._domain: tuple[float, float] | None = None
        self.span(*((0.1, 10.0) if log else (0.0, 1.0)))
        self._domain = None

    def span(self, low: float, high: float, *, sticky: bool = False, flush: bool = False) -> None:
        """Show the domain from `low` to `high` and a little more (`flush`: not below `low`).

        With `sticky`, a larger domain is kept unless it is far too large.
        """
        if not (np.isfinite(low) and np.isfinite(high)):
            return
        if self.log:
            low, high = np.log10(max(low, 1e-12)), np.log10(max(high, 1e-11))
        if high - low < 1e-9 * max(1.0, abs(high)):
            low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
        pad = 0.04 * (high - low)
        low, high = low - (0.0 if flush else pad), high + pad
        if sticky and self._domain is not None:
            a, b = self._domain
            if a <= low and high <= b and high - low > 0.6 * (b - a):
                return
        if self._domain == (low, high):
            return
        self._domain = (low, high)
        if self.log:
            values = _log_ticks(low, high, self.count)
            text = "~g" if low > -4 else "~e"
            low, high = 10.0**low, 10.0**high
        else:
            values, decimals = round_ticks(low, high, self.count)
            text = f".{decimals}f" if np.abs(values).max(initial=0.0) < 1e6 else ".2~e"
        with self.scale.hold_sync(), self.axis.hold_sync():
            self.axis.tick_values, self.axis.tick_format = values, text
            self.scale.min, self.scale.max = float(low), float(high)

    def share(self, values: Any) -> Any:
        """Return where values are along the axis: 0 at its lower end, 1 at its upper."""
        low, high = self.scale.min, self.scale.max
        if self.log:
            return np.log(np.asarray(values) / low) / np.log(high / low)
        return (np.asarray(values) - low) / (high - low)

    def categories(self, labels: Sequence[str]) -> None:
        """Show one tick per label, at 0, 1, 2 and so on."""
        with self.scale.hold_sync(), self.axis.hold_sync():
            self.axis.tick_values = np.arange(len(labels), dtype=float)
            self.axis.tick_labels = {str(k): label for k, label in enumerate(labels)}
            self.scale.min, self.scale.max = -0.6, len(labels) - 0.4


def round_ticks(low: float, high: float, count: int) -> tuple[Any, int]:
    """Return multiples of 1, 2 or 5 times a power of ten inside the domain, and the decimals they need."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * 0.999)
    values = np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step
    return values, max(0, -int(np.floor(np.log10(step) + 1e-9)))


def _log_ticks(low: float, high: float, count: int = 6) -> Any:
    """Return 1, 2, 5 times powers of ten inside a domain of logarithms; where it is wide, every so many powers."""
    members = (1.0, 2.0, 5.0) if high - low < 0.6 * count else (1.0,)
    enough = 2 if high - low >= 1.0 else 3  # round numbers of a plain axis crowd where there are decades
    for every in range(max(1, int(np.ceil((high - low) / count))), 0, -1):
        powers = range(every * int(np.floor(low / every)), int(np.ceil(high)) + 1, every)
        values = np.array([m * 10.0**k for k in powers for m in members])
        values = values[(np.log10(values) >= low) & (np.log10(values) <= high)]
        if len(values) >= enough:
            return values
    return round_ticks(10.0**low, 10.0**high, count)[0]


class Frame:
    """A figure over two rulers; marks take `scales`.

    Parameters
    ----------
    x, y : Ruler
    height : str
    title : str
    small : bool
        Narrow margins, for small multiples.
    """

    def __init__(self, x: Ruler, y: Ruler, *, height: str, title: str = "", small: bool = False) -> None:
        self.x, self.y = x, y
        margin = {
            "top": 26 if title else 10,
            "bottom": (40 if x.axis.label else 22) if small else 46,
            "left": (48 if y.axis.label else 36) if small else 58,
            "right": 10 if small else 14,
        }
        self.figure = bq.Figure(
            marks=[],
            axes=[x.axis, y.axis],
            title=title,
            animation_duration=0,
            fig_margin=margin,
            background_style={"fill": "transparent"},
            display_toolbar=False,
        )
        self.figure.layout = ipw.Layout(width="100%", height=height, min_width="0")

    @property
    def scales(self) -> dict[str, Any]:
        """The scales, for a mark."""
        return {"x": self.x.scale, "y": self.y.scale}

    @property
    def unit(self) -> dict[str, Any]:
        """Scales from 0 to 1 over the whole figure."""
        return {"x": bq.LinearScale(min=0.0, max=1.0), "y": bq.LinearScale(min=0.0, max=1.0)}

    def put(self, *marks: Any) -> None:
        """Set the figure's marks, the first at the back."""
        self.figure.marks = list(marks)


def dots(x: Any, y: Any, scales: Mapping[str, Any], *, labels: Sequence[str], names: Sequence[str]) -> Any:
    """Return a cloud of points as one broken line, whose round ends are the points; its figure has class nlme-cloud.

    The browser keeps it as a layer of its own, so that what moves over it is drawn as fast as without.
    """
    gap = np.full(len(x), np.nan)
    mark = bq.Lines(
        x=np.stack([x, gap], axis=1).ravel()[:-1],  # a curve's last point must be a number
        y=np.stack([y, gap], axis=1).ravel()[:-1],
        scales=dict(scales),
        colors=["var(--nlme-data)"],
        stroke_width=4.8,
        opacities=[0.75],
        labels=list(labels),
    )
    mark.names = [part for name in names for part in (name, "")][:-1]  # for the table behind the figure
    return mark


_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAC0lEQVR42mNgAAIAAAUAAen63NgAAAAASUVORK5CYII="
)
"""One transparent pixel: over a whole figure it tells where a click was."""


def background(scales: Mapping[str, Any], clicked: Callable[[float, float], None]) -> Any:
    """Return a mark that is not seen and tells where a figure was clicked; its `x` and `y` are the ends it covers."""
    mark = bq.Image(image=ipw.Image(value=_PIXEL, format="png"), x=[1.0, 2.0], y=[1.0, 2.0], scales=dict(scales))
    mark.on_element_click(lambda _, event: clicked(float(event["data"]["click_x"]), float(event["data"]["click_y"])))
    return mark


def legend(*entries: tuple[str, str, str]) -> ipw.HTML:
    """Return a legend line; an entry is (kind, colour, text) with kind 'line', 'dashed', 'area' or 'dot'."""
    parts = [
        f"<span class='nlme-key'><span class='nlme-{kind}' style='color:{colour}'></span>{html.escape(text)}</span>"
        for kind, colour, text in entries
    ]
    widget = ipw.HTML("".join(parts))
    widget.add_class("nlme-legend")
    return widget


def caption(text: str = "") -> ipw.HTML:
    """Return a line of text under a figure; it says in words what the figure shows."""
    widget = ipw.HTML(text)
    widget.add_class("nlme-caption")
    return widget


def grid(cells: Sequence[Any], columns: str) -> ipw.GridBox:
    """Return small multiples; `columns` is CSS, e.g. ``repeat(4, 1fr)``."""
    return ipw.GridBox(list(cells), layout=ipw.Layout(grid_template_columns=columns, width="100%", grid_gap="0 4px"))
