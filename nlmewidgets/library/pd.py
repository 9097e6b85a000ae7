"""Effects of a drug: direct, delayed by an effect compartment, through the turnover of a response, on blood cells.

The concentration is that of one compartment with first-order absorption; give individual parameters as
covariates, ``CL=nw.covariate("CLI")``, to go from a known pharmacokinetics to an effect.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.symbols import State, states, time
from nlmewidgets.library.compartments import ERROR, absorbed, central, exchange, injected
from nlmewidgets.library.designs import Design, Shipped, every
from nlmewidgets.library.residual import Additive, Proportional
from nlmewidgets.library.structure import Maker, Parts, structure

__all__ = [
    "direct_emax", "direct_imax", "direct_sigmoid_emax", "dose_response_emax", "dose_response_imax",
    "dose_response_sigmoid", "effect_compartment", "indirect_response_1", "indirect_response_2", "indirect_response_3",
    "indirect_response_4", "myelosuppression", "turnover",
]  # fmt: skip

WORDS = "pd pharmacodynamics pkpd pk/pd effect"
BOTH = {"cp": ERROR, "effect": Additive(2.0)}
UNITS = {"TIME": "h", "AMT": "mg", "cp": "mg/L", "effect": "%"}
DAY = Design((0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 18.0, 24.0), (100.0, 300.0), units=UNITS)
DAYS = Design((0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 18.0, 24.0, 36.0, 48.0, 72.0), (100.0, 300.0), units=UNITS)
OUTPUTS = "Outputs cp and effect (DVID 1 and 2)."
STARTS = {"CL": "CL", "V": "Vz", "ka": "3/tmax"}

KA, CLEAR, VOL = LogNormal(1.0, sd=0.4), LogNormal(3.0, sd=0.3), LogNormal(30.0, sd=0.2)


def _pkpd(title: str, family: str, words: str, demo: Any = DAY, note: str = OUTPUTS) -> Maker:
    return structure(title, family, residual=BOTH, demo=demo, keywords=f"{WORDS} {words}", note=note, starts=STARTS)


def _driven(ka: sp.Expr, CL: sp.Expr, V: sp.Expr, effect: sp.Expr, more: Any = None, **rest: Any) -> Parts:
    """Return one-compartment oral kinetics with an effect beside it."""
    return absorbed({"cp": central / V, "effect": effect}, {**exchange(CL, V), **(more or {})}, ka, **rest)


# ---------------------------------------------------------------------------------------------------- direct


@_pkpd("Direct effect, Emax", "PD, direct", "direct emax hyperbolic")
def direct_emax(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, E0: Any = 20.0, Emax: Any = 60.0, EC50: Any = 2.0
) -> Parts:
    return _driven(ka, CL, V, E0 + Emax * central / (EC50 * V + central))


@_pkpd("Direct effect, sigmoid Emax", "PD, direct", "direct sigmoid emax hill")
def direct_sigmoid_emax(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, E0: Any = 20.0, Emax: Any = 60.0, EC50: Any = 2.0, hill: Any = 2.0
) -> Parts:
    return _driven(ka, CL, V, E0 + Emax * central**hill / ((EC50 * V) ** hill + central**hill))


@_pkpd("Direct effect, inhibitory", "PD, direct", "direct inhibitory inhibition imax emax")
def direct_imax(ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, E0: Any = 90.0, Imax: Any = 0.8, IC50: Any = 2.0) -> Parts:
    return _driven(ka, CL, V, E0 * (1 - Imax * central / (IC50 * V + central)))


@_pkpd("Effect compartment, Emax", "PD, delayed", "effect compartment link biophase delayed hysteresis ke0 emax")
def effect_compartment(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, ke0: Any = 0.3, E0: Any = 20.0, Emax: Any = 60.0, EC50: Any = 2.0
) -> Parts:
    biophase = states("biophase")
    effect = E0 + Emax * biophase / (EC50 + biophase)
    return _driven(ka, CL, V, effect, {biophase: ke0 * central / V - ke0 * biophase})


# --------------------------------------------------------------------------------------- dose and response

AXIS = "The dose stands in TIME, so that it is the axis of every picture."
POINTS = Shipped("emax", {"E0": LogNormal(10.0, sd=0.2), "Emax": 25.0, "ED50": LogNormal(40.0, sd=0.5)})


@structure(
    "Dose and response, Emax", "PD, dose and response", residual=Additive(1.5), demo=POINTS, note=AXIS,
    keywords=f"{WORDS} dose-response direct emax hyperbolic static",
)  # fmt: skip
def dose_response_emax(E0: Any = 10.0, Emax: Any = 30.0, ED50: Any = 50.0) -> Parts:
    return Parts(E0 + Emax * time / (ED50 + time))


@structure(
    "Dose and response, sigmoid Emax", "PD, dose and response", residual=Additive(1.5), note=AXIS,
    demo=Design((5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0), units={"TIME": "mg"}),
    keywords=f"{WORDS} dose-response direct sigmoid emax hill static",
)  # fmt: skip
def dose_response_sigmoid(E0: Any = 10.0, Emax: Any = 30.0, ED50: Any = 50.0, hill: Any = 2.5) -> Parts:
    return Parts(E0 + Emax * time**hill / (ED50**hill + time**hill))


@structure(
    "Dose and response, inhibitory", "PD, dose and response", residual=Additive(1.5), note=AXIS,
    demo=Design((0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0), units={"TIME": "mg"}),
    keywords=f"{WORDS} dose-response direct inhibitory inhibition imax static",
)  # fmt: skip
def dose_response_imax(E0: Any = 40.0, Imax: Any = 0.85, ID50: Any = 40.0) -> Parts:
    return Parts(E0 * (1 - Imax * time / (ID50 + time)))


# ------------------------------------------------------------------------------------------------- turnover

response = states("response")


def _indirect(number: str, what: str, words: str, demo: Any = DAYS) -> Maker:
    return _pkpd(
        f"Indirect response {number}: {what}", "PD, turnover", f"indirect response idr turnover jusko {words}", demo
    )


def _call_it_effect(data: Data) -> Data:
    records = data.records.assign(DVID=data.records["DVID"].replace({"pca": "effect"}))
    units = {("effect" if k == "pca" else k): v for k, v in data.units.items()}
    return Data(records, data.covariates, units, data.notes, {"kind": "frame"})


WARFARIN = Shipped(
    "pkpd_turnover",
    {
        "ka": LogNormal(0.9, sd=0.6), "CL": LogNormal(0.135, sd=0.3), "V": LogNormal(8.0, sd=0.2),
        "base": LogNormal(96.0, sd=0.06), "kout": LogNormal(0.05, sd=0.12), "Imax": LogNormal(1.0, fixed=True),
        "IC50": LogNormal(1.2, sd=0.35),
    },
    _call_it_effect,
)  # fmt: skip
BASE = LogNormal(100.0, sd=0.1)


def _turnover(base: sp.Expr, gain: sp.Expr, loss: sp.Expr) -> dict[State, sp.Expr]:
    return {response: gain - loss * response}


@_indirect("I", "production inhibited", "inhibition kin anticoagulant warfarin", WARFARIN)
def indirect_response_1(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, base: Any = BASE, kout: Any = 0.1, Imax: Any = 0.9, IC50: Any = 0.5
) -> Parts:
    """Dayneka, Garg & Jusko (1993), doi:10.1007/BF01061691."""
    gain = kout * base * (1 - Imax * central / (IC50 * V + central))
    return _driven(ka, CL, V, response, _turnover(base, gain, kout), initial={response: base})


@_indirect("II", "loss inhibited", "inhibition kout")
def indirect_response_2(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, base: Any = BASE, kout: Any = 0.1, Imax: Any = 0.9, IC50: Any = 0.5
) -> Parts:
    """Dayneka, Garg & Jusko (1993), doi:10.1007/BF01061691."""
    loss = kout * (1 - Imax * central / (IC50 * V + central))
    return _driven(ka, CL, V, response, _turnover(base, kout * base, loss), initial={response: base})


@_indirect("III", "production stimulated", "stimulation kin")
def indirect_response_3(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, base: Any = BASE, kout: Any = 0.1, Smax: Any = 2.0, SC50: Any = 1.0
) -> Parts:
    """Dayneka, Garg & Jusko (1993), doi:10.1007/BF01061691."""
    gain = kout * base * (1 + Smax * central / (SC50 * V + central))
    return _driven(ka, CL, V, response, _turnover(base, gain, kout), initial={response: base})


@_indirect("IV", "loss stimulated", "stimulation kout")
def indirect_response_4(
    ka: Any = KA, CL: Any = CLEAR, V: Any = VOL, base: Any = BASE, kout: Any = 0.1, Smax: Any = 2.0, SC50: Any = 1.0
) -> Parts:
    """Dayneka, Garg & Jusko (1993), doi:10.1007/BF01061691."""
    loss = kout * (1 + Smax * central / (SC50 * V + central))
    return _driven(ka, CL, V, response, _turnover(base, kout * base, loss), initial={response: base})


@structure(
    "Turnover towards a steady state", "PD, turnover", residual=Additive(3.0),
    demo=Design((0.0, 2.0, 4.0, 8.0, 12.0, 24.0, 36.0, 48.0, 72.0), units={"TIME": "h"}),
    keywords=f"{WORDS} turnover production loss baseline recovery rebound kin kout",
    note="Without drug: the response moves from `start` to kin/kout.",
)  # fmt: skip
def turnover(kin: Any = 6.0, kout: Any = 0.06, start: Any = 30.0) -> Parts:
    return Parts(response, {response: kin - kout * response}, initial={response: start})


# ---------------------------------------------------------------------------------------------- blood cells


@structure(
    "Myelosuppression with transit compartments", "PD, blood cells", residual=Proportional(0.15),
    demo=Design(
        every(12.0, 180.0, 24.0) + every(216.0, 504.0, 48.0), (60.0, 120.0),
        units={"TIME": "h", "AMT": "mg", "DV": "10⁹/L"},
    ),
    keywords=f"{WORDS} friberg neutropenia leukopenia neutrophils myelosuppression transit toxicity chemotherapy",
    note="Only the cells are observed; CL and V are fixed by default, or individual covariates.",
)  # fmt: skip
def myelosuppression(
    base: Any = 5.0, MTT: Any = 90.0, feedback: Any = 0.16, slope: Any = 4.0, CL: Any = LogNormal(10.0, fixed=True),
    V: Any = LogNormal(40.0, fixed=True),
) -> Parts:  # fmt: skip
    """Friberg et al. (2002), doi:10.1200/JCO.2002.02.140: proliferating cells, three transits, circulating cells."""
    proliferating, *transits, circulating = states("proliferating transit1 transit2 transit3 circulating")
    ktr = 4 / MTT
    born = ktr * proliferating * (1 - slope * central / V) * (base / circulating) ** feedback
    odes = {**exchange(CL, V), proliferating: born - ktr * proliferating}
    before = proliferating
    for state in (*transits, circulating):
        odes[state] = ktr * before - ktr * state
        before = state
    cells = (proliferating, *transits, circulating)
    return injected(V, odes, initial=dict.fromkeys(cells, base))._replace(prediction=circulating)
