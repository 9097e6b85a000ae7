"""The parts of the variance of one subject's observations along time, ready to be stacked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.variance import variance_split

__all__ = ["VarianceInTime", "variance_in_time"]


@dataclass(frozen=True, eq=False)
class VarianceInTime:
    """Parts that add up to Var(Y) at every time.

    Attributes
    ----------
    times : (times,) float
    parts : mapping
        (times,) float of each random effect, 'interaction', each sigma (or 'residual', where only draws are known).
    kinds : mapping
        'between' or 'residual' by part.
    between, residual, total : (times,) float
        By simulation.
    linear : (times,) float
        The total as the model linearised at η = 0 (FO) has it; NaN where there is none.
    overlapping : bool
        Whether effects are correlated: each then holds what it shares with others, and the interaction may be negative.
    """

    times: Array
    parts: Mapping[str, Array]
    kinds: Mapping[str, str]
    between: Array
    residual: Array
    total: Array
    linear: Array
    overlapping: bool

    def stacked(self, *, share: bool = False) -> dict[str, tuple[Array, Array]]:
        """Return the lower and upper edge of each part, negative parts as none; `share`: of the total of the stack."""
        heights = {name: np.maximum(np.nan_to_num(v), 0.0) for name, v in self.parts.items()}
        whole = sum(heights.values()) if heights else np.zeros(len(self.times))
        scale = 1.0 / np.where(whole > 0, whole, 1.0) if share else 1.0
        low, out = np.zeros(len(self.times)), {}
        for name, height in heights.items():
            high = low + height * scale
            out[name] = (low, high)
            low = high
        return out


def variance_in_time(problem: Problem, values: Values, *, n: int = 400, seed: int = 0) -> VarianceInTime:
    """Return the parts of the variance of an observation at every time.

    Parameters
    ----------
    problem : Problem
        The model on a grid of times (`Data.on_grid`) of one subject and one output.
    values : Values
    n : int
        Draws of the random effects; the same ones every time, so that nothing flickers while a slider moves.
    seed : int

    Raises
    ------
    ModelError
        If an output's likelihood says nothing about how to draw from it, or the problem is of several subjects.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange").subset([1]).on_grid(20)
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> found = variance_in_time(model.problem(data), model.values)
    >>> list(found.parts), bool(found.between[-1] > 10 * found.residual[-1])
    (['eta_asym', 'additive'], True)
    """
    if problem.n_subjects != 1:
        raise ModelError("The variance over time is that of one subject's design; take data.subset([id]).on_grid().")
    table = variance_split(problem, values, n=n, seed=seed)
    rows = dict(iter(table.groupby("part", sort=False)))
    value = {part: own["simulation"].to_numpy(dtype=float) for part, own in rows.items()}
    kind = {part: str(own["kind"].iloc[0]) for part, own in rows.items()}
    residual = [p for p, k in kind.items() if k in ("sigma", "other") and np.isfinite(value[p]).all()]
    residual = [p for p in residual if np.any(value[p])] or ["residual"]
    between = [p for p, k in kind.items() if k in ("eta", "interaction")]
    omega = np.abs(values.omega - np.diag(np.diag(values.omega)))
    linear = rows["total"]["linearisation"].to_numpy(dtype=float)
    return VarianceInTime(
        times=rows["total"]["TIME"].to_numpy(dtype=float),
        parts={p: value[p] for p in (*between, *residual)},
        kinds=dict.fromkeys(between, "between") | dict.fromkeys(residual, "residual"),
        between=value["between"],
        residual=value["residual"],
        total=value["total"],
        linear=linear,
        overlapping=bool(omega.max(initial=0.0) > 0),
    )
