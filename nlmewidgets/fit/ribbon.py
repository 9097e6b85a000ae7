r"""Where along the typical curve a parameter matters: exact first derivatives, and the band of a stated change.

The prediction of a subject at eta = 0 is :math:`f(s)` with slots :math:`s = m(\theta, z)`, so its derivative along a
typical value is :math:`\sum_s \partial f/\partial s \cdot \partial m_s/\partial\theta`; both come with one evaluation
of the structure (of differential equations: one integration), whatever the number of parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["Ribbon", "ribbon", "typical_slopes"]

_MATTERS = 0.5
"""A parameter matters where a change of it moves the curve by this share of what it does where it does most."""

_NOTHING = 1e-6
"""Of the curve's size: a change that moves it by less moves nothing."""


def typical_slopes(grid: Problem, values: Values, per: Array | None = None) -> tuple[Array, Array]:
    """Return the typical curve and its exact derivatives along the typical values, (times,) and (thetas, times).

    Parameters
    ----------
    grid : Problem
        The model on a grid of times (`Data.on_grid`), the same for all subjects.
    values : Values
    per : (subjects,) float, optional
        What each subject's curve is divided by before averaging, e.g. its dose.
    """
    with np.errstate(all="ignore"):
        typical = grid.typical(values.theta, jacobian=True)
        assert typical.jacobian is not None
        eta = np.zeros((grid.n_eta, grid.n_subjects))
        f, first, _ = grid.structure(grid.slots(typical.slots, eta), 1)
        jacobian = grid.blocks.spread(typical.jacobian)
        slope = np.zeros(jacobian.shape[1:]) if first is None else (first[:, None] * jacobian).sum(axis=0)
        each = f.reshape(grid.n_subjects, -1)
        slopes = slope.reshape(len(slope), grid.n_subjects, -1)
        if per is not None:
            each, slopes = each / per[:, None], slopes / per[:, None]
        finite = np.isfinite(each)  # as `typical_curve` leaves out who has no number there
        count = finite.sum(axis=0)
        return (
            np.where(finite, each, 0.0).sum(axis=0) / count,
            np.where(finite, slopes, 0.0).sum(axis=1) / count,
        )


@dataclass(frozen=True, eq=False)
class Ribbon:
    """What a change of one parameter does to the typical curve, by its exact first derivative.

    Attributes
    ----------
    name : str
    change : str
        The change, in words ('10 %').
    times, curve : (times,) float
    effect : (times,) float
        What raising the parameter by the change adds to the curve.
    """

    name: str
    change: str
    times: Array
    curve: Array
    effect: Array

    @property
    def low(self) -> Array:
        """The lower edge of the band, (times,)."""
        return self.curve - np.abs(self.effect)

    @property
    def high(self) -> Array:
        """The upper edge of the band, (times,)."""
        return self.curve + np.abs(self.effect)

    @property
    def silent(self) -> bool:
        """Whether the parameter does not move the curve."""
        return not bool(np.abs(self.effect).max(initial=0.0) > _NOTHING * np.abs(self.curve).max(initial=0.0))

    def stretches(self) -> list[tuple[float, float]]:
        """Return where the parameter matters: from when to when, in order."""
        size = np.abs(self.effect)
        inside = np.concatenate([[False], size >= _MATTERS * size.max(), [False]])
        edges = np.flatnonzero(np.diff(inside.astype(int)))
        return [(float(self.times[a]), float(self.times[b - 1])) for a, b in zip(edges[::2], edges[1::2], strict=True)]

    def words(self, unit: str = "", of_time: str = "") -> str:
        """Return the ribbon as a sentence, with the units of the curve and of time where they are given."""
        if self.silent:
            return f"{self.name} does not move the typical curve."
        where = " and ".join(f"{a:.2g} and {b:.2g}" for a, b in self.stretches())
        of_time, unit = f" {of_time}" if of_time else "", f" {unit}" if unit else ""
        says = []
        for sign, verb in ((1.0, "raises"), (-1.0, "lowers")):
            k = int(np.argmax(sign * self.effect))
            if sign * self.effect[k] > 0.1 * np.abs(self.effect).max():
                by = f"{abs(self.effect[k]):.2g}{unit}"
                says.append(f"{verb} the curve by up to {by} (at {self.times[k]:.2g}{of_time})")
        return f"{self.name} matters between {where}{of_time}: {self.change} more {' and '.join(says)}, to first order."


def ribbon(
    grid: Problem, name: str, times: Array, curve: Array, slopes: Array, amount: float, change: str
) -> Ribbon | None:
    """Return the ribbon of a parameter; None of one that is no typical value.

    Parameters
    ----------
    grid : Problem
    name : str
    times, curve : (times,) float
    slopes : (thetas, times) float
        As of `typical_slopes`.
    amount : float
        How much the parameter is raised and lowered.
    change : str
        The same in words.
    """
    names = [p.name for p in grid.space.theta]
    if name not in names:
        return None
    return Ribbon(name, change, times, curve, amount * slopes[names.index(name)])
