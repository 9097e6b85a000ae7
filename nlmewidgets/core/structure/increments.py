"""What a prediction rose by since the subject's previous observation: hazards accumulated over intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.jets import Jet

__all__ = ["Increments"]


@dataclass(frozen=True, eq=False)
class Increments:
    """A structure with the prediction at an earlier observation taken off.

    Attributes
    ----------
    structure : callable
    previous : (obs,) int
        Whose prediction is taken off each one's; −1: none.
    """

    structure: Callable[[Array, int], Jet]
    previous: Ints

    @property
    def memoryless(self) -> bool:
        """An observation depends on the parameter block of another one."""
        return False

    def __call__(self, slots: Array, order: int = 0) -> Jet:
        """Evaluate at slots (slots, ..., blocks); return f (..., obs) and derivatives."""
        later = np.flatnonzero(self.previous >= 0)

        def rise(part: Array | None) -> Array | None:
            if part is None:
                return None
            out = part.copy()
            out[..., later] -= part[..., self.previous[later]]
            return out

        return tuple(map(rise, self.structure(slots, order)))  # type: ignore[return-value]
