"""The symbols a declaration is written in: time, dose, covariates, theta, eta, sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import sympy as sp

from nlmewidgets.core.errors import ModelError

__all__ = [
    "Coefficient",
    "Covariate",
    "Eta",
    "Level",
    "Reserved",
    "Sigma",
    "State",
    "Theta",
    "covariate",
    "dose",
    "eta",
    "f",
    "level",
    "sigma",
    "states",
    "theta",
    "time",
    "typical_f",
]


class _Role(sp.Symbol):
    """A SymPy symbol that carries a role and its numbers, and is equal only to its like."""

    __slots__ = ("details",)
    details: tuple[Any, ...]

    def __new__(cls, name: str, *, details: tuple[Any, ...] = (), **assumptions: bool) -> _Role:
        obj = sp.Symbol.__xnew__(cls, name, **assumptions)
        obj.details = details
        return obj  # type: ignore[no-any-return]

    def _hashable_content(self) -> tuple[Any, ...]:
        return (*super()._hashable_content(), self.details)

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self.name,), {"details": self.details, **self._assumptions_orig}


class Reserved(_Role):
    """A symbol the data or the model supplies: time, dose, the prediction."""


class Covariate(_Role):
    """A column of the data."""

    @property
    def column(self) -> str:
        """The column."""
        return str(self.name)


class State(_Role):
    """The content of a compartment, or any other state of a system of differential equations."""


class Level(Covariate):
    """1 on records where a column has a level, 0 elsewhere; ``details`` is (column, level, all levels)."""

    @property
    def column(self) -> str:
        """The column of the data."""
        return str(self.details[0])

    @property
    def level(self) -> str:
        """The level as it is written."""
        return _written(self.details[1])


class Theta(_Role):
    """A population parameter with its initial value; ``details`` is (value, lower, upper, fixed)."""


class Coefficient(Theta):
    """A theta of an effect that was given no name: in the parameter X its name gets the prefix X_."""


class Eta(_Role):
    """A random effect, normal with mean zero; ``details`` is (sd, fixed, whether it is drawn for each occasion)."""


class Sigma(_Role):
    """A residual standard deviation; ``details`` is (value, fixed)."""


time = Reserved("t", real=True)
"""Time since the dose where the term contains `dose`, the record's TIME elsewhere."""

dose = Reserved("dose", real=True)
"""The amount of a dose; terms that contain it are summed over all past doses."""

dv = Reserved("dv", real=True)
"""The datum itself, in likelihoods given as an expression."""

limit = Reserved("limit", real=True)
"""LIMIT of a censored record: the other end of its interval."""

last = Reserved("last", real=True)
"""1 at the last observation of a subject, 0 elsewhere: where the hazard of a whole follow-up is counted."""

f = Reserved("f", real=True)
"""The prediction, in residual standard deviations given as an expression."""

typical_f = Reserved("f at eta = 0", real=True)
"""The prediction of the typical individual, where a method takes the residual variance there."""


def covariate(name: str) -> Covariate:
    """Return the symbol of the data column `name`, constant or changing in time."""
    return Covariate(str(name), real=True)  # type: ignore[return-value]


def states(names: str) -> Any:
    """Return the states of the given names, separated by spaces or commas; one name gives one State."""
    made = tuple(State(name, real=True) for name in str(names).replace(",", " ").split())
    if not made:
        raise ModelError('states() was given no name; write nw.states("depot central").')
    return made[0] if len(made) == 1 else made


def _written(level: str | float) -> str:
    return level if isinstance(level, str) else f"{level:g}"


def level(column: str, name: Any, levels: Sequence[Any]) -> Level:
    """Return the indicator of one level of a categorical covariate, see `nlmewidgets.category`.

    Parameters
    ----------
    column : str
    name : str or number
        The level.
    levels : sequence
        All levels the column may have.
    """
    one, *others = (float(v) if isinstance(v, Real) else str(v) for v in (name, *levels))
    return Level(f"{column}={_written(one)}", details=(str(column), one, tuple(others)), real=True)  # type: ignore[return-value]


