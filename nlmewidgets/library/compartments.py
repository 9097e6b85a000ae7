"""Building blocks of pharmacokinetic structures: disposition, and how a dose gets into the central compartment.

States stand in the order of CMT: the compartment that takes the dose is the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy as sp

from nlmewidgets.core.symbols import State, states
from nlmewidgets.library.designs import Design
from nlmewidgets.library.residual import Combined
from nlmewidgets.library.structure import Parts

__all__ = ["ERROR", "ORAL", "absorbed", "central", "depot", "exchange", "injected", "micro", "pools"]

depot, central, peripheral, peripheral2 = states("depot central peripheral peripheral2")

ERROR = Combined(additive=0.02, proportional=0.15)
"""Default residual error of a concentration."""

UNITS = {"TIME": "h", "AMT": "mg", "DV": "mg/L"}

ORAL = Design((0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 24.0), (100.0,), units=UNITS)
"""One dose by mouth and a day of samples."""

Odes = Mapping[State, sp.Expr]


def exchange(
    CL: sp.Expr, V: sp.Expr, *pairs: tuple[sp.Expr, sp.Expr], loss: sp.Expr | None = None
) -> dict[State, sp.Expr]:
    """Return a central compartment with elimination `loss` (or CL) and a peripheral one for each (Q, volume)."""
    return micro(CL / V, *((q / V, q / v) for q, v in pairs), loss=loss)


def micro(k: sp.Expr, *pairs: tuple[sp.Expr, sp.Expr], loss: sp.Expr | None = None) -> dict[State, sp.Expr]:
    """Return the same with rate constants: elimination, and (out, back) for each peripheral compartment."""
    odes: dict[State, sp.Expr] = {central: -(k * central if loss is None else loss)}
    for state, (out, back) in zip((peripheral, peripheral2), pairs, strict=False):
        odes[central] += back * state - out * central
        odes[state] = out * central - back * state
    return odes


def pools(*rates: sp.Expr) -> dict[State, sp.Expr]:
    r"""Return exponentials as a linear system that takes its dose in one place.

    The first state is :math:`e^{-\lambda_1 t}` of the dose, the k-th :math:`e^{-\lambda_k t} -
    e^{-\lambda_1 t}`: what leaves the fast pool reaches a slower one.
    """
    slower = states("slow slower")
    odes: dict[State, sp.Expr] = {central: -rates[0] * central}
    for state, rate in zip(slower, rates[1:], strict=False):
        odes[state] = (rates[0] - rate) * central - rate * state
    return odes


def injected(V: sp.Expr, odes: Odes, **more: Any) -> Parts:
    """Return the structure whose doses go into the central compartment."""
    return Parts(central / V, odes, **more)


def absorbed(prediction: sp.Expr, odes: Odes, ka: sp.Expr, **more: Any) -> Parts:
    """Return the structure whose doses go into a depot, absorbed at ka."""
    return Parts(prediction, {depot: -ka * depot, **into_central(odes, ka * depot)}, **more)


def into_central(odes: Odes, flow: sp.Expr) -> dict[State, sp.Expr]:
    """Return the equations with a flow into the central compartment."""
    return {s: flow + e if s == central else e for s, e in odes.items()}
