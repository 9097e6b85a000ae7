"""The iterations of a run as series to draw: what is drawn, thinned, and where the phases begin."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.methods import Iteration

__all__ = ["History", "Phase", "Quantity", "history_of", "iteration_at", "phases_of", "thinned"]

_POINTS = 400
"""Of a series: more a screen cannot show."""

_KEPT = 200
"""Iterations of a history that keep their random effects, at most."""

_BYTES = 64_000_000
"""What these may take, at most."""


@dataclass(frozen=True)
class Quantity:
    """A number of the method's own, as it is drawn.

    Attributes
    ----------
    label, text : str
        Its name in a title, and what it says.
    log : bool
        Drawn on a logarithmic axis.
    """

    label: str
    text: str
    log: bool = False


QUANTITIES = {
    "gradient": Quantity("Gradient", "the largest slope of the objective along a parameter", log=True),
    "step": Quantity("Step length", "the share of the step proposed that was taken", log=True),
    "gamma": Quantity("Step size γ", "the weight of new draws: 1 while exploring, falling while smoothing"),
    "error": Quantity("Error of the OFV", "the Monte Carlo standard error of the objective", log=True),
    "ess": Quantity("Effective draws", "independent draws that the least one is worth", log=True),
    "rhat": Quantity("R-hat", "how far the chains are from having met: 1 at the end"),
    "divergences": Quantity("Divergences", "trajectories of the sampler that went astray"),
}
"""What the details of iterations are called in a figure; those that are not here are not drawn."""


@dataclass(frozen=True)
class Phase:
    """A stretch of iterations that a method calls by one name.

    Attributes
    ----------
    name : str
    first, last : int
        Iterations.
    """

    name: str
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class History:
    """Series of a run, thinned to what a screen can show.

    Attributes
    ----------
    k : (points,) float
        Iterations.
    ofv : (points,) float
    parameters : mapping of name to (points,) float
        Those that move, omegas and sigmas as standard deviations.
    own : mapping of name to (points,) float
        The method's own numbers, by the names of `QUANTITIES`; NaN where an iteration has none, and for a number that
        is not positive and drawn on a logarithmic axis.
    phases : tuple of Phase
    """

    k: Array
    ofv: Array
    parameters: dict[str, Array]
    own: dict[str, Array]
    phases: tuple[Phase, ...]


def history_of(trace: Sequence[Iteration], most: int = _POINTS) -> History:
    """Return the series of iterations, at most about `most` points of each, the newest always among them."""
    step = max(1, math.ceil(len(trace) / most))
    shown = list(trace[::step])
    if shown[-1] is not trace[-1]:
        shown.append(trace[-1])
    space = trace[-1].space
    rows = [it.to_dict() for it in shown]
    moving = [name for name in space.names if not space.is_fixed(name)]
    own = {}
    for name, quantity in QUANTITIES.items():
        values = np.array([it.details.get(name, np.nan) for it in shown])
        if quantity.log:
            values = np.where(values > 0, values, np.nan)
        if np.isfinite(values).any():
            own[name] = values
    return History(
        np.array([it.k for it in shown], dtype=float),
        np.array([it.ofv for it in shown]),
        {name: np.array([row[name] for row in rows]) for name in moving},
        own,
        phases_of(trace),
    )


def phases_of(trace: Sequence[Iteration]) -> tuple[Phase, ...]:
    """Return the phases of a run, the starting point counted to the first of them.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> steps = nw.stream(model, nw.datasets.load("theophylline"), "saem", seed=1, explore=5, smooth=4)
    >>> [(p.name, p.first, p.last) for p in phases_of(list(steps))]
    [('explore', 0, 5), ('smooth', 6, 9)]
    """
    if not trace:
        return ()
    out: list[Phase] = []
    name, first = trace[min(1, len(trace) - 1)].phase, trace[0].k
    for before, it in zip(trace[1:], trace[2:], strict=False):
        if it.phase != name:
            out.append(Phase(name, first, before.k))
            name, first = it.phase, it.k
    return (*out, Phase(name, first, trace[-1].k))


def thinned(trace: tuple[Iteration, ...], most: int = _KEPT) -> tuple[Iteration, ...]:
    """Return the history, in which at most `most` iterations, evenly spread, and the last keep their random effects.

    Of very many subjects fewer are kept, so that a long run stays within bounded memory.
    """
    size = max(trace[-1].eta.nbytes, 1)
    most = max(2, min(most, _BYTES // size))
    every = 2 ** max(0, math.ceil(math.log2(len(trace) / most)))
    if every > 1:
        for it in trace[:-1]:
            if it.k % every and it.eta.shape[1]:
                it.forget()
    return trace


def iteration_at(trace: Sequence[Iteration], k: int) -> Iteration:
    """Return the iteration of that number, or the nearest there is."""
    place = bisect.bisect_left(trace, k, key=lambda it: it.k)
    near = trace[max(place - 1, 0) : place + 1]
    return min(near, key=lambda it: abs(it.k - k))
