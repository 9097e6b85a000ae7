"""theta, Omega and sigma: initial values, bounds, fixed flags; pack and unpack."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.omega import OmegaMap
from nlmewidgets.core.symbols import check_bounds

__all__ = ["Parameter", "ParameterSpace", "Values"]


@dataclass(frozen=True)
class Parameter:
    """One scalar population parameter (a theta or a sigma) with its initial value."""

    name: str
    value: float
    lower: float | None = None
    upper: float | None = None
    fixed: bool = False

    @property
    def scale(self) -> str:
        """The unconstrained transform: 'identity', 'log', 'reflected' or 'logit'."""
        if self.lower is None and self.upper is None:
            return "identity"
        if self.upper is None:
            return "log"
        return "reflected" if self.lower is None else "logit"

    @property
    def positive(self) -> bool:
        """Whether the bounds keep the parameter above zero."""
        return self.lower is not None and self.lower >= 0

    def free(self, value: float) -> float:
        """Return the unconstrained value of `value`."""
        low, high = self.lower, self.upper
        if low is not None and high is not None:
            return math.log((value - low) / (high - value))
        if low is not None:
            return math.log(value - low)
        if high is not None:
            return math.log(high - value)
        return value

    def natural(self, x: float) -> float:
        """Return the parameter at its unconstrained value `x`."""
        low, high = self.lower, self.upper
        if low is not None and high is not None:
            return low + (high - low) / (1.0 + math.exp(-min(max(x, -700.0), 700.0)))
        if low is not None:
            return low + math.exp(min(x, 700.0))
        if high is not None:
            return high - math.exp(min(x, 700.0))
        return x

    def slope(self, value: float) -> float:
        """Return d natural / d unconstrained at the natural `value`."""
        low, high = self.lower, self.upper
        if low is not None and high is not None:
            return (value - low) * (high - value) / (high - low)
        if low is not None:
            return value - low
        if high is not None:
            return value - high
        return 1.0


@dataclass(frozen=True, eq=False)
class Values:
    """Numbers for the population parameters, on the natural scale.

    Attributes
    ----------
    theta : (thetas,) float
    omega : (etas, etas) float
        Variance–covariance of the random effects.
    sigma : (sigmas,) float
        Parameters of the residual standard deviation.
    """

    theta: Array
    omega: Array
    sigma: Array

    def __post_init__(self) -> None:
        for name in ("theta", "omega", "sigma"):
            copy = np.array(getattr(self, name), dtype=float)
            copy.setflags(write=False)
            object.__setattr__(self, name, copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Values):
            return NotImplemented
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("theta", "omega", "sigma"))

    __hash__ = None  # type: ignore[assignment]


def _is_covariance(matrix: Array) -> bool:
    """Whether a matrix is positive definite beyond rounding, judged by its correlations."""
    variance = np.diag(matrix)
    if not (np.isfinite(matrix).all() and (variance > 0).all()):
        return False
    sd = np.sqrt(variance)
    return bool(np.linalg.eigvalsh(matrix / (sd[:, None] * sd))[0] > 1e-14)


@dataclass(frozen=True)
class ParameterSpace:
    """Names, bounds, fixed flags and initial values of all population parameters.

    Attributes
    ----------
    theta, sigma : tuple of Parameter
    eta : tuple of str
        Names of the random effects, those drawn for each occasion (kappas) last.
    omega : tuple of tuple of float
        Initial variance–covariance matrix.
    blocks : tuple of tuple of int
        The correlated groups of etas; every eta is in exactly one.
    omega_fixed : tuple of bool
        One flag per block: its correlations, and with them its standard deviations unless `sd_fixed` tells.
    n_iov : int
        Number of kappas.
    sd_fixed : tuple of bool
        One flag per eta; empty: as its block.
    same : tuple of int
        The eta whose variance (and block) each eta has; empty: its own.
    """

    theta: tuple[Parameter, ...]
    sigma: tuple[Parameter, ...]
    eta: tuple[str, ...]
    omega: tuple[tuple[float, ...], ...]
    blocks: tuple[tuple[int, ...], ...]
    omega_fixed: tuple[bool, ...]
    n_iov: int = 0
    sd_fixed: tuple[bool, ...] = ()
    same: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        names = self.names
        doubled = {n for n in names if names.count(n) > 1}
        if doubled:
            raise ModelError(f"Two population parameters are called '{min(doubled)}'; rename one of them.")
        for p in (*self.theta, *self.sigma):
            check_bounds(f"'{p.name}'", p.value, p.lower, p.upper)
        if len(self.eta):
            matrix = np.array(self.omega)
            for block in self.blocks:
                if not _is_covariance(matrix[np.ix_(block, block)]):
                    which = ", ".join(self.eta[i] for i in block)
                    raise ModelError(f"The initial Omega of {which} is not positive definite; lower the correlations.")

    # -------------------------------------------------------------------- names

    @cached_property
    def omega_names(self) -> tuple[str, ...]:
        """Name of the standard deviation of each random effect: omega_X for eta_X, iov_X for kappa_X.

        Effects that share a variance share its name, which is that of the first.
        """
        own = ["omega_" + name.removeprefix("eta_") for name in self.between]
        own += ["iov_" + name.removeprefix("kappa_") for name in self.within]
        return tuple(own[k] for k in self.omega_map.owner)

    @cached_property
    def omega_map(self) -> OmegaMap:
        """The free elements of Omega."""
        flags = dict.fromkeys(range(len(self.eta)), False)
        for block, fixed in zip(self.blocks, self.omega_fixed, strict=True):
            flags |= dict.fromkeys(block, fixed)
        held = self.sd_fixed or tuple(flags.values())
        return OmegaMap(self.blocks, held, self.omega_fixed, self.same or tuple(range(len(self.eta))))

    @property
    def between(self) -> tuple[str, ...]:
        """Names of the random effects of a subject, the etas."""
        return self.eta[: len(self.eta) - self.n_iov]

    @property
    def within(self) -> tuple[str, ...]:
        """Names of the random effects of an occasion, the kappas."""
        return self.eta[len(self.eta) - self.n_iov :]

    @cached_property
    def correlations(self) -> tuple[tuple[str, int, int], ...]:
        """(name, i, j) of each estimated correlation."""
        bare = [name.removeprefix("eta_") for name in self.between]
        bare += [name.removeprefix("kappa_") for name in self.within]
        word = ["corr"] * len(self.between) + ["corr_iov"] * self.n_iov
        own = [b for b in self.blocks if self.omega_map.owner[b[0]] == b[0]]
        return tuple((f"{word[i]}_{bare[j]}_{bare[i]}", i, j) for b in own for i in b for j in b if j < i)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all population parameters: thetas, omegas (SD), correlations, sigmas."""
        return (
            *(p.name for p in self.theta),
            *dict.fromkeys(self.omega_names),
            *(name for name, _, _ in self.correlations),
            *(p.name for p in self.sigma),
        )

    @cached_property
    def initial(self) -> Values:
        """The initial values."""
        q = len(self.eta)
        omega = np.array(self.omega, dtype=float).reshape(q, q)
        return Values(np.array([p.value for p in self.theta]), omega, np.array([p.value for p in self.sigma]))

    # ------------------------------------------------------------ by-name access

    def to_dict(self, values: Values) -> dict[str, float]:
        """Return {name: number}: thetas, SDs of the etas, correlations, sigmas."""
        sd = np.sqrt(np.diag(values.omega))
        out = {p.name: float(v) for p, v in zip(self.theta, values.theta, strict=True)}
        out |= {name: float(v) for name, v in zip(self.omega_names, sd, strict=True)}
        out |= {name: float(values.omega[i, j] / (sd[i] * sd[j])) for name, i, j in self.correlations}
        return out | {p.name: float(v) for p, v in zip(self.sigma, values.sigma, strict=True)}

    def from_dict(self, numbers: Mapping[str, float], base: Values | None = None) -> Values:
        """Return `base` (the initial values) with the named numbers replaced; inverse of `to_dict`.

        Raises
        ------
        ModelError
            If a name is unknown or the covariance matrix is not positive definite.
        """
        base = base or self.initial
        unknown = [n for n in numbers if n not in self.names]
        if unknown:
            raise ModelError(f"There is no population parameter '{unknown[0]}'; there are {', '.join(self.names)}.")
        for name, number in numbers.items():
            self._check_number(name, number)
        theta = [numbers.get(p.name, v) for p, v in zip(self.theta, base.theta, strict=True)]
        sigma = [numbers.get(p.name, v) for p, v in zip(self.sigma, base.sigma, strict=True)]
        if not any(n in numbers for n in (*self.omega_names, *(c for c, _, _ in self.correlations))):
            return Values(np.array(theta), base.omega, np.array(sigma))
        old = self.to_dict(base)
        sd = np.array([numbers.get(n, old[n]) for n in self.omega_names])
        omega = np.diag(sd**2)
        for name, i, j in self.correlations:
            omega[i, j] = omega[j, i] = numbers.get(name, old[name]) * sd[i] * sd[j]
        omega = self.omega_map.shared(omega)
        for block in self.blocks:
            if not _is_covariance(omega[np.ix_(block, block)]):
                which = ", ".join(self.eta[i] for i in block)
                raise ModelError(f"These correlations of {which} do not form a covariance matrix; lower them.")
        return Values(np.array(theta), omega, np.array(sigma))

    def _check_number(self, name: str, number: float) -> None:
        if not (isinstance(number, Real) and math.isfinite(number)):
            raise ModelError(f"'{name}' is {number!r}; give a finite number.")
        if name in self.omega_names and number <= 0:
            raise ModelError(f"'{name}' is {number:g}; a standard deviation is positive (sd=0 in the model: no eta).")

    def starting_at(self, values: Values) -> ParameterSpace:
        """Return the same space with `values` as initial values."""
        return replace(
            self,
            theta=tuple(replace(p, value=float(v)) for p, v in zip(self.theta, values.theta, strict=True)),
            sigma=tuple(replace(p, value=float(v)) for p, v in zip(self.sigma, values.sigma, strict=True)),
            omega=tuple(tuple(map(float, row)) for row in values.omega),
        )

    def is_fixed(self, name: str) -> bool:
        """Whether the named parameter is kept at its value."""
        for p in (*self.theta, *self.sigma):
            if p.name == name:
                return p.fixed
        block = self._block_of(name)
        if name in self.omega_names:
            return self.omega_map.sd_fixed[self.omega_names.index(name)]
        return self.omega_fixed[block]

    def _block_of(self, name: str) -> int:
        if name in self.omega_names:
            member = self.omega_names.index(name)
        else:
            member = next((i for n, i, _ in self.correlations if n == name), -1)
        for k, block in enumerate(self.blocks):
            if member in block:
                return k
        raise ModelError(f"There is no population parameter '{name}'; there are {', '.join(self.names)}.")

    def with_fixed(self, names: Iterable[str], fixed: bool = True) -> ParameterSpace:
        """Return the space with some parameters fixed (or freed); the correlations of a block go together."""
        theta, sigma, flags = list(self.theta), list(self.sigma), list(self.omega_fixed)
        held = list(self.omega_map.sd_fixed)
        for name in names:
            for group in (theta, sigma):
                for k, p in enumerate(group):
                    if p.name == name:
                        group[k] = replace(p, fixed=fixed)
                        break
                else:
                    continue
                break
            else:
                block = self._block_of(name)
                if name in self.omega_names:
                    held = [fixed if own == name else h for own, h in zip(self.omega_names, held, strict=True)]
                if name not in self.omega_names or len(self.blocks[block]) == 1:
                    flags[block] = fixed
        implied = [flag for _, flag in sorted((k, f) for b, f in zip(self.blocks, flags, strict=True) for k in b)]
        own = () if held == implied else tuple(held)
        return replace(self, theta=tuple(theta), sigma=tuple(sigma), omega_fixed=tuple(flags), sd_fixed=own)

    def table(self, values: Values | None = None) -> pd.DataFrame:
        """Return one row per population parameter: kind, value, bounds, fixed."""
        numbers = self.to_dict(values or self.initial)
        kind = (
            ["theta"] * len(self.theta)
            + ["omega (SD)"] * len(set(self.omega_names[: len(self.between)]))
            + ["iov (SD)"] * len(set(self.omega_names[len(self.between) :]))
            + ["correlation"] * len(self.correlations)
            + ["residual correlation" if (p.lower, p.upper) == (-1.0, 1.0) else "sigma (SD)" for p in self.sigma]
        )
        scalar = {p.name: p for p in (*self.theta, *self.sigma)}
        rows: list[dict[str, Any]] = []
        for name, k in zip(self.names, kind, strict=True):
            p = scalar.get(name)
            if p is None:
                low, high = (0.0, math.inf) if k.endswith("(SD)") else (-1.0, 1.0)
            else:
                low = -math.inf if p.lower is None else p.lower
                high = math.inf if p.upper is None else p.upper
            rows.append({"kind": k, "value": numbers[name], "lower": low, "upper": high, "fixed": self.is_fixed(name)})
        return pd.DataFrame(rows, index=pd.Index(self.names, name="parameter"))

    # ---------------------------------------------------------------- pack/unpack

    @cached_property
    def _free_theta(self) -> list[int]:
        return [k for k, p in enumerate(self.theta) if not p.fixed]

    @cached_property
    def _free_sigma(self) -> list[int]:
        return [k for k, p in enumerate(self.sigma) if not p.fixed]

    @cached_property
    def x_names(self) -> tuple[str, ...]:
        """Names of the unconstrained coordinates."""
        word = {"identity": "{}", "log": "log {}", "reflected": "log(bound - {})", "logit": "logit {}"}
        return (
            *(word[self.theta[k].scale].format(self.theta[k].name) for k in self._free_theta),
            *self.omega_map.names(self.eta),
            *(word[self.sigma[k].scale].format(self.sigma[k].name) for k in self._free_sigma),
        )

    def pack(self, values: Values) -> Array:
        """Return the unconstrained vector of the free parameters: theta, Cholesky of Omega, sigma."""
        return np.concatenate(
            [
                [self.theta[k].free(values.theta[k]) for k in self._free_theta],
                self.omega_map.free(values.omega),
                [self.sigma[k].free(values.sigma[k]) for k in self._free_sigma],
            ]
        )

    def reach(self, x: Array) -> Array:
        """Return how far each unconstrained coordinate may be sent in one step from `x`: 1 for a logarithm or logit.

        What is on its natural scale (a theta without bounds, a covariance) has a unit: its own size, at least 1.
        """
        natural = np.concatenate(
            [
                [self.theta[k].scale == "identity" for k in self._free_theta],
                ["log" not in name.split()[0] for name in self.omega_map.names(self.eta)],
                [self.sigma[k].scale == "identity" for k in self._free_sigma],
            ]
        ).astype(bool)
        return np.where(natural, np.maximum(np.abs(x), 1.0), 1.0)

    def unpack(self, x: Array, base: Values | None = None) -> Values:
        """Return the values at the unconstrained vector `x`; fixed ones as in `base` (the initial values)."""
        base = base or self.initial
        theta, sigma = base.theta.copy(), base.sigma.copy()
        a = len(self._free_theta)
        b = a + len(self.omega_map.entries[0])
        for place, k in enumerate(self._free_theta):
            theta[k] = self.theta[k].natural(x[place])
        for place, k in enumerate(self._free_sigma):
            sigma[k] = self.sigma[k].natural(x[b + place])
        return Values(theta, self.omega_map.natural(x[a:b], base.omega), sigma)

    def pull_back(self, values: Values, d_theta: Array, d_omega: Array, d_sigma: Array) -> Array:
        """Return derivatives along the unconstrained vector.

        Parameters
        ----------
        values : Values
        d_theta : (..., thetas) float
        d_omega : (..., etas, etas) float
            Symmetric G with dF = sum_ij G_ij dOmega_ij.
        d_sigma : (..., sigmas) float

        Returns
        -------
        (..., free) float
        """
        theta_slope = np.array([self.theta[k].slope(values.theta[k]) for k in self._free_theta])
        sigma_slope = np.array([self.sigma[k].slope(values.sigma[k]) for k in self._free_sigma])
        parts = [
            d_theta[..., self._free_theta] * theta_slope,
            self.omega_map.pull_back(values.omega, d_omega),
            d_sigma[..., self._free_sigma] * sigma_slope,
        ]
        return np.concatenate(parts, axis=-1)
