r"""Visual predictive checks: what the data do over time, against what data simulated from the model do.

For each replicate of the data the same numbers are found as for the observed ones (quantiles in bins or along a
smooth curve, proportions of classes, Kaplan–Meier curves); their distribution over the replicates is the band.

References
----------
Holford (2005), PAGE 14, abstract 738; Karlsson & Holford (2008), PAGE 17, abstract 1434 (the check).
Bergstrand, Hooker, Wallin & Karlsson (2011), doi:10.1208/s12248-011-9255-z (prediction correction).
Post, Freijer, Ploeger & Danhof (2008), doi:10.1007/s10928-007-9081-1 (bands of the quantiles).
"""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.bins import Bins, find_bins
from nlmewidgets.diagnostics.correction import Correction, median_by
from nlmewidgets.diagnostics.look import look_groups, spaghetti
from nlmewidgets.diagnostics.npde import limits
from nlmewidgets.diagnostics.replicates import Progress, Replicates, Source, has_posterior, replicates, source_of
from nlmewidgets.diagnostics.statistics import (
    Cells,
    Events,
    LocalQuantiles,
    Proportions,
    Quantiles,
    Shares,
    Statistic,
    ordered_quantiles,
)
from nlmewidgets.diagnostics.survival import exact_events, has_exact_times
from nlmewidgets.fit import Fit

__all__ = ["KINDS", "VPC", "vpc"]

KINDS = ("quantiles", "classes", "events")
"""What is compared."""

_MOST_CLASSES = 6
_FEWEST_REPLICATES = 20


@dataclass(frozen=True, eq=False)
class VPC:
    """A visual predictive check, as tables.

    Attributes
    ----------
    kind : str
        'quantiles', 'classes' or 'events'.
    table : DataFrame
        stratum, (bin,) x, n, then quantile or class; observed; low, median, high of the replicates; outside: whether
        the observed value is out of the band. A quantile that falls among censored data is missing.
    bins : DataFrame
        stratum, bin, left, right, x (median in the bin), n; empty where there are no bins.
    censored : DataFrame
        The share of the data below and above their limit, like `table`; empty where nothing is censored.
    points : DataFrame
        ID, x, y (corrected where asked), stratum, bin, censored: the data behind it.
    n : int
        Replicates simulated.
    level : float
        Of the bands.
    options : dict
        What was asked for.
    seconds : float
        How long it took.
    """

    kind: str
    table: pd.DataFrame
    bins: pd.DataFrame
    censored: pd.DataFrame
    points: pd.DataFrame
    n: int
    level: float
    options: dict[str, Any]
    seconds: float

    @property
    def outside(self) -> float:
        """The share of the observed numbers out of their bands; 1 − level is expected, though they are correlated."""
        known = self.table["observed"].notna() & self.table["low"].notna()
        return float(self.table.loc[known, "outside"].mean())

    def __repr__(self) -> str:
        strata = self.table["stratum"].nunique()
        return (
            f"VPC of {self.kind}: {self.n} replicates, {len(self.table)} numbers in {strata} "
            f"{'stratum' if strata == 1 else 'strata'}, {100 * self.outside:.0f} % outside their "
            f"{100 * self.level:g} % bands ({self.seconds:.2f} s)\n{self.table.to_string(index=False, max_rows=20)}"
        )

    def _repr_html_(self) -> str:
        text = (
            f"{self.n} replicates, {100 * self.outside:.0f} % of the numbers outside their {100 * self.level:g} % bands"
        )
        return f"<div><b>VPC of {self.kind}</b><br>{text}</div>" + self.table.to_html(index=False, max_rows=30)


