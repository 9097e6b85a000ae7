"""Saturable elimination, metabolites, and drugs whose target decides where they go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sympy as sp

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.symbols import states
from nlmewidgets.library.compartments import ERROR, ORAL, UNITS, absorbed, central, exchange, injected
from nlmewidgets.library.designs import Design
from nlmewidgets.library.structure import Maker, Parts, structure

__all__ = [
    "iv_1cpt_mixed", "iv_1cpt_mm", "iv_2cpt_mixed", "iv_2cpt_mm", "metabolite_iv", "metabolite_oral", "oral_1cpt_mixed",
    "oral_1cpt_mm", "oral_2cpt_mixed", "oral_2cpt_mm", "tmdd", "tmdd_mm", "tmdd_qss",
]  # fmt: skip

FAMILY = "PK, saturable elimination"
DOSES = (50.0, 200.0, 600.0)
IV = Design((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0), DOSES, units=UNITS)
ORAL_DOSES = replace(ORAL, amounts=DOSES)
STARTS = {"V": "Vz", "CL": "CL", "Vmax": "Cmax*CL", "Km": "Cmax/2", "ka": "3/tmax", "Q": "CL", "V2": "Vz"}


def _saturable(size: str, route: str, kind: str, words: str) -> Maker:
    return structure(
        f"{size}, {route}, {kind} elimination", FAMILY, residual=ERROR, starts=STARTS,
        demo=ORAL_DOSES if "oral" in words else IV, keywords=f"{words} nonlinear saturable mm",
    )  # fmt: skip


def _mm(Vmax: sp.Expr, Km: sp.Expr, V: sp.Expr) -> sp.Expr:
    return Vmax * central / (Km * V + central)  # amount per time at the concentration central/V


_IV, _ORAL = "iv intravenous bolus infusion", "oral extravascular"


@_saturable("One compartment", "IV", "Michaelis–Menten", _IV)
def iv_1cpt_mm(Vmax: Any = 30.0, Km: Any = 3.0, V: Any = 30.0) -> Parts:
    return injected(V, {central: -_mm(Vmax, Km, V)})


@_saturable("One compartment", "IV", "linear and Michaelis–Menten", f"{_IV} mixed parallel")
def iv_1cpt_mixed(CL: Any = 1.0, Vmax: Any = 20.0, Km: Any = 3.0, V: Any = 30.0) -> Parts:
    return injected(V, {central: -CL / V * central - _mm(Vmax, Km, V)})


@_saturable("Two compartments", "IV", "Michaelis–Menten", _IV)
def iv_2cpt_mm(Vmax: Any = 30.0, Km: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return injected(V, exchange(sp.S.Zero, V, (Q, V2), loss=_mm(Vmax, Km, V)))


@_saturable("Two compartments", "IV", "linear and Michaelis–Menten", f"{_IV} mixed parallel")
def iv_2cpt_mixed(CL: Any = 1.0, Vmax: Any = 20.0, Km: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return injected(V, exchange(CL, V, (Q, V2), loss=CL / V * central + _mm(Vmax, Km, V)))


@_saturable("One compartment", "first-order absorption", "Michaelis–Menten", _ORAL)
def oral_1cpt_mm(ka: Any = 1.5, Vmax: Any = 30.0, Km: Any = 3.0, V: Any = 30.0) -> Parts:
    return absorbed(central / V, {central: -_mm(Vmax, Km, V)}, ka)


@_saturable("One compartment", "first-order absorption", "linear and Michaelis–Menten", f"{_ORAL} mixed parallel")
def oral_1cpt_mixed(ka: Any = 1.5, CL: Any = 1.0, Vmax: Any = 20.0, Km: Any = 3.0, V: Any = 30.0) -> Parts:
    return absorbed(central / V, {central: -CL / V * central - _mm(Vmax, Km, V)}, ka)


@_saturable("Two compartments", "first-order absorption", "Michaelis–Menten", _ORAL)
def oral_2cpt_mm(ka: Any = 1.5, Vmax: Any = 30.0, Km: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0) -> Parts:
    return absorbed(central / V, exchange(sp.S.Zero, V, (Q, V2), loss=_mm(Vmax, Km, V)), ka)


@_saturable("Two compartments", "first-order absorption", "linear and Michaelis–Menten", f"{_ORAL} mixed parallel")
def oral_2cpt_mixed(
    ka: Any = 1.5, CL: Any = 1.0, Vmax: Any = 20.0, Km: Any = 3.0, V: Any = 15.0, Q: Any = 5.0, V2: Any = 30.0
) -> Parts:
    return absorbed(central / V, exchange(CL, V, (Q, V2), loss=CL / V * central + _mm(Vmax, Km, V)), ka)


# ----------------------------------------------------------------------------------------------- metabolites

metabolite = states("metabolite")
BOTH = {"cp": ERROR, "cm": ERROR}


@structure(
    "Parent and metabolite, IV", "PK, metabolite", residual=BOTH, starts={"CL": "CL", "V": "Vz"},
    demo=Design((0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0), (100.0,), units={"TIME": "h", "AMT": "mg"}),
    keywords="parent metabolite iv bolus infusion active formation", note="Outputs cp and cm (DVID 1 and 2).",
)  # fmt: skip
def metabolite_iv(CL: Any = 5.0, V: Any = 30.0, CLm: Any = 8.0, Vm: Any = 20.0) -> Parts:
    odes = {central: -CL / V * central, metabolite: CL / V * central - CLm / Vm * metabolite}
    return Parts({"cp": central / V, "cm": metabolite / Vm}, odes)


@structure(
    "Parent and metabolite, first-order absorption", "PK, metabolite", residual=BOTH,
    starts={"CL": "CL", "V": "Vz", "ka": "3/tmax"},
    demo=Design((0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0), (100.0,), units={"TIME": "h", "AMT": "mg"}),
    keywords="parent metabolite oral active formation", note="Outputs cp and cm (DVID 1 and 2).",
)  # fmt: skip
def metabolite_oral(ka: Any = 1.5, CL: Any = 5.0, V: Any = 30.0, CLm: Any = 8.0, Vm: Any = 20.0) -> Parts:
    odes = {central: -CL / V * central, metabolite: CL / V * central - CLm / Vm * metabolite}
    return absorbed({"cp": central / V, "cm": metabolite / Vm}, odes, ka)


# -------------------------------------------------------------------------------------------------- targets

TMDD_DEMO = Design(
    (0.1, 0.5, 1.0, 2.0, 4.0, 7.0, 10.0, 14.0, 21.0, 28.0), (100.0, 300.0, 1000.0),
    units={"TIME": "day", "AMT": "nmol", "DV": "nmol/L"},
)  # fmt: skip
TMDD_WORDS = "tmdd target-mediated target mediated antibody biologic receptor binding nonlinear iv"
TMDD_ERROR = replace(ERROR, additive=0.01)


@structure(
    "Target-mediated disposition, full", "PK, target-mediated", residual=TMDD_ERROR, demo=TMDD_DEMO,
    keywords=f"{TMDD_WORDS} full", note="Free drug is observed; amounts and target in the same molar unit.",
)  # fmt: skip
def tmdd(
    CL: Any = 0.25, V: Any = 3.0, kon: Any = 2.0, koff: Any = 1.0, R0: Any = 8.0, kdeg: Any = 0.4, kint: Any = 0.15
) -> Parts:
    """Mager & Jusko (2001), doi:10.1023/A:1014414520282: drug as an amount, target and complex as concentrations."""
    target, bound = states("target bound")
    odes = {
        central: -CL / V * central - kon * central * target + koff * V * bound,
        target: kdeg * R0 - kdeg * target - kon * central / V * target + koff * bound,
        bound: kon * central / V * target - koff * bound - kint * bound,
    }
    return Parts(central / V, odes, initial={target: R0})


@structure(
    "Target-mediated disposition, quasi-steady state", "PK, target-mediated", residual=TMDD_ERROR, demo=TMDD_DEMO,
    keywords=f"{TMDD_WORDS} qss quasi-steady-state quasi equilibrium",
    note="Free drug is observed; amounts and target in the same molar unit.",
)  # fmt: skip
def tmdd_qss(CL: Any = 0.25, V: Any = 3.0, KSS: Any = 0.6, R0: Any = 8.0, kdeg: Any = 0.4, kint: Any = 0.15) -> Parts:
    """Gibiansky et al. (2008), doi:10.1007/s10928-008-9102-8: total drug (an amount) and total target."""
    drug, target = states("drug target")
    gap = drug / V - target - KSS
    free = (gap + sp.sqrt(gap**2 + 4 * KSS * drug / V)) / 2
    odes = {
        drug: -CL * free - kint * V * target * free / (KSS + free),
        target: kdeg * R0 - kdeg * target - (kint - kdeg) * target * free / (KSS + free),
    }
    return Parts(free, odes, initial={target: R0})


@structure(
    "Target-mediated disposition, Michaelis–Menten", "PK, target-mediated", residual=TMDD_ERROR, demo=TMDD_DEMO,
    keywords=f"{TMDD_WORDS} mm michaelis menten", starts={"CL": "CL", "V": "Vz"},
    note="The target stays at R0 in total and is little against the drug.",
)  # fmt: skip
def tmdd_mm(CL: Any = 0.25, V: Any = 3.0, Km: Any = 0.6, R0: Any = LogNormal(8.0, sd=0.3), kint: Any = 0.15) -> Parts:
    """Gibiansky et al. (2008): elimination by the target has Vmax = kint·R0·V."""
    return injected(V, {central: -CL / V * central - kint * R0 * V * central / (Km * V + central)})
