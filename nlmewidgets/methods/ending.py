"""What there is to say about the estimates a fit ended with, and whether it may be called converged."""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.methods.identifiability import identified

__all__ = ["astray", "doubtful", "ending"]

_FAR = 1e6
"""A positive parameter this many times its initial value, or as little, is said to have gone astray."""


def ending(space: ParameterSpace, values: Values, information: Array | None = None) -> tuple[str, str]:
    """Return the status of a search that found nothing better, and sentences on where it ended (or '').

    Parameters
    ----------
    space, values
        The parameters and the estimates.
    information : (free, free) float, optional
        An information matrix along the unconstrained coordinates, of twice as many subjects as coordinates.

    Returns
    -------
    status : str
        'converged'; 'limit' where a parameter went astray or the information is singular beside what is
        at the end of its range: then the optimiser stopped because nothing changes, not at an optimum.
    text : str
    """
    text = _zero_variances(space, values) + _bounds(space, values)
    lost = astray(space, values)
    if not lost and information is not None:
        lost = "".join(f" {sentence}" for sentence in identified(space, values, information).unidentified)
    return "limit" if lost else "converged", text + lost


def _zero_variances(space: ParameterSpace, values: Values) -> str:
    flat = [
        name
        for name, sd, start in zip(
            space.omega_names, np.sqrt(np.diag(values.omega)), np.sqrt(np.diag(space.initial.omega)), strict=True
        )
        if sd < 1e-3 * start
    ]
    text = ""
    if flat:
        text += f" {', '.join(flat)} went to zero: the data show no such variability; consider leaving it out."
    for name, i, j in space.correlations:
        correlation = values.omega[i, j] / np.sqrt(values.omega[i, i] * values.omega[j, j])
        if abs(correlation) > 0.9999:
            text += (
                f" {name} went to {np.sign(correlation):.0f}: the two effects cannot be told apart; Omega is singular."
            )
    return text


def _bounds(space: ParameterSpace, values: Values) -> str:
    bound = _at_bounds(space, values)
    return f" {', '.join(bound)} ended at a bound." if bound else ""


def _at_bounds(space: ParameterSpace, values: Values) -> list[str]:
    bound = []
    for p, v in zip((*space.theta, *space.sigma), (*values.theta, *values.sigma), strict=True):
        reach = 1e-4 * max(abs(p.value), 1e-8)
        edges = [e for e in (p.lower, p.upper) if e is not None]
        if not p.fixed and any(abs(v - e) < reach for e in edges):
            bound.append(p.name)
    return bound


def astray(space: ParameterSpace, values: Values) -> str:
    """Return a sentence for each positive parameter that ran away from its initial value, or ''."""
    return "".join(
        f" {p.name} went from {p.value:g} to {v:.3g}: the data may not determine it; try other initial values."
        for p, v in zip(space.theta, values.theta, strict=True)
        if p.scale == "log" and not 1 / _FAR < v / p.value < _FAR
    )


def doubtful(space: ParameterSpace, values: Values) -> bool:
    """Whether a search ended where searches from afar get stuck, so that another is worth its price.

    That is: a free variance as good as zero, or a part of the residual error, where its own score is too whatever the
    data say; a positive theta a thousandfold from its start; a standard deviation thirty times its start.  The
    standard deviation of an effect on what ended at a bound means nothing, and tells nothing.
    """
    bound = _at_bounds(space, values)
    meant = np.array([eta.split("_", 1)[-1] not in bound for eta in space.eta], dtype=bool)
    sd, start = np.sqrt(np.diag(values.omega))[meant], np.sqrt(np.diag(space.initial.omega))[meant]
    far = [p.scale == "log" and not 1e-3 < v / p.value < 1e3 for p, v in zip(space.theta, values.theta, strict=True)]
    silent = [not p.fixed and v < 1e-2 * p.value for p, v in zip(space.sigma, values.sigma, strict=True)]
    return bool((sd < 1e-2 * start).any() or (sd > 30.0 * start).any() or any(far) or any(silent))