def vpc(
    what: Fit | Model | Source,
    data: Data | None = None,
    *,
    n: int = 1000,
    seed: int | None = None,
    bins: str | int | Sequence[float] = "auto",
    stratify: str | Sequence[str] | None = None,
    prediction_corrected: bool = False,
    additive: bool = False,
    variability_corrected: bool = False,
    lower: float = 0.0,
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    level: float = 0.95,
    output: str | int | None = None,
    x: str = "TIME",
    kind: str | None = None,
    span: float = 0.25,
    uncertainty: bool | None = None,
    progress: Progress | None = None,
) -> VPC:
    """Return a visual predictive check of a fit, or of a model at its values and data.

    Parameters
    ----------
    what : Fit or Model
    data : Data, optional
        Of a model; of a fit, other data to judge it by.
    n : int
        Replicates.
    seed : int, optional
    bins : "auto", "smooth", int or sequence of float
        See `nlmewidgets.diagnostics.bins`; "smooth" takes local quantiles instead of bins.
    stratify : str or sequence of str, optional
        Covariates (numbers are cut into thirds), or 'dose'.
    prediction_corrected, additive, variability_corrected, lower
        See `nlmewidgets.diagnostics.correction`.
    quantiles : sequence of float
    level : float
        Of the bands.
    output : str or int, optional
        The output's name or number from 1; the first one without it.
    x : str
        'TIME', 'TAD' (time after the last dose), 'PRED', or a column of numbers.
    kind : str, optional
        'quantiles', 'classes' or 'events'; as the output's likelihood says without it.
    span : float
        Of "smooth": the share of the data in each window.
    uncertainty : bool, optional
        Whether each replicate has population values of its own; without it only where the fit is Bayesian, which
        makes this a posterior predictive check.
    progress : callable, optional
        Called with the share done; returning False stops, and the bands are those of the replicates so far.

    Raises
    ------
    DataError
        If an option is not known or does not fit the data.
    ModelError
        If the likelihood cannot be simulated.
    """
    began = clock.perf_counter()
    source = source_of(what, data)
    problem = source.problem
    levels = tuple(float(q) for q in quantiles)
    if not levels or not all(0.0 < q < 1.0 for q in (*levels, level)):
        raise DataError("quantiles= and level= must be between 0 and 1.")
    which = _output(problem, output)
    rows = np.flatnonzero(problem.output == which)
    if not rows.size:
        raise DataError(f"There are no observations of the output '{list(problem.model.outputs)[which]}'.")
    kind = _kind(problem, which) if kind is None else kind
    if kind not in KINDS:
        raise DataError(f"kind={kind!r} is not known; there are {', '.join(map(repr, KINDS))}.")
    strata = _strata(problem, rows, stratify)
    uncertain = has_posterior(source.fit) if uncertainty is None else uncertainty
    options = {
        "output": list(problem.model.outputs)[which],
        "x": x,
        "bins": bins if isinstance(bins, str | int) else list(bins),
        "stratify": stratify,
        "prediction_corrected": prediction_corrected or variability_corrected,
        "additive": additive,
        "variability_corrected": variability_corrected,
        "uncertainty": uncertain,
        "seed": seed,
    }
    if kind == "events" and has_exact_times(problem, which):
        curves = exact_events(source, which, strata, n, seed, uncertainty=uncertain, progress=progress)
        table = _bands(curves.index, curves.observed, curves.simulated, level)
        empty = table.iloc[:0]
        spent = clock.perf_counter() - began
        return VPC(kind, table, empty, empty, curves.points, len(curves.simulated), level, options, spent)
    pred = _pred(source)[rows]
    along = pred if x == "PRED" else _independent(problem, rows, x)
    smooth = isinstance(bins, str) and bins == "smooth"
    cells, label = _cells(along, strata, 1 if smooth or kind == "events" else bins)

    low, high = (end[rows] for end in limits(problem))
    cens = problem.data.cens[rows]
    correction = None

    def simulated() -> Any:
        return replicates(source, n, np.random.default_rng(seed), uncertainty=uncertain)

    if prediction_corrected or variability_corrected:
        if kind != "quantiles":
            raise DataError("Prediction correction is for quantiles of continuous data; leave it out here.")
        reference = _smooth_reference(along, pred, strata, span) if smooth else median_by(pred, cells.rows)
        correction = Correction.of(pred, reference, additive=additive, lower=lower)
        if variability_corrected:
            correction = correction.of_variability(_sd(simulated(), rows, correction), cells.rows)

    statistics = _statistics(problem, which, kind, cells, strata, along, levels, rows, smooth, span)
    any_limit = kind == "quantiles" and bool(np.isfinite(low).any() or np.isfinite(high).any())
    if any_limit:
        statistics.append(Shares(cells))

    def numbers(y: Array, below: Any, above: Any) -> list[Array]:
        y = y if correction is None else correction(y)
        if any_limit:
            y = np.where(below, -np.inf, np.where(above, np.inf, y))
        return [statistic(y) for statistic in statistics]

    observed = numbers(problem.y[rows][None], cens > 0, cens < 0)
    found: list[list[Array]] = []
    done = 0
    for chunk in simulated():
        y = chunk.y[:, rows] if len(rows) < problem.n_obs else chunk.y
        found.append(numbers(y, y < low, y > high))
        done = chunk.first + len(y)
        if progress is not None and progress(done / n) is False:
            break
    tables = [
        _bands(statistic.index, own[0], np.concatenate(parts), level)
        for statistic, own, parts in zip(statistics, observed, zip(*found, strict=True), strict=True)
    ]
    y = problem.y[rows]
    points = pd.DataFrame(
        {
            "ID": problem.observation_columns()["ID"][rows],
            "x": along,
            "y": y if correction is None else correction(y),
            "stratum": _names(strata, len(rows)),
            "bin": label,
            "censored": cens != 0,
        }
    )
    return VPC(
        kind=kind,
        table=tables[0],
        bins=cells.table.iloc[:0] if smooth or kind == "events" else cells.table,
        censored=tables[1].dropna(subset=["observed"]) if any_limit else pd.DataFrame(columns=[*tables[0].columns]),
        points=points,
        n=done,
        level=level,
        options=options,
        seconds=clock.perf_counter() - began,
    )


