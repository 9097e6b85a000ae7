"""Residual error models: how an observation is distributed around its prediction f."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import sympy as sp

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.observation import Observation, Transform, normal, student
from nlmewidgets.core.special import expit, ndtr, ndtri
from nlmewidgets.core.symbols import f as prediction
from nlmewidgets.core.symbols import sigma, theta

__all__ = [
    "RESIDUALS",
    "Additive",
    "BoxCoxError",
    "Combined",
    "Combined1",
    "LogNormalError",
    "Power",
    "Proportional",
    "Residual",
    "Student",
    "TransformBothSides",
]


@dataclass(frozen=True)
class Residual:
    """A residual error model; a number is a standard deviation where nothing else is said."""

    sigma_names: ClassVar[Mapping[str, str]] = {}
    """Name of the sigma of each argument."""
    any_sign: ClassVar[tuple[str, ...]] = ()
    """Arguments that may be negative or zero."""

    def sigmas(self) -> list[sp.Symbol]:
        """Return the sigma symbols with their initial values, in the order of the arguments."""
        wanted: Any = self.fixed  # type: ignore[attr-defined]
        if isinstance(wanted, bool):
            wanted = self.sigma_names.values() if wanted else ()
        held = {wanted} if isinstance(wanted, str) else set(wanted)
        unknown = held - set(self.sigma_names.values())
        if unknown:
            raise ModelError(f"fixed= names '{min(unknown)}'; the sigmas are {', '.join(self.sigma_names.values())}.")
        return [
            (theta if field in self.any_sign else sigma)(name, getattr(self, field), fixed=name in held)
            for field, name in self.sigma_names.items()
        ]

    def observation(self) -> Observation:
        """Return the distribution of y (`nw.dv`) given f: normal with the standard deviation of `sd_expression`."""
        return normal(self.sd_expression(prediction))

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return the standard deviation as an expression in the prediction f."""
        raise NotImplementedError

    def to_code(self, numbers: Mapping[str, float], fixed: Mapping[str, bool]) -> str:
        """Return the call that makes this residual with other numbers."""
        args = [f"{field}={numbers[name]!r}" for field, name in self.sigma_names.items()]
        held = tuple(name for name in self.sigma_names.values() if fixed[name])
        usual = next(x.default for x in fields(self) if x.name == "fixed")
        return f"nw.{type(self).__name__}({', '.join(args)}{f', fixed={held!r}' if held != usual else ''})"


@dataclass(frozen=True)
class Additive(Residual):
    """SD = sd, whatever the prediction."""

    sd: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"sd": "additive"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sigma."""
        return self.sigmas()[0]


@dataclass(frozen=True)
class Proportional(Residual):
    """SD = sd·|f|."""

    sd: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"sd": "proportional"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sigma·f; its square is the variance whatever the sign of f."""
        return self.sigmas()[0] * f


