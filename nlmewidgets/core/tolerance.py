"""How accurately differential equations are solved."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from nlmewidgets.core.errors import ModelError

__all__ = ["Tolerance"]


@dataclass(frozen=True)
class Tolerance:
    """What one step of the integration may be wrong by.

    Parameters
    ----------
    rtol, atol : float
        A step is accepted if its error is below ``atol + rtol·|x|`` (root mean square over states), and
        likewise for the first and for the second derivatives of the states.  `atol` is in the units of
        the states.
    max_steps : int
        Steps tried between two events (doses, resets, changes of parameters) before a subject is given up.
    """

    rtol: float = 1e-8
    atol: float = 1e-10
    max_steps: int = 20_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
                raise ModelError(f"Tolerance has {field.name}={value!r}; give a positive number.")
        if not 1e-13 <= self.rtol < 1:
            raise ModelError(f"Tolerance has rtol={self.rtol:g}; give a number from 1e-13 to below 1.")
