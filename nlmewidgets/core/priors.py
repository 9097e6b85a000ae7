r"""Priors on population parameters, and the penalty −2 log p they add to an objective.

A prior is a density of the parameter as it is named and shown: thetas, standard deviations and correlations
on their natural scale, except `InverseGamma` (of the variance) and `InverseWishart` (of the covariance
matrix).  The estimate is the mode of that density times the likelihood; no Jacobian of the unconstrained
coordinates enters, so it does not depend on them.

References
----------
Gisleskog, Karlsson & Beal (2002), doi:10.1023/A:1022972420004 (prior information in NONMEM).
Lewandowski, Kurowicka & Joe (2009), doi:10.1016/j.jmva.2009.04.008 (LKJ).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import betaln, gammaln, multigammaln

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.parameters import ParameterSpace, Values

__all__ = ["PRIORS", "HalfNormal", "InverseGamma", "InverseWishart", "LKJ", "LogNormal", "Normal", "Penalty", "Prior"]

_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True)
class Prior:
    """A density of one population parameter."""

    positive: ClassVar[bool] = False
    """Whether the parameter must have a lower bound of zero or more."""
    of_variance: ClassVar[bool] = False
    """Whether it is the density of the square of a standard deviation."""
    of_block: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            low = -math.inf if name == "mean" else 0.0
            if not isinstance(value, tuple) and not (math.isfinite(value) and value > low):
                want = "a finite number" if name == "mean" else "a positive number"
                raise ModelError(f"The prior {type(self).__name__} has {name}={value!r}; give {want}.")

    def minus2log(self, x: Any) -> tuple[Any, Any]:
        """Return −2 log density and its derivative, of a number or of an array."""
        raise NotImplementedError

    def draw(self, rng: np.random.Generator) -> float:
        """Return a draw of the parameter (`InverseGamma`: of the variance)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(Prior):
    """N(mean, sd²)."""

    mean: float
    sd: float

    def minus2log(self, x: Any) -> tuple[Any, Any]:
        """Return −2 log density and its derivative."""
        z = (x - self.mean) / self.sd
        return z * z + _LOG_2PI + 2.0 * np.log(self.sd), 2.0 * z / self.sd

    def draw(self, rng: np.random.Generator) -> float:
        """Return a draw."""
        return float(rng.normal(self.mean, self.sd))


@dataclass(frozen=True)
class LogNormal(Prior):
    """log x ~ N(log(median), sd²)."""

    median: float
    sd: float

    positive: ClassVar[bool] = True

    def minus2log(self, x: Any) -> tuple[Any, Any]:
        """Return −2 log density and its derivative."""
        z = np.log(x / self.median) / self.sd
        return z * z + _LOG_2PI + 2.0 * np.log(self.sd * x), 2.0 * (z / self.sd + 1.0) / x

    def draw(self, rng: np.random.Generator) -> float:
        """Return a draw."""
        return float(self.median * np.exp(rng.normal(0.0, self.sd)))


@dataclass(frozen=True)
class HalfNormal(Prior):
    """|N(0, scale²)|."""

    scale: float

    positive: ClassVar[bool] = True

    def minus2log(self, x: Any) -> tuple[Any, Any]:
        """Return −2 log density and its derivative."""
        z = x / self.scale
        return z * z + math.log(math.pi / 2.0) + 2.0 * np.log(self.scale), 2.0 * z / self.scale

    def draw(self, rng: np.random.Generator) -> float:
        """Return a draw."""
        return float(abs(rng.normal(0.0, self.scale)))


@dataclass(frozen=True)
class InverseGamma(Prior):
    """Of the variance of a random effect or residual: density ∝ v^(−shape−1)·e^(−scale/v), mode scale/(shape + 1)."""

    shape: float
    scale: float

    positive: ClassVar[bool] = True
    of_variance: ClassVar[bool] = True

    def minus2log(self, x: Any) -> tuple[Any, Any]:
        """Return −2 log density of the variance and its derivative along it."""
        a, b = self.shape, self.scale
        value = 2.0 * (gammaln(a) - a * np.log(b) + (a + 1.0) * np.log(x) + b / x)
        return value, 2.0 * ((a + 1.0) / x - b / x**2)

    def draw(self, rng: np.random.Generator) -> float:
        """Return a draw of the variance."""
        return float(self.scale / rng.gamma(self.shape))


