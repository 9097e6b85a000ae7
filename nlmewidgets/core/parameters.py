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
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
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
        One flag per block.
    n_iov : int
        Number of kappas.
    """

    theta: tuple[Parameter, ...]
    sigma: tuple[Parameter, ...]
    eta: tuple[str, ...]
    omega: tuple[tuple[float, ...], ...]
    blocks: tuple[tuple[int, ...], ...]
    omega_fixed: tuple[bool, ...]
    n_iov: int = 0

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
        """Names of the standard deviations of the random effects: omega_X for eta_X, iov_X for kappa_X."""
        own = ("omega_" + name.removeprefix("eta_") for name in self.between)
        return (*own, *("iov_" + name.removeprefix("kappa_") for name in self.within))

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
        return tuple((f"{word[i]}_{bare[j]}_{bare[i]}", i, j) for b in self.blocks for i in b for j in b if j < i)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of all population parameters: thetas, omegas (SD), correlations, sigmas."""
        return (
            *(p.name for p in self.theta),
            *self.omega_names,
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
        return self.omega_fixed[self._block_of(name)]

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
        """Return the space with some parameters fixed (or freed); a correlated block goes as a whole."""
        theta, sigma, flags = list(self.theta), list(self.sigma), list(self.omega_fixed)
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
                flags[self._block_of(name)] = fixed
        return replace(self, theta=tuple(theta), sigma=tuple(sigma), omega_fixed=tuple(flags))

    def table(self, values: Values | None = None) -> pd.DataFrame:
        """Return one row per population parameter: kind, value, bounds, fixed."""
        numbers = self.to_dict(values or self.initial)
        kind = (
            ["theta"] * len(self.theta)
            + ["omega (SD)"] * len(self.between)
            + ["iov (SD)"] * self.n_iov
            + ["correlation"] * len(self.correlations)
            + ["sigma (SD)"] * len(self.sigma)
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
    def _free_cholesky(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        free = [(i, j) for b, fix in zip(self.blocks, self.omega_fixed, strict=True) if not fix for i in b for j in b]
        rows = [(i, j) for i, j in free if j <= i]
        index = np.array(rows, dtype=np.intp).reshape(-1, 2)
        return index[:, 0], index[:, 1]

    @cached_property
    def x_names(self) -> tuple[str, ...]:
        """Names of the unconstrained coordinates."""
        word = {"identity": "{}", "log": "log {}", "reflected": "log(bound - {})", "logit": "logit {}"}
        rows, columns = self._free_cholesky
        return (
            *(word[self.theta[k].scale].format(self.theta[k].name) for k in self._free_theta),
            *(
                f"log chol {self.eta[i]}" if i == j else f"chol {self.eta[i]},{self.eta[j]}"
                for i, j in zip(rows, columns, strict=True)
            ),
            *(word[self.sigma[k].scale].format(self.sigma[k].name) for k in self._free_sigma),
        )

    def pack(self, values: Values) -> Array:
        """Return the unconstrained vector of the free parameters: theta, Cholesky of Omega, sigma."""
        rows, columns = self._free_cholesky
        chol = np.linalg.cholesky(values.omega) if len(self.eta) else values.omega
        entries = chol[rows, columns]
        diagonal = rows == columns
        entries[diagonal] = np.log(entries[diagonal])
        return np.concatenate(
            [
                [self.theta[k].free(values.theta[k]) for k in self._free_theta],
                entries,
                [self.sigma[k].free(values.sigma[k]) for k in self._free_sigma],
            ]
        )

    def unpack(self, x: Array, base: Values | None = None) -> Values:
        """Return the values at the unconstrained vector `x`; fixed ones as in `base` (the initial values)."""
        base = base or self.initial
        theta, sigma = base.theta.copy(), base.sigma.copy()
        rows, columns = self._free_cholesky
        a = len(self._free_theta)
        b = a + len(rows)
        for place, k in enumerate(self._free_theta):
            theta[k] = self.theta[k].natural(x[place])
        for place, k in enumerate(self._free_sigma):
            sigma[k] = self.sigma[k].natural(x[b + place])
        omega = base.omega
        if len(rows):
            chol = np.linalg.cholesky(omega)
            entries = np.array(x[a:b], dtype=float)
            diagonal = rows == columns
            entries[diagonal] = np.exp(np.clip(entries[diagonal], -40.0, 40.0))
            chol[rows, columns] = entries
            omega = chol @ chol.T
        return Values(theta, omega, sigma)

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
        rows, columns = self._free_cholesky
        parts = [d_theta[..., self._free_theta] * theta_slope]
        if len(rows):
            chol = np.linalg.cholesky(values.omega)
            through = 2.0 * (d_omega @ chol)[..., rows, columns]
            parts.append(through * np.where(rows == columns, chol[rows, columns], 1.0))
        parts.append(d_sigma[..., self._free_sigma] * sigma_slope)
        return np.concatenate(parts, axis=-1)
