"""Growth: of trees, crops and tumours."""

from __future__ import annotations

from typing import Any

import sympy as sp

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.symbols import states, time
from nlmewidgets.library.compartments import central, exchange
from nlmewidgets.library.designs import Design, Shipped, every
from nlmewidgets.library.residual import Additive, Proportional
from nlmewidgets.library.structure import Parts, structure

__all__ = [
    "gompertz_growth", "logistic_growth", "richards_growth", "tumour_exponential", "tumour_gompertz", "tumour_simeoni",
    "weibull_growth",
]  # fmt: skip

FAMILY = "Growth"
WORDS = "growth curve sigmoid asymptote"
SEASON = Design(every(7.0, 91.0, 7.0), units={"TIME": "days", "DV": "g"})


@structure(
    "Logistic growth", FAMILY, residual=Additive(8.0), keywords=f"{WORDS} logistic trees",
    demo=Shipped("orange", {"asym": 190.0, "mid": LogNormal(720.0), "scale": LogNormal(350.0)}),
    means={"scale": ("time from the midpoint to 73 % of the asymptote", "time")},
)  # fmt: skip
def logistic_growth(asym: Any = 20.0, mid: Any = 50.0, scale: Any = LogNormal(10.0)) -> Parts:
    return Parts(asym / (1 + sp.exp(-(time - mid) / scale)))


@structure(
    "Gompertz growth", FAMILY, residual=Proportional(0.1), keywords=f"{WORDS} gompertz soybean",
    demo=Shipped("soybean", {"asym": 22.0, "mid": LogNormal(47.0), "scale": LogNormal(18.0)}),
)  # fmt: skip
def gompertz_growth(asym: Any = 20.0, mid: Any = 40.0, scale: Any = LogNormal(15.0)) -> Parts:
    r"""The growth is fastest at `mid`, where the curve is at :math:`\mathrm{asym}/e`."""
    return Parts(asym * sp.exp(-sp.exp(-(time - mid) / scale)))


@structure(
    "Richards growth", FAMILY, residual=Additive(0.5), demo=SEASON,
    keywords=f"{WORDS} richards generalised generalized logistic",
)  # fmt: skip
def richards_growth(asym: Any = 20.0, mid: Any = 45.0, scale: Any = LogNormal(10.0), shape: Any = 0.5) -> Parts:
    """Logistic at shape 1, towards Gompertz at 0; the growth is fastest at `mid`."""
    return Parts(asym * (1 + shape * sp.exp(-(time - mid) / scale)) ** (-1 / shape))


@structure(
    "Weibull growth", FAMILY, residual=Additive(0.5), demo=SEASON, keywords=f"{WORDS} weibull",
    means={"scale": ("time at which 63 % of the growth is done", "time"), "base": ("size at time 0", "response")},
)  # fmt: skip
def weibull_growth(asym: Any = 20.0, base: Any = LogNormal(2.0), scale: Any = 50.0, shape: Any = 2.5) -> Parts:
    return Parts(asym - (asym - base) * sp.exp(-((time / scale) ** shape)))


# -------------------------------------------------------------------------------------------------- tumours

TUMOUR = "Tumour growth"
TUMOUR_WORDS = "tumour tumor growth cancer oncology xenograft"
WEEKS = Design(every(0.0, 28.0, 3.5), units={"TIME": "days", "DV": "g"})


@structure(
    "Tumour growth, exponential", TUMOUR, residual=Proportional(0.1), demo=WEEKS,
    keywords=f"{TUMOUR_WORDS} exponential", means={"base": ("size at time 0", "response")},
)  # fmt: skip
def tumour_exponential(base: Any = 0.1, kg: Any = 0.15) -> Parts:
    return Parts(base * sp.exp(kg * time))


@structure(
    "Tumour growth, Gompertz", TUMOUR, residual=Proportional(0.1), demo=WEEKS,
    keywords=f"{TUMOUR_WORDS} gompertz", means={"base": ("size at time 0", "response")},
)  # fmt: skip
def tumour_gompertz(base: Any = 0.1, kg: Any = 0.3, decay: Any = 0.08) -> Parts:
    """The growth rate starts at kg and falls at the rate `decay`, to the size base·exp(kg/decay)."""
    return Parts(base * sp.exp(kg / decay * (1 - sp.exp(-decay * time))))


@structure(
    "Tumour growth under a drug (Simeoni)", TUMOUR, residual=Proportional(0.1),
    demo=Design(
        every(1.0, 31.0, 3.0), (0.0001, 30.0, 60.0), at=(9.0, 13.0, 17.0),
        units={"TIME": "days", "AMT": "mg/kg", "DV": "g"},
    ),
    keywords=f"{TUMOUR_WORDS} simeoni drug anticancer transit damage", note="Only the tumour is observed; CL and V are "
    "fixed by default, or individual covariates.", means={"base": ("weight of the tumour at time 0", "weight")},
)  # fmt: skip
def tumour_simeoni(
    base: Any = 0.05, lambda0: Any = 0.25, lambda1: Any = 0.35, psi: Any = LogNormal(20.0, fixed=True),
    k1: Any = 0.6, k2: Any = 0.1, CL: Any = LogNormal(10.0, fixed=True), V: Any = LogNormal(10.0, fixed=True),
) -> Parts:  # fmt: skip
    """Simeoni et al. (2004), doi:10.1158/0008-5472.CAN-03-2524: growing cells and three stages of damage."""
    growing, *damaged = states("growing damaged1 damaged2 damaged3")
    weight = growing + sum(damaged)
    birth = lambda0 * growing / (1 + (lambda0 / lambda1 * weight) ** psi) ** (1 / psi)
    hit = k2 * central / V * growing
    odes = {**exchange(CL, V), growing: birth - hit}
    inflow = hit
    for state in damaged:
        odes[state] = inflow - k1 * state
        inflow = k1 * state
    return Parts(weight, odes, initial={growing: base})
