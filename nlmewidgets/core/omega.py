r"""Omega along unconstrained coordinates: blocks, fixed standard deviations or correlations, shared elements.

Each block is :math:`LL'` with L lower triangular, and each row of L has coordinates of its own, because
:math:`\mathrm{sd}_i = |L_i|` and the direction of the row decides the correlations:

- both estimated: the entries of the row, the diagonal as its logarithm;
- sd fixed: the entries relative to the diagonal, the length of the row kept;
- correlations fixed: the logarithm of the length, the direction kept.

A block that is the same as another has no coordinates and copies its matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array

__all__ = ["OmegaMap"]

_LARGEST_LOG = 40.0


@dataclass(frozen=True, eq=False)
class OmegaMap:
    """The free elements of Omega.

    Attributes
    ----------
    blocks : tuple of tuple of int
    sd_fixed : tuple of bool
        By eta.
    correlations_fixed : tuple of bool
        By block.
    owner : tuple of int
        The eta whose variance each eta has: itself, or the one it is the same as.
    """

    blocks: tuple[tuple[int, ...], ...]
    sd_fixed: tuple[bool, ...]
    correlations_fixed: tuple[bool, ...]
    owner: tuple[int, ...]

    @cached_property
    def copies(self) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], ...]:
        """(members of a block, the etas they are the same as) of each block that is a copy."""
        found = (b for b in self.blocks if self.owner[b[0]] != b[0])
        return tuple((np.array(b, dtype=np.intp), np.array([self.owner[k] for k in b], dtype=np.intp)) for b in found)

    @cached_property
    def rows(self) -> tuple[tuple[int, tuple[int, ...], bool, bool], ...]:
        """(eta, the earlier etas of its block, sd free, correlations free) of each row with coordinates."""
        out = []
        for block, held in zip(self.blocks, self.correlations_fixed, strict=True):
            for i in sorted(block):
                before = tuple(j for j in sorted(block) if j < i)
                sd, correlations = not self.sd_fixed[i], bool(before) and not held
                if self.owner[i] == i and (sd or correlations):
                    out.append((i, before, sd, correlations))
        return tuple(out)

    @cached_property
    def plain(self) -> bool:
        """Whether every coordinate is an entry of L."""
        return all(sd and (c or not before) for _, before, sd, c in self.rows)

    @cached_property
    def whole(self) -> bool:
        """Whether every block is either free or fixed as a whole."""
        moved = {i for i, *_ in self.rows}
        own = [b for b in self.blocks if self.owner[b[0]] == b[0]]
        return self.plain and all(len(moved & set(b)) in (0, len(b)) for b in own)

    @cached_property
    def entries(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of each coordinate; a row's own length or diagonal is its last."""
        pairs = [(i, j) for i, before, sd, c in self.rows for j in (*before * c, *(i,) * sd)]
        index = np.array(pairs, dtype=np.intp).reshape(-1, 2)
        return index[:, 0], index[:, 1]

    @cached_property
    def _logs(self) -> NDArray[np.bool_]:
        return np.equal(*self.entries)

    @cached_property
    def estimated(self) -> NDArray[np.bool_]:
        """Which elements of Omega move, copies among them, (etas, etas) bool."""
        free = np.zeros((len(self.owner),) * 2, dtype=bool)
        for i, before, _, _ in self.rows:
            free[i, [*before, i]] = free[[*before, i], i] = True
        return self.shared(free)

    @cached_property
    def correlated(self) -> bool:
        """Whether an element beside the diagonal moves."""
        return bool(np.any(self.estimated & ~np.eye(len(self.owner), dtype=bool)))

    def names(self, eta: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the coordinates."""
        out: list[str] = []
        for i, before, sd, correlations in self.rows:
            word = "chol" if sd else "direction"
            out += [f"{word} {eta[i]},{eta[j]}" for j in before] if correlations else []
            out += [f"log chol {eta[i]}" if correlations or not before else f"log sd {eta[i]}"] if sd else []
        return tuple(out)

    def free(self, omega: Array) -> Array:
        """Return the coordinates of a covariance matrix."""
        if not self.rows:
            return np.zeros(0)
        chol = np.linalg.cholesky(omega)
        if self.plain:
            x = chol[self.entries]
            return np.where(self._logs, np.log(x, where=self._logs, out=np.zeros(len(x))), x)
        out: list[float] = []
        for i, before, sd, correlations in self.rows:
            entries = chol[i, list(before)]
            if correlations:
                out += list(entries if sd else entries / chol[i, i])
            if sd:
                out.append(np.log(chol[i, i] if correlations or not before else np.sqrt(omega[i, i])))
        return np.array(out)

    def natural(self, x: Array, base: Array) -> Array:
        """Return the covariance matrix at coordinates; what is fixed as in `base`."""
        if not self.rows:
            return base
        chol = np.linalg.cholesky(base)
        if self.plain and len(self.rows) + sum(len(copy) for copy, _ in self.copies) == len(base):
            chol[self.entries] = np.where(self._logs, np.exp(np.clip(x, -_LARGEST_LOG, _LARGEST_LOG)), x)
            return self.shared(chol @ chol.T)
        place, touched = 0, set()
        for i, before, sd, correlations in self.rows:
            row = [*before, i]
            touched.add(i)
            length = np.sqrt(base[i, i])
            if correlations:
                chol[i, list(before)] = x[place : place + len(before)]
                place += len(before)
                if not sd:
                    chol[i, i] = 1.0
                    chol[i, row] *= length / np.linalg.norm(chol[i, row])
            if sd:
                size = np.exp(np.clip(x[place], -_LARGEST_LOG, _LARGEST_LOG))
                place += 1
                if correlations or not before:
                    chol[i, i] = size
                else:
                    chol[i, row] *= size / length
        product, out = chol @ chol.T, base.copy()
        for block in self.blocks:
            if touched & set(block):
                out[np.ix_(block, block)] = product[np.ix_(block, block)]
        return self.shared(out)

    def shared(self, omega: Array) -> Array:
        """Return the matrix whose copies are those of their owners."""
        if not self.copies:
            return omega
        out = omega.copy()
        for block, owner in self.copies:
            out[np.ix_(block, block)] = omega[np.ix_(owner, owner)]
        return out

    def gathered(self, matrix: Array) -> Array:
        """Return a matrix with the elements of copies added to those of their owners, and themselves zero."""
        if not self.copies:
            return matrix
        out = matrix.copy()
        for block, owner in self.copies:
            out[..., owner[:, None], owner] += matrix[..., block[:, None], block]
            out[..., block[:, None], block] = 0.0
        return out

    def pull_back(self, omega: Array, gradient: Array) -> Array:
        """Return derivatives along the coordinates of a function with dF = Σ gradient_ij dΩ_ij (symmetric)."""
        if not self.rows:
            return np.zeros((*gradient.shape[:-2], 0))
        rows, columns = self.entries
        chol = np.linalg.cholesky(omega)
        along = 2.0 * (self.gathered(gradient) @ chol)  # dF/dL
        if self.plain:
            return along[..., rows, columns] * np.where(rows == columns, chol[rows, columns], 1.0)
        parts = []
        for i, before, sd, correlations in self.rows:
            row, earlier = [*before, i], list(before)
            length = along[..., i, row] @ chol[i, row]  # dF/d log sd
            if correlations and sd:
                parts.append(along[..., i, row] * np.array([*[1.0] * len(before), chol[i, i]]))
            elif correlations:
                u = chol[i, earlier] / chol[i, i]
                parts.append(along[..., i, earlier] * chol[i, i] - length[..., None] * (u / (1.0 + u @ u)))
            else:
                parts.append(length[..., None])
        return np.concatenate(parts, axis=-1)
