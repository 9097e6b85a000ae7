"""Starting values: from non-compartmental analysis and pooled data, or a global search; and how each was found."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.pooled import Axis, OutOfTime, Pooled, some_subjects
from nlmewidgets.methods.spread import spread
from nlmewidgets.studies.from_nca import meaning_of, nca_values

__all__ = ["Guess", "guess"]

_SAME = 0.05
"""Relative difference of residual variances within which two fits are equally good: the believable one is taken."""


@dataclass(frozen=True, eq=False)
class Guess:
    """Starting values with how they were found.

    Attributes
    ----------
    model : Model
        The model at the guessed values.
    found : DataFrame
        Per population parameter: declared, guessed, how.
    message : str
        One sentence on the search.
    """

    model: Model
    found: pd.DataFrame
    message: str

    def table(self) -> pd.DataFrame:
        """Return one row per population parameter: declared, guessed, how it was found."""
        return self.found.copy()

    def __repr__(self) -> str:
        return f"{self.message}\n{self.found.to_string()}"

    def _repr_html_(self) -> str:
        return f"<p>{self.message}</p>{self.found.to_html(border=0)}"


def guess(
    model: Model,
    data: Data,
    *,
    seconds: float = 20.0,
    seed: int = 1,
    stop: Callable[[], bool] | None = None,
) -> Guess:
    """Return starting values for a model; fixed parameters keep theirs.

    Parameters
    ----------
    model : Model
    data : Data
    seconds : float
        Time for the search of the typical values; half as much again at most for the spread between subjects.
    seed : int
        Of the global search.
    stop : callable, optional
        Asked between steps; true ends the search with the best values so far.

    Returns
    -------
    Guess

    Notes
    -----
    Typical values: where every structural parameter is one that a non-compartmental analysis knows (ka, CL, V, …),
    its values and the declared ones are refined on the pooled data, all random effects zero; otherwise
    differential evolution over three decades around the declared values comes first.  Standard deviations:
    a few steps of iterative two-stage estimation.  Some 1,000 observations are used at most.  Where
    absorption and elimination can change places without another fit, absorption is the faster.

    Raises
    ------
    MethodError
        If `seconds` is no positive number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise MethodError(f"seconds={seconds!r} is not a time; give a positive number of seconds.")
    model.problem(data)  # refuses what does not fit before anything is searched
    part = some_subjects(data)
    problem = model.problem(part)
    space = model.space
    declared = space.to_dict(space.initial)
    pooled = Pooled(problem, float(seconds), stop)
    search = _Search(problem, pooled)
    known = nca_values(model, part)
    how = dict.fromkeys(declared, "declared")
    pooled_words = "{} (NCA: {:.3g})"
    began = time.monotonic()
    words = search.run(known, seed)
    theta = search.chosen
    for p in space.theta:
        if not p.fixed and np.isfinite(pooled.best):
            how[p.name] = pooled_words.format(words, known[p.name]) if p.name in known else words
    values, told = spread(problem, pooled, theta, deadline=began + 1.5 * float(seconds), stop=stop)
    how |= told
    for p, value in zip(space.theta, values.theta, strict=True):
        if how[p.name] == "declared" and value != p.value:
            how[p.name] = "two-stage: mean of the subjects"
    for name in declared:
        if space.is_fixed(name):
            how[name] = "fixed"
    guessed = {name: value for name, value in space.to_dict(values).items() if not space.is_fixed(name)}
    better = model.with_values(guessed)
    final = better.space.to_dict(better.space.initial)
    table = pd.DataFrame(
        {
            "declared": list(declared.values()),
            "guessed": [final[n] for n in declared],
            "how": [how[n] for n in declared],
        },
        index=pd.Index(list(declared), name="parameter"),
    )
    message = (
        f"{words[0].upper()}{words[1:]}: {pooled.evaluations} candidates in {time.monotonic() - began:.1f} s on "
        f"{problem.n_subjects} of {data.n_subjects} subjects."
    )
    return Guess(better, table, message)


