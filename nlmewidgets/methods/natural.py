r"""The natural scales of the estimates, and how they move with the unconstrained coordinates.

Two are in use: standard deviations and correlations (``"sd"``, the names of `ParameterSpace.names`), and variances
and covariances (``"variance"``, as NONMEM prints OMEGA and SIGMA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import ParameterSpace, Values

__all__ = ["SCALES", "Natural", "natural"]

SCALES = ("sd", "variance")

_STEP = 1e-5


@dataclass(frozen=True, eq=False)
class Natural:
    """Population parameters on a natural scale.

    Attributes
    ----------
    names : tuple of str
    numbers : (parameters,) float
    jacobian : (parameters, free) float
        Their derivatives along the unconstrained coordinates.
    """

    names: tuple[str, ...]
    numbers: Array
    jacobian: Array

    @property
    def moved(self) -> Array:
        """Whether each parameter is estimated, (parameters,) bool."""
        return np.abs(self.jacobian).max(axis=1, initial=0.0) > 0


def natural(space: ParameterSpace, values: Values, scale: str = "sd") -> Natural:
    """Return the parameters at `values` on a scale, with their Jacobian.

    Parameters
    ----------
    scale : {"sd", "variance"}
        'variance': ``omega_CL^2`` and ``additive^2`` in place of the standard deviations, ``cov_CL_V`` in place of
        the correlation ``corr_CL_V``.

    Raises
    ------
    MethodError
        If there is no such scale.
    """
    if scale not in SCALES:
        raise MethodError(f"There is no scale '{scale}'; there are {' and '.join(SCALES)}.")
    numbers = _numbers(space, values, scale)
    x = space.pack(values)
    jacobian = np.empty((len(numbers), len(x)))
    for k in range(len(x)):
        step = np.zeros(len(x))
        step[k] = _STEP * max(1.0, abs(x[k]))
        ends = [np.array([*_numbers(space, space.unpack(x + s * step, values), scale).values()]) for s in (1, -1)]
        jacobian[:, k] = (ends[0] - ends[1]) / (2.0 * step[k])
    # What is fixed moves by rounding at most.
    jacobian[[space.is_fixed(name) for name in space.names]] = 0.0
    return Natural(tuple(numbers), np.array([*numbers.values()]), jacobian)


def _numbers(space: ParameterSpace, values: Values, scale: str) -> dict[str, float]:
    numbers = space.to_dict(values)
    if scale == "sd":
        return numbers
    squared = {*space.omega_names, *(p.name for p in space.sigma)}
    pairs = {name: (i, j) for name, i, j in space.correlations}
    out = {}
    for name, v in numbers.items():
        if name in pairs:
            out["cov" + name.removeprefix("corr")] = float(values.omega[pairs[name]])
        else:
            out[name + "^2" if name in squared else name] = v * v if name in squared else v
    return out
