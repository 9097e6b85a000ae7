r"""The covariance matrix that maximises the complete-data likelihood, given the second moments of its draws.

With S the sum of u·u' over n draws of a block, −2 log of the complete-data likelihood is
:math:`n \log|\Omega| + \operatorname{tr}(\Omega^{-1} S)`: least at S/n where the whole block is free, and
found by quasi-Newton steps where some of its elements are fixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.optimise import Point, quasi_newton
from nlmewidgets.core.parameters import ParameterSpace

__all__ = ["best_omega"]

Penalty = Callable[[Array], tuple[float, Array]]


def best_omega(
    space: ParameterSpace,
    omega: Array,
    squares: Array,
    draws: Array,
    floor: float,
    penalty: Penalty | None = None,
    *,
    tolerance: float = 1e-5,
) -> Array:
    """Return the best Omega.

    Parameters
    ----------
    space : ParameterSpace
    omega : (etas, etas) float
        The present matrix; fixed elements stay as they are.
    squares : (etas, etas) float
        Sums of products of draws.
    draws : (etas, etas) float
        How many draws of each element there are.
    floor : float
        No variance shrinks below this share of its present value.
    penalty : callable, optional
        Omega → a term added to −2 log likelihood, and its symmetric gradient.
    tolerance : float
        Of −2 log likelihood, where the best matrix has no closed form.
    """
    chart = space.omega_map
    squares = 0.5 * (squares + squares.T)  # products of arrays are symmetric to rounding only
    # Copies of a block are further draws of it.
    sums, counts = chart.gathered(squares), chart.gathered(draws)
    for copy, _ in chart.copies:
        counts[np.ix_(copy, copy)] = 1.0
    fresh = _floored(chart.shared(sums / counts), omega, floor)
    closed = np.where(chart.estimated, fresh, omega)
    if chart.correlated:
        closed = _definite(closed, chart.estimated)
    if penalty is None and chart.whole:
        return closed
    own = np.zeros(omega.shape, dtype=bool)
    for block in space.blocks:
        if chart.owner[block[0]] == block[0]:
            own[np.ix_(block, block)] = True
    sums = np.where(own, fresh * counts, 0.0)

    # The expected curvature of a free block along its Cholesky factor, to start with.
    rows, columns = chart.entries
    n = counts[rows, rows]
    curvature = np.diag(np.where(rows == columns, 4.0 * n, 2.0 * n / omega[rows, rows]))

    def function(x: Array, _: Any) -> Point:
        at = chart.natural(x, omega)
        try:
            inverse = np.linalg.inv(at)
            value, slope = 0.0, np.zeros(at.shape)
            for block in space.blocks:
                if chart.owner[block[0]] != block[0]:
                    continue
                part = np.ix_(block, block)
                k = counts[block[0], block[0]]
                value += k * np.linalg.slogdet(at[part])[1] + float((inverse[part] * sums[part]).sum())
                slope[part] = k * inverse[part] - inverse[part] @ sums[part] @ inverse[part]
            if penalty is not None:
                added, added_slope = penalty(at)
                value, slope = value + added, slope + added_slope
            return Point(value, chart.pull_back(at, slope), curvature)
        except np.linalg.LinAlgError:
            return Point(np.inf, np.zeros(len(x)))

    *_, last = quasi_newton(function, chart.free(omega), tolerance=tolerance, max_iterations=50)
    best = chart.natural(last.x, omega)
    return 0.5 * (best + best.T)


def _floored(fresh: Array, old: Array, floor: float) -> Array:
    """Return a covariance with fresh correlations and variances not below floor·old (nor zero)."""
    variance = fresh.diagonal()
    least = max(floor, 1e-8) * old.diagonal()
    if (variance >= least).all():
        return fresh
    kept = np.maximum(variance, least)
    ratio = np.sqrt(kept / np.maximum(variance, 1e-300)) * (variance > 0)
    out = fresh * (ratio[:, None] * ratio)
    np.fill_diagonal(out, kept)
    return out


_LEAST_EIGENVALUE = 1e-6
"""Of the correlation matrix of the random effects: the chains need a density, even where effects coincide."""


def _definite(omega: Array, free: NDArray[np.bool_]) -> Array:
    """Return a covariance whose correlations are pulled back from ±1 as far as it takes to be definite."""
    sd = np.sqrt(omega.diagonal())
    scale = sd[:, None] * sd
    correlation = omega / scale
    smallest = float(np.linalg.eigvalsh(correlation)[0])
    if smallest >= _LEAST_EIGENVALUE:
        return omega
    shift = (_LEAST_EIGENVALUE - smallest) / (1.0 - _LEAST_EIGENVALUE)
    pulled = (correlation + shift * np.eye(len(omega))) / (1.0 + shift) * scale
    return np.where(free, pulled, omega)