def plain_theta(name: str, lower: float | None = None) -> Theta:
    """Return a theta without its numbers, as it stands in canonical expressions."""
    positive = lower is not None and lower >= 0
    return Theta(name, positive=True) if positive else Theta(name, real=True)  # type: ignore[return-value]


def plain_sigma(name: str, lower: float | None = 0.0) -> Sigma:
    """Return a sigma without its numbers."""
    positive = lower is not None and lower >= 0
    return Sigma(name, positive=True) if positive else Sigma(name, real=True)  # type: ignore[return-value]


def plain_eta(name: str) -> Eta:
    """Return an eta without its numbers."""
    return Eta(name, real=True)  # type: ignore[return-value]


def _finite(what: str, name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ModelError(f"{what} '{name}' has the initial value {value!r}; give a number.") from None
    if not math.isfinite(number):
        raise ModelError(f"{what} '{name}' has the initial value {number}; give a finite number.")
    return number


def _bound(what: str, name: str, value: float | None) -> float | None:
    """Return a bound as a number; None where there is none (None or infinite)."""
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise ModelError(f"{what} '{name}' has the bound {value!r}; give a number, or None for no bound.")
    return None if math.isinf(number) else number


def theta(
    name: str, value: float, *, lower: float | None = None, upper: float | None = None, fixed: bool = False
) -> Theta:
    """Return a population parameter to be used in any expression of the declaration.

    Parameters
    ----------
    name : str
        Its name in tables and plots.
    value : float
        Initial value, strictly inside the bounds.
    lower, upper : float, optional
        Bounds; estimation works on an unconstrained transform of the parameter (log or logit).
    fixed : bool
        Keep the parameter at `value`.

    Raises
    ------
    ModelError
        If the value is not finite or not inside its bounds.
    """
    number = _finite("theta", name, value)
    low, high = _bound("theta", name, lower), _bound("theta", name, upper)
    check_bounds(f"theta '{name}'", number, low, high)
    # SymPy may simplify with the sign only where the bounds guarantee it.
    sign = {"positive": True} if low is not None and low >= 0 else {"real": True}
    return Theta(str(name), details=(number, low, high, bool(fixed)), **sign)  # type: ignore[return-value]


def check_bounds(what: str, value: float, lower: float | None, upper: float | None) -> None:
    """Raise unless the value is finite and lower < value < upper, naming `what`."""
    if not math.isfinite(value):
        raise ModelError(f"{what} is {value:g}; give a finite number.")
    if lower is not None and upper is not None and not lower < upper:
        raise ModelError(f"{what} has lower bound {lower:g} and upper bound {upper:g}; the lower must be smaller.")
    if lower is not None and value <= lower:
        raise ModelError(f"{what} starts at {value:g}, not above its lower bound {lower:g}; move one of them.")
    if upper is not None and value >= upper:
        raise ModelError(f"{what} starts at {value:g}, not below its upper bound {upper:g}; move one of them.")


def eta(name: str, *, sd: float, fixed: bool = False, occasion: bool = False) -> Eta:
    """Return a random effect N(0, sd²) to be used in a parameter's expression.

    Parameters
    ----------
    name : str
    sd : float
        Its standard deviation, to start with.
    fixed : bool
        Keep `sd` at its value.
    occasion : bool
        Draw it anew for each occasion of a subject (the column OCC): inter-occasion variability.

    Raises
    ------
    ModelError
        If the sd is not positive.
    """
    number = _finite("eta", name, sd)
    if number <= 0:
        raise ModelError(f"eta '{name}' has sd={number:g}; give a positive standard deviation, or leave the eta out.")
    return Eta(str(name), details=(number, bool(fixed), bool(occasion)), real=True)  # type: ignore[return-value]


def sigma(name: str, value: float, *, fixed: bool = False) -> Sigma:
    """Return a residual standard deviation to be used in ``residual={"sd": expression}``."""
    number = _finite("sigma", name, value)
    if number <= 0:
        raise ModelError(f"sigma '{name}' is {number:g}; give a positive standard deviation.")
    return Sigma(str(name), details=(number, bool(fixed)), positive=True)  # type: ignore[return-value]
