"""Exponential mixtures: the function that keeps closed forms exact where rate constants meet."""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array

__all__ = ["ExpMix", "expit", "expmix", "ndtr", "ndtri", "remove_equal_rate_singularities"]


_SERIES_BELOW = 2.0  # the recurrence magnifies rounding by about j!/d^j
_SERIES_TERMS = 25  # 2^25/25! < 3e-18: full double precision below |d| = 2


class ExpMix(sp.Function):  # type: ignore[misc]
    r"""Moments of an exponential mixture.

    .. math:: M_{ij}(a, b) = \int_0^1 (1-s)^i s^j e^{-(1-s)a - sb}\,ds .

    The difference quotient of the textbook closed forms is its lowest member,
    :math:`(e^{-a} - e^{-b})/(b-a) = M_{00}(a, b)`, which is smooth at :math:`a = b`.  The family is
    closed under differentiation, :math:`\partial_a M_{ij} = -M_{i+1,j}`,
    :math:`\partial_b M_{ij} = -M_{i,j+1}`, and every member lies between 0 and
    :math:`e^{-\min(a,b)}`, so nothing cancels or overflows.
    """

    nargs = 4

    @classmethod
    def eval(cls, i: Any, j: Any, a: Any, b: Any) -> Any:
        """Put the two rates in canonical order, M_ij(a, b) = M_ji(b, a)."""
        if sp.default_sort_key(a) > sp.default_sort_key(b):
            return cls(j, i, b, a)
        return None

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return the derivative with respect to the third or fourth argument."""
        i, j, a, b = self.args
        if argindex == 3:
            return -ExpMix(i + 1, j, a, b)
        if argindex == 4:
            return -ExpMix(i, j + 1, a, b)
        raise sp.function.ArgumentIndexError(self, argindex)

    def _eval_is_extended_positive(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool | None:
        return True if self.args[2].is_finite and self.args[3].is_finite else None

    def _eval_evalf(self, prec: int) -> Any:
        import mpmath

        i, j, a, b = self.args
        if not (a.is_number and b.is_number):
            return None
        with mpmath.workprec(prec):
            a, b = a._to_mpmath(prec), b._to_mpmath(prec)
            value = mpmath.quad(lambda s: (1 - s) ** int(i) * s ** int(j) * mpmath.exp(-(1 - s) * a - s * b), [0, 1])
        return sp.Float(value, precision=prec)

    def _latex(self, printer: Any) -> str:
        i, j, a, b = (printer.doprint(x) for x in self.args)
        return rf"M_{{{i}{j}}}\left({a}, {b}\right)"


def _series_coefficients(order: int) -> Array:
    k = np.arange(_SERIES_TERMS)
    factorial = np.cumprod(np.concatenate(([1.0], k[1:])))
    return np.stack([(-1.0) ** k / factorial / (j + k + 1) for j in range(order + 1)])


_MAX_ORDER = 6
_COEFFICIENTS = _series_coefficients(_MAX_ORDER)


def expmix(a: Any, b: Any, order: int) -> tuple[Array, ...]:
    r"""Evaluate all :math:`M_{ij}(a, b)` with :math:`i + j \le` `order`.

    Parameters
    ----------
    a, b : (...) float
        Products of rate and time, dimensionless; broadcast together.
    order : int
        Largest total order, 0 to 6.

    Returns
    -------
    tuple of (...) float
        In the order of `index`: (0,0), (1,0), (0,1), (2,0), (1,1), (0,2), ...

    Notes
    -----
    With :math:`d = |b - a|` and :math:`K_j = \int_0^1 s^j e^{-sd} ds`:
    :math:`K_j = (j K_{j-1} - e^{-d})/d` for :math:`d \ge 2`, the power series below.
    """
    difference = np.asarray(b - a, dtype=float)
    smaller = np.minimum(a, b)
    if order == 0:
        d = np.abs(difference, out=difference)
        np.maximum(d, 1e-300, out=d)
        np.negative(d, out=d)
        value = np.expm1(d)
        value /= d
        value *= np.exp(np.negative(smaller))
        return (value,)
    d = np.abs(difference)
    k = np.empty((order + 1, d.size))
    flat = d.ravel()
    (small,) = (flat < _SERIES_BELOW).nonzero()
    if small.size:
        flat = flat.copy()
        powers = np.empty((_SERIES_TERMS, small.size))
        powers[0] = 1.0
        powers[1:] = flat[small]
        np.multiply.accumulate(powers, axis=0, out=powers)
        flat[small] = 1.0
    last = np.exp(-flat)
    inverse = 1.0 / flat
    k[0] = (1.0 - last) * inverse
    for j in range(1, order + 1):
        k[j] = (j * k[j - 1] - last) * inverse
    if small.size:
        k[:, small] = _COEFFICIENTS[: order + 1] @ powers
    # (1-s)^i expanded; d >= 0 keeps every K_j positive and decreasing in j, so little cancels.
    moments = _MOMENTS[order] @ k
    swapped = difference.ravel() < 0  # M_ij(a, b) = M_ji(b, a)
    if swapped.any():
        mirrored = moments[_MIRROR[order]]
        moments = mirrored if (difference <= 0).all() else np.where(swapped, mirrored, moments)
    moments *= np.exp(-smaller).ravel()
    return tuple(moments.reshape(len(moments), *d.shape))


def pairs(order: int) -> list[tuple[int, int]]:
    """Return the (i, j) of `expmix`'s tuple, in its order."""
    return [(total - j, j) for total in range(order + 1) for j in range(total + 1)]