@dataclass(frozen=True)
class Combined(Residual):
    """SD² = additive² + proportional²·f²: the variances of two independent errors add."""

    additive: float
    proportional: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"additive": "additive", "proportional": "proportional"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sqrt(a² + b²f²)."""
        a, b = self.sigmas()
        return sp.sqrt(a**2 + b**2 * f**2)


@dataclass(frozen=True)
class Combined1(Residual):
    """SD = additive + proportional·f: the standard deviations add (Monolix's combined1)."""

    additive: float
    proportional: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"additive": "additive", "proportional": "proportional"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return a + b·f."""
        a, b = self.sigmas()
        return a + b * f


@dataclass(frozen=True)
class Power(Residual):
    """SD = sd·|f|^exponent; the exponent is estimated unless `fixed` names it."""

    sd: float
    exponent: float = 1.0
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"sd": "power_sd", "exponent": "exponent"}
    any_sign: ClassVar[tuple[str, ...]] = ("exponent",)

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sigma·|f|^exponent."""
        sd, exponent = self.sigmas()
        return sd * sp.Abs(f) ** exponent


@dataclass(frozen=True)
class Student(Residual):
    """y = f + sd·T with T of Student's distribution: large errors are less surprising.

    `df` (degrees of freedom) stays at its value unless ``fixed=()`` is given.
    """

    sd: float
    df: float = 4.0
    fixed: tuple[str, ...] = ("df",)
    sigma_names: ClassVar[Mapping[str, str]] = {"sd": "additive", "df": "df"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return the scale; the standard deviation is sqrt(df/(df − 2)) times it."""
        return self.sigmas()[0]

    def observation(self) -> Observation:
        """Return the distribution of y given f."""
        return student(*self.sigmas())


@dataclass(frozen=True)
class LogNormalError(Residual):
    """log y = log f + ε with SD = sd: the same relative error at every size, y and f positive."""

    sd: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"sd": "lognormal"}

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sigma, the SD of log y."""
        return self.sigmas()[0]

    def observation(self) -> Observation:
        """Return the distribution of y given f."""
        return normal(self.sd_expression(prediction), _LOG)


@dataclass(frozen=True)
class BoxCoxError(Residual):
    """t(y) = t(f) + ε with SD = sd and t(y) = (y^λ − 1)/λ, the logarithm at λ = 0; y and f positive.

    `lambda_` is estimated unless `fixed` names ``"lambda"``.
    """

    lambda_: float
    sd: float
    fixed: tuple[str, ...] = ()
    sigma_names: ClassVar[Mapping[str, str]] = {"lambda_": "lambda", "sd": "additive"}
    any_sign: ClassVar[tuple[str, ...]] = ("lambda_",)

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return sigma, the SD of t(y)."""
        return self.sigmas()[1]

    def observation(self) -> Observation:
        """Return the distribution of y given f."""
        power, sd = self.sigmas()
        return normal(sd, _boxcox(power))


@dataclass(frozen=True)
class TransformBothSides(Residual):
    """t(y) = t(f) + ε, where the SD of ε is that of another residual model, a function of f itself.

    Parameters
    ----------
    transform : 'log', 'logit', 'probit', 'yeo-johnson' or float
        The function t; a number is the λ of Box and Cox, which stays at its value.
    residual : Residual
        Normal, e.g. ``Additive(0.2)``.
    lower, upper : float
        Range of y where the transform is 'logit' or 'probit'.
    power : float
        The λ of Yeo and Johnson (doi:10.1093/biomet/87.4.954), whose y may be negative; it stays at its value.
    """

    transform: str | float
    residual: Residual
    lower: float = 0.0
    upper: float = 1.0
    power: float = 1.0

    @property
    def sigma_names(self) -> Mapping[str, str]:  # type: ignore[override]
        """Name of the sigma of each argument of the residual."""
        return self.residual.sigma_names

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return the SD of t(y)."""
        return self.residual.sd_expression(f)

    def observation(self) -> Observation:
        """Return the distribution of y given f."""
        inner = self.residual.observation() if isinstance(self.residual, Residual) else None
        if inner is None or inner.sd is None or inner.transformed:
            raise ModelError(
                f"TransformBothSides has residual={self.residual!r}; give one that is normal, e.g. Additive(0.2)."
            )
        return normal(inner.sd, self._function())

    def _function(self) -> Transform:
        if self.transform == "log":
            return _LOG
        if self.transform in ("logit", "probit"):
            lower, upper = (sp.nsimplify(x, rational=True) for x in (self.lower, self.upper))
            if not lower < upper:
                raise ModelError(f"TransformBothSides has lower={lower} and upper={upper}; the lower must be smaller.")
            return (_logit if self.transform == "logit" else _probit)(lower, upper)
        if self.transform == "yeo-johnson":
            return _yeo_johnson(sp.nsimplify(self.power, rational=True))
        if isinstance(self.transform, str):
            known = "'log', 'logit', 'probit', 'yeo-johnson' and a number, λ"
            raise ModelError(f"There is no transform '{self.transform}'; there are {known}.")
        return _boxcox(sp.Float(self.transform))

    def to_code(self, numbers: Mapping[str, float], fixed: Mapping[str, bool]) -> str:
        """Return the call that makes this residual with other numbers."""
        bounds = f", lower={self.lower!r}, upper={self.upper!r}" if self.transform in ("logit", "probit") else ""
        bounds += f", power={self.power!r}" if self.transform == "yeo-johnson" else ""
        inner = self.residual.to_code(numbers, fixed)
        return f"nw.TransformBothSides({self.transform!r}, residual={inner}{bounds})"


_LOG = Transform(sp.log, lambda y: 1 / y, sp.exp)


def _logit(lower: sp.Expr, upper: sp.Expr) -> Transform:
    return Transform(
        lambda y: sp.log((y - lower) / (upper - y)),
        lambda y: (upper - lower) / ((y - lower) * (upper - y)),
        lambda s: lower + (upper - lower) * expit(s),
    )


def _probit(lower: sp.Expr, upper: sp.Expr) -> Transform:
    def forward(y: sp.Expr) -> sp.Expr:
        return ndtri((y - lower) / (upper - lower))

    def slope(y: sp.Expr) -> sp.Expr:
        return sp.sqrt(2 * sp.pi) * sp.exp(forward(y) ** 2 / 2) / (upper - lower)

    return Transform(forward, slope, lambda s: lower + (upper - lower) * ndtr(s))


def _yeo_johnson(power: sp.Expr) -> Transform:
    """Return Box and Cox's transform of 1 + y where y is positive, minus that of 1 − y with 2 − λ where negative."""
    up, down = _boxcox(power), _boxcox(2 - power)

    def either(x: sp.Expr, positive: sp.Expr, negative: sp.Expr) -> sp.Expr:
        return sp.Piecewise((positive, x >= 0), (negative, True))

    def size(y: sp.Expr) -> sp.Expr:
        return 1 + sp.Abs(y)

    return Transform(
        lambda y: either(y, up.forward(size(y)), -down.forward(size(y))),
        lambda y: either(y, up.slope(size(y)), down.slope(size(y))),
        lambda s: either(s, up.inverse(sp.Abs(s)) - 1, 1 - down.inverse(sp.Abs(s))),
    )


def _boxcox(power: sp.Expr) -> Transform:
    """Return the transform of Box and Cox; a free λ passes through 0 by the series of (e^(λx) − 1)/λ."""
    if power.is_number:
        if power == 0:
            return _LOG
        return Transform(lambda y: (y**power - 1) / power, lambda y: y ** (power - 1), lambda s: _root(s, power))

    def forward(y: sp.Expr) -> sp.Expr:
        x = sp.log(y)
        series = x * (1 + power * x / 2 * (1 + power * x / 3 * (1 + power * x / 4 * (1 + power * x / 5))))
        return sp.Piecewise((series, sp.Abs(power) < sp.Float(1e-4)), ((y**power - 1) / power, True))

    def inverse(s: sp.Expr) -> sp.Expr:
        return sp.Piecewise((sp.exp(s), sp.Abs(power) < sp.Float(1e-8)), (_root(s, power), True))

    return Transform(forward, lambda y: y ** (power - 1), inverse)


def _root(s: sp.Expr, power: sp.Expr) -> sp.Expr:
    """Return (1 + λs)^(1/λ), 0 or infinity where 1 + λs is not positive."""
    return sp.Max(1 + power * s, 0) ** (1 / power)


RESIDUALS: dict[str, type[Residual]] = {
    cls.__name__: cls
    for cls in (
        Additive,
        Proportional,
        Combined,
        Combined1,
        Power,
        Student,
        LogNormalError,
        BoxCoxError,
        TransformBothSides,
    )
}
"""Every residual error model by its name."""
assert all(
    {f.name for f in fields(cls)} == {*cls.sigma_names, "fixed"}
    for cls in RESIDUALS.values()
    if cls is not TransformBothSides
)
