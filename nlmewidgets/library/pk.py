"""One-compartment pharmacokinetics."""

from __future__ import annotations

from typing import Any

import sympy as sp

from nlmewidgets.core.model import Model
from nlmewidgets.core.special import ExpMix
from nlmewidgets.core.symbols import dose, time

__all__ = ["iv_bolus_1cpt", "oral_1cpt"]


def oral_1cpt(*, ka: Any, CL: Any, V: Any, residual: Any, correlation: Any = None, name: str | None = None) -> Model:
    r"""One compartment with first-order absorption.

    .. math:: f = \frac{D\,k_a}{V k_a - CL}\left(e^{-CL/V\,t} - e^{-k_a t}\right)
              = \frac{D\,k_a\,t}{V}\, M_{00}\left(k_a t, CL\,t/V\right)

    summed over past doses; the second form is exact at ka = CL/V too.

    Parameters
    ----------
    ka : distribution or expression
        Absorption rate constant, 1/time.
    CL : distribution or expression
        Apparent clearance CL/F, volume/time.
    V : distribution or expression
        Apparent volume V/F.
    residual, correlation, name
        As for `nlmewidgets.Model`.
    """
    k, c, v = sp.symbols("ka CL V", positive=True)
    prediction = dose * k * time / v * ExpMix(0, 0, k * time, c / v * time)
    return Model(
        prediction,
        {k: ka, c: CL, v: V},
        residual=residual,
        correlation=correlation,
        name=name or "One compartment, oral",
    )


def iv_bolus_1cpt(*, CL: Any, V: Any, residual: Any, correlation: Any = None, name: str | None = None) -> Model:
    r"""One compartment, intravenous bolus: :math:`f = \frac{D}{V} e^{-CL/V\,t}`, summed over past doses.

    Parameters
    ----------
    CL : distribution or expression
        Clearance, volume/time.
    V : distribution or expression
        Volume.
    residual, correlation, name
        As for `nlmewidgets.Model`.
    """
    c, v = sp.symbols("CL V", positive=True)
    return Model(
        dose / v * sp.exp(-c / v * time),
        {c: CL, v: V},
        residual=residual,
        correlation=correlation,
        name=name or "One compartment, IV bolus",
    )
