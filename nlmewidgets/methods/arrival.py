r"""Whether estimates by simulation arrived at a maximum: the score there beside its spread between subjects.

Where variances are small, EM moves a typical value by about :math:`\omega^2` times the score: far less than the Monte
Carlo noise of an iteration, however far the maximum is.  A trace without a trend is then no sign of arrival.  At a
maximum the scores :math:`s_i` of the subjects add up to zero; with :math:`g = \sum_i s_i`, the ratio
:math:`g^2 / \sum_i (s_i - \bar s)^2` says along one coordinate how far away it is, in squared standard errors.
"""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.laplace import evaluate_laplace
from nlmewidgets.methods.marginal import Evaluation
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension, nodes_within

__all__ = ["not_arrived"]

_FEWEST = 3
"""Subjects whose scores have a spread."""
_FAR = 1.0
"""Standard errors beyond which estimates are not at the maximum; Monte Carlo errors are a tenth of one."""
_GONE = 1e-2
"""Of its initial value: a standard deviation below that may go on to zero, where there is no maximum to arrive at."""
_PREDICTIONS = 10_000_000


def not_arrived(problem: Problem, values: Values, start: Array | None = None) -> tuple[str, ...]:
    """Return the coordinates along which −2 log L still falls, the steepest first; none at a maximum.

    Laplace's scores are asked first.  What they suspect is asked again by quadrature, where a grid is affordable.

    Parameters
    ----------
    problem : Problem
    values : Values
        The estimates.
    start : (etas, subjects) float, optional
        Where the search of the modes begins.
    """
    if problem.n_subjects < _FEWEST:
        return ()
    try:
        with np.errstate(all="ignore"):
            found = evaluate_laplace(problem, values, start, gradient=True, tolerance=1e-9)
            off = _off(problem, values, found)
            most = _PREDICTIONS // (problem.n_obs * (1 + len(problem.form.symbols)))
            nodes = nodes_within(grid_dimension(problem), min(1_000, max(most, 1)), 7)
            if off and nodes > 1:
                off = _off(problem, values, evaluate_quadrature(problem, values, nodes, found.eta, gradient=True))
    except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
        return ()
    return off


def _off(problem: Problem, values: Values, found: Evaluation) -> tuple[str, ...]:
    if found.scores is None:
        return ()
    space = problem.space
    scores = found.scores.along(space, values)
    slope = scores.sum(axis=0)
    if problem.penalty is not None:
        slope = slope + problem.penalty.along(values).gradient
    spread = np.sqrt(((scores - scores.mean(axis=0)) ** 2).sum(axis=0))
    ratio = slope / np.where(spread > 0, spread, np.inf)
    ratio = np.where(_leaving(problem, values) & (ratio > 0), 0.0, ratio)
    size = np.abs(np.nan_to_num(ratio))
    return tuple(space.x_names[k] for k in np.argsort(-size, kind="stable") if size[k] > _FAR)


def _leaving(problem: Problem, values: Values) -> Array:
    """Return which coordinates belong to standard deviations on their way to zero: falling on is right for these."""
    space, initial = problem.space, problem.space.initial
    small = np.sqrt(np.diag(values.omega)) < _GONE * np.sqrt(np.diag(initial.omega))
    rows, _ = space.omega_map.entries
    thetas = sum(not p.fixed for p in space.theta)
    sigma = [v < _GONE * p.value for p, v in zip(space.sigma, values.sigma, strict=True) if not p.fixed]
    return np.concatenate([np.zeros(thetas, dtype=bool), small[rows], np.array(sigma, dtype=bool)])
