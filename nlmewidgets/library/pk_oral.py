"""Extravascular doses: first order, with lag, zero order, transit, parallel and sequential absorption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sympy as sp

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.symbols import State, states
from nlmewidgets.core.system import Route
from nlmewidgets.library.compartments import ERROR, ORAL, absorbed, central, depot, exchange, into_central, micro, pools
from nlmewidgets.library.designs import Shipped
from nlmewidgets.library.structure import Maker, Parts, structure

__all__ = [
    "oral_1cpt", "oral_1cpt_k", "oral_2cpt", "oral_2cpt_k", "oral_2cpt_macro", "oral_3cpt", "oral_3cpt_k",
    "oral_lag_1cpt", "oral_lag_2cpt", "oral_lag_3cpt",
    "oral_parallel_1cpt", "oral_parallel_2cpt", "oral_parallel_3cpt",
    "oral_sequential_1cpt", "oral_sequential_2cpt", "oral_sequential_3cpt",
    "oral_transit_1cpt", "oral_transit_2cpt", "oral_transit_3cpt",
    "oral_zero_1cpt", "oral_zero_2cpt", "oral_zero_3cpt",
]  # fmt: skip

FAMILY = "PK, oral"
MODELLED = replace(ORAL, infusion=-2.0)
RATE_2 = "Doses need RATE = -2 in the data: their duration is modelled."
ONE, TWO, THREE = "One compartment", "Two compartments", "Three compartments"
STARTS = {
    "CL": "CL", "V": "Vz", "k": "lambda_z", "beta": "lambda_z", "ka": "3/tmax", "ka2": "1/tmax", "Tk0": "tmax",
    "MTT": "tmax/2", "Tlag": "tmax/10", "Q": "CL",
}  # fmt: skip
SPLIT = STARTS | {"V": "Vz/2", "V2": "Vz/2", "V3": "Vz/2", "Q3": "CL/2"}


def _oral(size: str, how: str, words: str, demo: Any = ORAL, note: str = "") -> Maker:
    return structure(
        f"{size}, {how}", FAMILY, residual=ERROR, demo=demo, keywords=f"oral extravascular po subcutaneous {words}",
        note=note, starts=STARTS if size == ONE else SPLIT,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ first order


@_oral(ONE, "first-order absorption", "ka", Shipped("theophylline"))
def oral_1cpt(
    ka: Any = LogNormal(1.5, sd=0.6), CL: Any = LogNormal(2.8, sd=0.3), V: Any = LogNormal(32.0, sd=0.2)
) -> Parts:
    return absorbed(central / V, exchange(CL, V), ka)


@_oral(TWO, "first-order absorption", "ka")
def oral_2cpt(ka: Any = 1.0, CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return absorbed(central / V, exchange(CL, V, (Q, V2)), ka)


@_oral(THREE, "first-order absorption", "ka")
def oral_3cpt(
    ka: Any = 1.0, CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0, Q3: Any = 1.0, V3: Any = 60.0
) -> Parts:
    return absorbed(central / V, exchange(CL, V, (Q, V2), (Q3, V3)), ka)


@_oral(ONE, "first-order absorption, rate constant", "ka k micro")
def oral_1cpt_k(ka: Any = 1.5, k: Any = 0.1, V: Any = 30.0) -> Parts:
    return absorbed(central / V, micro(k), ka)


@_oral(TWO, "first-order absorption, rate constants", "ka k micro constants k12 k21")
def oral_2cpt_k(ka: Any = 1.0, k: Any = 0.2, V: Any = 15.0, k12: Any = 0.3, k21: Any = 0.15) -> Parts:
    return absorbed(central / V, micro(k, (k12, k21)), ka)


@_oral(THREE, "first-order absorption, rate constants", "ka k micro constants")
def oral_3cpt_k(
    ka: Any = 1.0, k: Any = 0.3, V: Any = 10.0, k12: Any = 0.6, k21: Any = 0.3, k13: Any = 0.1, k31: Any = 0.02
) -> Parts:
    return absorbed(central / V, micro(k, (k12, k21), (k13, k31)), ka)


@_oral(TWO, "first-order absorption, macro constants", "ka alpha beta hybrid exponentials")
def oral_2cpt_macro(ka: Any = 1.5, A: Any = 0.05, alpha: Any = 0.9, B: Any = 0.015, beta: Any = 0.08) -> Parts:
    r"""A, B, alpha and beta are those of the curve after a bolus, :math:`D\,(A e^{-\alpha t} + B e^{-\beta t})`."""
    odes = pools(alpha, beta)
    _, slow = odes
    return absorbed((A + B) * central + B * slow, odes, ka)


# ------------------------------------------------------------------------------------------------------- lag


def _lagged(ka: sp.Expr, Tlag: sp.Expr, V: sp.Expr, odes: dict[State, sp.Expr]) -> Parts:
    return absorbed(central / V, odes, ka, doses={depot: Route(lag=Tlag)})


@_oral(ONE, "first-order absorption with lag", "lag tlag delay")
def oral_lag_1cpt(ka: Any = 1.5, Tlag: Any = LogNormal(0.15), CL: Any = 3.0, V: Any = 30.0) -> Parts:
    return _lagged(ka, Tlag, V, exchange(CL, V))


@_oral(TWO, "first-order absorption with lag", "lag tlag delay")
def oral_lag_2cpt(
    ka: Any = 1.0, Tlag: Any = LogNormal(0.15), CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0
) -> Parts:
    return _lagged(ka, Tlag, V, exchange(CL, V, (Q, V2)))


@_oral(THREE, "first-order absorption with lag", "lag tlag delay")
def oral_lag_3cpt(
    ka: Any = 1.0, Tlag: Any = LogNormal(0.15), CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0,
    Q3: Any = 1.0, V3: Any = 60.0,
) -> Parts:  # fmt: skip
    return _lagged(ka, Tlag, V, exchange(CL, V, (Q, V2), (Q3, V3)))


# ------------------------------------------------------------------------------------------------ zero order


def _constant(Tk0: sp.Expr, V: sp.Expr, odes: dict[State, sp.Expr]) -> Parts:
    return Parts(central / V, odes, doses={central: Route(duration=Tk0)})


@_oral(ONE, "zero-order absorption", "zero-order modelled duration", MODELLED, RATE_2)
def oral_zero_1cpt(Tk0: Any = 1.8, CL: Any = 3.0, V: Any = 30.0) -> Parts:
    return _constant(Tk0, V, exchange(CL, V))


@_oral(TWO, "zero-order absorption", "zero-order modelled duration", MODELLED, RATE_2)
def oral_zero_2cpt(Tk0: Any = 1.8, CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return _constant(Tk0, V, exchange(CL, V, (Q, V2)))


@_oral(THREE, "zero-order absorption", "zero-order modelled duration", MODELLED, RATE_2)
def oral_zero_3cpt(
    Tk0: Any = 1.8, CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0, Q3: Any = 1.0, V3: Any = 60.0
) -> Parts:
    return _constant(Tk0, V, exchange(CL, V, (Q, V2), (Q3, V3)))


# --------------------------------------------------------------------------------------------------- transit


def _chain(MTT: sp.Expr, transits: int, V: sp.Expr, odes: dict[State, sp.Expr]) -> Parts:
    """Return a depot, transit compartments and the body, all joined by ktr = (transits + 1)/MTT."""
    ktr = (transits + 1) / MTT
    made = states(" ".join(f"transit{k + 1}" for k in range(transits)))
    line = (depot, *(made if isinstance(made, tuple) else (made,)))
    chain: dict[State, sp.Expr] = {depot: -ktr * depot}
    for before, state in zip(line, line[1:], strict=False):
        chain[state] = ktr * before - ktr * state
    return Parts(central / V, chain | into_central(odes, ktr * line[-1]))


CHAIN = "A dose passes `transits` compartments after the depot, each left at (transits + 1)/MTT."


@_oral(ONE, "transit absorption", "transit chain delay gamma mtt", note=CHAIN)
def oral_transit_1cpt(MTT: Any = 1.5, CL: Any = 3.0, V: Any = 30.0, *, transits: int = 3) -> Parts:
    return _chain(MTT, transits, V, exchange(CL, V))


@_oral(TWO, "transit absorption", "transit chain delay gamma mtt", note=CHAIN)
def oral_transit_2cpt(
    MTT: Any = 1.5, CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0, *, transits: int = 3
) -> Parts:
    return _chain(MTT, transits, V, exchange(CL, V, (Q, V2)))


@_oral(THREE, "transit absorption", "transit chain delay gamma mtt", note=CHAIN)
def oral_transit_3cpt(
    MTT: Any = 1.5, CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0, Q3: Any = 1.0, V3: Any = 60.0, *,
    transits: int = 3,
) -> Parts:  # fmt: skip
    return _chain(MTT, transits, V, exchange(CL, V, (Q, V2), (Q3, V3)))


# -------------------------------------------------------------------------------------------------- parallel


def _parallel(Fr: sp.Expr, ka: sp.Expr, ka2: sp.Expr, V: sp.Expr, odes: dict[State, sp.Expr]) -> Parts:
    """Return two first-order paths that share one dose record.

    The depot is left at ka, partly into a second one that is left at ka2, so that Fr of the dose is
    absorbed at ka and 1 − Fr at ka2.
    """
    slow = states("depot2")
    over = (1 - Fr) * (ka - ka2)
    flow = (ka - over) * depot
    body = into_central(into_central(odes, ka2 * slow), flow)
    return Parts(central / V, {depot: -flow - over * depot, slow: over * depot - ka2 * slow, **body})


PATHS = (
    "One dose record feeds both paths: the fraction Fr is absorbed at ka, the rest at ka2, as by two depots that take "
    "Fr and 1 - Fr of the dose."
)


@_oral(ONE, "parallel first-order absorption", "parallel dual two depots", note=PATHS)
def oral_parallel_1cpt(Fr: Any = 0.6, ka: Any = 2.5, ka2: Any = 0.3, CL: Any = 3.0, V: Any = 15.0) -> Parts:
    return _parallel(Fr, ka, ka2, V, exchange(CL, V))


@_oral(TWO, "parallel first-order absorption", "parallel dual two depots", note=PATHS)
def oral_parallel_2cpt(
    Fr: Any = 0.6, ka: Any = 2.5, ka2: Any = 0.3, CL: Any = 3.0, V: Any = 10.0, Q: Any = 5.0, V2: Any = 30.0
) -> Parts:
    return _parallel(Fr, ka, ka2, V, exchange(CL, V, (Q, V2)))


@_oral(THREE, "parallel first-order absorption", "parallel dual two depots", note=PATHS)
def oral_parallel_3cpt(
    Fr: Any = 0.6, ka: Any = 2.5, ka2: Any = 0.3, CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0,
    Q3: Any = 1.0, V3: Any = 60.0,
) -> Parts:  # fmt: skip
    return _parallel(Fr, ka, ka2, V, exchange(CL, V, (Q, V2), (Q3, V3)))


# ------------------------------------------------------------------------------------------------ sequential


def _sequential(Tk0: sp.Expr, ka: sp.Expr, V: sp.Expr, odes: dict[State, sp.Expr]) -> Parts:
    return absorbed(central / V, odes, ka, doses={depot: Route(duration=Tk0)})


@_oral(
    ONE,
    "zero-order release, then first-order absorption",
    "sequential zero-order release dissolution",
    MODELLED,
    RATE_2,
)
def oral_sequential_1cpt(Tk0: Any = 1.8, ka: Any = 1.5, CL: Any = 3.0, V: Any = 30.0) -> Parts:
    return _sequential(Tk0, ka, V, exchange(CL, V))


@_oral(
    TWO,
    "zero-order release, then first-order absorption",
    "sequential zero-order release dissolution",
    MODELLED,
    RATE_2,
)
def oral_sequential_2cpt(
    Tk0: Any = 1.8, ka: Any = 1.5, CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0
) -> Parts:
    return _sequential(Tk0, ka, V, exchange(CL, V, (Q, V2)))


@_oral(
    THREE,
    "zero-order release, then first-order absorption",
    "sequential zero-order release dissolution",
    MODELLED,
    RATE_2,
)
def oral_sequential_3cpt(
    Tk0: Any = 1.8, ka: Any = 1.5, CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0, Q3: Any = 1.0,
    V3: Any = 60.0,
) -> Parts:  # fmt: skip
    return _sequential(Tk0, ka, V, exchange(CL, V, (Q, V2), (Q3, V3)))