@dataclass(frozen=True)
class InverseWishart(Prior):
    """Of a block of Omega: `scale` is a matrix (or variances), the mode scale/(df + size + 1)."""

    df: float
    scale: tuple[Any, ...]

    of_block: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the matrix."""
        matrix = np.array(self.scale, dtype=float)
        matrix = np.diag(matrix) if matrix.ndim == 1 else matrix
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T):
            raise ModelError("The scale of an InverseWishart prior is not a symmetric matrix; give one, or variances.")
        if np.linalg.eigvalsh(matrix)[0] <= 0 or not self.df > len(matrix) - 1:
            raise ModelError("An InverseWishart prior needs a positive definite scale and df above its size minus 1.")
        object.__setattr__(self, "scale", tuple(tuple(map(float, row)) for row in matrix))

    def matrix(self, omega: Array) -> tuple[Any, Array]:
        """Return −2 log density of a block (..., size, size) and its symmetric gradient."""
        p, scale = omega.shape[-1], np.array(self.scale)
        inverse = np.linalg.inv(omega)
        constant = self.df * p * math.log(2.0) + 2.0 * multigammaln(self.df / 2.0, p)
        constant -= self.df * np.linalg.slogdet(scale)[1]
        n = self.df + p + 1.0
        value = n * np.linalg.slogdet(omega)[1] + (inverse * scale).sum(axis=(-2, -1)) + constant
        return value, n * inverse - inverse @ scale @ inverse

    def draw_block(self, size: int, rng: np.random.Generator) -> Array:
        """Return a draw of the covariance matrix, by Bartlett's decomposition of its inverse."""
        bartlett = np.tril(rng.standard_normal((size, size)), -1)
        bartlett[np.diag_indices(size)] = np.sqrt(rng.chisquare(self.df - np.arange(size)))
        root = np.linalg.cholesky(np.array(self.scale)) @ np.linalg.inv(bartlett).T
        return np.asarray(root @ root.T)


@dataclass(frozen=True)
class LKJ(Prior):
    """Of the correlation matrix of a block of Omega: density ∝ |C|^(shape − 1); 1: uniform, larger: nearer zero."""

    shape: float = 2.0

    of_block: ClassVar[bool] = True

    def matrix(self, omega: Array) -> tuple[Any, Array]:
        """Return −2 log density of the correlations of a block (..., size, size), and its symmetric gradient."""
        p, power = omega.shape[-1], self.shape - 1.0
        variance = np.diagonal(omega, axis1=-2, axis2=-1)
        log_det = np.linalg.slogdet(omega)[1] - np.log(variance).sum(axis=-1)
        constant = sum(
            (2.0 * power + p - k) * (p - k) * math.log(2.0)
            + (p - k) * betaln(self.shape + (p - k - 1) / 2.0, self.shape + (p - k - 1) / 2.0)
            for k in range(1, p)
        )
        slope = np.linalg.inv(omega) - np.eye(p) / variance[..., None, :]
        return -2.0 * (power * log_det - constant), -2.0 * power * slope

    def draw_block(self, size: int, rng: np.random.Generator) -> Array:
        """Return a draw of the correlation matrix, by the onion method: row by row of its Cholesky factor."""
        chol = np.eye(size)
        for i in range(1, size):
            # The squared length of what is not the diagonal is beta, its direction uniform.
            square = rng.beta(i / 2.0, self.shape + (size - 1 - i) / 2.0)
            direction = rng.standard_normal(i)
            chol[i, :i] = np.sqrt(square) * direction / np.linalg.norm(direction)
            chol[i, i] = np.sqrt(1.0 - square)
        return np.asarray(chol @ chol.T)


PRIORS: Mapping[str, type[Prior]] = {p.__name__: p for p in (Normal, LogNormal, HalfNormal, InverseGamma)} | {
    p.__name__: p for p in (InverseWishart, LKJ)
}
"""Every prior by its name."""


class Quadratic(NamedTuple):
    """A penalty with its gradient and (non-negative) curvature along the unconstrained coordinates."""

    value: float
    gradient: Array
    curvature: Array


