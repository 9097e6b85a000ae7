r"""Non-compartmental analysis: Cmax, tmax, AUC, half-life, CL/F, Vz/F and MRT with the rules they were found by.

All profiles (one per subject and dose interval) are analysed together as padded arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.units import concentration, quotient
from nlmewidgets.diagnostics.profiles import Profiles, profiles

__all__ = ["ROUTES", "RULES", "nca", "nca_summary"]

RULES = ("linear-up log-down", "linear")
"""How the area between two points is found."""

ROUTES = ("auto", "extravascular", "bolus", "infusion")

_CLOSE = 1e-4
"""Adjusted R² this near to the best counts as equal: more points are then preferred."""

_FEWEST = 3
_FEWEST_FOR_AREA = 2
_MUCH = 20.0
"""Per cent of AUC inf beyond the last point from which on a row says so."""


def nca(data: Data, *, rule: str = "linear-up log-down", route: str = "auto", output: Any = None) -> pd.DataFrame:
    r"""Return a non-compartmental analysis, one row per subject and dose interval with observations.

    Parameters
    ----------
    data : Data
    rule : {"linear-up log-down", "linear"}
        Trapezoids: logarithmic where the concentration falls, or linear everywhere.
    route : {"auto", "extravascular", "bolus", "infusion"}
        Decides the concentration at the time of the dose where none was measured: 0 after an
        extravascular dose or at the start of an infusion, the line through the logarithms of the first
        two points after a bolus.  "auto": infusion where the record has a rate; bolus where the highest
        observation is the first one in more than half of the other profiles of three points or more;
        else extravascular.
    output : optional
        The DVID to analyse; the first one without it.

    Returns
    -------
    DataFrame
        ID, dose, start, amount, n, BLQ, C0, Cmax, tmax, Clast, tlast, AUClast, AUCinf, extrapolated (per
        cent), lambda_z, points, adj_R2, half_life, CL/F, Vz/F, MRT, rule, note.  What cannot be found is
        NaN, and the note says why.  ``table.attrs["units"]`` has the unit of each column.

    Notes
    -----
    λz is the slope of the log-linear regression over the last three or more points after Cmax (from Cmax
    on after a bolus) with the best adjusted R²; of those within 10⁻⁴ of the best, the one with the most
    points.  AUCinf = AUClast + Clast/λz with the observed Clast; CL/F = dose/AUCinf;
    Vz/F = CL/F/λz; MRT = AUMCinf/AUCinf, minus half the duration of an infusion (after an extravascular
    dose it includes the mean absorption time).  At steady state CL/F = dose/AUC over the dosing interval.

    References
    ----------
    Gabrielsson & Weiner (2016), Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed., §2.8.

    Raises
    ------
    DataError
        If a rule, route or output does not exist.
    """
    for name, chosen, known in (("rule", rule, RULES), ("route", route, ROUTES)):
        if chosen not in known:
            raise DataError(f"{name}={chosen!r} is not known; there are {', '.join(map(repr, known))}.")
    if output is not None:
        have = list(pd.unique(data.dvid))
        if output not in have:
            raise DataError(f"output={output!r} is not a DVID of the data; there are {', '.join(map(str, have))}.")
    found = profiles(data, output)
    routes = _routes(found, route)
    time, value, c0, said = _with_start(found, routes)
    point = np.isfinite(value)
    index = np.arange(time.shape[1])
    rows = np.arange(len(time))
    with np.errstate(all="ignore"):
        own = np.where(np.isfinite(found.value), found.value, -np.inf)
        top = own.argmax(axis=1)
        cmax, tmax = own[rows, top], found.time[rows, top]
        positive = point & (value > 0)
        last = np.where(positive.any(axis=1), np.where(positive, index, -1).max(axis=1), 0)
        clast, tlast = value[rows, last], time[rows, last]
        auc, aumc = _areas(time, value, last, rule)
        few = positive.sum(axis=1) - (positive[:, 0] & (found.time[:, 0] > 0)) < _FEWEST_FOR_AREA
        auc, aumc = np.where(few, np.nan, auc), np.where(few, np.nan, aumc)
        slope, points, fit = _terminal(time, value, positive, tmax, routes == "bolus", last)
        tail = clast / slope
        infinite = auc + tail
        moment = aumc + tail * (tlast + 1.0 / slope)
        part = auc + tail * (1.0 - np.exp(-slope * np.maximum(found.tau - tlast, 0.0)))
        later = found.repeated & ~found.steady
        mixed = later | found.steady  # areas to infinity belong to more than this dose
        exposure = np.where(found.steady, part, np.where(later, np.nan, infinite))
        clearance = found.amount / exposure
        empty = ~positive.any(axis=1)
        mrt = np.where(mixed, np.nan, moment / infinite - np.where(routes == "infusion", found.duration / 2.0, 0.0))
    table = pd.DataFrame(
        {
            "ID": found.id,
            "dose": found.number,
            "start": found.start,
            "amount": found.amount,
            "n": found.count,
            "BLQ": found.below,
            "C0": c0,
            "Cmax": cmax,
            "tmax": tmax,
            "Clast": np.where(empty, np.nan, clast),
            "tlast": np.where(empty, np.nan, tlast),
            "AUClast": auc,
            "AUCinf": np.where(mixed, np.nan, infinite),
            "extrapolated": np.where(mixed, np.nan, 100.0 * tail / infinite),
            "lambda_z": slope,
            "points": points,
            "adj_R2": fit,
            "half_life": np.log(2.0) / slope,
            "CL/F": clearance,
            "Vz/F": clearance / slope,
            "MRT": mrt,
            "rule": [f"{rule}; {words}" for words in said],
        }
    )
    table["ID"] = table["ID"].infer_objects()
    table["note"] = _notes(found, table, last - np.where(positive.any(axis=1), value.argmax(axis=1), 0))
    table.attrs["units"] = _units(data, output)
    return table


def _routes(found: Profiles, route: str) -> NDArray[np.object_]:
    """Return the route of each profile."""
    routes = np.full(len(found.id), route if route != "auto" else "extravascular", dtype=object)
    if route != "auto":
        return routes
    timed = ~(found.duration == 0)
    usual = (found.number > 0) & ~timed & (found.count >= _FEWEST)
    if usual.any():
        peak_first = np.where(np.isfinite(found.value), found.value, -np.inf).argmax(axis=1) == 0
        # A first point at the time of the dose itself is a trough or a start, no peak after absorption.
        if peak_first[usual].mean() > 0.5:
            routes[:] = "bolus"
    routes[timed] = "infusion"
    return routes


def _with_start(found: Profiles, routes: NDArray[np.object_]) -> tuple[Array, Array, Array, list[str]]:
    """Return times and values with a point at the dose, its value, and how it was found."""
    time, value = found.time, found.value
    measured = time[:, 0] == 0.0
    with np.errstate(all="ignore"):
        if time.shape[1] > 1:
            line = np.log(value[:, 0] / value[:, 1]) / (time[:, 1] - time[:, 0])
            back = np.where(line > 0, value[:, 0] * np.exp(line * time[:, 0]), value[:, 0])
        else:
            back = value[:, 0]
    repeated = found.repeated | found.steady
    lowest = np.nanmin(value, axis=1, initial=np.inf)
    bolus = routes == "bolus"
    start = np.where(measured, value[:, 0], np.where(bolus, back, np.where(repeated, lowest, 0.0)))
    said = []
    for route, is_measured, is_repeated in zip(routes, measured, repeated, strict=True):
        if is_measured:
            how = "C0 measured"
        elif route == "bolus":
            how = "C0 back-extrapolated"
        else:
            how = "C0 the interval's lowest" if is_repeated else "C0 zero"
        said.append(f"{route}, {how}")
    width = time.shape[1] + 1
    full_time, full_value = np.full((len(time), width), np.nan), np.full((len(time), width), np.nan)
    full_time[:, 1:], full_value[:, 1:] = time, value
    full_time[:, 0], full_value[:, 0] = 0.0, start
    shifted = measured[:, None]
    padded = np.full((len(time), 1), np.nan)
    full_time = np.where(shifted, np.concatenate([time, padded], axis=1), full_time)
    full_value = np.where(shifted, np.concatenate([value, padded], axis=1), full_value)
    return full_time, full_value, start, said


def _areas(time: Array, value: Array, last: Ints, rule: str) -> tuple[Array, Array]:
    """Return AUC and AUMC from the dose to the last measurable point."""
    dt = np.diff(time, axis=1)
    a, b = value[:, :-1], value[:, 1:]
    ta, tb = time[:, :-1], time[:, 1:]
    area, moment = 0.5 * dt * (a + b), 0.5 * dt * (ta * a + tb * b)
    if rule != "linear":
        falls = (b < a) & (b > 0) & (dt > 0)
        ratio = np.log1p(np.where(falls, (a - b) / np.where(b > 0, b, 1.0), 1.0))
        rate = ratio / np.where(dt > 0, dt, 1.0)
        area = np.where(falls, (a - b) / rate, area)
        moment = np.where(falls, (ta * a - tb * b) / rate + (a - b) / rate**2, moment)
    before = np.arange(dt.shape[1]) < last[:, None]
    return np.where(before, area, 0.0).sum(axis=1), np.where(before, moment, 0.0).sum(axis=1)


def _terminal(
    time: Array, value: Array, positive: NDArray[np.bool_], tmax: Array, bolus: NDArray[np.bool_], last: Ints
) -> tuple[Array, Ints, Array]:
    """Return λz, the number of its points and the adjusted R²; NaN and 0 without a falling end."""
    after = (time > tmax[:, None]) | (bolus[:, None] & (time == tmax[:, None]))
    use = positive & after & (np.arange(time.shape[1]) <= last[:, None])
    # Sums over the last n points for every n: cumulative sums from the end, about the last point.
    end = time[np.arange(len(time)), last][:, None]
    x = np.where(use, time - end, 0.0)[:, ::-1]
    y = np.where(use, np.log(np.where(use, value, 1.0)), 0.0)[:, ::-1]
    y = np.where(use[:, ::-1], y - y.max(axis=1, keepdims=True), 0.0)
    n, sx, sy, sxx, sxy, syy = (np.cumsum(v, axis=1) for v in (use[:, ::-1].astype(float), x, y, x * x, x * y, y * y))
    vx, vy, vxy = sxx - sx * sx / n, syy - sy * sy / n, sxy - sx * sy / n
    slope = -vxy / vx
    r2 = vxy**2 / (vx * vy)
    adjusted = 1.0 - (1.0 - r2) * (n - 1.0) / (n - 2.0)
    good = use[:, ::-1] & (n >= _FEWEST) & (slope > 0) & np.isfinite(adjusted)
    score = np.where(good, adjusted, -np.inf)
    best = score.max(axis=1, keepdims=True)
    most = np.where(good & (score > best - _CLOSE), n, 0.0)
    place = most.argmax(axis=1)
    rows = np.arange(len(time))
    any_good = good.any(axis=1)
    return (
        np.where(any_good, slope[rows, place], np.nan),
        np.where(any_good, n[rows, place], 0).astype(np.intp),
        np.where(any_good, adjusted[rows, place], np.nan),
    )


def _notes(found: Profiles, table: pd.DataFrame, after: Ints) -> list[str]:
    """Say of each row what could not be found, and why."""
    out = []
    columns = (
        table["points"],
        table["extrapolated"],
        table["tlast"],
        table["AUClast"],
        found.number,
        found.repeated,
        found.steady,
    )
    numbers = zip(*columns, found.amount, after, strict=True)
    for points, extrapolated, tlast, area, number, repeated, steady, amount, n_after in numbers:
        words = []
        if np.isnan(tlast):
            words.append("nothing measurable")
        elif np.isnan(area):
            words.append("one measurable point: no areas, no half-life")
        elif not points:
            few = n_after < _FEWEST
            why = f"points after Cmax: {max(int(n_after), 0)}, needed: 3" if few else "no three points fall after Cmax"
            words.append(f"no half-life ({why})")
        if not number:
            words.append("no dose: no CL/F")
        elif np.isnan(amount) or amount == 0:
            words.append("no amount: no CL/F")
        if repeated and not steady:
            words.append("earlier doses are not washed out: no AUCinf, CL/F, Vz/F, MRT")
        elif steady:
            words.append("steady state: CL/F from the dosing interval, no AUCinf, MRT")
        if extrapolated > _MUCH:
            words.append(f"{extrapolated:.0f} % of AUCinf is extrapolated")
        out.append("; ".join(words))
    return out


def _units(data: Data, output: Any) -> dict[str, str]:
    t, c, a = data.unit("TIME"), data.output_unit(output), data.unit("AMT")
    area = f"{c}·{t}" if c and t else ""
    volume = quotient(a, concentration(c)) if a and c else ""
    units = dict.fromkeys(("start", "tmax", "tlast", "half_life", "MRT"), t)
    units |= dict.fromkeys(("C0", "Cmax", "Clast"), c) | dict.fromkeys(("AUClast", "AUCinf"), area)
    units |= {"amount": a, "extrapolated": "%", "lambda_z": f"1/{t}" if t else "", "Vz/F": volume}
    units["CL/F"] = f"{volume}/{t}" if volume and t else ""
    return {k: v for k, v in units.items() if v}


def nca_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return n, median, least and largest, geometric mean and its CV (per cent) of each quantity of `nca`.

    The geometric CV is 100·√(exp(s²) − 1) with s the standard deviation of the logarithms.
    """
    names = ["Cmax", "tmax", "AUClast", "AUCinf", "half_life", "CL/F", "Vz/F", "MRT"]
    rows = []
    units = table.attrs.get("units", {})
    for name in names:
        x = table[name].dropna().to_numpy(float)
        logs = np.log(x[x > 0]) if len(x) else x
        spread = float(logs.std(ddof=1)) if len(logs) > 1 else np.nan
        rows.append(
            {
                "unit": units.get(name, ""),
                "n": len(x),
                "median": float(np.median(x)) if len(x) else np.nan,
                "min": float(x.min()) if len(x) else np.nan,
                "max": float(x.max()) if len(x) else np.nan,
                "geometric_mean": float(np.exp(logs.mean())) if len(logs) else np.nan,
                "geometric_CV": 100.0 * float(np.sqrt(np.expm1(spread**2))),
            }
        )
    return pd.DataFrame(rows, index=pd.Index(names, name="quantity"))
