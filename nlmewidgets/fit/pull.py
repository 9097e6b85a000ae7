r"""A curve dragged to a point: the least change of the typical values that takes the typical curve there.

On the scale :math:`u` of the sliders (logarithms of positive parameters, the parameter in units of its size otherwise)
the smallest :math:`\lVert u \rVert` with :math:`g(u) = \text{level}` is found by sequential quadratic programming
with the exact derivatives :math:`J` of `fit.ribbon`: each step solves :math:`Bp = \lambda J^\top - u`,
:math:`Jp = r` with the residual :math:`r`; :math:`B`, at first the identity (Gauss–Newton), learns how the curve
bends (docs/decisions/0039-dragging-a-curve.md).

References
----------
Powell (1978), doi:10.1007/BFb0067703 (the damped update of B).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.fit.ribbon import typical_slopes

__all__ = ["Pull", "pull"]

_STEPS = 50
_HALVINGS = 12
_CLOSE = 1e-9
"""Of the level (or of its logarithm): nearer is there."""
_STILL = 1e-5
"""A change of u that is none any more: the point on the surface g = level is the nearest."""
_FAR = math.log(1000.0)
"""No parameter is moved by more than a factor of a thousand."""
_LEAST = 0.5
"""A parameter that may have either sign is measured by its size, or by this where it is smaller."""


@dataclass(frozen=True, eq=False)
class Pull:
    """What it takes to have the typical curve pass a level at a time.

    Attributes
    ----------
    time, before, level : float
        Where, from which level, to which one.
    values : Values
    changes : mapping of name to (float, float)
        The parameters that move, from and to.
    kept : tuple of str
        Typical values that were not free to move.
    """

    time: float
    before: float
    level: float
    values: Values
    changes: dict[str, tuple[float, float]]
    kept: tuple[str, ...]

    def words(self, unit: str = "", of_time: str = "") -> str:
        """Return in a sentence what was done, with units of the curve and of time where they are given."""
        unit, of_time = f" {unit}" if unit else "", f" {of_time}" if of_time else ""
        told = [f"{name} {old:.4g} → {new:.4g}" for name, (old, new) in self.changes.items()]
        text = f"To pass {self.level:.4g}{unit} at {self.time:.3g}{of_time} (before: {self.before:.4g}): "
        text += ", ".join(told) if told else "nothing had to move"
        return text + (f"; fixed: {', '.join(self.kept)}." if self.kept else ".")


def pull(
    at: Problem,
    values: Values,
    level: float,
    fixed: Collection[str] = (),
    per: Array | None = None,
) -> Pull:
    """Return the least change of the free typical values with which the typical curve passes a level.

    Parameters
    ----------
    at : Problem
        The model at one time of all subjects, ``model.problem(data.on_grid(times=[t], dvid=…))``.
    values : Values
    level : float
    fixed : collection of str
        Parameters that stay.
    per : (subjects,) float, optional
        What each subject's curve is divided by, see `fit.ribbon.typical_slopes`.

    Raises
    ------
    ModelError
        In a sentence, where no free parameter moves the curve there, or the level cannot be reached.
    """
    time = float(at.data.time[0])
    thetas = at.space.theta
    free = [k for k, p in enumerate(thetas) if p.name not in fixed]
    curve, _ = typical_slopes(at, values, per)
    begin = float(curve[0])
    if not (math.isfinite(begin) and math.isfinite(level)):
        raise ModelError(f"The curve is no number at {time:.4g}, or the level is none; give another time or level.")
    relative = begin > 0.0 and level > 0.0
    aim = math.log(level) if relative else level
    near = _CLOSE * (1.0 if relative else max(abs(level), abs(begin)))
    # Logarithms (logits, within two bounds) as they are; what has no bound in units of its size.
    unbounded = [thetas[k].scale == "identity" for k in free]
    size = np.where(unbounded, np.maximum(np.abs(values.theta[free]), _LEAST), 1.0)
    start = np.array([thetas[k].free(values.theta[k]) for k in free])

    def there(u: Array) -> tuple[Values, float, Array]:
        """Return the values at u, what is still lacking of the aim, and the derivatives of what is reached."""
        theta = values.theta.copy()
        theta[free] = [thetas[k].natural(x) for k, x in zip(free, start + size * u, strict=True)]
        moved = Values(theta, values.omega, values.sigma)
        reached, slopes = typical_slopes(at, moved, per)
        along = size * [thetas[k].slope(theta[k]) for k in free] * slopes[free, 0]
        value = float(reached[0])
        if relative:
            return (moved, aim - math.log(value), along / value) if value > 0.0 else (moved, math.inf, along)
        return moved, aim - value, along

    u = np.zeros(len(free))
    moved, lacking, along = there(u)
    if not (along @ along > 0.0):
        who = f"; free one of {', '.join(p.name for p in thetas)}" if len(free) < len(thetas) else ""
        raise ModelError(f"No free parameter moves the typical curve at {time:.4g}{who}, or choose another time.")
    price, bending = 0.0, np.eye(len(free))
    for _ in range(_STEPS):
        across, back = np.linalg.solve(bending, np.stack([along, u], axis=1)).T
        multiplier = (lacking + along @ back) / (along @ across)
        step = across * multiplier - back
        if abs(lacking) <= near and np.abs(step).max() <= _STILL:
            changes = {
                thetas[k].name: (float(values.theta[k]), float(moved.theta[k]))
                for k in free
                if abs(moved.theta[k] - values.theta[k]) > 1e-9 * max(abs(values.theta[k]), 1e-12)
            }
            return Pull(time, begin, level, moved, changes, tuple(p.name for p in thetas if p.name in fixed))
        # What a step is to lower: the square of u, and what is lacking at a price that makes it worth closing.
        price = max(price, 2.0 * abs(multiplier))
        cost, promised = 0.5 * (u @ u) + price * abs(lacking), price * abs(lacking) - u @ step
        before = along
        share = 1.0
        for _ in range(_HALVINGS):
            further = u + share * step
            tried = there(further)
            reached = 0.5 * (further @ further) + price * abs(tried[1])
            if (
                np.isfinite(reached)
                and np.isfinite(tried[2]).all()
                and reached <= cost - 1e-4 * share * promised + 1e-12
            ):
                break
            share *= 0.5
        else:
            break
        moved, lacking, along = tried
        bending = _learnt(bending, further - u, further - u - multiplier * (along - before))
        u = further
        if np.abs(u).max() > _FAR or not along @ along > 0.0:
            break
    names = ", ".join(thetas[k].name for k in free)
    raise ModelError(
        f"No values of {names} near these bring the typical curve to {level:.4g} at {time:.4g}; ask for less, or free "
        "more parameters."
    )


def _learnt(bending: Array, step: Array, turned: Array) -> Array:
    """Return B after a step along which the Lagrangian's gradient turned by `turned`; it stays positive definite."""
    image = bending @ step
    size, seen = float(step @ image), float(step @ turned)
    if size <= 0.0:
        return bending
    share = 1.0 if seen >= 0.2 * size else 0.8 * size / (size - seen)
    turned = share * turned + (1.0 - share) * image
    return bending - np.outer(image, image) / size + np.outer(turned, turned) / float(step @ turned)