@dataclass(frozen=True, eq=False)
class Penalty:
    """−2 log of the priors of a model.

    Attributes
    ----------
    space : ParameterSpace
    priors : mapping
        By population parameter, or by the tuple of the etas of a block.
    """

    space: ParameterSpace
    priors: Mapping[str | tuple[str, ...], Prior]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {p.name: k for k, p in enumerate(self.space.theta)}

    def natural(self, values: Values) -> tuple[float, Array, Array, Array]:
        """Return the penalty and its derivatives along theta, Omega (symmetric) and sigma."""
        space, total = self.space, 0.0
        theta, sigma = np.zeros(len(space.theta)), np.zeros(len(space.sigma))
        omega = np.zeros(values.omega.shape)
        numbers = space.to_dict(values)
        sigmas = [p.name for p in space.sigma]
        pairs = {name: (i, j) for name, i, j in space.correlations}
        for key, prior in self.priors.items():
            if isinstance(key, tuple):
                block = [space.eta.index(name) for name in key]
                value, slope = prior.matrix(values.omega[np.ix_(block, block)])  # type: ignore[attr-defined]
                omega[np.ix_(block, block)] += slope
                total += value
                continue
            x = numbers[key]
            value, slope = prior.minus2log(x * x if prior.of_variance else x)
            slope = 2.0 * x * slope if prior.of_variance else slope
            total += value
            if key in self._places:
                theta[self._places[key]] += slope
            elif key in sigmas:
                sigma[sigmas.index(key)] += slope
            elif key in pairs:
                i, j = pairs[key]
                scale = 0.5 * slope / math.sqrt(values.omega[i, i] * values.omega[j, j])
                omega[i, j] += scale
                omega[j, i] += scale
                omega[i, i] -= 0.5 * slope * x / values.omega[i, i]
                omega[j, j] -= 0.5 * slope * x / values.omega[j, j]
            else:
                k = space.omega_names.index(key)
                omega[k, k] += 0.5 * slope / x
        return total, theta, omega, sigma

    def value(self, values: Values) -> float:
        """Return −2 log p."""
        return self.natural(values)[0]

    @cached_property
    def on_omega(self) -> Penalty | None:
        """The priors of elements of Omega; None if there are none."""
        chosen = {key: prior for key, prior in self.priors.items() if key not in self._scalars}
        return Penalty(self.space, chosen) if chosen else None

    @cached_property
    def on_scalars(self) -> Penalty:
        """The priors of thetas and sigmas."""
        return Penalty(self.space, {key: prior for key, prior in self.priors.items() if key in self._scalars})

    @property
    def _scalars(self) -> set[str]:
        return {*self._places, *(p.name for p in self.space.sigma)}

    def of_omega(self, values: Values, omega: Array) -> tuple[float, Array]:
        """Return the penalty and its derivative along Omega, at another Omega."""
        total, _, slope, _ = self.natural(Values(values.theta, omega, values.sigma))
        return total, slope

    def along(self, values: Values) -> Quadratic:
        """Return the penalty along the unconstrained coordinates; its curvature by differences of the gradient."""
        space = self.space
        x = space.pack(values)

        def gradient(at: Array) -> Array:
            here = space.unpack(at, values)
            _, theta, omega, sigma = self.natural(here)
            return space.pull_back(here, theta, omega, sigma)

        step = 1e-5
        if self.on_omega is None:  # every coordinate has its own prior: all are moved at once
            slope = (gradient(x + step) - gradient(x - step)) / (2.0 * step)
            return Quadratic(self.value(values), gradient(x), np.diag(np.maximum(slope, 0.0)))
        rows = [(gradient(x + step * e) - gradient(x - step * e)) / (2.0 * step) for e in np.eye(len(x))]
        curvature = np.array(rows).reshape(len(x), len(x))
        roots, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
        return Quadratic(self.value(values), gradient(x), (vectors * np.maximum(roots, 0.0)) @ vectors.T)


def declared(space: ParameterSpace, priors: Any) -> dict[str | tuple[str, ...], Prior]:
    """Return priors= as the user wrote it with canonical keys.

    Raises
    ------
    ModelError
        If a key names no population parameter or block, or a prior does not fit it.
    """
    if not isinstance(priors, Mapping):
        raise ModelError('priors= is not a mapping of names to priors, e.g. {"ka": nw.priors.LogNormal(1.5, 0.3)}.')
    out: dict[str | tuple[str, ...], Prior] = {}
    for key, prior in priors.items():
        name = key if isinstance(key, str | tuple) else getattr(key, "name", repr(key))
        if not isinstance(prior, Prior):
            raise ModelError(f"priors= gives '{name}' {prior!r}; give one of nw.priors: {', '.join(PRIORS)}.")
        if prior.of_block:
            out[_block(space, name, prior)] = prior
            continue
        if name not in space.names:
            raise ModelError(f"priors= names '{name}', which is no parameter; there are {', '.join(space.names)}.")
        scalar = {p.name: p for p in (*space.theta, *space.sigma)}.get(name)
        is_sd = name in space.omega_names or any(p.name == name for p in space.sigma)
        if prior.of_variance and not is_sd:
            raise ModelError(f"The prior {type(prior).__name__} of '{name}' is for variances; use another for it.")
        bounded = name in space.omega_names if scalar is None else scalar.positive
        if prior.positive and not bounded:
            raise ModelError(
                f"The prior {type(prior).__name__} of '{name}' is for positive parameters; give '{name}' lower=0."
            )
        out[name] = prior
    return out


def _block(space: ParameterSpace, key: Any, prior: Prior) -> tuple[str, ...]:
    wanted = key if isinstance(key, tuple) else (key,)
    found = []
    for item in wanted:
        word = item if isinstance(item, str) else getattr(item, "name", repr(item))
        choices = [n for n in (word, f"eta_{word}", f"kappa_{word}") if n in space.eta]
        if not choices:
            raise ModelError(f"priors= names '{word}', which has no random effect; there are {', '.join(space.eta)}.")
        found.append(choices[0])
    places = {space.eta.index(n) for n in found}
    if not any(places == set(b) for b in space.blocks) or len(places) != len(found):
        raise ModelError(
            f"The prior {type(prior).__name__} of {', '.join(found)} needs exactly the effects of one block of Omega."
        )
    if isinstance(prior, InverseWishart) and len(prior.scale) != len(found):
        raise ModelError(
            f"The scale of the InverseWishart prior of {', '.join(found)} is not {len(found)} by {len(found)}."
        )
    return tuple(found)
