r"""What a visual predictive check compares: numbers of one data set, computed for many at once.

Each statistic is a callable from data (replicates, observations of the output) to numbers (replicates, m), with a
table of m rows that says what they are.  The same call serves the observed data and the simulated ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints

__all__ = ["Cells", "Events", "LocalQuantiles", "Proportions", "Quantiles", "Shares", "Statistic", "ordered_quantiles"]


class Statistic(Protocol):
    """A function of data, with a table of what each number is."""

    @property
    def index(self) -> pd.DataFrame:
        """What each number is, m rows."""
        ...

    def __call__(self, y: Array) -> Array:
        """Return the numbers, (replicates, m), of data (replicates, observations)."""
        ...


@dataclass(frozen=True, eq=False)
class Cells:
    """The observations of each stratum and bin.

    Attributes
    ----------
    table : DataFrame
        stratum, bin, left, right, x (centre), n: one row per cell that holds data.
    rows : tuple of (n,) int
        The observations of each cell.
    """

    table: pd.DataFrame
    rows: tuple[Ints, ...]


def ordered_quantiles(ordered: Array, levels: Array) -> Array:
    """Return quantiles along the last, sorted axis by linear interpolation; infinite neighbours stay infinite."""
    place = levels * (ordered.shape[-1] - 1)
    below = np.floor(place + 1e-12).astype(np.intp)
    share = np.maximum(place - below, 0.0)
    share[share < 1e-9] = 0.0
    lower, upper = ordered[..., below], ordered[..., np.minimum(below + 1, ordered.shape[-1] - 1)]
    with np.errstate(invalid="ignore"):
        between = lower + share * (upper - lower)
    between = np.where(np.isinf(lower) | (share == 0.0), lower, np.where(np.isposinf(upper), upper, between))
    return np.where(np.isnan(ordered[..., -1:]), np.nan, between)  # NaN is sorted last


@dataclass(frozen=True, eq=False)
class Quantiles:
    """Quantiles of the data in each cell, censored ones being −∞ or ∞."""

    cells: Cells
    levels: tuple[float, ...]

    @property
    def index(self) -> pd.DataFrame:
        """Stratum, bin, x, n and quantile."""
        table = self.cells.table[["stratum", "bin", "x", "n"]]
        out = table.loc[table.index.repeat(len(self.levels))].reset_index(drop=True)
        out["quantile"] = np.tile(self.levels, len(table))
        return out

    def __call__(self, y: Array) -> Array:
        """Return the quantiles, cell by cell."""
        levels = np.array(self.levels)
        parts = [ordered_quantiles(np.sort(y[:, rows], axis=1), levels) for rows in self.cells.rows]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class Shares:
    """The share of the data in each cell that are below (above) the limit, being −∞ (∞)."""

    cells: Cells

    @property
    def index(self) -> pd.DataFrame:
        """Stratum, bin, x, n, and the side."""
        table = self.cells.table[["stratum", "bin", "x", "n"]]
        return pd.concat([table.assign(side="below"), table.assign(side="above")], ignore_index=True)

    def __call__(self, y: Array) -> Array:
        """Return the shares below of all cells, then those above."""
        sides = [np.isneginf(y), np.isposinf(y)]
        return np.stack([side[:, rows].mean(axis=1) for side in sides for rows in self.cells.rows], axis=1)


@dataclass(frozen=True, eq=False)
class Proportions:
    """The share of each class in each cell; of counts, the last class is open."""

    cells: Cells
    classes: tuple[float, ...]
    open: bool = False

    @property
    def index(self) -> pd.DataFrame:
        """Stratum, bin, x, n and class."""
        table = self.cells.table[["stratum", "bin", "x", "n"]]
        out = table.loc[table.index.repeat(len(self.classes))].reset_index(drop=True)
        names = [f"{c:g}" for c in self.classes]
        if self.open:
            names[-1] += " or more"
        out["class"] = np.tile(names, len(table))
        return out

    def __call__(self, y: Array) -> Array:
        """Return the shares, cell by cell."""
        known = np.minimum(y, self.classes[-1]) if self.open else y
        parts = [
            np.stack([(known[:, rows] == c).mean(axis=1) for c in self.classes], axis=1) for rows in self.cells.rows
        ]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class LocalQuantiles:
    r"""Quantiles along x without bins: weighted quantiles of the data near each point of a grid.

    .. math:: \hat q_\tau(x_0) = \min\Bigl\{ y : \sum_i w_i 1[y_i \le y] \ge \tau \sum_i w_i \Bigr\}, \quad
              w_i = \Bigl(1 - \bigl(|x_i - x_0|/h_0\bigr)^3\Bigr)^3 ,

    h₀ being the distance within which the share `span` of the data lie.  The estimate is biased where
    the curve bends and at the ends, for observed and simulated data alike.

    References
    ----------
    Yu & Jones (1998), doi:10.1080/01621459.1998.10474104 (local quantile regression).
    Jamsen, Patel, Nieforth & Kirkpatrick (2018), doi:10.1002/psp4.12319 (VPC by quantile regression, not bins).
    """

    strata: tuple[tuple[Any, Ints], ...]
    x: Array
    levels: tuple[float, ...]
    span: float = 0.25
    points: int = 30

    def __post_init__(self) -> None:
        windows, rows_of = [], []
        for name, rows in self.strata:
            x = self.x[rows]
            # As dense as the data are.
            grid = np.unique(np.quantile(x, np.linspace(0.0, 1.0, self.points)))
            near = max(min(len(x), 10), int(np.ceil(self.span * len(x))))
            for x0 in grid:
                distance = np.abs(x - x0)
                reach = np.partition(distance, near - 1)[near - 1]
                # The furthest still has some weight, and ties at one x are whole.
                weight = np.clip(1.0 - (distance / (1.0001 * reach + 1e-300)) ** 3, 0.0, None) ** 3
                weight[distance == 0.0] = 1.0
                inside = np.flatnonzero(weight > 0)
                windows.append((rows[inside], weight[inside]))
                rows_of.append((name, x0, len(inside)))
        object.__setattr__(self, "_windows", windows)
        object.__setattr__(self, "_points", pd.DataFrame(rows_of, columns=["stratum", "x", "n"]))

    @property
    def index(self) -> pd.DataFrame:
        """Stratum, x, n (data in the window) and quantile."""
        table: pd.DataFrame = self._points  # type: ignore[attr-defined]
        out = table.loc[table.index.repeat(len(self.levels))].reset_index(drop=True)
        out["quantile"] = np.tile(self.levels, len(table))
        return out

    def __call__(self, y: Array) -> Array:
        """Return the quantiles, point by point."""
        parts = []
        for rows, weight in self._windows:  # type: ignore[attr-defined]
            part = y[:, rows]
            order = np.argsort(part, axis=1)
            ordered = np.take_along_axis(part, order, axis=1)
            below = np.cumsum(weight[order], axis=1)
            wanted = np.array(self.levels) * weight.sum()
            place = np.stack([(below < w - 1e-9).sum(axis=1) for w in wanted], axis=1)
            found = np.take_along_axis(ordered, np.minimum(place, len(rows) - 1), axis=1)
            parts.append(np.where(np.isnan(ordered[:, -1:]), np.nan, found))
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class Events:
    r"""How events come about over time in each stratum.

    The Kaplan–Meier estimate of having had no event, :math:`\prod_{t_k \le t} (1 - d_k/r_k)`, of the first event of
    each subject; where events repeat, the mean number so far, :math:`\sum_{t_k \le t} d_k/r_k`.  A subject is at
    risk until its first event (repeated ones: until its last record).

    References
    ----------
    Kaplan & Meier (1958), doi:10.2307/2281868; Nelson (1995), doi:10.1080/00401706.1995.10484299.
    """

    strata: tuple[tuple[Any, Ints], ...]
    time: Array
    subject: Ints
    repeated: bool = False
    points: int = 100

    def _grid(self, rows: Ints) -> tuple[Array, Ints]:
        times = np.unique(self.time[rows])
        shown = np.unique(np.linspace(0, len(times) - 1, min(self.points, len(times))).astype(np.intp))
        return times, shown

    @property
    def index(self) -> pd.DataFrame:
        """Stratum, x, and n at risk of those observed at all until then."""
        parts = []
        for name, rows in self.strata:
            times, shown = self._grid(rows)
            last = pd.Series(self.time[rows]).groupby(self.subject[rows]).max().to_numpy()
            n = (last[:, None] >= times[shown]).sum(axis=0)
            parts.append(pd.DataFrame({"stratum": name, "x": times[shown], "n": n}))
        return pd.concat(parts, ignore_index=True)

    def __call__(self, y: Array) -> Array:
        """Return the curves at the times shown."""
        return np.concatenate([self._curve(y, rows) for _, rows in self.strata], axis=1)

    def _curve(self, y: Array, rows: Ints) -> Array:
        times, shown = self._grid(rows)
        at = np.searchsorted(times, self.time[rows])
        starts = np.flatnonzero(np.diff(self.subject[rows], prepend=-1))
        count, size = len(y), len(times)
        end = np.maximum.reduceat(at, starts)
        replicate = np.arange(count)[:, None] * size
        events = np.where(np.isnan(y[:, rows]), 0.0, y[:, rows])
        if self.repeated:
            d = np.bincount((replicate + at).ravel(), weights=events.ravel(), minlength=count * size)
            leaving = np.tile(np.bincount(end, minlength=size), (count, 1))
        else:
            first = np.minimum.reduceat(np.where(events >= 0.5, at, size), starts, axis=1)
            happened = first < size
            d = np.bincount((replicate + np.minimum(first, size - 1)).ravel(), happened.ravel(), count * size)
            out = np.minimum(first, end)
            leaving = np.bincount((replicate + out).ravel(), minlength=count * size).reshape(count, size)
        d = d.reshape(count, size)
        risk = leaving[:, ::-1].cumsum(axis=1)[:, ::-1]
        with np.errstate(all="ignore"):
            rate = np.where(risk > 0, d / risk, 0.0)
        curve = rate.cumsum(axis=1) if self.repeated else np.cumprod(1.0 - rate, axis=1)
        return curve[:, shown]
