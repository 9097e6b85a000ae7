"""Growth curves."""

from __future__ import annotations

from typing import Any

import sympy as sp

from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import time

__all__ = ["logistic_growth"]


def logistic_growth(
    *, asym: Any, mid: Any, scale: Any, residual: Any, correlation: Any = None, name: str | None = None
) -> Model:
    r"""Logistic growth: :math:`f = \mathrm{asym} / (1 + e^{-(t - \mathrm{mid})/\mathrm{scale}})`.

    Parameters
    ----------
    asym : distribution or expression
        Asymptote, in units of the observations.
    mid : distribution or expression
        Time at half the asymptote.
    scale : distribution or expression
        Time from the midpoint to 73 % of the asymptote.
    residual, correlation, name
        As for `nlmewidgets.Model`.
    """
    a, m, s = sp.symbols("asym mid scale", real=True)
    return Model(
        a / (1 + sp.exp(-(time - m) / s)),
        {a: asym, m: mid, s: scale},
        residual=residual,
        correlation=correlation,
        name=name or "Logistic growth",
    )
