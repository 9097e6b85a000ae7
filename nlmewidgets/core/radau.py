r"""One step of Radau IIA (three stages, order 5) for many lanes: the method for stiff lanes.

The stages solve :math:`Z_i = h\sum_j a_{ij} f(x + Z_j)` by Newton's method with the exact Jacobian at every
stage.  Differentiating that equation gives linear equations for the sensitivities of the stages with the same
matrix, so they cost one right-hand side each; second order again.  They are the exact derivatives of the
computed step, and no third derivatives of f are needed.
"""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.runge_kutta import Attempt
from nlmewidgets.core.variational import Variational

__all__ = ["A", "ERROR", "NODES", "Radau"]

# Hairer & Wanner, Solving Ordinary Differential Equations II (1996), sections IV.5 and IV.8.
_ROOT = 6**0.5
NODES = np.array([(4 - _ROOT) / 10, (4 + _ROOT) / 10, 1.0])
A = np.array(
    [
        [(88 - 7 * _ROOT) / 360, (296 - 169 * _ROOT) / 1800, (-2 + 3 * _ROOT) / 225],
        [(296 + 169 * _ROOT) / 1800, (88 + 7 * _ROOT) / 360, (-2 - 3 * _ROOT) / 225],
        [(16 - _ROOT) / 36, (16 + _ROOT) / 36, 1 / 9],
    ]
)
REAL = 3 + 3 ** (2 / 3) - 3 ** (1 / 3)
"""The real eigenvalue of A⁻¹."""
ERROR = np.array([-13 - 7 * _ROOT, -13 + 7 * _ROOT, -1.0]) / 3
"""Weights of Z/h which, with f(x), make an embedded solution of order 3 after multiplication with (REAL/h − J)⁻¹."""

NEWTON = 10
"""Newton iterations before the step is called a failure and shortened."""