class _Search:
    """Candidates in unconstrained coordinates of the free thetas."""

    def __init__(self, problem: Problem, pooled: Pooled) -> None:
        self.space = problem.space
        self.pooled = pooled
        self.free = [k for k, p in enumerate(self.space.theta) if not p.fixed]
        typical = {s.name for s, v in problem.model.parameters.items() if isinstance(v, Distribution)}
        self.axes = [Axis(self.space.theta[k], self.space.theta[k].name in typical) for k in self.free]
        self.start = np.array([axis.free(axis.parameter.value) for axis in self.axes])
        self.reach = np.array([axis.reach for axis in self.axes])
        self.chosen = self.space.initial.theta
        self.same = _SAME * problem.n_obs
        self.typical = {axis.parameter.name for axis in self.axes if axis.parameter.name in typical}

    def thetas(self, x: Array) -> Array:
        """Return natural values (candidates, thetas) of coordinates (candidates, free)."""
        out = np.tile(self.space.initial.theta, (len(x), 1))
        for place, (k, axis) in enumerate(zip(self.free, self.axes, strict=True)):
            out[:, k] = [axis.natural(float(v)) for v in x[:, place]]
        return out

    def objective(self, x: Array) -> Array:
        """Return the pooled objective at coordinates (candidates, free)."""
        return self.pooled(self.thetas(x))

    def at(self, values: dict[str, float]) -> Array:
        """Return coordinates with some parameters at given values, where their bounds allow."""
        x = self.start.copy()
        for place, axis in enumerate(self.axes):
            p = axis.parameter
            value = values.get(p.name)
            if value is not None and (p.lower is None or value > p.lower) and (p.upper is None or value < p.upper):
                x[place] = axis.free(value)
        return x

    def run(self, known: dict[str, float], seed: int) -> str:
        """Search, and say how."""
        if not self.free:
            return "nothing to search"
        from_nca = bool(known) and bool(self.typical) and self.typical <= set(known)
        words = "pooled fit from NCA" if from_nca else "global search of the pooled data"
        starts = [*([self.at(known)] if known else []), self.start]
        try:
            best = self._descend(starts[0] if from_nca else self._evolve(starts, seed))
            if from_nca and self.pooled.spent < 0.25:
                other = self._descend(self.start)
                best = other if other[0] < best[0] - self.same else best
            swapped = self._unflipped(best[1])
            if swapped is not None:
                other = self._descend(swapped)
                best = other if other[0] < best[0] + self.same else best
            self.chosen = self.thetas(best[1][None])[0]
        except OutOfTime as end:
            self.chosen = self.pooled.best_theta if np.isfinite(self.pooled.best) else self.space.initial.theta
            words += f", {end}"
        return words

    def _unflipped(self, x: Array) -> Array | None:
        """Return the point with absorption and elimination swapped, where absorption is the slower: it fits as well."""
        theta = self.thetas(x[None])[0]
        meaning = {meaning_of(p.name): v for p, v in zip(self.space.theta, theta, strict=True) if meaning_of(p.name)}
        names = {meaning_of(p.name): p.name for p in self.space.theta if meaning_of(p.name)}
        if "ka" not in meaning or "V2" in meaning:
            return None
        ka = meaning["ka"]
        if {"CL", "V"} <= set(meaning) and ka < meaning["CL"] / meaning["V"]:
            swap = {"ka": meaning["CL"] / meaning["V"], "V": meaning["CL"] / ka}
        elif {"k", "V"} <= set(meaning) and ka < meaning["k"]:
            swap = {"ka": meaning["k"], "k": ka, "V": meaning["V"] * meaning["k"] / ka}
        else:
            return None
        numbers = {p.name: float(v) for p, v in zip(self.space.theta, theta, strict=True)}
        return self.at(numbers | {names[m]: float(v) for m, v in swap.items()})

    def _evolve(self, starts: list[Array], seed: int) -> Array:
        """Return the best point of differential evolution."""
        from scipy.optimize import differential_evolution  # dear to import

        d = len(self.free)
        rng = np.random.default_rng(seed)
        count = max(60, 15 * d)
        # A Latin hypercube, denser in the middle: half of the orders of magnitude are within a third of the reach.
        cube = (rng.permuted(np.tile(np.arange(count), (d, 1)), axis=1).T + rng.random((count, d))) / count
        u = 2.0 * cube - 1.0
        crowd = self.start + self.reach * np.sign(u) * np.abs(u) ** 1.6
        crowd[: len(starts)] = starts
        bounds = list(zip(self.start - self.reach, self.start + self.reach, strict=True))
        low, high = np.array(bounds).T
        result = differential_evolution(
            lambda x: self.objective(np.atleast_2d(x.T)),
            bounds,
            init=np.clip(crowd, low, high),
            vectorized=True,
            updating="deferred",
            polish=False,
            maxiter=120,
            tol=0.0,  # most candidates are equally far off at first: their spread says nothing about convergence
            atol=1e-3,
            mutation=(0.4, 0.9),
            recombination=0.8,
            seed=np.random.default_rng(seed),
        )
        return np.asarray(result.x, dtype=float)

    def _descend(self, start: Array) -> tuple[float, Array]:
        """Refine a point by quasi-Newton steps, the gradient from one batch of central differences."""
        from scipy.optimize import minimize

        d = len(start)
        h = 1e-4

        def value_and_slope(x: Array) -> tuple[float, Array]:
            moves = np.concatenate([np.zeros((1, d)), h * np.eye(d), -h * np.eye(d)])
            values = self.objective(x + moves)
            with np.errstate(invalid="ignore"):
                slope = (values[1 : d + 1] - values[d + 1 :]) / (2.0 * h)
            value = float(values[0]) if np.isfinite(values[0]) else 1e10
            return value, np.where(np.isfinite(slope), slope, 0.0)

        low, high = start - 2.0 * self.reach, start + 2.0 * self.reach
        result = minimize(
            value_and_slope,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 100, "ftol": 1e-9},
        )
        return float(result.fun), np.asarray(result.x, dtype=float)
