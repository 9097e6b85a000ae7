"""How an individual parameter is distributed: a transform of a normal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy as sp

from nlmewidgets.core.special import expit

__all__ = ["DISTRIBUTIONS", "Distribution", "LogNormal", "LogitNormal", "Normal"]


def _number(value: float | None) -> sp.Expr:
    return sp.nsimplify(value, rational=True)


@dataclass(frozen=True)
class Distribution:
    """A parameter φ with h(φ) = h(typical) + effect + η + κ, η ~ N(0, sd²), κ ~ N(0, iov²) for each occasion.

    Parameters
    ----------
    typical : float
        The population value theta, on the parameter's own scale (its median).
    sd : float
        Standard deviation of eta, on the scale of h; 0: no random effect.
    iov : float
        Standard deviation of kappa, added to eta anew for each occasion of a subject (the column OCC).
    effect : SymPy expression
        Covariate effects on the scale of h.
    fixed, fixed_sd, fixed_iov : bool
        Keep `typical` (or `sd`, or `iov`) at its value.
    lower, upper : float, optional
        Bounds of theta.
    """

    typical: float
    sd: float = 0.0
    effect: Any = 0
    fixed: bool = False
    fixed_sd: bool = False
    lower: float | None = None
    upper: float | None = None
    iov: float = 0.0
    fixed_iov: bool = False

    kind: ClassVar[str] = ""
    natural_lower: ClassVar[float | None] = None

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Bounds of theta: those given, else the range of the distribution."""
        low = self.natural_lower if self.lower is None else self.lower
        return low, self.upper

    def refusal(self) -> str | None:
        """Return what is wrong with the bounds, None if nothing is."""
        if self.natural_lower is not None and self.lower is not None and self.lower < self.natural_lower:
            return f"has lower={self.lower:g}, but a {type(self).__name__} parameter stays above {self.natural_lower:g}"
        return None

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return h(theta)."""
        raise NotImplementedError

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return the parameter at h(φ) = s."""
        raise NotImplementedError

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return the parameter's equation; empty strings where a part is absent."""
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(Distribution):
    """φ = θ + effect + η."""

    kind: ClassVar[str] = "normal"

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return theta itself."""
        return theta

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return s itself."""
        return s

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return φ = θ + effect + η."""
        return f"{name} &= {theta}{effect}{' + ' + eta if eta else ''}"


@dataclass(frozen=True)
class LogNormal(Distribution):
    r"""log φ = log θ + effect + η: θ is the median, the mean is :math:`\theta e^{\omega^2/2}`."""

    kind: ClassVar[str] = "lognormal"
    natural_lower: ClassVar[float | None] = 0.0

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return log(theta)."""
        return sp.log(theta)

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return exp(s)."""
        return sp.exp(s)

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return log φ = log θ + effect + η, or φ = θ where nothing is added."""
        if not effect and not eta:
            return f"{name} &= {theta}"
        return rf"\log {name} &= \log {theta}{effect}{' + ' + eta if eta else ''}"


@dataclass(frozen=True)
class LogitNormal(Distribution):
    """logit((φ − lower)/(upper − lower)) = logit((θ − lower)/(upper − lower)) + effect + η."""

    lower: float | None = 0.0
    upper: float | None = 1.0

    kind: ClassVar[str] = "logitnormal"

    def refusal(self) -> str | None:
        """Return what is wrong with the bounds, which are those of the parameter itself."""
        if self.lower is None or self.upper is None:
            return "is LogitNormal without a finite lower= and upper="
        return None

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return the logit of theta's place between the bounds."""
        return sp.log((theta - _number(self.lower)) / (_number(self.upper) - theta))

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return lower + (upper − lower)·expit(s)."""
        low, high = _number(self.lower), _number(self.upper)
        return low + (high - low) * expit(s)

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return the logit equation with its bounds."""
        logit = rf"\operatorname{{logit}}_{{({self.lower:g},\,{self.upper:g})}}"
        return rf"{logit}\, {name} &= {logit}\, {theta}{effect}{' + ' + eta if eta else ''}"


DISTRIBUTIONS: Mapping[str, type[Distribution]] = {d.kind: d for d in (LogNormal, Normal, LogitNormal)}
"""Every distribution by its kind."""