# ------------------------------------------------------------------------ parts


def _bands(index: pd.DataFrame, observed: Array, simulated: Array, level: float) -> pd.DataFrame:
    """Return the table of a statistic: observed, low, median, high and outside."""
    out = index.copy()
    good = ~np.isnan(simulated).any(axis=1)  # a replicate that cannot be predicted tells nothing
    ends = np.array([0.5 - level / 2, 0.5, 0.5 + level / 2])
    if good.any():
        bands = ordered_quantiles(np.sort(simulated[good].T, axis=1), ends)
    else:
        bands = np.full((len(out), 3), np.nan)
    low, high = bands[:, 0], bands[:, 2]
    outside = (observed < low) | (observed > high)
    out["observed"] = np.where(np.isfinite(observed), observed, np.nan)
    for column, name in enumerate(("low", "median", "high")):
        out[name] = np.where(np.isfinite(bands[:, column]), bands[:, column], np.nan)
    out["outside"] = outside
    return out


def _statistics(
    problem: Problem,
    which: int,
    kind: str,
    cells: Cells,
    strata: tuple[tuple[Any, Ints], ...],
    along: Array,
    levels: tuple[float, ...],
    rows: Ints,
    smooth: bool,
    span: float,
) -> list[Statistic]:
    """Return the statistic of a kind."""
    observation = list(problem.model.observations.values())[which]
    if kind == "events":
        repeated = isinstance(observation.values, str)
        return [Events(strata, along, problem.data.subject[rows], repeated)]
    if kind == "classes":
        classes, is_open = _classes(observation.values, problem.y[rows])
        return [Proportions(cells, classes, is_open)]
    return [LocalQuantiles(strata, along, levels, span)] if smooth else [Quantiles(cells, levels)]


def _classes(values: tuple[Any, ...] | str | None, y: Array) -> tuple[tuple[float, ...], bool]:
    """Return the classes shown, and whether the last one is open."""
    known = tuple(sorted(float(v) for v in values)) if isinstance(values, tuple) else tuple(np.unique(y).tolist())
    if isinstance(values, tuple) and len(known) <= 2 * _MOST_CLASSES:
        return known, False
    first = int(known[0]) if isinstance(values, tuple) else 0
    last = min(int(max(known)), first + _MOST_CLASSES - 1)
    return tuple(float(k) for k in range(first, last + 1)), True


def _kind(problem: Problem, which: int) -> str:
    """Return what to compare for an output."""
    own = list(problem.model.observations.values())[which]
    if own.increments or has_exact_times(problem, which):
        return "events"
    return "classes" if isinstance(own.values, tuple) else "quantiles"


