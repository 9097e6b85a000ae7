r"""Which way each parameter lowers the objective, how far and by how much: from one exact gradient.

Along a slider (the logarithm of a positive parameter, the parameter itself otherwise) subject i has the exact score
:math:`s_i` of its −2 log L, the others held.  With :math:`g = \sum_i s_i` and the curvature
:math:`h = \tfrac12 \sum_i (s_i - \bar s)^2`, the step is :math:`-g/h`, of 10 % at most, and the objective is told to
change by :math:`g\,\Delta + \tfrac12 h \Delta^2`.  See docs/decisions/0028-arrows-and-refits.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Parameter, ParameterSpace, Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.fit.live import stand_in
from nlmewidgets.fit.scale import is_log, moved
from nlmewidgets.methods.marginal import Scores

__all__ = ["NOTHING", "Arrow", "Slope", "along_sliders", "arrows", "slope"]

NOTHING = 0.01
"""A change of the objective that is none."""

_SHARE = 0.1
"""The longest step: 10 % of a positive parameter, of others a tenth of their size (or of 0.5)."""
_NEARBY = 0.3
"""How far a coordinate (mostly a logarithm) may be for modes to be predicted along tangents."""


@dataclass(frozen=True, eq=False)
class Arrow:
    """What moving one parameter promises, the others held.

    Attributes
    ----------
    name : str
    value : float
    gradient : float
        Exact derivative of the objective along the slider.
    target : float
        Where the arrow points.
    gain : float
        The decrease of the objective it promises there.
    silent : bool
        Whether 10 % up or down change the objective by less than `NOTHING`: the data say nothing.
    log : bool
        Whether the slider is logarithmic.
    """

    name: str
    value: float
    gradient: float
    target: float
    gain: float
    silent: bool
    log: bool

    @property
    def up(self) -> bool:
        """Whether the parameter is to be raised."""
        return self.target > self.value

    @property
    def size(self) -> int:
        """0 for no arrow, then 1, 2, 3: a gain of 0.01, 1, 10 and more."""
        return 0 if self.silent else sum(self.gain >= least for least in (NOTHING, 1.0, 10.0))

    def words(self) -> str:
        """Return the arrow as a sentence."""
        if self.silent:
            return f"The data say nothing about {self.name} here: 10 % more or less changes the OFV by less than 0.01."
        if not self.size:
            return f"{self.name} is as good as it gets with the others as they are."
        verb = "Raising" if self.up else "Lowering"
        by = abs(self.target / self.value - 1.0) if self.log else abs(self.target - self.value)
        how = f"{100.0 * by:.2g} %" if self.log else f"{by:.2g}"
        return f"{verb} {self.name} by {how} lowers the OFV by about {self.gain:.2g}."


@dataclass(frozen=True, eq=False)
class Slope:
    """What one exact gradient tells of the surroundings of population values.

    Attributes
    ----------
    arrows : dict of str to Arrow
        Of every population parameter; of none where the objective is not finite.
    origin : (free,) float
        The unconstrained free parameters there.
    eta : (etas, subjects) float
        The etas there.
    shift : (etas, subjects, free) float, optional
        How they move with the parameters, where the method knows.
    """

    arrows: dict[str, Arrow]
    origin: Array
    eta: Array
    shift: Array | None = None

    def predicted(self, space: ParameterSpace, values: Values, last: Array) -> Array:
        """Return where modes are at values nearby, to begin a search at; elsewhere the `last` ones."""
        x = space.pack(values)
        if self.shift is None or x.shape != self.origin.shape or np.abs(x - self.origin).max(initial=0.0) > _NEARBY:
            return last
        near = self.eta + self.shift @ (x - self.origin)
        return near if near.shape == last.shape and np.isfinite(near).all() else last


def arrows(problem: Problem, values: Values, method: str = "focei", start: Array | None = None) -> dict[str, Arrow]:
    """Return the arrow of every population parameter; of none where the objective is not finite.

    Parameters
    ----------
    problem, values
    method : str
        Whose objective it is, as of `look`.
    start : (etas, subjects) float, optional
        Etas to begin the search for modes at.
    """
    found = slope(problem, values, method, start)
    return {} if found is None else found.arrows


def slope(problem: Problem, values: Values, method: str = "focei", start: Array | None = None) -> Slope | None:
    """Return the arrows and how the etas move; None where the objective is not finite.  Parameters as of `arrows`."""
    try:
        with np.errstate(all="ignore"):
            found = stand_in(problem, method).evaluate(problem, values, start, gradient=True)
    except np.linalg.LinAlgError:  # a singular Omega
        return None
    if found.scores is None or not np.isfinite(found.ofv):
        return None
    space = problem.space
    scores = along_sliders(space, values, found.scores)
    if not np.isfinite(scores).all():
        return None
    gradient = scores.sum(axis=0)
    curvature = 0.5 * ((scores - scores.mean(axis=0)) ** 2).sum(axis=0)
    numbers = space.to_dict(values)
    pointing = {
        name: _arrow(space, name, numbers[name], float(g), float(h))
        for name, g, h in zip(space.names, gradient, curvature, strict=True)
    }
    shift = None if found.shift is None else found.shift.along(space, values)
    return Slope(pointing, space.pack(values), found.eta, shift)


def along_sliders(space: ParameterSpace, values: Values, scores: Scores) -> Array:
    """Return the derivatives of every subject's objective along each slider, (subjects, names) float.

    Standard deviations move with the correlations held, correlations with the standard deviations held.
    """
    sd = np.sqrt(np.diag(values.omega))
    gathered = space.omega_map.gathered(scores.omega)
    pulled = gathered * values.omega
    columns = [scores.theta * _slopes(space, space.theta, values.theta)]
    owner = {name: k for k, name in reversed(list(enumerate(space.omega_names)))}
    columns += [2.0 * pulled[:, owner[name]].sum(axis=-1)[:, None] for name in dict.fromkeys(space.omega_names)]
    columns += [2.0 * gathered[:, i, j, None] * sd[i] * sd[j] for _, i, j in space.correlations]
    columns.append(scores.sigma * _slopes(space, space.sigma, values.sigma))
    return np.concatenate(columns, axis=1)


def _slopes(space: ParameterSpace, parameters: tuple[Parameter, ...], values: Array) -> Array:
    pairs = zip(parameters, values, strict=True)
    return np.array([v if is_log(space, p.name) else 1.0 for p, v in pairs])


def _arrow(space: ParameterSpace, name: str, value: float, gradient: float, curvature: float) -> Arrow:
    log = is_log(space, name)
    ends = [moved(space, name, value, share) for share in (-_SHARE, _SHARE)]
    low, high = (math.log(end / value) if log else end - value for end in ends)
    step = min(max(-gradient / curvature, low), high) if curvature > 0 else (high if gradient < 0 else low)
    gain = -(gradient * step + 0.5 * curvature * step * step)
    silent = max(abs(gradient * d) + 0.5 * curvature * d * d for d in (low, high)) < NOTHING
    target = value * math.exp(step) if log else value + step
    return Arrow(name, value, gradient, target, max(gain, 0.0), silent, log)
