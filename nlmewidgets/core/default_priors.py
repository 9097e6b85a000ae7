"""Weakly informative priors for what the user gave none: around the initial values, wide, and said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import Parameter
from nlmewidgets.core.priors import LKJ, HalfNormal, InverseWishart, Prior

__all__ = ["Priors", "complete"]

WIDTH = 1.5
"""SD of the logarithm (or logit) of a theta: a factor of 19 either way holds 95 %."""
WIDTH_FREE = 2.5
"""SD of an unbounded theta, in units of its initial value or of 1, whichever is larger."""
SCALE = 5.0
"""Scale of the half-normal prior of a standard deviation, in units of its initial value."""
SHAPE = 2.0
"""Of the LKJ prior of the correlations of a block."""


@dataclass(frozen=True, eq=False)
class Priors:
    """A prior for every free parameter.

    Attributes
    ----------
    natural : mapping
        Densities on the natural scale, by parameter or block, as in `Model.priors`.
    coordinate : mapping
        Mean and SD of normal densities of unconstrained coordinates, by parameter.
    words : mapping
        What each prior is, and whether it is a default, for the reader.
    """

    natural: Mapping[str | tuple[str, ...], Prior]
    coordinate: Mapping[str, tuple[float, float]]
    words: Mapping[str, str]


def complete(model: Model) -> Priors:
    """Return the model's priors with defaults for the free parameters that have none; fixed ones have none."""
    space, given = model.space, model.priors
    moved = {i for i, *_ in space.omega_map.rows}
    natural: dict[str | tuple[str, ...], Prior] = {}
    coordinate: dict[str, tuple[float, float]] = {}
    words: dict[str, str] = {}
    for key, prior in given.items():
        if isinstance(key, tuple):
            owners = {space.omega_map.owner[space.eta.index(name)] for name in key}
            used = bool(owners & moved)
        else:
            used = not space.is_fixed(key)
        if used:
            natural[key] = prior
            words[", ".join(key) if isinstance(key, tuple) else key] = _word(prior)
    for p in (*space.theta, *space.sigma):
        if p.fixed or p.name in natural:
            continue
        if p in space.sigma and p.lower == 0 and p.upper is None:
            natural[p.name] = HalfNormal(SCALE * p.value)
            words[p.name] = f"{_word(natural[p.name])} (default)"
        else:
            sd = WIDTH_FREE * max(1.0, abs(p.value)) if p.scale == "identity" else WIDTH
            coordinate[p.name] = (p.free(p.value), sd)
            words[p.name] = f"{_around(p, sd)} (default)"
    whole = {name for key, prior in natural.items() if isinstance(prior, InverseWishart) for name in key}
    held = {name for key, prior in natural.items() if isinstance(prior, LKJ) for name in key}
    held |= {space.eta[k] for name, i, j in space.correlations if name in natural for k in (i, j)}
    for i, before, sd_free, correlations in space.omega_map.rows:
        name, effect = space.omega_names[i], space.eta[i]
        if effect in whole:
            continue
        if sd_free and name not in natural:
            natural[name] = HalfNormal(SCALE * space.omega[i][i] ** 0.5)
            words[name] = f"{_word(natural[name])} (default)"
        block = next(b for b in space.blocks if i in b)
        members = tuple(space.eta[k] for k in block)
        if correlations and before and members not in natural and not held & set(members):
            natural[members] = LKJ(SHAPE)
            words[", ".join(members)] = f"{_word(natural[members])} (default)"
    return Priors(natural, coordinate, words)


def _word(prior: Prior) -> str:
    numbers = ", ".join(f"{k}={v:.4g}" if isinstance(v, float | int) else f"{k}={v}" for k, v in vars(prior).items())
    return f"{type(prior).__name__}({numbers})"


def _around(p: Parameter, sd: float) -> str:
    if p.scale == "identity":
        return f"Normal(mean={p.value:.4g}, sd={sd:.4g})"
    if p.scale == "log":
        above = "" if p.lower == 0 else f" above {p.lower:.4g}"
        return f"LogNormal(median={p.value - (p.lower or 0.0):.4g}, sd={sd:.4g}){above}"
    if p.scale == "reflected":
        assert p.upper is not None
        return f"LogNormal(median={p.upper - p.value:.4g}, sd={sd:.4g}) below {p.upper:.4g}"
    return f"logit-normal(median={p.value:.4g}, sd={sd:.4g}) on ({p.lower:.4g}, {p.upper:.4g})"