def _output(problem: Problem, output: str | int | None) -> int:
    names = list(problem.model.outputs)
    if output is None:
        return 0
    if output in names:
        return names.index(output)  # type: ignore[arg-type]
    if str(output).isdigit() and 1 <= int(output) <= len(names):
        return int(output) - 1
    raise DataError(f"output={output!r} is not known; there are {', '.join(map(repr, names))}.")


def _strata(problem: Problem, rows: Ints, stratify: str | Sequence[str] | None) -> tuple[tuple[Any, Ints], ...]:
    """Return each stratum's name and its observations, counted within the output."""
    by = [stratify] if stratify is None or isinstance(stratify, str) else list(stratify)
    label = np.full(problem.n_subjects, "", dtype=object)
    order = [""]
    for name in by:
        own, names = look_groups(problem.data, name)
        label = np.array([f"{a}, {b}" if a else str(b) for a, b in zip(label, own, strict=True)], dtype=object)
        order = [f"{a}, {b}" if a else str(b) for a in order for b in names]
    of_row = label[problem.data.subject[rows]]
    found = ((name, np.flatnonzero(of_row == name)) for name in order)
    return tuple((name, own) for name, own in found if own.size)


def _names(strata: tuple[tuple[Any, Ints], ...], size: int) -> Any:
    out = np.full(size, "", dtype=object)
    for name, rows in strata:
        out[rows] = name
    return out


def _cells(along: Array, strata: tuple[tuple[Any, Ints], ...], bins: Any) -> tuple[Cells, Ints]:
    """Return the cells, and each observation's bin within its stratum."""
    rows_of: list[Ints] = []
    records = []
    label = np.full(len(along), -1, dtype=np.intp)
    for name, rows in strata:
        found: Bins = find_bins(along[rows], bins)
        label[rows] = found.label
        for b in np.flatnonzero(found.count):
            rows_of.append(rows[found.label == b])
            records.append((name, int(b), found.edges[b], found.edges[b + 1], found.centre[b], int(found.count[b])))
    if not records:
        raise DataError("No observation lies within the edges given as bins=.")
    table = pd.DataFrame(records, columns=["stratum", "bin", "left", "right", "x", "n"])
    return Cells(table, tuple(rows_of)), label


def _pred(source: Source) -> Array:
    problem = source.problem
    with np.errstate(all="ignore"):
        zero = np.zeros((problem.n_eta, problem.n_subjects))
        return problem.predict(problem.slots(problem.typical(source.values.theta).slots, zero))


def _independent(problem: Problem, rows: Ints, x: str) -> Array:
    """Return the independent variable at observations.

    Raises
    ------
    DataError
        If there is no such column of numbers.
    """
    data = problem.data
    if x == "TIME":
        return data.time[rows]
    if x == "TAD":
        after = spaghetti(data, after_dose=True, output=data.dvid[rows[0]])["TIME"].to_numpy(dtype=float)
        if len(after) == len(rows):
            return after
        raise DataError("Time after dose needs all observations of the output to have one DVID; take x='TIME'.")
    if x not in data.records and x not in data.covariates:
        raise DataError(f"x={x!r} is no column of the data; give 'TIME', 'TAD', 'PRED' or a column of numbers.")
    column = data.records[x] if x in data.records else data.records[data.covariate_name(x)]
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)[data.observed][rows]
    if not np.isfinite(values).all():
        raise DataError(f"x={x!r} is not a number at every observation; choose another column.")
    return values


def _sd(chunks: Any, rows: Ints, correction: Correction) -> Array:
    """Return the SD over replicates of each corrected observation."""
    n, total, squares = 0, np.zeros(len(rows)), np.zeros(len(rows))
    chunk: Replicates
    for chunk in chunks:
        y = correction(chunk.y[:, rows]) - correction.reference
        n, total, squares = n + len(y), total + y.sum(axis=0), squares + (y**2).sum(axis=0)
    sd: Array = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
    return sd


def _smooth_reference(along: Array, pred: Array, strata: tuple[tuple[Any, Ints], ...], span: float) -> Array:
    """Return the local median of PRED at each observation."""
    local = LocalQuantiles(strata, along, (0.5,), span)
    index, found = local.index, local(pred[None])[0]
    out = np.array(pred)
    for name, rows in strata:
        own = (index["stratum"] == name).to_numpy()
        out[rows] = np.interp(along[rows], index.loc[own, "x"], found[own])
    return out
