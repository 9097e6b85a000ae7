"""Ready-made structures and residual error models.

Adding a structure is one file with one function and one entry in `STRUCTURES`.
"""

from __future__ import annotations

from collections.abc import Callable

from nlmewidgets.core.model import Model
from nlmewidgets.library.growth import logistic_growth
from nlmewidgets.library.pk import iv_bolus_1cpt, oral_1cpt
from nlmewidgets.library.residual import RESIDUALS

__all__ = ["RESIDUALS", "STRUCTURES", "iv_bolus_1cpt", "logistic_growth", "oral_1cpt"]

STRUCTURES: dict[str, Callable[..., Model]] = {f.__name__: f for f in (oral_1cpt, iv_bolus_1cpt, logistic_growth)}
"""Every structure by its name."""
