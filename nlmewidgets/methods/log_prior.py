"""Priors as a density along unconstrained coordinates: with Jacobians, and with derivatives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.default_priors import Priors
from nlmewidgets.core.priors import InverseWishart, Prior
from nlmewidgets.methods.unconstrained import Population, Unconstrained

__all__ = ["LogPrior"]


class _Term(NamedTuple):
    """Scalar priors of one kind: one prior with arrays in the place of numbers."""

    prior: Prior
    places: Ints  # among theta, sigma, SDs, correlations


@dataclass(frozen=True, eq=False)
class LogPrior:
    """The log prior density of population parameters.

    Attributes
    ----------
    coordinates : Unconstrained
    priors : Priors
    """

    coordinates: Unconstrained
    priors: Priors

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of theta, sigma, SD of every effect, correlations: the scalars priors are on."""
        space = self.coordinates.space
        scalars = (*(p.name for p in space.theta), *(p.name for p in space.sigma))
        return (*scalars, *space.omega_names, *(name for name, _, _ in space.correlations))

    @cached_property
    def _terms(self) -> list[_Term]:
        found: dict[type[Prior], list[tuple[str, Prior]]] = {}
        for key, prior in self.priors.natural.items():
            if isinstance(key, str):
                found.setdefault(type(prior), []).append((key, prior))
        out = []
        for kind, members in found.items():
            stacked = object.__new__(kind)
            columns = {name: np.array([[vars(p)[name]] for _, p in members]) for name in vars(members[0][1])}
            stacked.__dict__.update(columns)
            out.append(_Term(stacked, np.array([self._names.index(name) for name, _ in members])))
        return out

    @cached_property
    def _matrices(self) -> list[tuple[Ints, Any]]:
        eta = self.coordinates.space.eta
        items = self.priors.natural.items()
        return [(np.array([eta.index(n) for n in key]), prior) for key, prior in items if isinstance(key, tuple)]

    @cached_property
    def _coordinate(self) -> tuple[Ints, Array, Array]:
        """Among the free scalars: those with a normal prior of their coordinate, its mean and SD."""
        space, (theta, sigma) = self.coordinates.space, self.coordinates.free
        names = [*(space.theta[k].name for k in theta), *(space.sigma[k].name for k in sigma)]
        chosen = [(names.index(n), mean, sd) for n, (mean, sd) in self.priors.coordinate.items()]
        table = np.array(chosen, dtype=float).reshape(-1, 3)
        return table[:, 0].astype(int), table[:, 1:2], table[:, 2:3]

    @cached_property
    def _has_jacobian(self) -> Array:
        """1 for the free scalars whose prior is on the natural scale, (free scalars, 1)."""
        out = np.ones((len(self.coordinates.places), 1))
        out[self._coordinate[0]] = 0.0
        return out

    @cached_property
    def _variance_sigma(self) -> Array:
        """1 for free sigmas whose prior is of the variance, (free scalars, 1)."""
        space, (theta, sigma) = self.coordinates.space, self.coordinates.free
        names = [*(space.theta[k].name for k in theta), *(space.sigma[k].name for k in sigma)]
        natural = self.priors.natural
        flags = [name in natural and natural[name].of_variance for name in names]
        return np.array(flags, dtype=float).reshape(-1, 1)

    @cached_property
    def _measure(self) -> tuple[Array, Array]:
        r"""Coefficients a, b of log|∂(SDs, correlations)/∂x| = Σ a log L_ii + b log sd_i, and of the priors' measures.

        A row of L with SD s and direction u has :math:`\prod_{j<i} U_{jj} \cdot u_i / s^{i-1}` as the
        determinant of (s, correlations) along its entries; rows depend on earlier ones only.
        """
        space = self.coordinates.space
        a, b = np.zeros(len(space.eta)), np.zeros(len(space.eta))
        for i, before, sd, correlations in space.omega_map.rows:
            m = len(before)
            if correlations:
                for j in before:
                    a[j] += 1.0
                    b[j] -= 1.0
                a[i] += 2.0 if sd else m + 2.0
                b[i] -= m + 1.0 if sd else m + 2.0
            elif before:
                b[i] += 1.0
            else:
                a[i] += 1.0
        for key, prior in self.priors.natural.items():
            if isinstance(key, tuple):
                if isinstance(prior, InverseWishart):
                    for name in key:  # dΩ = Π 2 s_i^p ds dC
                        b[self.coordinates.owner[space.eta.index(name)]] += len(key)
            elif prior.of_variance and key in space.omega_names:
                b[space.omega_names.index(key)] += 1.0
        return a, b

    def add(self, x: Array, at: Population, on_scalar: Array, on_chol: Array) -> Array:
        """Return the log priors with their Jacobians at each point, and add their derivatives along x-scalars and L.

        Parameters
        ----------
        x : (points, coordinates) float
        at : Population
            The parameters there.
        on_scalar : (free scalars, points) float
        on_chol : (points, etas, etas) float
        """
        q, (theta, sigma) = len(self.coordinates.owner), self.coordinates.free
        chol = at.chol
        square = (chol**2).sum(axis=2)  # (points, etas): the variances
        sd = np.sqrt(square)
        omega = chol @ chol.transpose(0, 2, 1) if len(self._matrices) or self.coordinates.space.correlations else None
        pairs = self.coordinates.space.correlations
        parts = [at.theta, at.sigma, sd.T]
        if pairs:
            assert omega is not None
            parts.append(np.array([omega[:, i, j] / (sd[:, i] * sd[:, j]) for _, i, j in pairs]))
        natural = np.concatenate(parts)
        slope = np.zeros_like(natural)
        total = np.zeros(natural.shape[1])
        for prior, places in self._terms:
            own = natural[places]
            if prior.of_variance:
                value, along = prior.minus2log(own * own)
                along = 2.0 * own * along
            else:
                value, along = prior.minus2log(own)
            total -= 0.5 * value.sum(axis=0)
            slope[places] -= 0.5 * along
        n_theta, n_sigma = len(at.theta), len(at.sigma)
        # thetas and sigmas: the chain rule, then the Jacobian of their coordinates
        rows = [*theta, *(n_theta + k for k in sigma)]
        on_scalar += slope[rows] * at.slope
        total += (self._has_jacobian * np.log(np.abs(at.slope))).sum(axis=0)
        on_scalar += self._has_jacobian * at.bend
        along_coordinate, mean, sd_of = self._coordinate
        if len(along_coordinate):
            z = (x[:, self.coordinates.places].T[along_coordinate] - mean) / sd_of
            total -= 0.5 * (z * z).sum(axis=0)
            on_scalar[along_coordinate] -= z / sd_of
        if self._variance_sigma.any():
            value = natural[rows]
            total += (self._variance_sigma * np.log(value)).sum(axis=0)
            on_scalar += self._variance_sigma * at.slope / value
        if not q:
            return total
        a, b = self._measure
        on_sd = slope[n_theta + n_sigma : n_theta + n_sigma + q].T  # (points, etas)
        total += at.log_diagonal @ a + np.log(sd) @ b
        on_chol += (on_sd / sd + b / square)[:, :, None] * chol
        diagonal = np.arange(q)
        on_chol[:, diagonal, diagonal] += a * np.exp(-at.log_diagonal)
        gradient = np.zeros_like(chol)
        for etas, prior in self._matrices:
            block = np.ix_(np.arange(len(chol)), etas, etas)
            value, along = prior.matrix(omega[block])  # type: ignore[index]
            total -= 0.5 * value
            gradient[block] -= 0.5 * along
        for k, (_, i, j) in enumerate(pairs):
            here = slope[n_theta + n_sigma + q + k]
            if here.any():
                scale, r = 0.5 * here / (sd[:, i] * sd[:, j]), natural[n_theta + n_sigma + q + k]
                gradient[:, i, j] += scale
                gradient[:, j, i] += scale
                gradient[:, i, i] -= 0.5 * here * r / square[:, i]
                gradient[:, j, j] -= 0.5 * here * r / square[:, j]
        if gradient.any():
            on_chol += 2.0 * gradient @ chol
        return total
