r"""Simulation and estimation: bias, error, coverage and optima of methods on data whose truth is known.

Every data set is simulated from the model at its initial values (the truth) and fitted from there by every method.
With estimate :math:`\hat\theta_k` of data set k, a parameter has relative bias
:math:`\overline{\hat\theta}/\theta - 1`, relative root mean squared error
:math:`\sqrt{\overline{(\hat\theta/\theta - 1)^2}}`, and coverage the share of intervals that contain the truth.
Some data sets are fitted from random starts around the truth too: which share of these fits ends at the best objective
known for its data set says how far a method can be trusted to find its optimum.

References
----------
Burton et al. (2006), doi:10.1002/sim.2673 (design and reporting of simulation studies).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import MethodError, NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.fit import Fit
from nlmewidgets.fit import fit as run_fit
from nlmewidgets.fit.start import resolve
from nlmewidgets.methods.base import Method
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.studies.runner import Bound, completed
from nlmewidgets.studies.starts import random_starts

__all__ = ["SimulationStudy", "replicate", "simest"]

_SAME = {True: 0.05, False: 1.0}
_KINDS = ("R", "sandwich")


@dataclass(frozen=True, eq=False)
class SimulationStudy:
    """What methods make of data whose truth is known.

    Attributes
    ----------
    parameters : DataFrame
        By method and parameter: truth, bias_% with its Monte Carlo error, rmse_%, coverage_% by the observed
        information (R) and by the sandwich, and the number of fits.
    fits : DataFrame
        By method: data sets, converged_%, random starts, at_best_% (of the fits from random starts), seconds per fit.
    failures : DataFrame
        By method and cause: how many fits.
    estimates : DataFrame
        A row per data set and method.
    """

    parameters: pd.DataFrame
    fits: pd.DataFrame
    failures: pd.DataFrame
    estimates: pd.DataFrame

    def __repr__(self) -> str:
        parts = [self.fits.to_string(float_format=_plain), self.parameters.to_string(float_format=_plain)]
        if len(self.failures):
            parts.append("Failures\n" + self.failures.to_string(index=False))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        failures = self.failures.to_html(index=False) if len(self.failures) else ""
        return f"<div>{self.fits.to_html()}{self.parameters.to_html()}{failures}</div>"


def _plain(value: float) -> str:
    return f"{value:.4g}"


def simest(
    model: Model,
    design: Data,
    n: int = 200,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]] = ("focei", "laplace", "saem"),
    *,
    starts: int = 20,
    start_sets: int = 20,
    spread: float = 1.0,
    level: float = 0.95,
    seed: int = 1,
    workers: int = 1,
    executor: Executor | None = None,
    progress: bool | None = None,
    stop: threading.Event | None = None,
    time_limit: float | None = None,
) -> SimulationStudy:
    """Simulate data sets from a model and estimate it again by several methods.

    Parameters
    ----------
    model : Model
        At the truth.
    design : Data
        Times, doses and covariates; its observed values do not matter.
    n : int
        Data sets.
    methods : sequence of str, or mapping of str to options
    starts, start_sets : int
        Random starts, and how many data sets are fitted from them (a quarter of it by methods that simulate).
    spread : float
        How far around the truth the starts are: 1 is ±100 %.
    level : float
        Of the confidence intervals.
    seed : int
    workers, executor, progress, stop, time_limit
        As for `multistart`.

    Returns
    -------
    SimulationStudy
        Of the data sets completed.

    Raises
    ------
    MethodError
        If there is no such method or option.
    """
    if not isinstance(n, int) or n < 1:
        raise MethodError(f"n={n!r} is not a whole number of data sets from 1.")
    given = methods if isinstance(methods, Mapping) else {name: {} for name in methods}
    chosen = [resolve(name, dict(options)) for name, options in given.items()]
    parcel: Any = Bound.of(model, design) if workers > 1 or executor is not None else (model, design)
    tasks = []
    for k in range(n):
        several = [
            starts if k < (start_sets if isinstance(m, Approximation) else start_sets // 4) else 0 for m in chosen
        ]
        tasks.append((parcel, chosen, several, spread, level, (seed, k)))
    done = completed(
        replicate,
        tasks,
        workers=workers,
        executor=executor,
        what="data sets",
        progress=progress,
        stop=stop,
        time_limit=time_limit,
    )
    rows = [row | {"set": k} for k, result in done for row in result]
    return _study(model, [m.name for m in chosen], rows)


def replicate(task: tuple[Any, list[Method], list[int], float, float, tuple[int, int]]) -> list[dict[str, Any]]:
    """Return what every method makes of one simulated data set, a row each."""
    parcel, methods, several, spread, level, seed = task
    model, design = parcel.open() if isinstance(parcel, Bound) else parcel
    rng = np.random.default_rng(seed)
    drawn = model.simulate(design, seed=int(rng.integers(2**31)))["DV"].to_numpy()
    dv = np.full(len(design.records), np.nan)
    dv[design.observed] = drawn
    data = replace(design, records=design.records.assign(DV=dv))
    return [_row(model, data, m, count, spread, level, rng) for m, count in zip(methods, several, strict=True)]


def _row(
    model: Model, data: Data, method: Method, starts: int, spread: float, level: float, rng: np.random.Generator
) -> dict[str, Any]:
    seed = int(rng.integers(2**31))
    began = time.monotonic()
    fit, causes = _attempt(model, data, method, seed)
    row: dict[str, Any] = {"method": method.name, "seconds": time.monotonic() - began, "converged": False}
    if fit is not None:
        row |= {"converged": fit.converged, "ofv": fit.ofv, "estimates": fit.estimates.to_dict(), "inside": {}}
        truth = model.space.to_dict(model.values)
        for kind in _KINDS:
            try:
                table = fit.intervals(level, kind=kind)
                message = fit.uncertainty_by(kind).message
            except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as error:
                causes.append(f"{kind}: {error}")
                continue
            if message:
                causes.append(f"{kind}: {message}")
            known = table.dropna()
            row["inside"][kind] = {p: low <= truth[p] <= high for p, (_, low, high) in known.iterrows()}
    ends, failed = [np.inf if fit is None else fit.ofv], []
    for k, point in enumerate(random_starts(model.space, starts, rng, spread=spread)):
        other, why = _attempt(model.with_values(point), data, method, seed + k + 1)
        ends.append(np.inf if other is None else other.ofv)
        failed.append(bool(why))
        causes += [f"from a random start: {cause}" for cause in why]
    best = min(ends) + _SAME[isinstance(method, Approximation)]
    elsewhere = sum(e > best and not f for e, f in zip(ends[1:], failed, strict=True))
    causes += ["from a random start: converged at another optimum"] * elsewhere
    return row | {"starts": starts, "at_best": sum(e <= best for e in ends[1:]), "causes": causes}


def _attempt(model: Model, data: Data, method: Method, seed: int) -> tuple[Fit | None, list[str]]:
    try:
        fit = run_fit(model, data, method, seed=seed, progress=False)
    except (NlmeError, ArithmeticError, np.linalg.LinAlgError) as error:
        return None, [str(error)]
    if not np.isfinite(fit.ofv):
        return None, ["The objective at the end is not finite."]
    return fit, [] if fit.converged else [f"{fit.status}: {fit.message}"]


def _study(model: Model, methods: list[str], rows: list[dict[str, Any]]) -> SimulationStudy:
    truth = {p: v for p, v in model.space.to_dict(model.values).items() if not model.space.is_fixed(p)}
    parameters, fits, failures, estimates = [], [], [], []
    for method in methods:
        own = sorted((r for r in rows if r["method"] == method), key=lambda r: int(r["set"]))
        good = [r for r in own if "estimates" in r]
        started = sum(r["starts"] for r in own)
        fits.append(
            {
                "method": method,
                "data sets": len(own),
                "converged_%": 100.0 * np.mean([r["converged"] for r in own]) if own else np.nan,
                "random starts": started,
                "at_best_%": 100.0 * sum(r["at_best"] for r in own) / started if started else np.nan,
                "seconds": np.mean([r["seconds"] for r in own]) if own else np.nan,
            }
        )
        estimates += [{"set": r["set"], "method": method, "ofv": r["ofv"]} | r["estimates"] for r in good]
        causes = pd.Series([c for r in own for c in r["causes"]], dtype=object).map(_cause).value_counts()
        failures += [{"method": method, "fits": count, "cause": cause} for cause, count in causes.items()]
        for p, value in truth.items():
            found = np.array([r["estimates"][p] for r in good])
            scale = value or 1.0
            off = (found - value) / scale
            row: dict[str, Any] = {"method": method, "parameter": p, "truth": value}
            enough = len(off) > 1
            row["bias_%"] = 100.0 * off.mean() if enough else np.nan
            row["bias_error_%"] = 100.0 * off.std(ddof=1) / np.sqrt(len(off)) if enough else np.nan
            row["rmse_%"] = 100.0 * np.sqrt((off**2).mean()) if enough else np.nan
            for kind in _KINDS:
                inside = [r["inside"][kind][p] for r in good if p in r["inside"].get(kind, {})]
                row[f"coverage_%_{kind}"] = 100.0 * np.mean(inside) if inside else np.nan
            parameters.append(row | {"fits": len(good)})
    return SimulationStudy(
        pd.DataFrame(parameters).set_index(["method", "parameter"]),
        pd.DataFrame(fits).set_index("method"),
        pd.DataFrame(failures, columns=["method", "fits", "cause"]),
        pd.DataFrame(estimates),
    )


def _cause(text: str) -> str:
    """Return the first sentence of a cause without its numbers, so that like causes are counted together."""
    first = text.split(". ")[0].rstrip(".")
    return " ".join("…" if any(c.isdigit() for c in word) else word for word in first.split())
