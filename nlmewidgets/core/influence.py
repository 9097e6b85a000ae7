"""Parameters that no observation depends on: an estimate of them would mean nothing."""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Parameter
from nlmewidgets.core.problem import Problem

__all__ = ["idle_parameters"]

_STEPS = (0.3, -0.3, 3.0, -3.0, 9.0, -9.0)
"""Steps on the unconstrained scale: a change of a third, of a factor of 20 for what is flat nearby, and of 8,000 for
initial values of another unit, where predictions may be 0 to rounding."""

_PLACES = (0.0, -1.0, 1.0, -9.0, 9.0)
"""Where the others stand meanwhile, as steps from their initial values: one may act only where another has moved."""


def idle_parameters(problem: Problem) -> list[str]:
    """Return the free thetas and sigmas that change the likelihood of no subject, wherever they are moved.

    The random effects are put off zero, so that a parameter that only scales one of them is seen.
    """
    space = problem.space
    start = space.initial
    sd = np.sqrt(np.diag(start.omega)) if len(start.omega) else np.zeros(0)
    eta = 0.5 * np.resize(sd, problem.n_eta)[:, None] * np.ones(problem.n_subjects)
    parameters = (*space.theta, *space.sigma)
    initial = np.concatenate([start.theta, start.sigma])

    def likelihood(values: Array) -> Array:
        theta, sigma = np.split(values, [len(space.theta)])
        with np.errstate(all="ignore"):
            return problem.minus2ll(problem.predict(problem.slots(problem.typical(theta).slots, eta)), sigma)

    idle = [k for k, p in enumerate(parameters) if not p.fixed]
    for place in _PLACES:
        if not idle:
            break
        here = np.array([_moved(p, v, place) for p, v in zip(parameters, initial, strict=True)])
        base = likelihood(here)
        for step in _STEPS:
            for k in list(idle):
                there = here.copy()
                there[k] = _moved(parameters[k], here[k], step)
                if not np.array_equal(likelihood(there), base, equal_nan=True):
                    idle.remove(k)
    return [parameters[k].name for k in idle if not _matters(problem, k - len(space.theta))]


def _matters(problem: Problem, k: int) -> bool:
    """Whether sigma k changes a likelihood where the data themselves are the predictions.

    Those of the initial values may all be 0, where a proportional error is, too.
    """
    if k < 0:
        return False
    sigma = problem.space.initial.sigma
    there = sigma * np.where(np.arange(len(sigma)) == k, 1.5, 1.0)
    with np.errstate(all="ignore"):
        one, two = (problem.minus2ll(problem.data.dv, s) for s in (sigma, there))
    return not np.array_equal(one, two, equal_nan=True)


def _moved(parameter: Parameter, value: float, step: float) -> float:
    if parameter.fixed or step == 0:
        return value
    size = max(1.0, abs(value)) if parameter.scale == "identity" else 1.0
    return parameter.natural(parameter.free(value) + step * size)
