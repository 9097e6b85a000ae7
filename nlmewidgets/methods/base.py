"""What a method is: frozen options and one generator of frozen iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem

__all__ = ["Iteration", "Lazy", "Method"]


class Lazy(Mapping[str, Array]):
    """Arrays by name that are made when they are first asked for: of most iterations nobody asks."""

    def __init__(self, make: Callable[[], Mapping[str, Array]]) -> None:
        self._make = make
        self._made: Mapping[str, Array] | None = None

    def _all(self) -> Mapping[str, Array]:
        if self._made is None:
            self._made = {name: _own(values) for name, values in self._make().items()}
        return self._made

    def __getitem__(self, name: str) -> Array:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __reduce__(self) -> tuple[type[dict[str, Array]], tuple[Mapping[str, Array]]]:
        return dict, (self._all(),)


@dataclass(frozen=True, eq=False)
class Iteration:
    """A snapshot of a running method; its arrays are copies and read-only.

    Attributes
    ----------
    k : int
        Iteration number, 0 at the start.
    phase : str
        The method's word for what it is doing.
    values : Values
        theta, Omega and sigma as arrays.
    ofv : float
        The objective at these values, by `ofv_by`; the most recent one where it is not evaluated at
        every iteration.
    ofv_by : str
        How the objective was computed.
    eta : (etas, subjects) float
        The current estimate of each subject's random effects; (etas, 0) where a history has let them go.
    status : str
        'running', 'converged', 'limit' or 'failed'; a fit adds 'stopped'.
    message : str
        One sentence; says why the method stopped.
    progress : float
        Estimated share of the work done, 0 to 1.
    details : mapping
        Numbers of the method's own (gradient size, step, γ_k, acceptance, …).
    arrays : mapping
        What else the method leaves behind (conditional moments, posterior draws, the state it goes on from, …),
        by name.  Of the iterations of one fit only the newest holds any: a whole history of them would be large.
    """

    k: int
    phase: str
    values: Values
    ofv: float
    eta: Array
    space: ParameterSpace = field(repr=False)
    ofv_by: str = ""
    status: str = "running"
    message: str = ""
    progress: float = 0.0
    details: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", _own(self.eta))
        object.__setattr__(self, "details", {k: float(v) for k, v in self.details.items()})
        if not isinstance(self.arrays, Lazy):
            object.__setattr__(self, "arrays", {k: _own(v) for k, v in self.arrays.items()})

    @property
    def theta(self) -> pd.Series:
        """Typical values by name."""
        return pd.Series(self.values.theta, index=[p.name for p in self.space.theta], name="theta", copy=True)

    @property
    def omega(self) -> pd.DataFrame:
        """Variance–covariance of the random effects."""
        names = list(self.space.eta)
        return pd.DataFrame(self.values.omega, index=names, columns=names, copy=True)

    @property
    def sigma(self) -> pd.Series:
        """Residual standard deviations by name."""
        return pd.Series(self.values.sigma, index=[p.name for p in self.space.sigma], name="sigma", copy=True)

    def release(self) -> None:
        """Let the arrays go, because a newer iteration holds them."""
        object.__setattr__(self, "arrays", {})

    def forget(self) -> None:
        """Let the random effects go: a history keeps those of some iterations only."""
        object.__setattr__(self, "eta", _own(np.zeros((self.eta.shape[0], 0))))

    def to_dict(self) -> dict[str, float]:
        """Return all population parameters by name (omegas and sigmas as SDs)."""
        return self.space.to_dict(self.values)


def _own(values: Array) -> Array:
    """Return a read-only copy; of what is read-only already, itself."""
    if isinstance(values, np.ndarray) and values.dtype == float and not values.flags.writeable:
        return values
    out = np.array(values, dtype=float)
    out.setflags(write=False)
    return out


@dataclass(frozen=True)
class Method:
    """An estimation method: its options are the fields, `steps` is the algorithm."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]

    def refusal(self, problem: Problem) -> str | None:
        """Return one sentence if the method cannot treat this problem, None if it can."""
        return None

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield the starting point and every iteration; the last one's status is not 'running'."""
        raise NotImplementedError

    def resume(self, problem: Problem, last: Iteration, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield iterations that go on from the last of an earlier fit: from its values, where nothing else is kept."""
        return self.steps(problem, last.values, rng)

    def finish(self, problem: Problem, last: Iteration) -> Iteration:
        """Return the iteration with objective and etas brought up to date, for a fit that ends here."""
        return last

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return the objective at given values."""
        raise NotImplementedError

    @property
    def options(self) -> dict[str, Any]:
        """The options that describe the method (not the live controls some have), by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.compare}

    @classmethod
    def with_options(cls, options: Mapping[str, Any]) -> Method:
        """Return the method with options given by keyword.

        Raises
        ------
        MethodError
            Naming an option that the method does not have, and those it has.
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                have = ", ".join(known) or "none"
                raise MethodError(f"The method '{cls.name}' has no option '{name}' (its options: {have}).")
        for f in fields(cls):
            usual, given = f.default, options.get(f.name)
            if given is None or isinstance(usual, bool) or not isinstance(usual, int | float):
                continue
            if isinstance(given, bool) or not isinstance(given, Real) or given != given:
                raise MethodError(f"{f.name}={given!r} is not a number; the usual one is {usual:g}.")
        return cls(**options)
