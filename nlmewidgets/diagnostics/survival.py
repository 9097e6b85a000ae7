r"""Exact times of events against the model: observed and simulated Kaplan–Meier curves.

A time is drawn by inversion of the cumulative hazard, :math:`H(T) = E` with E exponential of mean 1, on a grid of times
between which H is taken to be linear; it is censored where the subject's follow-up ends.  Where subjects have
more than one event, their numbers in the grid's intervals are Poisson and the mean number so far is compared.

References
----------
Kaplan & Meier (1958), doi:10.2307/2281868; Nelson (1995), doi:10.1080/00401706.1995.10484299.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import sympy as sp
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.symbols import dv, last
from nlmewidgets.diagnostics.replicates import Progress, Source, replicates

__all__ = ["Curves", "cumulative_hazard", "exact_events", "has_exact_times", "kaplan_meier"]

POINTS = 200
"""Of the grid of times."""


def has_exact_times(problem: Problem, which: int) -> bool:
    """Whether an output is the exact times of events, whose cumulative hazard the model has."""
    return last in list(problem.model.outputs.values())[which].free_symbols


def cumulative_hazard(model: Model, which: int) -> Model:
    """Return the model whose output, in the place of a log likelihood of events, is their cumulative hazard."""
    name = list(model.outputs)[which]
    # The log likelihood of having had no event until a last record is minus the cumulative hazard.
    expression = -model.outputs[name].xreplace({dv: sp.S.Zero, last: sp.S.One})
    return Model.from_parts(
        dict(model.outputs) | {name: expression},
        model.parameters,
        model.observations,
        model.residuals,
        model.space,
        model.name,
        model.system,
        model.blq,
        model.priors,
    )


def kaplan_meier(time: Array, event: NDArray[np.bool_], at: Array) -> Array:
    """Return the share without event at some times, (..., len(at)), of subjects (..., n) followed until `time`."""
    n = time.shape[-1]
    # At the same time an event comes before an end of follow-up.
    order = np.lexsort((~event, time), axis=-1)
    time, event = np.take_along_axis(time, order, -1), np.take_along_axis(event, order, -1)
    curve = np.cumprod(np.where(event, 1.0 - 1.0 / np.arange(n, 0, -1), 1.0), axis=-1)
    place = (time[..., None, :] <= at[:, None]).sum(axis=-1)
    found = np.take_along_axis(curve, np.maximum(place - 1, 0), -1)
    return np.where(place > 0, found, 1.0)


class Curves(NamedTuple):
    """Observed and simulated curves.

    Attributes
    ----------
    index : DataFrame
        stratum, x, n at risk.
    observed : (m,) float
    simulated : (replicates, m) float
    points : DataFrame
        ID, x (end of follow-up or first event), y (events), stratum.
    """

    index: pd.DataFrame
    observed: Array
    simulated: Array
    points: pd.DataFrame


def exact_events(
    source: Source,
    which: int,
    strata: tuple[tuple[object, Ints], ...],
    n: int,
    seed: int | None,
    *,
    uncertainty: bool = False,
    progress: Progress | None = None,
    points: int = 100,
) -> Curves:
    """Return the curves of one output.

    Parameters
    ----------
    source : Source
    which : int
        The output.
    strata : tuple of (name, observations)
        Counted within the output.
    n, seed, uncertainty, progress
        As in `vpc`.
    points : int
        Times shown.

    Notes
    -----
    A subject whose last record is an event would have been followed until the latest record of all.
    """
    problem = source.problem
    rows = np.flatnonzero(problem.output == which)
    time, happened, subject = problem.data.time[rows], problem.y[rows] > 0.5, problem.data.subject[rows]
    of_subject = np.full(problem.n_subjects, -1)
    name_of = {k: name for k, (name, _) in enumerate(strata)}
    for k, (_, own) in enumerate(strata):
        of_subject[subject[own]] = k
    events = np.bincount(subject, happened, problem.n_subjects)
    ends = np.zeros(problem.n_subjects)
    np.maximum.at(ends, subject, time)
    open_end = np.zeros(problem.n_subjects, dtype=bool)
    open_end[subject[happened & (time == ends[subject])]] = True
    follow = np.where(open_end, time.max(), ends)
    repeated = bool((events > 1).any())
    grid = np.linspace(min(0.0, float(problem.data.records["TIME"].min())), float(time.max()), POINTS + 1)
    shown = np.unique(np.linspace(1, POINTS, min(points, POINTS)).astype(np.intp))
    at = grid[shown]
    members = [np.flatnonzero(of_subject == k) for k in name_of]

    def curves(first: Array | None, seen: NDArray[np.bool_] | None, counts: Array | None, until: Array) -> Array:
        parts = []
        for own in members:
            if first is not None and seen is not None:
                parts.append(kaplan_meier(first[:, own], seen[:, own], at))
                continue
            assert counts is not None
            risk = (until[own, None] >= grid[1:]).sum(axis=0)
            with np.errstate(all="ignore"):
                rate = np.where(risk > 0, counts[:, own].sum(axis=1) / risk, 0.0)
            parts.append(np.cumsum(rate, axis=1)[:, shown - 1])
        return np.concatenate(parts, axis=1)

    early = np.full(problem.n_subjects, np.inf)
    np.minimum.at(early, subject[happened], time[happened])
    seen = np.isfinite(early)
    first = np.where(seen, early, ends)
    counts = None
    if repeated:
        counts = np.zeros((1, problem.n_subjects, POINTS))
        interval = np.clip(np.searchsorted(grid, time[happened]) - 1, 0, POINTS - 1)
        np.add.at(counts[0], (subject[happened], interval), problem.y[rows][happened])
    observed = (curves(None, None, counts, follow) if repeated else curves(first[None], seen[None], None, follow))[0]

    found, done = [], 0
    for hazard in _hazards(source, which, grid, n, seed, uncertainty):
        rng = np.random.default_rng([0 if seed is None else seed, done])
        found.append(_simulated(hazard, grid, follow, repeated, rng, curves))
        done += len(hazard)
        if progress is not None and progress(done / n) is False:
            break
    index = pd.concat(
        [
            pd.DataFrame({"stratum": name_of[k], "x": at, "n": (first[own, None] >= at).sum(axis=0)})
            for k, own in enumerate(members)
        ],
        ignore_index=True,
    )
    table = pd.DataFrame(
        {
            "ID": list(problem.data.ids),
            "x": first,
            "y": events,
            "stratum": [name_of.get(int(k), "") for k in of_subject],
            "bin": -1,
            "censored": ~seen,
        }
    )
    return Curves(index, observed, np.concatenate(found), table[of_subject >= 0].reset_index(drop=True))


def _hazards(source: Source, which: int, grid: Array, n: int, seed: int | None, uncertainty: bool) -> Iterator[Array]:
    """Yield cumulative hazards of simulated subjects, (replicates, subjects, grid − 1)."""
    data = source.problem.data
    label = data.dvid[np.flatnonzero(source.problem.output == which)[0]]
    hazard = cumulative_hazard(source.problem.model, which)
    on_grid = source._replace(problem=hazard.problem(data.on_grid(times=grid[1:], dvid=label)))
    rng = np.random.default_rng(seed)
    for chunk in replicates(on_grid, n, rng, uncertainty=uncertainty, draw=False):
        yield np.maximum.accumulate(chunk.f.reshape(len(chunk.f), data.n_subjects, -1), axis=2)


def _simulated(
    hazard: Array,
    grid: Array,
    follow: Array,
    repeated: bool,
    rng: np.random.Generator,
    curves: Callable[..., Array],
) -> Array:
    """Return the curves of data simulated by their cumulative hazards."""
    before = np.concatenate([np.zeros((*hazard.shape[:2], 1)), hazard], axis=2)
    if repeated:
        inside = grid[1:] <= follow[:, None] * (1 + 1e-12)
        counts = rng.poisson(np.where(inside, np.diff(before, axis=2), 0.0))
        return curves(None, None, counts, follow)
    wanted = rng.standard_exponential(hazard.shape[:2])
    place = (hazard < wanted[..., None]).sum(axis=2)
    inside = np.minimum(place, hazard.shape[2] - 1)[..., None]
    low, high = (np.take_along_axis(x, inside, 2)[..., 0] for x in (before[..., :-1], hazard))
    with np.errstate(all="ignore"):
        share = np.clip((wanted - low) / (high - low), 0.0, 1.0)
    left = inside[..., 0]
    time = np.where(place < hazard.shape[2], grid[left] + share * (grid[left + 1] - grid[left]), np.inf)
    return curves(np.minimum(time, follow), time <= follow, None, follow)
