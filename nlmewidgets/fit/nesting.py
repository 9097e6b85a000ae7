"""Whether one fitted model is a special case of another, told by name and checked by number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

if TYPE_CHECKING:
    from nlmewidgets.fit.result import Fit

__all__ = ["Nesting", "nesting"]


@dataclass(frozen=True)
class Nesting:
    """What the larger model has more.

    Attributes
    ----------
    extra : tuple of str
        Its free parameters that the smaller one fixes or does not have.
    boundary : int
        How many of them the smaller one puts at the end of their range.
    """

    extra: tuple[str, ...]
    boundary: int


def nesting(smaller: Fit, larger: Fit) -> Nesting | None:
    """Return how `smaller` is nested in `larger`; None if it is not, as far as can be told.

    Parameters are matched by name.  What the smaller model does not have is zero there: the effect of a covariate, the
    variance of a random effect with its correlations, a part of the residual error.  That this makes the larger model
    the smaller one is then checked: at random random effects both must give every observation the same likelihood.
    """
    a, b = smaller.start.space, larger.start.space
    free_a = [n for n in a.names if not a.is_fixed(n)]
    free_b = [n for n in b.names if not b.is_fixed(n)]
    extra = tuple(n for n in free_b if n not in free_a)
    if not extra or not set(free_a) <= set(free_b) or not set(a.eta) <= set(b.eta):
        return None
    numbers = smaller.estimates.to_dict()
    absent = [n for n in b.names if n not in numbers]
    if any(n not in extra for n in absent):  # fixed in the larger model, absent in the smaller
        return None
    fixed = larger.estimates.to_dict()
    if any(b.is_fixed(n) and not np.isclose(numbers[n], fixed[n], rtol=1e-9) for n in b.names if n in numbers):
        return None
    if not _same_likelihood(smaller.problem, larger.problem, numbers):
        return None
    if not _same_covariance(smaller, larger):
        return None
    scalars = {p.name: p for p in (*b.theta, *b.sigma)}
    boundary = 0
    for name in absent:
        if name in b.omega_names:
            boundary += 1
        elif name in scalars:
            boundary += scalars[name].lower == 0 or scalars[name].upper == 0
    return Nesting(extra, boundary)


def _same_covariance(smaller: Fit, larger: Fit) -> bool:
    """Whether the covariances the larger model lets the shared effects have include those of the smaller."""
    a, b = smaller.start.space, larger.start.space
    pairs = {frozenset((b.eta[i], b.eta[j])) for _, i, j in b.correlations}
    mine = {frozenset((a.eta[i], a.eta[j])) for _, i, j in a.correlations}
    return mine <= pairs


def _same_likelihood(small: Problem, large: Problem, numbers: dict[str, float]) -> bool:

    def values(problem: Problem) -> Values:
        space = problem.space
        theta = [numbers.get(p.name, 0.0) for p in space.theta]
        sigma = [numbers.get(p.name, 0.0) for p in space.sigma]
        return Values(np.array(theta), space.initial.omega, np.array(sigma))

    rng = np.random.default_rng(0)
    draws = {name: 0.3 * rng.standard_normal((20, small.n_subjects)) for name in small.space.eta}
    try:
        with np.errstate(all="ignore"):
            found = [_each(problem, values(problem), draws) for problem in (small, large)]
    except (ArithmeticError, ValueError):
        return False
    usable = np.isfinite(found[0])
    return bool(usable.any() and np.allclose(found[0][usable], found[1][usable], rtol=1e-7, atol=1e-7))


def _each(problem: Problem, values: Values, draws: dict[str, Array]) -> Array:
    """Return −2 log p of each observation at etas given by name; those without a name are zero."""
    occasions = problem.occasions
    eta = np.zeros((problem.n_eta, problem.n_subjects))
    for row, (source, copy) in enumerate(zip(occasions.source, occasions.copy, strict=True)):
        name = problem.space.eta[source]
        if name in draws:
            eta[row] = draws[name][max(int(copy), 0) % 20]
    f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
    return problem.minus2ll_each(np.broadcast_to(f, (problem.n_obs,)), values.sigma)
