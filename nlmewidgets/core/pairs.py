r"""Correlated residuals: two outputs of a subject measured at the same time.

With z the standardised residuals of a pair and ρ their correlation, the pair's −2 log density is that of its
members as if they were independent, plus

.. math:: C = \log(1 - \rho^2) + \frac{\rho^2 z_1^2 - 2 \rho z_1 z_2 + \rho^2 z_2^2}{1 - \rho^2} ,

and its expected information for both predictions, of ½L, exceeds that of its members by

.. math:: h_{11} = \frac{\rho^2}{1-\rho^2} \Bigl(\frac{t_1'^2}{s_1^2} + \frac{s_1'^2}{s_1^2}\Bigr), \qquad
          h_{12} = -\frac{\rho}{1-\rho^2} \frac{t_1' t_2'}{s_1 s_2} - \frac{\rho^2}{1-\rho^2} \frac{s_1' s_2'}{s_1 s_2},

with s the standard deviations and t the transforms of both sides, primes along f (docs/decisions/0022).  Values and
derivatives of one prediction are added to those of the observations; what couples the two is a `Cross`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.observation import First, Observation, Second, Third
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.symbols import Covariate, dv, f, time
from nlmewidgets.core.tape import ZERO, Index, Level, Tape

__all__ = [
    "Cross",
    "PairGroup",
    "add_first",
    "add_second",
    "add_third",
    "add_value",
    "correlate",
    "pair_program",
    "residual_matrices",
]

_F = sp.symbols("f__1 f__2", real=True)
_Y = sp.symbols("y__1 y__2", real=True)


@dataclass(frozen=True, eq=False)
class Cross:
    """What the second derivatives N of a sum over pairs have beside their diagonal.

    Attributes
    ----------
    rows : tuple of two (pairs,) int
        Which observations the members are.
    value : (pairs,) float
        N₁₂.
    slopes : tuple of (pairs,) float, optional
        ∂N₁₁/∂f₂, ∂N₁₂/∂f₁, ∂N₁₂/∂f₂, ∂N₂₂/∂f₁.
    sigma : (sigmas, pairs) float, optional
        ∂N₁₂/∂σ.
    """

    rows: tuple[Ints, Ints]
    value: Any
    slopes: tuple[Any, Any, Any, Any] = (None, None, None, None)
    sigma: Any = None

    def times(self, x: Array) -> Array:
        """Return the part of N·x beside the diagonal, (..., obs)."""
        a, b = self.rows
        out = np.zeros(x.shape)
        if self.value is not None:
            out[..., a], out[..., b] = self.value * x[..., b], self.value * x[..., a]
        return out

    def along_f(self, left: Array, right: Array) -> Array:
        """Return what the derivatives of Σ N_op left_o'·right_p along each f have beside its own N_oo', (obs,)."""
        a, b = self.rows
        one = (left[:, a] * right[:, a]).sum(axis=0)
        mixed = 2.0 * (left[:, a] * right[:, b]).sum(axis=0)
        two = (left[:, b] * right[:, b]).sum(axis=0)
        own_2, both_1, both_2, own_1 = (0.0 if s is None else s for s in self.slopes)
        out = np.zeros(left.shape[-1])
        out[a] = both_1 * mixed + own_1 * two
        out[b] = own_2 * one + both_2 * mixed
        return out

    def along_sigma(self, left: Array, right: Array) -> Array | None:
        """Return the same along every sigma, at the first member: (sigmas, obs)."""
        if self.sigma is None:
            return None
        a, b = self.rows
        out = np.zeros((len(self.sigma), left.shape[-1]))
        out[:, a] = self.sigma * 2.0 * (left[:, a] * right[:, b]).sum(axis=0)
        return out


class PairProgram:
    """Kernels of C and of the information it adds, in (y₁, f₁, y₂, f₂, sigmas, time, covariates)."""

    def __init__(
        self,
        one: Observation,
        two: Observation,
        rho: sp.Symbol,
        sigmas: tuple[sp.Symbol, ...],
        covariates: tuple[tuple[Covariate, ...], tuple[Covariate, ...]],
    ) -> None:
        both = []
        inputs: list[sp.Symbol] = []
        for k, (own, used) in enumerate(zip((one, two), covariates, strict=True)):
            # The records of a pair may differ in a covariate.
            named = {c: sp.Symbol(f"{c.name}__{k + 1}", real=True) for c in used}
            both.append(own.xreplace({f: _F[k], dv: _Y[k], **named}))
            inputs += named.values()
        levels: dict[sp.Symbol, Level] = {s: Level.RECORD for k in range(2) for s in (_Y[k], _F[k])}
        levels |= dict.fromkeys(sigmas, Level.CONSTANT) | {time: Level.RECORD} | dict.fromkeys(inputs, Level.RECORD)
        self.tape = Tape(levels)
        self._sigmas = [self.tape.inputs[s] for s in sigmas]
        left = 1 - rho**2
        z = [sp.sympify(own.score) for own in both]
        self._value = sp.log(left) + (rho**2 * (z[0] ** 2 + z[1] ** 2) - 2 * rho * z[0] * z[1]) / left
        slope, sd, spread = [], [], []
        for k, own in enumerate(both):
            slope.append(sp.S.One if own.center is None else sp.diff(own.center, _F[k]))
            sd.append(sp.sympify(own.sd))
            spread.append(sp.diff(sd[k], _F[k]) / sd[k])
        self._information = [
            rho**2 / left * (slope[0] ** 2 / sd[0] ** 2 + spread[0] ** 2),
            -rho / left * slope[0] * slope[1] / (sd[0] * sd[1]) - rho**2 / left * spread[0] * spread[1],
            rho**2 / left * (slope[1] ** 2 / sd[1] ** 2 + spread[1] ** 2),
        ]
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """Return the kernel 'value', 'first', 'newton', 'gradient' or 'third'."""
        if name not in self._kernels:
            self._kernels[name] = numpy_kernel(self.tape, self._packs(name))
        return self._kernels[name]

    def _packs(self, name: str) -> list[Any]:
        tape, one, two = self.tape, *(self.tape.inputs[s] for s in _F)

        def d(node: Index, *directions: int) -> Index:
            for direction in directions:
                node = tape.derivative(node, direction)
            return node

        def along_sigma(*nodes: Index) -> list[Any]:
            found = [[d(node, s) for s in self._sigmas] for node in nodes]
            return [None if all(x is ZERO for x in row) else row for row in found]

        value = tape.expression(self._value)
        if name == "value":
            return [value]
        first = [d(value, one), d(value, two)]
        if name == "first":
            return [value, *first, *along_sigma(value)]
        second = [d(value, one, one), d(value, one, two), d(value, two, two)]
        if name == "third":
            third = [d(second[0], one), d(second[0], two), d(second[1], two), d(second[2], two)]
            return [value, *first, *second, *third, *along_sigma(value, *first, *second)]
        info = [tape.expression(e) for e in self._information]
        packs = [value, *first, *second, *info]
        if name == "gradient":
            packs += along_sigma(value, *first)
            packs += [d(info[0], one), d(info[1], one), d(info[1], two), d(info[2], two), *along_sigma(*info)]
        return packs


@lru_cache(maxsize=64)
def pair_program(
    one: Observation,
    two: Observation,
    rho: sp.Symbol,
    sigmas: tuple[sp.Symbol, ...],
    covariates: tuple[tuple[Covariate, ...], tuple[Covariate, ...]],
) -> PairProgram:
    """Return the (cached) program of a pair of outputs."""
    return PairProgram(one, two, rho, sigmas, covariates)


@dataclass(frozen=True, eq=False)
class PairGroup:
    """The pairs of two outputs.

    Attributes
    ----------
    program : PairProgram
    rows : tuple of two (pairs,) int
    y : tuple of two (pairs,) float
    inputs : tuple of (pairs,) float
        Time and covariates.
    rho : int
        Which sigma the correlation is.
    """

    program: PairProgram
    rows: tuple[Ints, Ints]
    y: tuple[Array, Array]
    inputs: tuple[Array, ...]
    rho: int

    def __call__(self, name: str, f: Array, sigma: Array) -> tuple[Any, ...]:
        """Run a kernel at predictions f (..., obs)."""
        one, two = (f[..., rows] for rows in self.rows)
        return self.program.kernel(name)((self.y[0], one, self.y[1], two, *sigma, *self.inputs), None, one.shape)


def _at(total: Any, shape: tuple[int, ...], *parts: tuple[Ints, Any]) -> Any:
    """Return a term of the observations (..., obs) with parts added at some rows; None where all is zero."""
    parts = tuple((rows, part) for rows, part in parts if part is not None)
    if not parts:
        return total
    leading = max((np.shape(part)[: max(0, np.ndim(part) - len(shape))] for _, part in parts), key=len)
    out = np.zeros((*leading, *shape))
    if total is not None:
        out += total
    for rows, part in parts:
        out[..., rows] += part
    return out


def add_value(groups: Sequence[PairGroup], value: Array, f: Array, sigma: Array) -> Array:
    """Return L with that of pairs added to their second members."""
    for g in groups:
        value = _at(value, f.shape, (g.rows[1], g("value", f, sigma)[0]))
    return value


def add_first(groups: Sequence[PairGroup], terms: First, f: Array, sigma: Array) -> First:
    """Return terms with those of pairs."""
    for g in groups:
        (a, b), shape = g.rows, f.shape
        value, one, two, along = g("first", f, sigma)
        terms = First(
            _at(terms.value, shape, (b, value)),
            _at(terms.f, shape, (a, one), (b, two)),
            _at(terms.sigma, shape, (b, along)),
        )
    return terms


def add_second(groups: Sequence[PairGroup], terms: Second, f: Array, sigma: Array, *, gradient: bool) -> Second:
    """Return terms with those of pairs, and what couples their members."""
    for g in groups:
        (a, b), shape = g.rows, f.shape
        value, one, two, one_one, one_two, two_two, h11, h12, h22, *rest = g(
            "gradient" if gradient else "newton", f, sigma
        )
        terms = terms._replace(
            value=_at(terms.value, shape, (b, value)),
            f=_at(terms.f, shape, (a, one), (b, two)),
            ff=_at(terms.ff, shape, (a, one_one), (b, two_two)),
            info=_at(terms.info, shape, (a, h11), (b, h22)),
        )
        ff, info = Cross(g.rows, one_two), Cross(g.rows, h12)
        if gradient:
            along, one_s, two_s, h11_1, h12_1, h12_2, h22_2, h11_s, h12_s, h22_s = rest
            terms = terms._replace(
                sigma=_at(terms.sigma, shape, (b, along)),
                f_sigma=_at(terms.f_sigma, shape, (a, one_s), (b, two_s)),
                info_f=_at(terms.info_f, shape, (a, h11_1), (b, h22_2)),
                info_sigma=_at(terms.info_sigma, shape, (a, h11_s), (b, h22_s)),
            )
            info = replace(info, slopes=(None, h12_1, h12_2, None), sigma=h12_s)
        terms = terms._replace(ff_cross=(*terms.ff_cross, ff), info_cross=(*terms.info_cross, info))
    return terms


def add_third(groups: Sequence[PairGroup], terms: Third, f: Array, sigma: Array) -> Third:
    """Return terms with those of pairs, and what couples their members."""
    for g in groups:
        (a, b), shape = g.rows, f.shape
        value, one, two, one_one, one_two, two_two, *rest = g("third", f, sigma)
        d111, d112, d122, d222, along, one_s, two_s, one_one_s, one_two_s, two_two_s = rest
        terms = Third(
            _at(terms.value, shape, (b, value)),
            _at(terms.f, shape, (a, one), (b, two)),
            _at(terms.ff, shape, (a, one_one), (b, two_two)),
            _at(terms.fff, shape, (a, d111), (b, d222)),
            _at(terms.sigma, shape, (b, along)),
            _at(terms.f_sigma, shape, (a, one_s), (b, two_s)),
            _at(terms.ff_sigma, shape, (a, one_one_s), (b, two_two_s)),
            (*terms.ff_cross, Cross(g.rows, one_two, (d112, d112, d122, d122), one_two_s)),
        )
    return terms


def residual_matrices(groups: Sequence[PairGroup], r: Array, sigma: Array, rows: Ints) -> Array:
    """Return the covariances of residuals with variances r (obs,) of observations (n, size): (n, size, size)."""
    place = np.arange(rows.shape[1])
    out = np.zeros((*rows.shape, len(place)))
    out[:, place, place] = r[rows]
    partner, shared = np.full(len(r), -1), np.zeros(len(r))
    for g in groups:
        one, two = g.rows
        partner[one], partner[two] = two, one
        shared[one] = shared[two] = sigma[g.rho] * np.sqrt(r[one] * r[two])
    if groups:
        out += np.where(partner[rows][:, :, None] == rows[:, None, :], shared[rows][:, :, None], 0.0)
    return out


def correlate(groups: Sequence[PairGroup], sigma: Array, noise: Array) -> Array:
    """Return standard normal numbers (..., obs) whose pairs have their correlation."""
    if not groups:
        return noise
    out = np.array(noise)
    for g in groups:
        rho, (a, b) = sigma[g.rho], g.rows
        out[..., b] = rho * out[..., a] + np.sqrt(1.0 - rho**2) * out[..., b]
    return out
