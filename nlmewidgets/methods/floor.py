r"""A lower bound on the curvature that Laplace's approximation and quadrature place their Gaussian by.

The objective of Laplace has no lower bound: :math:`\log|H_i|` falls without end where the exact curvature at a
subject's mode becomes singular, as between two modes about to become one, and a fit is drawn there.  In units of the
prior's curvature, with :math:`\Omega = CC'` and :math:`C'H_iC = U\,\mathrm{diag}(\lambda)\,U'`, every eigenvalue is at
least 1 where the density of the data is log-concave in η.  Below τ = 1/4 a Gaussian describes no density any more: its
tails, cut off by the prior, reach beyond the region the curvature was taken in.  There it is drawn back to half the
prior's curvature,

.. math:: \varphi(\lambda) = \tau\,(2 - 4t^2 + 3t^3), \quad t = \lambda/\tau \in [0, 1],

which meets λ with its slope at τ and is level where the curvature vanishes: the objective stays smooth, has a lower
bound, and no longer falls towards the point where a mode ends.  All other subjects keep their exact curvature, bit by
bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints

if TYPE_CHECKING:
    from nlmewidgets.methods.laplace import Averages

__all__ = ["LEAST", "Floored", "floored", "nearly_singular"]

LEAST = 0.25
"""τ: the least curvature, relative to the prior's, that is taken as it is."""

_ROUNDING = 1e-6
"""A smallest eigenvalue this much below zero is still that of a minimum."""


@dataclass(frozen=True, eq=False)
class Floored:
    """Curvatures with a lower bound.

    Attributes
    ----------
    matrix : (subjects, etas, etas) float
        H with its small eigenvalues replaced.
    rows : (k,) int
        The subjects that this concerns; the rest is of them.
    basis : (k, etas, etas) float
        C·U.
    eigenvalues, bounded : (k, etas) float
        λ and φ(λ).
    least : float
        τ.
    """

    matrix: Array
    rows: Ints
    basis: Array
    eigenvalues: Array
    bounded: Array
    least: float = LEAST

    def pulled_back(self, own: Averages) -> Averages:
        r"""Return the averages of an objective, whose G is along the bounded curvature, with G along H itself.

        With K the derivative along φ in the eigenbasis, that along C'HC is Φ∘K with the divided differences Φ of φ,
        and that along Ω at fixed H is :math:`\tfrac12 C^{-T}U\,[(λ_i + λ_j)Φ_{ij} - (φ_i + φ_j)]K_{ij}\,U'C^{-1}`.
        """
        if not len(self.rows):
            return own
        x, y, basis = self.eigenvalues, self.bounded, self.basis
        inverse = np.linalg.inv(basis)
        d = inverse @ own.directions[self.rows]
        k = (d * own.weights[self.rows, None, :]) @ d.transpose(0, 2, 1)
        apart = x[:, :, None] - x[:, None, :]
        same = np.abs(apart) < 1e-7 * (np.abs(x[:, :, None]) + np.abs(x[:, None, :]) + self.least)
        middle = 0.5 * (x[:, :, None] + x[:, None, :])
        divided = np.where(
            same, _slope(middle, self.least), (y[:, :, None] - y[:, None, :]) / np.where(same, 1.0, apart)
        )
        on_omega = 0.5 * (2.0 * middle * divided - (y[:, :, None] + y[:, None, :])) * k
        size, vectors = np.linalg.eigh(divided * k)
        directions, weights, outer = own.directions.copy(), own.weights.copy(), own.outer.copy()
        directions[self.rows], weights[self.rows] = basis @ vectors, size
        # The scores take −Ω⁻¹·outer·Ω⁻¹.
        outer[self.rows] -= basis @ on_omega @ basis.transpose(0, 2, 1)
        return replace(own, directions=directions, weights=weights, outer=outer)


def _bounded(x: Array, least: float) -> Array:
    t = np.clip(x / least, 0.0, 1.0)
    return np.where(x < least, least * (2.0 - 4.0 * t**2 + 3.0 * t**3), x)


def _slope(x: Array, least: float) -> Array:
    t = np.clip(x / least, 0.0, 1.0)
    return t * (9.0 * t - 8.0)


def nearly_singular(half: Array, precision: Array, least: float = LEAST) -> NDArray[np.bool_]:
    """Return which curvatures (subjects, etas, etas) have an eigenvalue below `least` of the prior's."""
    try:
        np.linalg.cholesky(half - least * precision)  # one call where there is none, as nearly always
        return np.asarray(np.isnan(half).any(axis=(1, 2)))
    except np.linalg.LinAlgError:
        finite = np.asarray(np.isfinite(half).all(axis=(1, 2)))
        safe = np.where(finite[:, None, None], half, 0.0)
        return np.asarray(np.linalg.eigvalsh(safe - least * precision)[:, 0] <= 0)


def floored(half: Array, precision: Array, omega: Array, least: float = LEAST) -> Floored:
    """Return curvatures with their lower bound; NaN where one is not that of a minimum.

    Parameters
    ----------
    half : (subjects, etas, etas) float
    precision, omega : (etas, etas) float
        Ω⁻¹ and Ω.
    least : float
        τ; 0 for no bound.
    """
    q = half.shape[-1]
    rows = np.flatnonzero(nearly_singular(half, precision, least)) if q and least > 0 else np.zeros(0, dtype=np.intp)
    if not len(rows):
        return Floored(half, rows, half[:0], np.zeros((0, q)), np.zeros((0, q)))
    chol = np.linalg.cholesky(omega)
    mine = chol.T @ half[rows] @ chol
    bad = ~np.isfinite(mine).all(axis=(1, 2))
    mine[bad] = np.eye(q)
    x, vectors = np.linalg.eigh(0.5 * (mine + mine.transpose(0, 2, 1)))
    bad |= x[:, 0] < -_ROUNDING
    y = _bounded(x, least)
    inverse = np.linalg.solve(chol.T, vectors)
    out = half.copy()
    out[rows] = (inverse * y[:, None, :]) @ inverse.transpose(0, 2, 1)
    out[rows[bad]] = np.nan
    return Floored(out, rows[~bad], (chol @ vectors)[~bad], x[~bad], y[~bad], least)
