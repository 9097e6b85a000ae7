"""How an individual parameter is distributed: a transform of a normal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import sympy as sp

from nlmewidgets.core.special import ExpMix, expit, ndtr, ndtri

__all__ = [
    "DISTRIBUTIONS",
    "BoxCoxNormal",
    "Distribution",
    "LogNormal",
    "LogitNormal",
    "Normal",
    "ProbitNormal",
    "Shape",
    "StudentLogNormal",
]


class Shape(NamedTuple):
    """A further population parameter of a distribution: a theta called {prefix}_{parameter}.

    `argument` and `flag` are the fields of the distribution it starts from.
    """

    prefix: str
    argument: str
    flag: str
    lower: float | None = None


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
    def shapes(self) -> tuple[Shape, ...]:
        """The population parameters that shape the random effect; without any it is η itself."""
        return ()

    def shaped(self, effect: sp.Expr, *shapes: sp.Expr) -> sp.Expr:
        """Return what a random effect adds on the scale of h, at these values of `shapes`."""
        return effect

    @property
    def eta_sd(self) -> tuple[float, bool]:
        """Standard deviation of eta and whether it is fixed."""
        return self.sd, self.fixed_sd

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
class _Bounded(Distribution):
    """A parameter between two bounds of its own."""

    lower: float | None = 0.0
    upper: float | None = 1.0

    symbol: ClassVar[str] = ""

    def refusal(self) -> str | None:
        """Return what is wrong with the bounds, which are those of the parameter itself."""
        if self.lower is None or self.upper is None:
            return f"is {type(self).__name__} without a finite lower= and upper="
        return None

    def _place(self, theta: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        return theta - _number(self.lower), _number(self.upper) - theta

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return the transformed equation with its bounds."""
        word = rf"{self.symbol}_{{({self.lower:g},\,{self.upper:g})}}"
        return rf"{word}\, {name} &= {word}\, {theta}{effect}{' + ' + eta if eta else ''}"


@dataclass(frozen=True)
class LogitNormal(_Bounded):
    """logit((φ − lower)/(upper − lower)) = logit((θ − lower)/(upper − lower)) + effect + η."""

    kind: ClassVar[str] = "logitnormal"
    symbol: ClassVar[str] = r"\operatorname{logit}"

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return the logit of theta's place between the bounds."""
        above, below = self._place(theta)
        return sp.log(above / below)

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return lower + (upper − lower)·expit(s)."""
        low, high = _number(self.lower), _number(self.upper)
        return low + (high - low) * expit(s)


@dataclass(frozen=True)
class ProbitNormal(_Bounded):
    """Φ⁻¹((φ − lower)/(upper − lower)) = Φ⁻¹((θ − lower)/(upper − lower)) + effect + η."""

    kind: ClassVar[str] = "probitnormal"
    symbol: ClassVar[str] = r"\Phi^{-1}"

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return the probit of theta's place between the bounds."""
        above, below = self._place(theta)
        return ndtri(above / (above + below))

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return lower + (upper − lower)·Φ(s)."""
        low, high = _number(self.lower), _number(self.upper)
        return low + (high - low) * ndtr(s)


@dataclass(frozen=True)
class BoxCoxNormal(Distribution):
    r"""log φ = log θ + effect + (e^{λη} − 1)/λ: a log-normal parameter whose η is skewed by λ (0: log-normal).

    Parameters
    ----------
    shape : float
        λ, the population parameter lambda_X of the parameter X, to start with.
    fixed_shape : bool
        Keep it at its value.

    References
    ----------
    Petersson, Hanze, Savic & Karlsson (2009), doi:10.1007/s11095-009-9931-1.
    """

    shape: float = 0.1
    fixed_shape: bool = False

    kind: ClassVar[str] = "boxcoxnormal"
    natural_lower: ClassVar[float | None] = 0.0

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Return λ."""
        return (Shape("lambda", "shape", "fixed_shape"),)

    def shaped(self, effect: sp.Expr, *shapes: sp.Expr) -> sp.Expr:
        """Return (e^{λη} − 1)/λ, which is η at λ = 0."""
        return effect * ExpMix(0, 0, 0, -shapes[0] * effect)

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return log(theta)."""
        return sp.log(theta)

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return exp(s)."""
        return sp.exp(s)

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return the equation with the Box–Cox transform of η."""
        shape = rf"\theta_{{\lambda_{{{name}}}}}"
        random = rf" + \frac{{e^{{{shape}\, \left({eta}\right)}} - 1}}{{{shape}}}" if eta else ""
        return rf"\log {name} &= \log {theta}{effect}{random}"


@dataclass(frozen=True)
class StudentLogNormal(Distribution):
    r"""log φ = log θ + effect + scale·t(η): a log-normal parameter with the tails of Student's t.

    η is standard normal (its SD is fixed at 1) and t(η) the expansion of the t quantile with ν degrees of
    freedom, good from ν = 3 on; `sd` starts the population parameter scale_X of the parameter X.

    Parameters
    ----------
    df : float
        ν, the population parameter df_X, to start with.
    fixed_df : bool
        Keep it at its value.

    References
    ----------
    Petersson, Hanze, Savic & Karlsson (2009), doi:10.1007/s11095-009-9931-1; Abramowitz & Stegun (1964), 26.7.5.
    """

    df: float = 5.0
    fixed_df: bool = True

    kind: ClassVar[str] = "studentlognormal"
    natural_lower: ClassVar[float | None] = 0.0

    def refusal(self) -> str | None:
        """Return what is wrong with the numbers."""
        if not self.sd or self.iov:
            return "is StudentLogNormal, which needs an sd and takes no iov"
        if not self.df > 2:
            return f"has df={self.df:g}, but Student's t has a variance only above 2 degrees of freedom"
        return super().refusal()

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Return the scale and the degrees of freedom."""
        return Shape("scale", "sd", "fixed_sd", 0.0), Shape("df", "df", "fixed_df", 2.0)

    @property
    def eta_sd(self) -> tuple[float, bool]:
        """A standard normal η, whose SD is not estimated."""
        return 1.0, True

    def shaped(self, effect: sp.Expr, *shapes: sp.Expr) -> sp.Expr:
        """Return scale·t(η), four terms of the expansion of the quantile."""
        scale, nu = shapes
        z = effect
        return scale * (
            z
            + (z**3 + z) / (4 * nu)
            + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * nu**2)
            + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * nu**3)
        )

    def link(self, theta: sp.Expr) -> sp.Expr:
        """Return log(theta)."""
        return sp.log(theta)

    def inverse(self, s: sp.Expr) -> sp.Expr:
        """Return exp(s)."""
        return sp.exp(s)

    def latex(self, name: str, theta: str, effect: str, eta: str) -> str:
        """Return the equation with the t quantile of η."""
        scale, nu = (rf"\theta_{{\mathrm{{{word}}}_{{{name}}}}}" for word in ("scale", "df"))
        random = rf" + {scale}\, t_{{{nu}}}\left({eta}\right)" if eta else ""
        return rf"\log {name} &= \log {theta}{effect}{random}"


DISTRIBUTIONS: Mapping[str, type[Distribution]] = {
    d.kind: d for d in (LogNormal, Normal, LogitNormal, ProbitNormal, BoxCoxNormal, StudentLogNormal)
}
"""Every distribution by its kind."""
