r"""How the residual variance of normal observations depends on the random effects, where a method approximates that.

Without interaction it does not: the variance is that of the typical prediction f₀ = f(η = 0).  To first
order it does: with independent residual errors ε_k of standard deviations h_k(f),
:math:`y \approx f_0 + f_\eta\eta + \sum_k (h_k + h_k' f_\eta\eta)\,\varepsilon_k` has the variance

.. math:: f_\eta\Omega f_\eta' + \sum_k h_k^2 + \rho\, f_\eta\Omega f_\eta', \qquad \rho = \sum_k h_k'^2 .
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import sympy as sp

from nlmewidgets.core.symbols import Sigma, dv, f, typical_f

if TYPE_CHECKING:
    from nlmewidgets.core.observation import Observation

__all__ = ["frozen", "interaction", "residual_variance"]


def residual_variance(sd: sp.Expr) -> sp.Expr:
    """Return sd², written without a root where it can be."""
    return sp.expand(sd**2) if sd.is_polynomial(f) and not sd.is_Add else sd**2


def frozen(own: Observation) -> Observation:
    """Return a normal observation whose residual variance is that at `typical_f` instead of f."""
    assert own.sd is not None
    variance = residual_variance(own.sd).xreplace({f: typical_f})
    center = f if own.center is None else own.center
    slope = sp.diff(center, f)
    error = center.xreplace({f: dv}) - center
    return replace(
        own,
        minus2log=sp.log(variance) - 2 * sp.log(slope.xreplace({f: dv})) + error**2 / variance,
        information=slope**2 / variance,
        sd=own.sd.xreplace({f: typical_f}),
        score=error / sp.sqrt(variance),
        draw=None,
    )


def interaction(sd: sp.Expr) -> sp.Expr:
    """Return ρ of a residual standard deviation.

    The terms of its variance that share a parameter belong to one error: a² + b²f² is that of two errors,
    (a + bf)² that of one.
    """
    errors: list[tuple[set[sp.Basic], sp.Expr]] = []
    for term in sp.Add.make_args(sp.expand(sd**2)):
        names = set(term.atoms(Sigma))
        for other in [e for e in errors if e[0] & names]:
            errors.remove(other)
            names, term = names | other[0], term + other[1]
        errors.append((names, term))
    total = sp.S.Zero
    for _, variance in errors:
        slope = sp.diff(variance, f)
        if slope != 0:
            total += sp.simplify(slope**2 / (4 * variance))
    return total
