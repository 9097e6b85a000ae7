"""Intravenous bolus or infusion: RATE in the data says which."""

from __future__ import annotations

from typing import Any

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.library.compartments import ERROR, UNITS, central, exchange, injected, micro, pools
from nlmewidgets.library.designs import Design, Shipped
from nlmewidgets.library.structure import Maker, Parts, structure

__all__ = [
    "iv_1cpt", "iv_1cpt_k", "iv_2cpt", "iv_2cpt_k", "iv_2cpt_macro", "iv_3cpt", "iv_3cpt_k", "iv_3cpt_macro",
    "iv_bolus_1cpt",
]  # fmt: skip

FAMILY = "PK, intravenous"
WORDS = "iv intravenous bolus infusion"
BOLUS = Design((0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 48.0), (100.0,), units=UNITS)
INFUSION = Design((0.5, 1.0, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 16.0, 24.0), (100.0,), infusion=2.0, units=UNITS)
STARTS = {
    "CL": "CL", "V": "amount/C0", "V2": "Vz - amount/C0", "Q": "CL", "k": "lambda_z", "beta": "lambda_z",
    "k12": "lambda_z", "k21": "lambda_z",
}  # fmt: skip


def _iv(n: str, kind: str, demo: Any, words: str = "") -> Maker:
    starts = STARTS if n != "One compartment" else STARTS | {"V": "Vz"}
    return structure(
        f"{n}, IV bolus or infusion{kind}",
        FAMILY,
        residual=ERROR,
        demo=demo,
        keywords=f"{WORDS} {words}",
        starts=starts,
    )


@_iv("One compartment", "", Shipped("phenobarbital", {"CL": LogNormal(0.006, sd=0.5), "V": LogNormal(1.4, sd=0.5)}))
def iv_1cpt(CL: Any = 3.0, V: Any = 30.0) -> Parts:
    return injected(V, exchange(CL, V))


iv_bolus_1cpt = iv_1cpt


@_iv("Two compartments", "", Shipped("indomethacin", {"CL": 8.0, "V": 8.5, "Q": 6.0, "V2": 11.0}))
def iv_2cpt(CL: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return injected(V, exchange(CL, V, (Q, V2)))


@_iv(
    "Three compartments",
    "",
    Shipped("remifentanil", {"CL": 2.6, "V": 5.0, "Q": 2.0, "V2": 10.0, "Q3": 0.08, "V3": 5.5}),
)
def iv_3cpt(CL: Any = 3.0, V: Any = 10.0, Q: Any = 6.0, V2: Any = 20.0, Q3: Any = 1.0, V3: Any = 60.0) -> Parts:
    return injected(V, exchange(CL, V, (Q, V2), (Q3, V3)))


@_iv("One compartment", ", rate constant", INFUSION, "k micro")
def iv_1cpt_k(k: Any = 0.1, V: Any = 30.0) -> Parts:
    return injected(V, micro(k))


@_iv("Two compartments", ", rate constants", INFUSION, "k micro constants k12 k21")
def iv_2cpt_k(k: Any = 0.2, V: Any = 15.0, k12: Any = 0.3, k21: Any = 0.15) -> Parts:
    return injected(V, micro(k, (k12, k21)))


@_iv("Three compartments", ", rate constants", BOLUS, "k micro constants")
def iv_3cpt_k(k: Any = 0.3, V: Any = 10.0, k12: Any = 0.6, k21: Any = 0.3, k13: Any = 0.1, k31: Any = 0.02) -> Parts:
    return injected(V, micro(k, (k12, k21), (k13, k31)))


@_iv("Two compartments", ", macro constants", BOLUS, "alpha beta hybrid exponentials bi-exponential")
def iv_2cpt_macro(A: Any = 0.05, alpha: Any = 0.9, B: Any = 0.015, beta: Any = 0.08) -> Parts:
    r"""After a bolus :math:`f = D\,(A e^{-\alpha t} + B e^{-\beta t})`."""
    odes = pools(alpha, beta)
    _, slow = odes
    return Parts((A + B) * central + B * slow, odes)


@_iv("Three compartments", ", macro constants", BOLUS, "alpha beta gamma hybrid exponentials tri-exponential")
def iv_3cpt_macro(
    A: Any = 0.08, alpha: Any = 2.0, B: Any = 0.015, beta: Any = 0.3, C: Any = 0.005, gamma: Any = 0.04
) -> Parts:
    r"""After a bolus :math:`f = D\,(A e^{-\alpha t} + B e^{-\beta t} + C e^{-\gamma t})`."""
    odes = pools(alpha, beta, gamma)
    _, slow, slower = odes
    return Parts((A + B + C) * central + B * slow + C * slower, odes)
