r"""Population parameters along unconstrained coordinates, batched over points.

Coordinates are those of `ParameterSpace.pack`: free thetas, the free entries of the Cholesky factor L of Omega,
free sigmas, each as far from a bound as from infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.parameters import Parameter, ParameterSpace, Values

__all__ = ["Population", "Unconstrained"]

_LARGEST = 300.0
"""Of the logarithm of a positive parameter; beyond, squares overflow."""


class _Scalars:
    """Free thetas or sigmas along their unconstrained coordinates, batched: (parameters, points)."""

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        scale = np.array([p.scale for p in parameters], dtype=object)
        self.n = len(parameters)
        self.log = np.flatnonzero(scale == "log")
        self.reflected = np.flatnonzero(scale == "reflected")
        self.logit = np.flatnonzero(scale == "logit")
        self.low = np.array([[np.nan if p.lower is None else p.lower] for p in parameters]).reshape(-1, 1)
        self.high = np.array([[np.nan if p.upper is None else p.upper] for p in parameters]).reshape(-1, 1)

    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        """Return the natural values, their slopes d natural/dx, and d log|slope|/dx."""
        value, slope, bend = x.copy(), np.ones_like(x), np.zeros_like(x)
        if len(self.log):
            slope[self.log] = np.exp(np.minimum(x[self.log], _LARGEST))
            value[self.log] = self.low[self.log] + slope[self.log]
            bend[self.log] = 1.0
        if len(self.reflected):
            slope[self.reflected] = -np.exp(np.minimum(x[self.reflected], _LARGEST))
            value[self.reflected] = self.high[self.reflected] + slope[self.reflected]
            bend[self.reflected] = 1.0
        if len(self.logit):
            k = self.logit
            share = 1.0 / (1.0 + np.exp(-np.clip(x[k], -_LARGEST, _LARGEST)))
            width = self.high[k] - self.low[k]
            value[k] = self.low[k] + width * share
            slope[k] = width * share * (1.0 - share)
            bend[k] = 1.0 - 2.0 * share
        return value, slope, bend


class Population(NamedTuple):
    """Population parameters at a batch of points."""

    theta: Array  # (thetas, points)
    sigma: Array  # (sigmas, points)
    slope: Array  # (free scalars, points)
    bend: Array
    chol: Array  # (points, etas, etas): of the model's Omega
    log_diagonal: Array  # (points, etas)


@dataclass(frozen=True, eq=False)
class Unconstrained:
    """The coordinates of the free population parameters.

    Attributes
    ----------
    space : ParameterSpace
    base : Values
        Where fixed parameters are.
    """

    space: ParameterSpace
    base: Values

    @cached_property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.space.x_names)

    @cached_property
    def free(self) -> tuple[list[int], list[int]]:
        """Which thetas and which sigmas are free."""
        space = self.space
        theta = [k for k, p in enumerate(space.theta) if not p.fixed]
        return theta, [k for k, p in enumerate(space.sigma) if not p.fixed]

    @cached_property
    def places(self) -> Ints:
        """Where the free thetas and sigmas are among the coordinates."""
        theta, sigma = self.free
        return np.r_[np.arange(len(theta)), np.arange(self.size - len(sigma), self.size)].astype(int)

    @cached_property
    def _scalars(self) -> _Scalars:
        space, (theta, sigma) = self.space, self.free
        return _Scalars((*(space.theta[k] for k in theta), *(space.sigma[k] for k in sigma)))

    @cached_property
    def _base_chol(self) -> Array:
        omega = self.base.omega
        return np.linalg.cholesky(omega) if len(omega) else omega

    @cached_property
    def owner(self) -> Ints:
        """The effect whose entries of Omega each effect has."""
        return np.array(self.space.omega_map.owner, dtype=np.intp)

    def __call__(self, x: Array) -> Population:
        """Return the population parameters at coordinates (points, population)."""
        points, (theta, sigma) = len(x), self.free
        value, slope, bend = self._scalars(x[:, self.places].T)
        all_theta = np.repeat(self.base.theta[:, None], points, axis=1)
        all_sigma = np.repeat(self.base.sigma[:, None], points, axis=1)
        all_theta[theta], all_sigma[sigma] = value[: len(theta)], value[len(theta) :]
        chol = np.repeat(self._base_chol[None], points, axis=0)
        own = self.space.omega_map
        place = len(theta)
        if own.plain and own.rows:
            rows, columns = own.entries
            entries = x[:, place : place + len(rows)]
            chol[:, rows, columns] = np.where(rows == columns, np.exp(np.clip(entries, -_LARGEST, _LARGEST)), entries)
        elif own.rows:
            for i, before, sd, correlations in own.rows:
                row = [*before, i]
                length = np.sqrt(self.base.omega[i, i])
                if correlations:
                    chol[:, i, list(before)] = x[:, place : place + len(before)]
                    place += len(before)
                    if not sd:
                        chol[:, i, i] = 1.0
                        chol[:, i, row] *= length / np.sqrt((chol[:, i, row] ** 2).sum(axis=1, keepdims=True))
                if sd:
                    size = np.exp(np.clip(x[:, place], -_LARGEST, _LARGEST))
                    place += 1
                    if correlations or not before:
                        chol[:, i, i] = size
                    else:
                        chol[:, i, row] *= (size / length)[:, None]
        if own.copies:
            for members, owners in own.copies:
                chol[:, members[:, None], members] = chol[:, owners[:, None], owners]
        diagonal = np.arange(len(self.owner))
        logs = np.log(chol[:, diagonal, diagonal])
        return Population(all_theta, all_sigma, slope, bend, chol, logs)

    def along_omega(self, chol: Array, on_chol: Array) -> Array:
        """Return derivatives along the coordinates of Omega from those along L, (points, coordinates)."""
        own = self.space.omega_map
        if not own.rows:
            return np.zeros((len(chol), 0))
        if own.copies:
            on_chol = on_chol.copy()
            for members, owners in own.copies:
                on_chol[:, owners[:, None], owners] += on_chol[:, members[:, None], members]
        if own.plain:
            rows, columns = own.entries
            return on_chol[:, rows, columns] * np.where(rows == columns, chol[:, rows, columns], 1.0)
        parts = []
        for i, before, sd, correlations in own.rows:
            row, earlier = [*before, i], list(before)
            length = (on_chol[:, i, row] * chol[:, i, row]).sum(axis=1, keepdims=True)
            if correlations and sd:
                parts += [on_chol[:, i, earlier], on_chol[:, i, i : i + 1] * chol[:, i, i : i + 1]]
            elif correlations:
                pivot = chol[:, i, i : i + 1]
                w = chol[:, i, earlier] / pivot
                parts.append(on_chol[:, i, earlier] * pivot - length * w / (1.0 + (w**2).sum(axis=1, keepdims=True)))
            else:
                parts.append(length)
        return np.concatenate(parts, axis=1)
