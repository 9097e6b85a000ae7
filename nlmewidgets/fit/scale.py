"""The scale a parameter is moved on: the logarithm of a positive one, else its own."""

from __future__ import annotations

import math

from nlmewidgets.core.parameters import Parameter, ParameterSpace

__all__ = ["bounds", "is_log", "moved", "refusal", "within"]

_LEAST = 0.5
"""A parameter without a natural scale is moved by shares of its size, or of this where it is smaller."""

_INSIDE, _INSIDE_SPREAD = 1e-12, 1e-6
"""How far inside its bounds an estimate at one is taken: of the interval, or of 1; a variance has to be inverted."""

_ROOM = 0.5
"""Of the way to a bound that a move goes at most."""


def bounds(space: ParameterSpace, name: str) -> tuple[float, float]:
    """Return the open interval a population parameter is in; infinite where it has no bound."""
    found: Parameter | None = next((p for p in (*space.theta, *space.sigma) if p.name == name), None)
    if found is None:
        return (0.0, math.inf) if name in space.omega_names else (-1.0, 1.0)
    return (
        -math.inf if found.lower is None else found.lower,
        math.inf if found.upper is None else found.upper,
    )


def is_log(space: ParameterSpace, name: str) -> bool:
    """Whether a parameter moves on a logarithmic scale: positive and without upper bound."""
    return bounds(space, name) == (0.0, math.inf)


def moved(space: ParameterSpace, name: str, value: float, share: float) -> float:
    """Return a parameter raised (share < 0: lowered) by a share of its size, e.g. 0.1 for 10 %; within its bounds.

    A positive parameter is multiplied by 1 + share, or divided by it where it is lowered.
    """
    if is_log(space, name):
        return value * (1.0 + share) if share > 0 else value / (1.0 - share)
    low, high = bounds(space, name)
    wanted = share * max(abs(value), _LEAST)
    return value + min(max(wanted, _ROOM * (low - value)), _ROOM * (high - value))


def within(space: ParameterSpace, name: str, value: float) -> float:
    """Return the value, or what a parameter can have next to it: a fit may end at a bound, by rounding.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0),
    ...                              residual=nw.Additive(0.7))
    >>> within(model.space, "omega_ka", 0.0), within(model.space, "omega_ka", 0.3)
    (1e-06, 0.3)
    """
    low, high = bounds(space, name)
    share = _INSIDE if any(p.name == name for p in space.theta) else _INSIDE_SPREAD
    room = share * (high - low if math.isfinite(high - low) else 1.0)
    return min(max(value, low + room), high - room) if not low < value < high else value


def refusal(space: ParameterSpace, name: str, value: float) -> str:
    """Return in a sentence why a parameter cannot have a value; '' where it can."""
    low, high = bounds(space, name)
    if low < value < high:
        return ""
    if not math.isfinite(value):
        return f"{name} cannot be {value:g}: give a finite number."
    if high == math.inf:
        return f"{name} cannot be {value:g}: give a number above {low:g}."
    if low == -math.inf:
        return f"{name} cannot be {value:g}: give a number below {high:g}."
    return f"{name} cannot be {value:g}: give a number between {low:g} and {high:g}."
