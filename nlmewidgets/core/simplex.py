r"""Exponentials averaged over a simplex: the functions in which linear compartments are solved.

.. math:: M_m(a) = \int_{\Delta} s_0^{m_0} \cdots s_n^{m_n}\; e^{-(s_0 a_0 + \dots + s_n a_n)}\, ds,
          \qquad s_i \ge 0,\ \textstyle\sum s_i = 1 .

By Hermite and Genocchi they are the divided differences of :math:`e^{-x}` with node :math:`a_i` taken
:math:`m_i + 1` times, times :math:`\prod m_i!`; `special.expmix` is the case of two nodes.  They are
smooth where nodes meet, and positive: computed without cancellation here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from math import factorial, prod

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["expsimplex", "multi_indices"]

_POINTS = {3: 7, 4: 7, 5: 6}
"""Gauss points per dimension by number of nodes, up to order 3: 2·points − 1 is the degree integrated exactly."""


def _close(nodes: int, order: int) -> float:
    """Return the spread of the nodes below which the integral is taken by cubature, above which by recurrence.

    The recurrence magnifies rounding by about (nodes + k)/spread at each order k: high orders need it later.
    """
    return 4.0 if nodes == 2 else max(1.0, 0.5 * order)


def _points(nodes: int, order: int) -> int:
    """Return the Gauss points per dimension for integrands of s^order and an exponential over a close spread."""
    return 13 + order // 2 if nodes == 2 else _POINTS[nodes] + (order if order > 3 else 0)


Index = tuple[int, ...]


@lru_cache(maxsize=64)
def multi_indices(nodes: int, order: int) -> tuple[Index, ...]:
    """Return all multi-indices of `nodes` entries with sum at most `order`."""
    if nodes == 1:
        return tuple((k,) for k in range(order + 1))
    return tuple((k, *rest) for k in range(order + 1) for rest in multi_indices(nodes - 1, order - k))


@lru_cache(maxsize=64)
def _cubature(nodes: int, order: int) -> tuple[Array, Array]:
    """Return points (points, nodes) of the simplex and weights (indices, points) of every multi-index."""
    x, w = np.polynomial.legendre.leggauss(_points(nodes, order))
    x, w = 0.5 * (x + 1.0), 0.5 * w
    points, weights = np.ones((1, 0)), np.ones(1)
    left = np.ones(1)  # what remains of the unit
    for k in range(nodes - 1):  # s_k = left·u: the simplex as a collapsed cube
        power = nodes - 2 - k
        share = np.repeat(left, len(x)) * np.tile(x, len(left))
        jacobian = np.tile((1.0 - x) ** power, len(left))
        weights = np.repeat(weights, len(x)) * np.tile(w, len(left)) * jacobian
        points = np.column_stack([np.repeat(points, len(x), axis=0), share])
        left = np.repeat(left, len(x)) - share
    points = np.column_stack([points, left])
    table = np.stack([weights * np.prod(points ** np.array(m), axis=1) for m in multi_indices(nodes, order)])
    return points, table


@lru_cache(maxsize=64)
def _unsorting(nodes: int, order: int) -> tuple[Array, Array]:
    """Return (code → row) and rows: where each index is found once the nodes were sorted by a permutation."""
    place = {m: k for k, m in enumerate(multi_indices(nodes, order))}
    codes = np.full(nodes**nodes, -1)
    rows = []
    for number, perm in enumerate(permutations(range(nodes))):
        codes[sum(p * nodes**k for k, p in enumerate(perm))] = number
        # Sorted node k is node perm[k]: the sorted frame's index k is m[perm[k]].
        rows.append([place[tuple(m[p] for p in perm)] for m in place])
    return codes, np.array(rows)


def expsimplex(nodes: Sequence[Array], order: int) -> Array:
    r"""Evaluate :math:`M_m(a)` for every multi-index m with sum at most `order`.

    Parameters
    ----------
    nodes : sequence of (...) float
        Three to five products of rate and time, dimensionless; broadcast together.
    order : int

    Returns
    -------
    (indices, ...) float
        In the order of `multi_indices`.

    References
    ----------
    de Boor (2005), Divided differences, Surv Approx Theory 1:46–69, section 10.
    """
    shaped = np.broadcast_arrays(*nodes)
    a = np.stack([x.ravel() for x in shaped])
    n = len(a)
    perm = np.argsort(a, axis=0, kind="stable")
    a = np.take_along_axis(a, perm, axis=0)
    low = a[0].copy()
    a -= low  # e^{-low} is taken out: nothing underflows before the result does
    table = _Sorted(a, order).all(tuple(range(n)), order)
    found = np.stack([table[m] * prod(map(factorial, m)) for m in multi_indices(n, order)])
    codes, rows = _unsorting(n, order)
    code = codes[(perm * n ** np.arange(n)[:, None]).sum(axis=0)]
    if (code != code[:1]).any():
        found = found[rows[code].T, np.arange(a.shape[1])]
    elif a.shape[1]:
        found = found[rows[code[0]]]
    found *= np.exp(-low)
    return found.reshape(-1, *shaped[0].shape)


class _Sorted:
    """Divided differences over sorted nodes, by the recurrence that drops the outermost nodes."""

    def __init__(self, a: Array, order: int) -> None:
        self.a = a
        self.order = order
        self.memo: dict[tuple[tuple[int, ...], int], dict[Index, Array]] = {}
        self.decay = np.exp(-a)

    def all(self, face: tuple[int, ...], order: int) -> dict[Index, Array]:
        """Return the positive divided differences of a face for every multi-index up to `order`."""
        key = (face, order)
        if key not in self.memo:
            self.memo[key] = self._compute(face, order)
        return self.memo[key]

    def _compute(self, face: tuple[int, ...], order: int) -> dict[Index, Array]:
        if len(face) == 1:
            return {(k,): self.decay[face[0]] / factorial(k) for k in range(order + 1)}
        spread = self.a[face[-1]] - self.a[face[0]]
        close = np.flatnonzero(spread < _close(len(face), order))
        out: dict[Index, Array] = {}
        without_high = self.all(face[:-1], order)
        without_low = self.all(face[1:], order)
        if close.size == len(spread):
            for m in multi_indices(len(face), order):
                out[m] = np.empty(len(spread))
        else:
            safe = spread.copy()
            safe[close] = 1.0
            for m in multi_indices(len(face), order):
                upper = out[(*m[:-1], m[-1] - 1)] if m[-1] else without_high[m[:-1]]
                lower = out[(m[0] - 1, *m[1:])] if m[0] else without_low[m[1:]]
                out[m] = (upper - lower) / safe
        if close.size:
            found = self._near(face, order, close)
            for k, m in enumerate(multi_indices(len(face), order)):
                out[m][close] = found[k] / prod(map(factorial, m))
        return out

    def _near(self, face: tuple[int, ...], order: int, where: Array) -> Array:
        if len(face) == 2:
            points, table = _segment(order)
        else:
            points, table = _cubature(len(face), order)
        return np.asarray(table @ np.exp(-(points @ self.a[list(face)][:, where])))


@lru_cache(maxsize=64)
def _segment(order: int) -> tuple[Array, Array]:
    x, w = np.polynomial.legendre.leggauss(_points(2, order))
    x, w = 0.5 * (x + 1.0), 0.5 * w
    points = np.column_stack([x, 1.0 - x])
    return points, np.stack([w * np.prod(points ** np.array(m), axis=1) for m in multi_indices(2, order)])
