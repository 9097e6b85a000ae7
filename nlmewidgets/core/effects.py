r"""Covariate effects as SymPy expressions, one plain function each.

An effect is added on the scale of a parameter's distribution: with `LogNormal` (and Box–Cox and Student
log-normal) parameters ``exp(effect)`` is the factor on the typical value, with `Normal` ones the effect is
added to it, with `LogitNormal` and `ProbitNormal` it is added to the logit or probit.  The functions below
are written for factors; `exponential` and `category` are sums of coefficients on any scale.

A coefficient is a `theta`, an expression, or a number, which is then a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import sympy as sp

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.symbols import Coefficient, Covariate, Theta, covariate, level

__all__ = [
    "EFFECTS",
    "allometric",
    "category",
    "exponential",
    "hockey_stick",
    "linear",
    "maturation",
    "power",
    "saturation",
]


def _expr(value: Any) -> sp.Expr:
    """Return a covariate by name, a number as an exact one, an expression as it is."""
    if isinstance(value, str):
        return covariate(value)
    return sp.nsimplify(value, rational=True) if isinstance(value, Real) else sp.sympify(value)


def _positive(what: str, value: Any) -> sp.Expr:
    expr = _expr(value)
    if expr.is_number and not expr > 0:
        raise ModelError(f"{what} is {value}; give a positive number.")
    return expr


def power(z: Any, centre: Any, exponent: Any) -> sp.Expr:
    """Return exponent·log(z/centre): the factor (z/centre)^exponent."""
    return _expr(exponent) * sp.log(_expr(z) / _positive("The centre of a power effect", centre))


def allometric(weight: Any, centre: Any = 70, exponent: Any = 0.75) -> sp.Expr:
    """Return the power effect of body weight with a fixed exponent: 0.75 for clearances, 1 for volumes."""
    return power(weight, centre, exponent)


def exponential(z: Any, centre: Any, slope: Any) -> sp.Expr:
    """Return slope·(z − centre): the factor exp(slope·(z − centre)); on any scale, a straight line."""
    return _expr(slope) * (_expr(z) - _expr(centre))


def linear(z: Any, centre: Any, slope: Any) -> sp.Expr:
    """Return log(1 + slope·(z − centre)): the factor 1 + slope·(z − centre), which must stay positive."""
    return sp.log(1 + _expr(slope) * (_expr(z) - _expr(centre)))


def hockey_stick(z: Any, bend: Any, below: Any, above: Any) -> sp.Expr:
    """Return the log of the factor 1 + slope·(z − bend), with one slope below the bend and one above."""
    away = _expr(z) - _expr(bend)
    return sp.log(1 + away * sp.Piecewise((_expr(below), away <= 0), (_expr(above), True)))


def saturation(z: Any, top: Any, half: Any) -> sp.Expr:
    """Return the log of the factor 1 + top·z/(half + z)."""
    x = _expr(z)
    return sp.log(1 + _expr(top) * x / (_positive("The half-way point of a saturation", half) + x))


def maturation(age: Any, half: Any, hill: Any = 1) -> sp.Expr:
    """Return the log of the factor age^hill/(half^hill + age^hill): the mature share at an age above 0."""
    return -sp.log(1 + (_positive("The age of half maturation", half) / _expr(age)) ** _expr(hill))


def category(z: Any, levels: Mapping[Any, Any]) -> sp.Expr:
    """Return a sum with one coefficient for each level of a categorical covariate but its reference.

    Parameters
    ----------
    z : covariate or str
        A column of text or numbers.
    levels : mapping
        Every level of the column; None for the reference, which has no effect, a number to start the
        population parameter ``{parameter}_{column}_{level}``, or a `theta` of its own
        (``nw.theta(..., fixed=True)`` for a constant).

    Raises
    ------
    ModelError
        Unless exactly one level is the reference.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> sorted(map(str, nw.category("SEX", {"female": None, "male": 0.1}).args))
    ['SEX=male', 'SEX_male']
    """
    column = z if isinstance(z, str) else getattr(z, "name", None)
    if column is None or not isinstance(z, str | Covariate):
        raise ModelError(f"category() was given {z!r}; give a covariate or its name.")
    if not isinstance(levels, Mapping) or len(levels) < 2:
        raise ModelError(
            f"category() of '{column}' needs a mapping of at least two levels, e.g. {{'F': None, 'M': 0.1}}."
        )
    reference = [name for name, value in levels.items() if value is None]
    if len(reference) != 1:
        raise ModelError(
            f"category() of '{column}' has {len(reference)} reference levels; give exactly one level the value None."
        )
    total = sp.S.Zero
    for name, value in levels.items():
        if value is None:
            continue
        indicator = level(column, name, tuple(levels))
        if isinstance(value, Real):
            value = Coefficient(f"{column}_{indicator.level}", details=(float(value), None, None, False), real=True)
        elif not isinstance(value, Theta):
            raise ModelError(f"category() of '{column}' gives the level {name!r} {value!r}; give a number or a theta.")
        total += value * indicator
    return total


EFFECTS: Mapping[str, Callable[..., sp.Expr]] = {
    f.__name__: f for f in (power, allometric, exponential, linear, hockey_stick, saturation, maturation, category)
}
"""Every effect by its name."""
