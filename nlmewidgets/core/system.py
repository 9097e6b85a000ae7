r"""A system of compartments: its differential equations, its initial state, and how doses reach it.

.. math:: x' = g(x, \varphi, z, t), \qquad x(t_0) = x_0(\varphi, z).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import sympy as sp

from nlmewidgets.core.symbols import State
from nlmewidgets.core.tolerance import Tolerance

__all__ = ["Route", "System"]


@dataclass(frozen=True)
class Route:
    """How the doses into one state behave; every part may depend on parameters and covariates.

    Parameters
    ----------
    lag : expression
        Time from a dose's record to its arrival.
    bioavailability : expression
        F: multiplies the amount.
    rate : expression, optional
        Rate of the infusions whose RATE is −1; their duration is F·AMT/rate.
    duration : expression, optional
        Duration of the infusions whose RATE is −2; their rate is F·AMT/duration.
    """

    lag: Any = sp.S.Zero
    bioavailability: Any = sp.S.One
    rate: Any = None
    duration: Any = None

    def parts(self) -> dict[str, sp.Expr]:
        """Return what is given, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

    @property
    def plain(self) -> bool:
        """Whether doses arrive at once and whole."""
        return self == Route()


@dataclass(frozen=True)
class System:
    """Differential equations with the states in the order of CMT.

    Attributes
    ----------
    states : tuple of State
    rhs : tuple of Expr
        Right-hand sides, in states, parameters, covariates and time.
    initial : tuple of Expr
        The state before the first record and after a reset, in parameters and covariates.
    routes : tuple of Route
        One per state.
    tolerance : Tolerance
        Of the numerical solution, where there is none in closed form.
    """

    states: tuple[State, ...]
    rhs: tuple[sp.Expr, ...]
    initial: tuple[sp.Expr, ...]
    routes: tuple[Route, ...]
    tolerance: Tolerance = Tolerance()

    def expressions(self) -> tuple[sp.Expr, ...]:
        """Return every expression of the system."""
        routes = [e for r in self.routes for e in r.parts().values()]
        return (*self.rhs, *self.initial, *routes)

    def xreplace(self, changes: dict[sp.Symbol, sp.Expr]) -> System:
        """Return the system with symbols replaced."""
        return System(
            self.states,
            tuple(e.xreplace(changes) for e in self.rhs),
            tuple(e.xreplace(changes) for e in self.initial),
            tuple(Route(**{k: e.xreplace(changes) for k, e in r.parts().items()}) for r in self.routes),
            self.tolerance,
        )

    def behind(self, expressions: tuple[sp.Expr, ...]) -> set[State]:
        """Return the states that can influence the expressions."""
        found = {s for e in expressions for s in e.atoms(State)}
        pending = list(found)
        while pending:
            fresh = self.rhs[self.states.index(pending.pop())].atoms(State) - found
            found |= fresh
            pending.extend(fresh)
        return found

    @property
    def linear(self) -> tuple[sp.Matrix, sp.Matrix] | None:
        """A and b of x' = A·x + b if the system is linear with coefficients constant in time, else None."""
        return _linear(self.states, self.rhs)


@lru_cache(maxsize=256)
def _linear(states: tuple[State, ...], rhs: tuple[sp.Expr, ...]) -> tuple[sp.Matrix, sp.Matrix] | None:
    from nlmewidgets.core.symbols import time

    matrix = sp.zeros(len(states), len(states))
    rest = sp.zeros(len(states), 1)
    zero = dict.fromkeys(states, sp.S.Zero)
    for i, expr in enumerate(rhs):
        if expr.has(time):
            return None
        expanded = sp.expand(expr) if expr.is_polynomial(*states) else expr
        for j, state in enumerate(states):
            slope = sp.diff(expanded, state)
            if slope.has(*states):
                return None
            matrix[i, j] = sp.factor_terms(slope)
        rest[i] = expanded.xreplace(zero)
        if rest[i].has(sp.nan, sp.zoo):
            return None
    return sp.ImmutableMatrix(matrix), sp.ImmutableMatrix(rest)
