r"""Tails of distributions in logarithms: what censored and counted data need.

:math:`\log\Phi(x)` and :math:`\log(\Phi(b) - \Phi(a))` keep their digits where the probabilities themselves
underflow or cancel, and so do their derivatives, by the inverse Mills ratio
:math:`m(x) = \varphi(x)/\Phi(x)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp
from scipy import special

from nlmewidgets.core.arrays import Array

__all__ = ["gap", "log_ndtr", "log_ndtr_between", "mills", "ndtr_between", "stdtrit"]

_LOG_ROOT_TWO_PI = 0.5 * np.log(2.0 * np.pi)
_NARROW = 1e-3
"""An interval so narrow (relative to the scale on which the density changes) is its density times its width."""
_FAR = -20.0


def mills(x: Any) -> Array:
    r"""Return :math:`\varphi(x)/\Phi(x)`, close to −x in the lower tail."""
    return np.sqrt(2.0 / np.pi) / special.erfcx(-np.asarray(x, dtype=float) / np.sqrt(2.0))  # type: ignore[no-any-return]


def gap(x: Any) -> Array:
    r"""Return :math:`x + \varphi(x)/\Phi(x)`, which cancels in the lower tail: there by its asymptotic series.

    With :math:`s = 1/x^2`, :math:`m(x) = -x/(1 - s + 3s^2 - 15s^3 + \dots)`.
    """
    x = np.asarray(x, dtype=float)
    far = x < _FAR
    s = 1.0 / np.where(far, x, _FAR) ** 2
    rest = s * (1 - s * (3 - s * (15 - s * (105 - s * (945 - s * (10395 - s * 135135))))))
    series = -np.where(far, x, _FAR) * rest / (1.0 - rest)
    return np.where(far, series, x + mills(x))


def ndtr_between(a: Any, b: Any) -> Array:
    r"""Return :math:`\log(\Phi(b) - \Phi(a))` for a < b; −∞ where they are equal, NaN where a > b."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    upper = a > 0  # by symmetry the lower tail, where the smaller numbers are
    low, high = np.where(upper, -b, a), np.where(upper, -a, b)
    with np.errstate(all="ignore"):
        width = b - a
        middle = 0.5 * (a + b)
        first = special.log_ndtr(low) - special.log_ndtr(high)
        wide = special.log_ndtr(high) + np.log(-np.expm1(first))
        slim = np.log(width) - 0.5 * middle**2 - _LOG_ROOT_TWO_PI + np.log1p(width**2 * (middle**2 - 1.0) / 24.0)
        narrow = width * np.maximum(1.0, np.abs(middle)) < _NARROW
    return np.where(narrow, slim, wide)


class log_ndtr(sp.Function):  # type: ignore[misc]  # noqa: N801 - a mathematical function, named as in SciPy
    r"""Logarithm of the standard normal distribution function, :math:`\log\Phi(x)`."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return the inverse Mills ratio."""
        return sp.exp(-(self.args[0] ** 2) / 2 - self) / sp.sqrt(2 * sp.pi)

    def _eval_is_extended_negative(self) -> bool:
        return True

    def _eval_is_finite(self) -> bool | None:
        return True if self.args[0].is_extended_real else None

    def _eval_evalf(self, prec: int) -> Any:
        (x,) = self.args
        return sp.log(sp.erfc(-x / sp.sqrt(2)) / 2).evalf(prec) if x.is_number else None

    def _latex(self, printer: Any) -> str:
        return rf"\log\Phi\left({printer.doprint(self.args[0])}\right)"


class log_ndtr_between(sp.Function):  # type: ignore[misc]  # noqa: N801
    r"""Logarithm of the standard normal probability of an interval, :math:`\log(\Phi(b) - \Phi(a))`."""

    nargs = 2

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        """Return the derivative with respect to either end."""
        end = self.args[argindex - 1]
        return (-1) ** argindex * sp.exp(-(end**2) / 2 - self) / sp.sqrt(2 * sp.pi)

    def _eval_is_extended_negative(self) -> bool:
        return True

    def _eval_evalf(self, prec: int) -> Any:
        a, b = self.args
        if not (a.is_number and b.is_number):
            return None
        return sp.log((sp.erf(b / sp.sqrt(2)) - sp.erf(a / sp.sqrt(2))) / 2).evalf(prec)

    def _latex(self, printer: Any) -> str:
        a, b = (printer.doprint(x) for x in self.args)
        return rf"\log\left(\Phi\left({b}\right) - \Phi\left({a}\right)\right)"


class stdtrit(sp.Function):  # type: ignore[misc]  # noqa: N801
    """Quantile of Student's t, (df, p); for draws only, it has no derivatives."""

    nargs = 2
