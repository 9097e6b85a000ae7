r"""The Gaussian observation model: −2 log density of y given f, and its derivatives, from one tape.

With residual variance R(f, σ) = sd², up to the constant log 2π,

.. math:: L = \log R + (y - f)^2 / R,

and the expected information for f is :math:`h = 1/R + \tfrac12 (R_f/R)^2` (the weight of G'G in
FOCEI's Hessian).  Everything structurally zero stays so: an additive error costs no more than it must.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.symbols import f, time
from nlmewidgets.core.tape import Level, Tape

__all__ = ["Group", "Observation", "ObservationProgram", "Second", "Variance", "observation_program", "observe"]

_y = sp.Symbol("y", real=True)


@dataclass(frozen=True)
class Observation:
    """How the data of one output are distributed, as expressions in f, sigmas, time and covariates.

    Attributes
    ----------
    sd : Expr
        Standard deviation of y given f.
    """

    sd: sp.Expr

    def atoms(self, *kinds: type) -> set[sp.Basic]:
        """Return the symbols of these kinds in any of its expressions."""
        return self.sd.atoms(*kinds)


class Second(NamedTuple):
    """L, what a Newton step in f needs, and what the outer gradient needs (None: structurally zero)."""

    value: Any
    f: Any
    ff: Any
    info: Any
    sigma: Any = None
    f_sigma: Any = None
    info_f: Any = None
    info_sigma: Any = None


class Variance(NamedTuple):
    """R and its derivatives (None: structurally zero)."""

    value: Any
    f: Any
    sigma: Any
    ff: Any


class ObservationProgram:
    """Kernels of L, h and R in (y, f, sigmas, time, covariates)."""

    def __init__(
        self, observation: Observation, sigmas: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
    ) -> None:
        sd = observation.sd
        levels: dict[sp.Symbol, Level] = {_y: Level.RECORD, f: Level.RECORD}
        levels |= dict.fromkeys(sigmas, Level.CONSTANT) | {time: Level.RECORD}
        levels |= dict.fromkeys(covariates, Level.RECORD)
        self.tape = Tape(levels)
        variance = sp.expand(sd**2) if sd.is_polynomial(f) and not sd.is_Add else sd**2
        self._r = self.tape.expression(variance)
        self._sd = self.tape.expression(sd)
        self._l = self.tape.expression(sp.log(variance) + (_y - f) ** 2 / variance)
        slope = sp.diff(variance, f)
        self._h = self.tape.expression(1 / variance + slope**2 / variance**2 / 2)
        self._f = self.tape.inputs[f]
        self._sigmas = [self.tape.inputs[s] for s in sigmas]
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """Return the kernel 'value', 'newton', 'gradient', 'variance' or 'sd'."""
        if name not in self._kernels:
            self._kernels[name] = numpy_kernel(self.tape, self._packs(name))
        return self._kernels[name]

    def _packs(self, name: str) -> list[Any]:
        tape, f_, sigmas = self.tape, self._f, self._sigmas
        if name == "sd":
            return [[self._sd]]
        if name == "variance":
            first = tape.derivative(self._r, f_)
            return [self._r, first, tape.gradient(self._r, sigmas) or None, tape.derivative(first, f_)]
        if name == "value":
            return [self._l]
        first = tape.derivative(self._l, f_)
        packs: list[Any] = [self._l, first, tape.derivative(first, f_), self._h]
        if name == "gradient":
            packs += [
                tape.gradient(self._l, sigmas) or None,
                tape.gradient(first, sigmas) or None,
                tape.derivative(self._h, f_),
                tape.gradient(self._h, sigmas) or None,
            ]
        return packs


@lru_cache(maxsize=256)
def observation_program(
    observation: Observation, sigmas: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
) -> ObservationProgram:
    """Return the (cached) observation program."""
    return ObservationProgram(observation, sigmas, covariates)


@dataclass(frozen=True, eq=False)
class Group:
    """Observations that share one density.

    Attributes
    ----------
    program : ObservationProgram
    rows : (m,) int or None
        Which observations; None: all.
    y : (m,) float
    inputs : tuple of (m,) float
        Time and covariates.
    """

    program: ObservationProgram
    rows: Ints | None
    y: Array
    inputs: tuple[Array, ...]

    def __call__(self, name: str, f: Array, sigma: Array) -> tuple[Any, ...]:
        """Run a kernel at predictions f (..., m)."""
        return self.program.kernel(name)((self.y, f, *sigma, *self.inputs), None, f.shape)


def observe(groups: tuple[Group, ...], name: str, f: Array, sigma: Array) -> tuple[Any, ...]:
    """Run a kernel of each group on its observations; one group alone costs nothing more."""
    if len(groups) == 1:
        return groups[0](name, f, sigma)
    parts = [group(name, f[..., group.rows], sigma) for group in groups]
    return tuple(_scatter(groups, column, f.shape) for column in zip(*parts, strict=True))


def _scatter(groups: tuple[Group, ...], column: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    leading = {np.shape(part)[: max(0, np.ndim(part) - len(shape))] for part in column if part is not None}
    if not leading:
        return None
    out = np.zeros((*max(leading, key=len), *shape))
    for group, part in zip(groups, column, strict=True):
        if part is not None:
            out[..., group.rows] = part
    return out
