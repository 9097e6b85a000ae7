"""Numbers of events in equal intervals: seizures a week, lesions a scan."""

from __future__ import annotations

from typing import Any

import sympy as sp

from nlmewidgets.core.symbols import time
from nlmewidgets.library.designs import Shipped
from nlmewidgets.library.likelihood import Poisson
from nlmewidgets.library.structure import Parts, structure

__all__ = ["counts_poisson"]


@structure(
    "Counts that fall or rise to a new level, Poisson",
    "Counts",
    residual=None,
    note="DV is a count: fit it by Laplace, quadrature or SAEM; FO, FOI, FOCE and FOCEI do not apply.",
    demo=Shipped("counts", {"base": 6.0, "fall": 0.3}),
    keywords="count counts number events seizures lesions attacks exacerbations rate week discrete likelihood",
    means={"base": ("expected count at time 0", "count")},
)
def counts_poisson(base: Any = 5.0, fall: Any = 0.3, onset: Any = 3.0) -> Parts:
    return Parts({"y": Poisson(base * sp.exp(-fall * (1 - sp.exp(-time / onset))))})
