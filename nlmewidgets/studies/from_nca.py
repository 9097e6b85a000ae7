"""What a non-compartmental analysis knows about the parameters of a compartment model, by their usual names."""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.diagnostics.nca import nca
from nlmewidgets.library.structure import structure_of

__all__ = ["meaning_of", "nca_values"]


def nca_values(model: Model, data: Data) -> dict[str, float]:
    r"""Return starting values of the thetas whose names a pharmacokinetic structure gives them.

    CL from dose/AUC; V from dose/C0 after a bolus, else Vz/F; k = λz; ka from the median tmax by

    .. math:: t_\max = \log(k_a/k)/(k_a - k);

    of a second compartment Q = CL/2 and V2 = V, of a third Q3 = CL/10 and V3 = 3·V: orders of magnitude, to be refined.
    """
    names = {p.name for p in model.space.theta if not p.fixed}
    if not data.dosed.any():
        return {}
    try:
        table = nca(data)
    except NlmeError:
        return {}
    table = table[np.isfinite(table["CL/F"]) & np.isfinite(table["lambda_z"])]
    if table.empty:
        return {}
    clearance = float(table["CL/F"].median())
    rate = float(table["lambda_z"].median())
    bolus = table["rule"].str.contains("bolus")
    volumes = np.where(
        bolus & (table["C0"] > 0), table["amount"] / table["C0"].where(table["C0"] > 0, 1.0), table["Vz/F"]
    )
    volume = float(np.median(volumes))
    tmax = float(table["tmax"].median())
    numbers = {
        "CL": clearance,
        "V": volume,
        "k": rate,
        "ka": _absorption(tmax, rate),
        "Q": 0.5 * clearance,
        "V2": volume,
        "Q3": 0.1 * clearance,
        "V3": 3.0 * volume,
        "tlag": 0.1 * tmax,
    }
    found = {name: numbers[_NAMES[name]] for name in names if name in _NAMES and numbers[_NAMES[name]] > 0}
    entry = structure_of(model)
    if entry is not None:  # the library knows more about its own
        medians = table.select_dtypes("number").median().to_dict()
        found = {k: v for k, v in entry.starting_values(medians).items() if k in names} | found
    return found


_NAMES = (
    dict.fromkeys(("CL", "Cl", "cl", "CLF", "TVCL"), "CL")
    | dict.fromkeys(("V", "Vc", "VC", "V1", "Vd", "v", "TVV"), "V")
    | dict.fromkeys(("k", "ke", "kel", "k10"), "k")
    | dict.fromkeys(("ka", "Ka", "KA"), "ka")
    | dict.fromkeys(("Q", "Q2", "CLd"), "Q")
    | dict.fromkeys(("V2", "Vp", "VP", "Vt"), "V2")
    | {"Q3": "Q3", "V3": "V3", "Vp2": "V3"}
    | dict.fromkeys(("tlag", "Tlag", "lag", "ALAG"), "tlag")
)
"""The names that are recognised, and what they mean."""


def meaning_of(name: str) -> str:
    """Return what a usual name of a pharmacokinetic parameter means: ka, CL, V, k, … or ''."""
    return _NAMES.get(name, "")


def _absorption(tmax: float, rate: float) -> float:
    """Return ka with the given tmax at an elimination rate; twice the rate where tmax is too late for any."""
    if not (tmax > 0 and rate > 0):
        return 0.0
    # log(ka/k)/(ka − k) falls with ka from 1/k at ka = k: bisection on the logarithm.
    low, high = np.log(rate * 1.01), np.log(rate * 1e5)
    late = lambda x: (x - np.log(rate)) / (np.exp(x) - rate) - tmax  # noqa: E731
    if late(low) < 0:
        return 2.0 * rate
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if late(middle) > 0 else (low, middle)
    return float(np.exp(low))
