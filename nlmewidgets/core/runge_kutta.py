"""One step of an explicit Runge–Kutta pair for many lanes, each with its own step size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.row_kernels import RowKernel
from nlmewidgets.core.variational import Variational

__all__ = ["VERNER", "Attempt", "Explicit", "Tableau"]


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

    The error is the method's own and valid until its next step; rows and derivative are valid until the next step
    that starts from them.
    """

    rows: Array  # (R, L)
    slope: Array  # (R, L)
    error: Array  # (R, L)
    stiffness: Array  # (L,)


class Explicit:
    """Verner's pair bound to the rows of a system.

    Parameters
    ----------
    system : Variational
    order : int
        Sensitivities carried: 0, 1 or 2.
    """

    exponent = -1.0 / VERNER.order

    def __init__(self, system: Variational, order: int) -> None:
        self.n, self.rhs = system.n, system.kernel(order)
        self._desk: _Desk | None = None

    def attempt(self, constants: Array, rows: Array, slope: Array, h: Array, weight: Array) -> Attempt:
        """Return a step of length h (L,) from `rows`, whose derivative is `slope`."""
        desk = self._desk
        if desk is None or desk.constants is not constants:
            desk = self._desk = _Desk(self.rhs, constants, rows.shape)
        k, at = desk.stages, desk.at
        new, out, finish = desk.other(rows)
        k[_PLACE[0]] = slope.reshape(-1)
        end = len(_SUMS) - 1
        for j in range(1, end + 1):
            target = at if j < end else new
            begin, weights = _SUMS[j]
            _weigh(weights, k[begin : begin + len(weights)], target.reshape(-1))
            target *= h
            target += rows
            if j < end:
                desk.run[j]()
        finish()
        # The last two stages are both at the end of the step: their difference shows the spectral radius.
        n = self.n
        away = (new[:n] - at[:n]) / weight
        turned = (out[:n] - k[_PLACE[end - 1]].reshape(rows.shape)[:n]) / weight
        size, turn = np.einsum("xl,xl->l", away, away), np.einsum("xl,xl->l", turned, turned)
        stiffness = h * np.sqrt(turn / np.where(size > 0, size, np.inf))
        begin, weights = _ERROR
        _weigh(weights, k[begin : begin + len(weights)], at.reshape(-1))
        at *= h
        return Attempt(new, out, at, stiffness)


def _weigh(weights: Array, slopes: Array, out: Array) -> None:
    """Write the weighted sum of slopes in one pass over them."""
    if slopes.size < _SMALL:
        np.dot(weights, slopes, out=out)
    else:  # BLAS would wake threads, which cost more than they bring
        np.einsum("j,jn->n", weights, slopes, out=out)


_SMALL = 8192


# The second stage is soon forgotten: stored first, it is left out of the later sums.
_PLACE = [1, 0, *range(2, len(VERNER.a))]


def _stored(weights: Array) -> tuple[int, Array]:
    """Return where in storage the stages that have weights begin, and their weights."""
    stored = np.zeros(len(weights))
    stored[_PLACE] = weights
    used = np.flatnonzero(stored)
    return int(used[0]), stored[used[0] : used[-1] + 1]


_SUMS = [(0, VERNER.error[:0]), *map(_stored, VERNER.a[1:])]
_ERROR = _stored(VERNER.error)


class _Desk:
    """The work arrays of one set of lanes, and the kernel bound to them."""

    def __init__(self, rhs: RowKernel, constants: Array, shape: tuple[int, ...]) -> None:
        self.constants = constants
        inner = len(VERNER.a) - 1  # the last stage is the next step's first
        self.stages = np.zeros((inner, shape[0] * shape[1]))
        self.at = np.empty(shape)
        self.run = [rhs.bind(constants, self.at, self.stages[p].reshape(shape)) for p in _PLACE[:inner]]
        self._ends = []
        for _ in range(2):
            new, out = np.empty((2, *shape))
            self._ends.append((new, out, rhs.bind(constants, new, out)))

    def other(self, rows: Array) -> tuple[Array, Array, Callable[[], None]]:
        """Return where a step from `rows` ends: new rows, their derivative, and the call that makes it."""
        return self._ends[1 if rows is self._ends[0][0] else 0]
