"""What an output may be instead of a prediction with a residual error: any other likelihood."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import sympy as sp

from nlmewidgets.core.observation import Observation

__all__ = ["Likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """The distribution of an output whose data are not normal around a prediction.

    A likelihood has a prediction, an expression of individual parameters that the model's structure
    evaluates, and the distribution of the datum `nw.dv` given its value f.
    """

    population: ClassVar[tuple[str, ...]] = ()
    """Arguments of the distribution itself: numbers, `nw.theta` or `nw.sigma`, without random effects."""
    options: ClassVar[tuple[str, ...]] = ()
    """Arguments that are no expressions."""

    @property
    def prediction(self) -> sp.Expr:
        """The expression whose value is f."""
        raise NotImplementedError

    def observation(self) -> Observation:
        """Return the distribution of y given f."""
        raise NotImplementedError

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that are expressions (or tuples of them), by name."""
        return {x.name: getattr(self, x.name) for x in fields(self) if x.name not in self.options}

    def mapped(self, change: Callable[[str, Any], Any]) -> Likelihood:
        """Return the likelihood with `change` (argument's name, expression) applied to every expression."""
        new = {
            name: tuple(change(name, e) for e in value) if isinstance(value, list | tuple) else change(name, value)
            for name, value in self.arguments().items()
            if value is not None
        }
        return replace(self, **new)

    def to_code(self, show: Callable[[Any], str]) -> str:
        """Return the call that makes this likelihood; `show` writes an expression."""
        parts = []
        for x in fields(self):
            value = getattr(self, x.name)
            if value == x.default:
                continue
            if x.name in self.options:
                text = repr(value)
            elif isinstance(value, tuple):
                text = f"[{', '.join(map(show, value))}]"
            else:
                text = show(value)
            parts.append(f"{x.name}={text}")
        return f"nw.{type(self).__name__}({', '.join(parts)})"

    def to_dict(self, show: Callable[[Any], str]) -> dict[str, Any]:
        """Return the likelihood as JSON-ready values."""
        found: dict[str, Any] = {
            name: [show(e) for e in value] if isinstance(value, tuple) else None if value is None else show(value)
            for name, value in self.arguments().items()
        }
        return {"model": type(self).__name__, "arguments": found | {name: getattr(self, name) for name in self.options}}

    @classmethod
    def from_dict(cls, arguments: Mapping[str, Any], read: Callable[[str], Any]) -> Likelihood:
        """Return the likelihood of `to_dict`."""
        out: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in cls.options:
                out[name] = tuple(value) if isinstance(value, list) else value
            else:
                out[name] = (
                    tuple(map(read, value)) if isinstance(value, list) else None if value is None else read(value)
                )
        return cls(**out)
