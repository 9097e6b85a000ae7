"""One number for fits of every method: −2 log L itself, by quadrature or importance sampling, with its error.

The objectives of FO, FOCE, FOCEI and Laplace are approximations of −2 log L, each with an error of its own
(decimals on rich data, tens of units on sparse ones), so they say nothing about each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.pieces import Pieces, finish, quietly
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.importance import importance_pieces
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension

__all__ = ["Yardstick", "yardstick", "yardstick_pieces"]

_MOST_PREDICTIONS = 30_000_000
_MOST_POINTS = 2_000_000
_NODES = (5, 7, 11, 15, 21, 31, 45, 65)


@dataclass(frozen=True, eq=False)
class Yardstick:
    """−2 log L of the data at given population values.

    Attributes
    ----------
    ofv : float
        −2 log L without n·log 2π of normally distributed observations, as `Fit.ofv`.
    error : float
        How far that may be off: the last change of a quadrature as its nodes grew, or the Monte Carlo standard
        error of importance sampling.
    by : str
        How it was computed: 'agq, 15 nodes' or 'imp, 2304 draws'.
    per_subject : (subjects,) float
    message : str
        What to know before trusting the value, '' if nothing.
    """

    ofv: float
    error: float
    by: str
    per_subject: Array
    message: str = ""

    def __str__(self) -> str:
        """Return value, error and how it was computed."""
        return f"{self.ofv:.3f} ± {self.error:.2g} ({self.by})"


def yardstick(
    problem: Problem,
    values: Values,
    *,
    by: str = "auto",
    eta: Array | None = None,
    error: float = 0.05,
    seed: int | np.random.Generator = 0,
) -> Yardstick:
    """Return −2 log L with its error, whatever method made the estimates.

    Parameters
    ----------
    problem : Problem
    values : Values
    by : str
        'agq': quadrature whose nodes grow until the value settles; 'imp': importance sampling; 'auto':
        quadrature where the grid is affordable and the value settles on it, importance sampling otherwise.
    eta : (etas, subjects) float, optional
        Where the search of the modes begins.
    error : float
        The error aimed at.  A quadrature has settled when more nodes change it by a tenth of this.
    seed : int or Generator
        Of importance sampling.

    Raises
    ------
    MethodError
        If `by` is none of the three, or 'agq' is asked for where no grid of 5 nodes is affordable.
    """
    return finish(quietly(yardstick_pieces(problem, values, by=by, eta=eta, error=error, seed=seed)))


def yardstick_pieces(
    problem: Problem,
    values: Values,
    *,
    by: str = "auto",
    eta: Array | None = None,
    error: float = 0.05,
    seed: int | np.random.Generator = 0,
) -> Pieces[Yardstick]:
    """Return what `yardstick` does, in pieces: one quadrature, or a fraction of a second of draws."""
    if by not in ("auto", "agq", "imp"):
        raise MethodError(f"by='{by}' is no way to compute −2 log L; use 'auto', 'agq' or 'imp'.")
    grid = None
    if by != "imp":
        for grid in _growing(problem, values, eta):
            if grid.error <= 0.1 * error:
                return grid
            yield
    if by == "agq":
        if grid is None:
            raise MethodError(
                f"A grid of {_NODES[0]} nodes in {grid_dimension(problem)} dimensions takes too many predictions; "
                "use by='imp'."
            )
        return _unsettled(grid, error)
    found = yield from importance_pieces(problem, values, np.random.default_rng(seed), eta, error=error)
    sampled = Yardstick(found.ofv, found.ofv_error, f"imp, {found.draws} draws", found.per_subject, found.message)
    if by == "auto" and grid is not None and grid.error < sampled.error:
        return _unsettled(grid, error)
    return sampled


def _growing(problem: Problem, values: Values, eta: Array | None) -> Iterator[Yardstick]:
    """Yield quadratures of growing nodes, as long as they are affordable and finite."""
    q = grid_dimension(problem)
    before = None
    for nodes in _NODES:
        points = nodes**q
        if points > _MOST_POINTS or points * problem.n_obs > _MOST_PREDICTIONS:
            return
        try:
            found = evaluate_quadrature(problem, values, nodes, eta)
        except np.linalg.LinAlgError:  # a singular Omega
            return
        if not np.isfinite(found.ofv):
            return
        change = np.inf if before is None else abs(found.ofv - before)
        yield Yardstick(found.ofv, change, f"agq, {nodes} nodes" if q else "exact", found.per_subject)
        before, eta = found.ofv, found.eta


def _unsettled(grid: Yardstick, error: float) -> Yardstick:
    note = (
        f"The quadrature still moved by {grid.error:.2g} with the most nodes affordable." if grid.error > error else ""
    )
    return Yardstick(grid.ofv, grid.error, grid.by, grid.per_subject, note)
