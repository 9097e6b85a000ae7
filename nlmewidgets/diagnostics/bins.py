r"""Bins along an independent variable that follow how it was sampled.

For K bins the edges minimise the sum of squares within bins, :math:`J_K = \sum_b \sum_{i \in b} (x_i - \bar x_b)^2`:
exactly, by dynamic programming over the distinct values.  The number of bins minimises
:math:`\log(J_K/J_1) + \beta K`, which stops where one more bin takes less than the share
:math:`1 - e^{-\beta}` of what is left.  Where all were sampled at the same few times, these are the bins.

References
----------
Lavielle & Bleakley (2011), doi:10.1007/s10928-011-9206-z (the criterion).
Wang & Song (2011), doi:10.32614/RJ-2011-015 (the recursion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import DataError

__all__ = ["Bins", "bin_edges", "find_bins"]

MOST_BINS = 12
"""Of automatic bins: more are hard to read, and hold too few data each."""

FEWEST = 6
"""Observations an automatic bin holds at least, where there are as many as three times that."""

BETA = 0.2
"""What a further bin must pay: it takes away a fifth or more of the sum of squares."""

_LITTLE = 2e-4
"""Of the sum of squares: once the bins explain all but this share, no further one is worth anything."""

_MOST_VALUES = 400
"""Distinct values the recursion sees; more are pooled first, into as many groups of equal number."""


@dataclass(frozen=True, eq=False)
class Bins:
    """Intervals of x that hold the data.

    Attributes
    ----------
    edges : (bins + 1,) float
    label : (n,) int
        The bin of each datum, −1 outside all of them.
    centre : (bins,) float
        Median of the data in each bin (its middle where it is empty).
    count : (bins,) int
    """

    edges: Array
    label: Ints
    centre: Array
    count: Ints

    @classmethod
    def of(cls, x: Array, edges: Array) -> Bins:
        """Return the bins with these edges; the last one is closed on the right too."""
        label = np.searchsorted(edges, x, side="right") - 1
        label[x == edges[-1]] = len(edges) - 2
        label[(label < 0) | (label > len(edges) - 2)] = -1
        middle = 0.5 * (edges[1:] + edges[:-1])
        centre = np.array([np.median(x[label == b]) if (label == b).any() else m for b, m in enumerate(middle)])
        return cls(edges, label, centre, np.bincount(label[label >= 0], minlength=len(middle)))


def find_bins(x: Array, bins: str | int | Sequence[float]) -> Bins:
    """Return the bins asked for.

    Parameters
    ----------
    x : (n,) float
    bins : "auto", int or sequence of float
        Chosen by the criterion, this many, or these edges.

    Raises
    ------
    DataError
        If that is none of the three, or edges do not increase.
    """
    if isinstance(bins, str):
        if bins != "auto":
            raise DataError(f"bins={bins!r} is not known; give 'auto', 'smooth', a number or increasing edges.")
        return Bins.of(x, bin_edges(x))
    if np.ndim(bins) == 0:
        if int(bins) < 1:  # type: ignore[arg-type]
            raise DataError(f"bins={bins} is not a number of bins; give 1 or more, or 'auto'.")
        return Bins.of(x, bin_edges(x, int(bins)))  # type: ignore[arg-type]
    edges = np.asarray(bins, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise DataError("bins must be 'auto', 'smooth', a number or two or more increasing edges.")
    return Bins.of(x, edges)


def bin_edges(x: Array, bins: int | None = None) -> Array:
    """Return the best edges for a number of bins, or for the best number of them.

    Parameters
    ----------
    x : (n,) float
    bins : int, optional
    """
    value, weight = np.unique(x, return_counts=True)
    if bins is None and 1 < len(value) <= MOST_BINS and weight.min() >= FEWEST:  # sampled by the clock
        return np.concatenate([value[:1], 0.5 * (value[1:] + value[:-1]), value[-1:]])
    first, last = value, value  # the data a pooled value stands for
    if len(value) > _MOST_VALUES:
        group = np.minimum(np.cumsum(weight) * _MOST_VALUES // len(x), _MOST_VALUES - 1)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        first, last = value[starts], value[np.append(starts[1:], len(value)) - 1]
        total = np.add.reduceat(weight * value, starts)
        weight = np.add.reduceat(weight, starts)
        value = total / weight
    most = min(len(value), bins or MOST_BINS)
    fewest = 1 if bins is not None else min(FEWEST, max(1, len(x) // 3))
    sums, ends = _best_partitions(value, weight.astype(float), most, fewest)
    k = most
    if bins is None:
        j = np.maximum(sums / max(sums[0], 1e-300), _LITTLE)
        feasible = np.isfinite(sums)
        k = 1 + int(
            np.argmin(np.where(feasible, np.log(np.where(feasible, j, 1.0)) + BETA * np.arange(1, most + 1), np.inf))
        )
    cuts = []
    stop = len(value)
    for part in range(k - 1, 0, -1):
        stop = ends[part][stop - 1]
        cuts.append(0.5 * (last[stop - 1] + first[stop]))
    edges = np.array([first[0], *reversed(cuts), last[-1]])
    return edges if edges[-1] > edges[0] else np.array([edges[0], edges[0] + 1.0])


def _best_partitions(value: Array, weight: Array, most: int, fewest: int) -> tuple[Array, list[Ints]]:
    """Return J_K for K = 1…most, and for each K where the last bin of the first j + 1 values begins."""
    n = len(value)
    centred = value - np.average(value, weights=weight)
    w, s, q = (np.concatenate([[0.0], np.cumsum(weight * centred**p)]) for p in (0, 1, 2))
    # cost[i, j]: the sum of squares of values i…j as one bin.
    count = w[None, 1:] - w[:-1, None]
    with np.errstate(all="ignore"):
        cost = q[None, 1:] - q[:-1, None] - (s[None, 1:] - s[:-1, None]) ** 2 / count
    cost = np.where(np.arange(n)[:, None] <= np.arange(n), np.maximum(cost, 0.0), np.inf)
    cost[count < fewest] = np.inf
    best = cost[0].copy()
    sums, ends = [best[-1]], [np.zeros(n, dtype=np.intp)]
    for _ in range(1, most):
        total = np.concatenate([[np.inf], best[:-1]])[:, None] + cost  # the last bin begins at i
        begin = total.argmin(axis=0)
        best = total[begin, np.arange(n)]
        sums.append(best[-1])
        ends.append(begin)
    return np.array(sums), ends
