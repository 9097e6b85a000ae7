"""Random starting values around given ones, or within ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from nlmewidgets.core.errors import MethodError, ModelError
from nlmewidgets.core.parameters import ParameterSpace, Values

__all__ = ["random_starts"]

_NEAREST = 0.05
"""A positive parameter starts at this share of its value at least: at zero it would stay."""

_TRIES = 200


def random_starts(
    space: ParameterSpace,
    n: int,
    rng: np.random.Generator,
    *,
    spread: float = 1.0,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> list[Values]:
    """Return n starting values, spread evenly (a Latin hypercube) around the initial ones; fixed parameters stay.

    Parameters
    ----------
    space : ParameterSpace
    n : int
    rng : Generator
    spread : float
        1: each parameter between 0 and twice its initial value, 0.5: between half and one and a half times it.
        Correlations are spread within ±spread/2 of theirs.
    ranges : mapping of name to (low, high), optional
        Where a parameter starts instead; evenly on a logarithm where the ends are positive and ten times apart.

    Raises
    ------
    MethodError
        If a range names no parameter, a fixed one, or is empty.
    """
    ranges = dict(ranges or {})
    for name, ends in ranges.items():
        if name not in space.names:
            raise MethodError(f"ranges= names '{name}', which is no parameter; there are {', '.join(space.names)}.")
        if space.is_fixed(name):
            raise MethodError(f"ranges= names '{name}', which is fixed; free it first.")
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise MethodError(f"ranges= gives '{name}' {ends!r}; give (low, high).")
    from scipy.stats import qmc  # a second to import

    if not spread > 0:
        raise MethodError(f"spread={spread!r} is not positive; 1.0 is ±100 %.")
    free = [name for name in space.names if not space.is_fixed(name)]
    initial = space.to_dict(space.initial)
    if not free or n < 1:
        return [space.initial] * n
    cube = qmc.LatinHypercube(len(free), seed=rng).random(n)
    return [_values(space, initial, free, row, spread, ranges, rng) for row in cube]


def _values(
    space: ParameterSpace,
    initial: dict[str, float],
    free: list[str],
    row: np.ndarray,
    spread: float,
    ranges: Mapping[str, tuple[float, float]],
    rng: np.random.Generator,
) -> Values:
    for k in range(_TRIES):
        u = row if not k else rng.random(len(free))  # correlations that do not go together are drawn again
        numbers = {
            name: _number(space, name, initial[name], float(v), spread, ranges) for name, v in zip(free, u, strict=True)
        }
        try:
            return space.from_dict(numbers)
        except ModelError:
            continue
    return space.initial


def _number(
    space: ParameterSpace,
    name: str,
    value: float,
    u: float,
    spread: float,
    ranges: Mapping[str, tuple[float, float]],
) -> float:
    scalar = {p.name: p for p in (*space.theta, *space.sigma)}.get(name)
    if name in ranges:
        low, high = ranges[name]
        if low > 0 and high >= 10 * low:
            return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        return low + u * (high - low)
    if scalar is None and name not in space.omega_names:
        return float(np.clip(value + spread * (u - 0.5), -0.95, 0.95))
    size = abs(value) if value else 1.0
    drawn = value + spread * size * (2.0 * u - 1.0)
    least = scalar.lower if scalar is not None else 0.0
    most = scalar.upper if scalar is not None else None
    if least is not None:
        drawn = max(drawn, least + _NEAREST * (value - least))
    if most is not None:
        drawn = min(drawn, most - _NEAREST * (most - value))
    return drawn