class Radau:
    """Radau IIA bound to the rows of a system; arguments as for `Explicit`."""

    def __init__(self, system: Variational, order: int) -> None:
        self.system, self.order, self.n = system, order, system.n
        self.rhs, self.state, self.matrix = system.kernel(order), system.kernel(0), system.kernel(-1)
        self.exponent = -0.25

    def attempt(self, constants: Array, rows: Array, slope: Array, h: Array, weight: Array) -> Attempt:
        """Return a step of length h (L,) from `rows`, whose derivative is `slope`."""
        n, lanes = self.n, rows.shape[1]
        c3 = np.tile(constants, 3)  # a stage is a lane of its own
        stages = np.repeat(rows[:, None], 3, axis=1)  # (R, 3, L)
        flat = stages.reshape(len(rows), -1)
        z = np.zeros((n, 3, lanes))
        k = np.empty((len(rows), 3 * lanes))
        converged = np.zeros(lanes, dtype=bool)
        for _ in range(NEWTON):
            self.state(c3, flat[:n], k)
            residual = h * np.einsum("ij,njl->nil", A, k[:n].reshape(n, 3, lanes)) - z
            change = _solve(self._newton_matrix(c3, flat, h), residual.reshape(3 * n, 1, lanes)).reshape(z.shape)
            z += np.where(converged, 0.0, change)
            stages[:n] = rows[:n, None] + z
            size = np.sqrt(np.mean((change / weight[:, None]) ** 2, axis=(0, 1)))
            # Convergence is quadratic: what is left after this change is far below the tolerance.
            converged |= size < 1e-2
            if (converged | ~np.isfinite(size)).all():
                break
        if self.order:
            inverse = np.linalg.inv(_safe(self._newton_matrix(c3, flat, h)))
            for order, (index, offset) in enumerate(self._groups(), 1):
                if not offset[1] > offset[0]:
                    continue
                self.system.kernel(order)(c3, flat, k)
                group = k[offset[0] : offset[1]].reshape(-1, 3, lanes)
                right = self._dense(h * np.einsum("ij,rjl->ril", A, group), index)
                solved = np.einsum("lxy,ycl->xcl", inverse, right.reshape(3 * n, -1, lanes))
                stages[offset[0] : offset[1]] += solved.reshape(n, 3, -1, lanes)[index[0], :, index[1]]
        new = stages[:, 2].copy()
        new[:, ~converged] = np.nan
        error = self._error(constants, rows, slope, stages, h)
        out = np.empty_like(rows)
        self.rhs(constants, new, out)
        jacobian = self._jacobian(constants, rows)
        scaled = np.abs(jacobian) * weight[None] / weight[:, None]
        return Attempt(new, out, error, h * scaled.sum(axis=1).max(axis=0))

    def _groups(self) -> list[tuple[tuple[Ints, Ints], tuple[int, int]]]:
        """(state, column) of the rows of each order, and where these rows are."""
        system = self.system
        state, slot = system.first_index
        groups = [((state, slot), (system.n, system.n + len(system.first)))]
        if self.order >= 2:
            i, a, b = system.second_index
            _, column = np.unique(a * len(system.slots) + b, return_inverse=True)
            start = system.rows(1)
            groups.append(((i, column.reshape(-1)), (start, start + len(system.second))))
        return groups

    def _dense(self, group: Array, index: tuple[Ints, Ints]) -> Array:
        """Rows (r, 3, L) as columns (n, 3, columns, L)."""
        dense = np.zeros((self.n, group.shape[1], int(index[1].max()) + 1, group.shape[2]))
        dense[index[0], :, index[1]] = group
        return dense

    def _jacobian(self, constants: Array, rows: Array) -> Array:
        out = np.empty((self.n, self.n, rows.shape[1]))
        self.matrix(constants, rows, out)
        return out

    def _newton_matrix(self, constants: Array, flat: Array, h: Array) -> Array:
        """I − h A ⊗ J_j, (L, 3n, 3n); an unknown is (state, stage)."""
        n, lanes = self.n, len(h)
        jacobian = self._jacobian(constants, flat).reshape(n, n, 3, lanes)
        matrix = np.einsum("ij,xyjl,l->lxiyj", A, jacobian, -h).reshape(lanes, 3 * n, 3 * n)
        matrix[:, np.arange(3 * n), np.arange(3 * n)] += 1.0
        return matrix

    def _error(self, constants: Array, rows: Array, slope: Array, stages: Array, h: Array) -> Array:
        n = self.n
        raw = slope + np.einsum("i,ril->rl", ERROR, stages - rows[:, None]) / h
        matrix = -self._jacobian(constants, rows).transpose(2, 0, 1)
        matrix[:, np.arange(n), np.arange(n)] += (REAL / h)[:, None]
        inverse = np.linalg.inv(_safe(matrix))
        out = np.empty_like(rows)
        out[:n] = np.einsum("lxy,yl->xl", inverse, raw[:n])
        if self.order:
            for index, (start, stop) in self._groups():
                if stop > start:
                    dense = self._dense(raw[start:stop, None], index)[:, 0]
                    out[start:stop] = np.einsum("lxy,ycl->xcl", inverse, dense)[index[0], index[1]]
        return out


def _safe(matrix: Array) -> Array:
    """Return the matrices with those that are not finite replaced by 1: their lanes are rejected anyway."""
    bad = ~np.isfinite(matrix).all(axis=(1, 2))
    if bad.any():
        matrix[bad] = np.eye(matrix.shape[-1])
    return matrix


def _solve(matrix: Array, right: Array) -> Array:
    """Solve for right-hand sides (n, columns, L); the result has the same shape."""
    try:
        return np.linalg.solve(_safe(matrix), right.transpose(2, 0, 1)).transpose(1, 2, 0)
    except np.linalg.LinAlgError:  # one exactly singular matrix among the lanes
        nearly = matrix + 1e-14 * np.abs(matrix).max(axis=(1, 2), keepdims=True) * np.eye(matrix.shape[-1])
        return np.linalg.solve(nearly, right.transpose(2, 0, 1)).transpose(1, 2, 0)
