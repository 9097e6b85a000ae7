r"""−2 log L by quadrature with as many nodes for each subject as its integral needs.

The nodes grow by two until the values settle.  What a subject's value still lacks after n nodes is estimated from
its last two changes, :math:`c_n = |L_n - L_{n-2}|`: with :math:`r = c_n / c_{n-2}` the changes to come add up to
:math:`c_n\, r/(1-r)`.  Only the subjects who lack most go on, as many as it takes for the others to lack less than
half of the tolerance together.
"""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.marginal import Evaluation
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension, nodes_within

__all__ = ["settled_quadrature"]

_POINTS = 5_000
"""Of a subject's grid, at most."""
_PREDICTIONS = 50_000_000
"""In all: a second or two where they are closed forms."""
_CHEAP = 1_000_000
"""Predictions of the finest grid below which the search for a coarser one would cost more."""
_MOST = 15
"""Nodes per dimension."""
_SLOWEST, _FASTEST = 0.9, 0.5
"""Ratios of changes that are believed."""


def settled_quadrature(
    problem: Problem, values: Values, start: Array | None = None, *, tolerance: float = 2e-4
) -> tuple[Evaluation, str]:
    """Return −2 log L of every subject, and how it was computed: 'laplace', or 'agq, 11 nodes' of the finest grid.

    Parameters
    ----------
    problem : Problem
    values : Values
    start : (etas, subjects) float, optional
        Where the search of the modes begins.
    tolerance : float
        Error aimed at, a subject (its estimate errs upwards, two- or threefold); of all together 0.001 at least.
    """
    q = grid_dimension(problem)
    most = nodes_within(q, min(_POINTS, _PREDICTIONS // max(problem.n_obs, 1)), _MOST)
    if most == 1 or most**q * problem.n_obs <= _CHEAP:
        return evaluate_quadrature(problem, values, most, start), _named(most)
    found = evaluate_quadrature(problem, values, 1, start)
    value = found.per_subject.copy()
    everyone = np.arange(problem.n_subjects)
    change, lacks = np.full(len(value), np.inf), np.full(len(value), np.inf)
    enough = max(1e-3, tolerance * len(value))
    nodes, left, spent = 1, everyone, 0
    while nodes < nodes_within(q, _POINTS, _MOST):
        own = problem
        if len(left) < len(everyone):
            own = problem.model.problem(problem.data.subset([problem.data.ids[i] for i in left]))
        spent += (nodes + 2) ** q * own.n_obs
        if spent > _PREDICTIONS:
            break
        nodes += 2
        # Without the last occasion of all, a subset has fewer random effects.
        centre = found.eta[:, left] if own.n_eta == problem.n_eta else None
        new = evaluate_quadrature(own, values, nodes, centre).per_subject
        moved = np.abs(new - value[left])
        with np.errstate(all="ignore"):
            ratio = np.clip(moved / change[left], _FASTEST, _SLOWEST)
        # Where a subject's value is no number, more nodes do not make it one.
        lacks[left] = np.where(np.isfinite(moved), moved * ratio / (1.0 - ratio), 0.0)
        value[left], change[left] = new, moved
        if nodes == 3:
            continue
        worst = np.argsort(-lacks, kind="stable")
        rest = lacks[worst].sum() - np.cumsum(lacks[worst])  # of those after each
        if lacks.sum() <= enough:
            break
        left = np.sort(worst[: 1 + int(np.argmax(rest <= 0.5 * enough))])
    return Evaluation(value, found.eta, joint=found.joint), _named(nodes)


def _named(nodes: int) -> str:
    return "laplace" if nodes == 1 else f"agq, {nodes} nodes"