@lru_cache(maxsize=256)
def remove_equal_rate_singularities(expression: sp.Expr) -> sp.Expr:
    r"""Rewrite :math:`c\,(e^A - e^B)/(A - B)` hidden in `expression` as :math:`c\,M_{00}(-A, -B)`.

    The textbook solution of first-order absorption is 0/0 where ka = CL/V and its derivatives lose
    all digits nearby; the rewritten one is exact everywhere.  An expression without the pattern is
    returned unchanged, and so is one whose singularity does not cancel.
    """
    for term in list(expression.atoms(sp.Add)):
        replaced = _rewrite_difference(term)
        if replaced is None:
            continue
        mixture, factor, difference, gap = replaced
        marker = sp.Dummy("M", positive=True)
        candidate = expression.xreplace({term: factor * marker})
        try:
            coefficient = sp.diff(candidate, marker)
            rest = candidate.xreplace({marker: sp.S.Zero})
        except (TypeError, ValueError):
            continue
        if coefficient.has(marker) or rest.has(sp.nan, sp.zoo):
            continue
        original = sp.cancel(sp.together(coefficient / difference))
        coefficient = sp.cancel(original * difference)
        if sp.gcd(sp.denom(original), gap) == 1 or sp.gcd(sp.denom(coefficient), gap) != 1:
            continue  # there is no pole at A = B, or it stays
        expression = rest + coefficient * mixture
    return expression


def _rewrite_difference(term: sp.Add) -> tuple[sp.Expr, sp.Expr, sp.Expr, sp.Expr] | None:
    """Return M00, factor, A − B and its numerator for a term c·e^A − c·e^B = factor·M00; None for any other."""
    if len(term.args) != 2:
        return None
    parts = []
    for arg in term.args:
        exponentials = [x for x in sp.Mul.make_args(arg) if isinstance(x, sp.exp)]
        if len(exponentials) != 1:
            return None
        parts.append((arg / exponentials[0], exponentials[0].exp))
    (c1, a1), (c2, a2) = parts
    if sp.expand(c1 + c2) != 0:
        return None
    # c1 e^{a1} - c1 e^{a2} = c1 (a1 - a2) M00(-a1, -a2)
    return ExpMix(0, 0, -a1, -a2), c1 * (a1 - a2), a1 - a2, sp.numer(sp.together(a1 - a2))


class expit(sp.Function):  # type: ignore[misc]  # noqa: N801 - a mathematical function, named as in SciPy
    r"""Logistic function, :math:`1/(1 + e^{-x})`, without overflow."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return expit(x)·(1 − expit(x))."""
        return self * (1 - self)

    def _eval_is_extended_positive(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool | None:
        return True if self.args[0].is_extended_real else None

    def _eval_evalf(self, prec: int) -> Any:
        (x,) = self.args
        return (1 / (1 + sp.exp(-x))).evalf(prec) if x.is_number else None

    def _latex(self, printer: Any) -> str:
        return rf"\operatorname{{expit}}\left({printer.doprint(self.args[0])}\right)"


class ndtr(sp.Function):  # type: ignore[misc]  # noqa: N801
    r"""Standard normal distribution function :math:`\Phi(x)`."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return the standard normal density."""
        return sp.exp(-(self.args[0] ** 2) / 2) / sp.sqrt(2 * sp.pi)

    def _eval_is_extended_positive(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool | None:
        return True if self.args[0].is_extended_real else None

    def _eval_evalf(self, prec: int) -> Any:
        (x,) = self.args
        return ((1 + sp.erf(x / sp.sqrt(2))) / 2).evalf(prec) if x.is_number else None

    def _latex(self, printer: Any) -> str:
        return rf"\Phi\left({printer.doprint(self.args[0])}\right)"


class ndtri(sp.Function):  # type: ignore[misc]  # noqa: N801
    r"""Quantile of the standard normal distribution, :math:`\Phi^{-1}(p)`."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return 1 over the standard normal density at the quantile."""
        return sp.sqrt(2 * sp.pi) * sp.exp(self**2 / 2)

    def _eval_is_extended_real(self) -> bool | None:
        return True if self.args[0].is_extended_real else None

    def _eval_evalf(self, prec: int) -> Any:
        (p,) = self.args
        return (sp.sqrt(2) * sp.erfinv(2 * p - 1)).evalf(prec) if p.is_number else None

    def _latex(self, printer: Any) -> str:
        return rf"\Phi^{{-1}}\left({printer.doprint(self.args[0])}\right)"


def _moment_matrix(order: int) -> Array:
    matrix = np.zeros((len(pairs(order)), order + 1))
    for row, (i, j) in enumerate(pairs(order)):
        for m in range(i + 1):
            matrix[row, j + m] = (-1) ** m * comb(i, m)
    return matrix


_MOMENTS = [_moment_matrix(order) for order in range(_MAX_ORDER + 1)]
_MIRROR = [[pairs(order).index((j, i)) for i, j in pairs(order)] for order in range(_MAX_ORDER + 1)]
