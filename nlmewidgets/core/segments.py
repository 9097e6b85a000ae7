"""Sums over the observations of a subject, and the way back."""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array, Ints

__all__ = ["Segments"]


class Segments:
    """Sums over consecutive segments of the last axis; an empty segment sums to zero."""

    def __init__(self, label: Ints, n: int) -> None:
        counts = np.bincount(label, minlength=n)
        self.n = n
        self.counts = counts
        self.label = label
        starts = np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.intp)
        self._filled = np.flatnonzero(counts)
        self._starts = starts[self._filled]
        self._trivial = len(label) == n and bool((counts == 1).all())
        self._complete = len(self._filled) == n

    def __call__(self, x: Array) -> Array:
        """Return the sums, (..., n)."""
        if self._trivial:
            return x
        if self._complete:
            return np.add.reduceat(x, self._starts, axis=-1)
        out = np.zeros((*x.shape[:-1], self.n))
        if len(self._filled):
            out[..., self._filled] = np.add.reduceat(x, self._starts, axis=-1)
        return out

    def spread(self, x: Array) -> Array:
        """Return each segment's value at its members, (..., len(label))."""
        return x if self._trivial else x.take(self.label, -1)
