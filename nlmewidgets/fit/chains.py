"""The chains of a stochastic approximation as they run, kept within bounded memory."""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.methods import Iteration

__all__ = ["Chains"]

_BYTES = 32_000_000
"""What the record may take; beyond it every other iteration is let go."""

_MOST_CHAINS = 5
"""Of a subject that are kept: more lines are no clearer."""


class Chains:
    """A record of the random effects of every subject's first chains, iteration by iteration.

    An iteration holds its chains only until the next one is there, so they are taken while it runs; iterations of
    methods without chains leave nothing.

    Attributes
    ----------
    every : int
        Only iterations whose number is a multiple of it are kept: 1 until the record would be too large.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the run before."""
        self.every = 1
        self._kept: list[tuple[int, Array]] = []

    def take(self, iteration: Iteration) -> None:
        """Record the chains of an iteration, if it has any."""
        if iteration.k % self.every or "gamma" not in iteration.details:
            return
        eta = iteration.arrays.get("saem_eta")
        if eta is None:
            return
        kept = self._kept
        if kept and kept[-1][0] >= iteration.k:  # another run begins
            kept = []
        # A list that others may be reading is replaced, not changed.
        kept = [*kept, (iteration.k, eta[:, :_MOST_CHAINS].astype(np.float32))]
        while len(kept) > 2 and len(kept) * kept[-1][1].nbytes > _BYTES:
            self.every *= 2
            kept = [entry for entry in kept if entry[0] % self.every == 0]
        self._kept = kept

    @property
    def n_subjects(self) -> int:
        """Subjects of the run recorded; 0 before any."""
        return int(self._kept[-1][1].shape[2]) if self._kept else 0

    def of(self, eta: int, subject: int) -> tuple[Array, Array]:
        """Return the iterations recorded, (points,), and the chains of one subject's eta, (chains, points)."""
        kept = self._kept
        if not kept:
            return np.zeros(0), np.zeros((0, 0))
        return (
            np.array([k for k, _ in kept], dtype=float),
            np.stack([entry[eta, :, subject] for _, entry in kept], axis=1).astype(float),
        )
