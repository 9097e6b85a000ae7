"""Residual error models: the standard deviation of an observation given its prediction f."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import sympy as sp

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.symbols import Sigma, sigma

__all__ = ["RESIDUALS", "Additive", "Combined", "Combined1", "Proportional", "Residual"]


@dataclass(frozen=True)
class Residual:
    """A residual error model; every number is a standard deviation."""

    sigma_names: ClassVar[Mapping[str, str]] = {}
    """Name of the sigma of each argument."""

    def sigmas(self) -> list[Sigma]:
        """Return the sigma symbols with their initial values, in the order of the arguments."""
        wanted: Any = self.fixed  # type: ignore[attr-defined]
        if isinstance(wanted, bool):
            wanted = self.sigma_names.values() if wanted else ()
        held = {wanted} if isinstance(wanted, str) else set(wanted)
        unknown = held - set(self.sigma_names.values())
        if unknown:
            raise ModelError(f"fixed= names '{min(unknown)}'; the sigmas are {', '.join(self.sigma_names.values())}.")
        return [sigma(name, getattr(self, field), fixed=name in held) for field, name in self.sigma_names.items()]

    def sd_expression(self, f: sp.Expr) -> sp.Expr:
        """Return the standard deviation as an expression in the prediction f."""
        raise NotImplementedError

    def to_code(self, numbers: Mapping[str, float], fixed: Mapping[str, bool]) -> str:
        """Return the call that makes this residual with other numbers."""
        args = [f"{field}={numbers[name]!r}" for field, name in self.sigma_names.items()]
        held = tuple(name for name in self.sigma_names.values() if fixed[name])
        return f"nw.{type(self).__name__}({', '.join(args)}{f', fixed={held!r}' if held else ''})"


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


RESIDUALS: dict[str, type[Residual]] = {cls.__name__: cls for cls in (Additive, Proportional, Combined, Combined1)}
"""Every residual error model by its name."""
assert all({f.name for f in fields(cls)} == {*cls.sigma_names, "fixed"} for cls in RESIDUALS.values())
