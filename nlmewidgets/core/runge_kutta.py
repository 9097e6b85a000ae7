"""One step of an explicit Runge–Kutta pair for many lanes, each with its own step size."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.variational import Variational

__all__ = ["DORMAND_PRINCE", "VERNER", "Attempt", "Explicit", "Tableau"]


class Tableau(NamedTuple):
    """An explicit pair whose last stage is the next step's first.

    Attributes
    ----------
    a : (s, s) float
        Row j makes stage j of the stages before it; the last row is the solution.
    error : (s,) float
        Weights of the difference between the two solutions.
    order : int
        Order of the lower solution plus one: the error estimate is O(h**order).
    stability : float
        Length of the stability region along the negative real axis.
    """

    a: Array
    error: Array
    order: int
    stability: float


def _lower(rows: list[list[float]]) -> Array:
    a = np.zeros((len(rows) + 1, len(rows) + 1))
    for j, row in enumerate(rows, 1):
        a[j, : len(row)] = row
    return a


# Dormand & Prince, J. Comput. Appl. Math. 6 (1980) 19-26, doi:10.1016/0771-050X(80)90013-3.
DORMAND_PRINCE = Tableau(
    _lower(
        [
            [1 / 5],
            [3 / 40, 9 / 40],
            [44 / 45, -56 / 15, 32 / 9],
            [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729],
            [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656],
            [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84],
        ]
    ),
    np.array([71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40]),
    5,
    3.25,
)

# Verner's "most efficient" 7(6) pair, Numer. Algor. 53 (2010) 383-396, doi:10.1007/s11075-009-9290-3; the test suite
# checks its order conditions.  The slope at the new point is appended, so that it serves the next step.
VERNER = Tableau(
    _lower(
        [
            [0.005],
            [-1.07679012345679, 1.185679012345679],
            [0.04083333333333333, 0, 0.1225],
            [0.6389139236255726, 0, -2.455672638223657, 2.272258714598084],
            [-2.6615773750187572, 0, 10.804513886456137, -8.3539146573962, 0.820487594956657],
            [6.067741434696772, 0, -24.711273635911088, 20.427517930788895, -1.9061579788166472, 1.006172249242068],
            [
                12.054670076253203,
                0,
                -49.75478495046899,
                41.142888638604674,
                -4.461760149974004,
                2.042334822239175,
                -0.09834843665406107,
            ],
            [
                10.138146522881808,
                0,
                -42.6411360317175,
                35.76384003992257,
                -4.3480228403929075,
                2.0098622683770357,
                0.3487490460338272,
                -0.27143900510483127,
            ],
            [
                -45.030072034298676,
                0,
                187.3272437654589,
                -154.02882369350186,
                18.56465306347536,
                -7.141809679295079,
                1.3088085781613787,
            ],
            [
                0.04715561848627222,
                0,
                0,
                0.25750564298434153,
                0.26216653977412624,
                0.15216092656738558,
                0.4939969170032485,
                -0.29430311714032503,
                0.08131747232495111,
            ],
        ]
    ),
    np.array(
        [
            0.002547011879931045,
            0,
            0,
            -0.00965839487279575,
            0.04206470975639691,
            -0.0666822437469301,
            0.2650097464621281,
            -0.29430311714032503,
            0.08131747232495111,
            -0.02029518466335628,
            0.0,
        ]
    ),
    7,
    4.64,
)


class Attempt(NamedTuple):
    """A trial step: the new rows, their derivative, the error estimate, and h·|λ| as seen from the stages.

    The arrays are the method's own workspace and valid until its next step.
    """

    rows: Array  # (R, L)
    slope: Array  # (R, L)
    error: Array  # (R, L)
    stiffness: Array  # (L,)


class Explicit:
    """An explicit pair bound to the rows of a system.

    Parameters
    ----------
    system : Variational
    order : int
        Sensitivities carried: 0, 1 or 2.
    tableau : Tableau
    """

    def __init__(self, system: Variational, order: int, tableau: Tableau = VERNER) -> None:
        self.n, self.rhs, self.tableau = system.n, system.kernel(order), tableau
        self.exponent = -1.0 / tableau.order
        self._buffer = np.empty(0)

    def attempt(self, constants: Array, rows: Array, slope: Array, h: Array, weight: Array) -> Attempt:
        """Return a step of length h (L,) from `rows`, whose derivative is `slope`."""
        a, stages = self.tableau.a, len(self.tableau.a)
        size = rows.size
        if len(self._buffer) < (stages + 3) * size:
            self._buffer = np.empty((stages + 3) * size)
        k = self._buffer[: stages * size].reshape(stages, size)
        new, other, work = self._buffer[stages * size : (stages + 3) * size].reshape(3, *rows.shape)
        shaped = k.reshape(stages, *rows.shape)
        shaped[0] = slope
        for j in range(1, stages):
            last, new = new, other
            # One pass over all earlier slopes; BLAS would wake threads for it, which cost more than they bring.
            np.einsum("j,jn->n", a[j, :j], k[:j], out=new.reshape(-1))
            new *= h
            new += rows
            self.rhs(constants, new, shaped[j])
            other = last
        # The last two stages are both at the end of the step: their difference shows the spectral radius.
        n = self.n
        size2 = np.sum(((new[:n] - other[:n]) / weight) ** 2, axis=0)
        turn = np.sum(((shaped[-1, :n] - shaped[-2, :n]) / weight) ** 2, axis=0)
        stiffness = h * np.sqrt(turn / np.where(size2 > 0, size2, np.inf))
        np.einsum("j,jn->n", self.tableau.error, k, out=work.reshape(-1))
        work *= h
        return Attempt(new, shaped[-1], work, stiffness)
