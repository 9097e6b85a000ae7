"""Replicates of the data simulated from a model: in chunks, with or without the estimates' uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.fit import Fit

__all__ = ["Progress", "Replicates", "Source", "replicates", "source_of"]

Progress = Callable[[float], Any]
"""Called with the share done; a return of False (not None) stops."""

CELLS = 2**16
"""Simulated observations of one chunk: memory stays bounded, and the arrays in the processor's cache."""


class Source(NamedTuple):
    """What is simulated from.

    Attributes
    ----------
    problem : Problem
    values : Values
    fit : Fit or None
    """

    problem: Problem
    values: Values
    fit: Fit | None = None


def source_of(what: Fit | Model | Source, data: Data | None = None) -> Source:
    """Return the problem and values of a fit, or of a model and data.

    Raises
    ------
    DataError
        If a model comes without data.
    """
    if isinstance(what, Source):
        return what
    if isinstance(what, Fit):
        problem = what.problem if data is None else what.start.problem(data)
        return Source(problem, what.values, what)
    if data is None:
        raise DataError("A model alone has no design to simulate: give data=, or a fit.")
    return Source(what.problem(data), what.values)


class Replicates(NamedTuple):
    """A chunk of replicates.

    Attributes
    ----------
    first : int
        Number of the first one, from 0.
    slots : (slots, replicates, blocks) float
    f : (replicates, obs) float
        Predictions at the drawn etas.
    y : (replicates, obs) float
        Simulated data; NaN where the likelihood cannot be drawn from and `draw` did not ask.
    sigma : (sigmas,) float
    """

    first: int
    slots: Array
    f: Array
    y: Array
    sigma: Array


def replicates(
    source: Source,
    n: int,
    rng: np.random.Generator,
    *,
    uncertainty: bool = False,
    draw: bool = True,
    cells: int = CELLS,
) -> Iterator[Replicates]:
    """Yield n replicates in chunks.

    Parameters
    ----------
    source : Source
    n : int
    rng : Generator
    uncertainty : bool
        Whether each replicate has population values of its own: draws of the posterior where the fit has one, else
        of the estimates' normal distribution (on the unconstrained scale).
    draw : bool
        Whether to draw data too, and not only predictions.
    cells : int
        Observations simulated at once.

    Raises
    ------
    DataError
        If n is below 2, or there is no uncertainty to draw from.
    ModelError
        If the likelihood cannot be simulated.
    """
    if n < 2:
        raise DataError(f"n={n} replicates cannot show a distribution; take 100 or more.")
    problem = source.problem
    drawn = _population(source, n, rng) if uncertainty else None
    size = 1 if drawn is not None else max(1, min(n, cells // max(problem.n_obs, 1)))
    q = problem.n_eta
    for first in range(0, n, size):
        values = source.values if drawn is None else drawn(first)
        count = min(size, n - first)
        with np.errstate(all="ignore"):
            eta = np.zeros((0, count, problem.n_subjects))
            if q:
                root = np.linalg.cholesky(problem.occasions.expand(values.omega))
                normal = rng.standard_normal((q, count * problem.n_subjects))
                eta = (root @ normal).reshape(q, count, problem.n_subjects)
            slots = problem.slots(problem.typical(values.theta).slots, eta)
            f = np.broadcast_to(problem.predict(slots), (count, problem.n_obs))
            y = np.full(f.shape, np.nan)
            if draw:
                y = problem.draw(slots, f, values.sigma, rng.standard_normal(f.shape))
        yield Replicates(first, slots, f, y, values.sigma)


def has_posterior(fit: Fit | None) -> bool:
    """Whether a fit has draws of its population parameters."""
    return fit is not None and "posterior" in fit.arrays


def _population(source: Source, n: int, rng: np.random.Generator) -> Callable[[int], Values]:
    """Return a function that gives the population values of each replicate."""
    fit, space = source.fit, source.problem.space
    if fit is None:
        raise DataError("A model without a fit has no uncertainty of its parameters; pass a fit, or uncertainty=False.")
    if has_posterior(fit):
        posterior = fit.arrays["posterior"]
        posterior = posterior.reshape(-1, posterior.shape[-1])
        rows = posterior[rng.integers(0, len(posterior), n)]
        return lambda k: space.from_dict(dict(zip(space.names, rows[k].tolist(), strict=True)), source.values)
    found = fit.uncertainty
    if not found.usable or not np.isfinite(found.matrix).all():
        raise DataError(
            f"{found.message or 'The estimates have no covariance matrix.'} Simulate with uncertainty=False, or from a "
            "Bayesian fit."
        )
    values, vectors = np.linalg.eigh(found.matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    at = space.pack(source.values) + rng.standard_normal((n, len(root))) @ root.T
    return lambda k: space.unpack(at[k], source.values)
