"""Likelihoods of counts, classes and events, and any other as an expression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy as sp

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.likelihood import Likelihood
from nlmewidgets.core.observation import COUNTS, Observation, likelihood
from nlmewidgets.core.special import expit
from nlmewidgets.core.symbols import dv, f, last

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "Event",
    "LogLikelihood",
    "NegativeBinomial",
    "Poisson",
]


@dataclass(frozen=True)
class LogLikelihood(Likelihood):
    """log p(y | φ) as an expression of the datum `nw.dv`, parameters, covariates, states and time.

    Parameters
    ----------
    expression : SymPy expression or str
    values : tuple or 'counts', optional
        The values a discrete datum can take: what simulation needs.
    """

    expression: Any
    values: tuple[Any, ...] | str | None = None
    options: ClassVar[tuple[str, ...]] = ("values",)

    @property
    def prediction(self) -> sp.Expr:
        """The log likelihood itself."""
        return self.expression  # type: ignore[no-any-return]

    def observation(self) -> Observation:
        """Return the distribution: f is log p, and its squared slope stands for the information."""
        if isinstance(self.values, str) and self.values != COUNTS:
            raise ModelError(f"values={self.values!r} is neither a tuple of numbers nor 'counts'.")
        return likelihood(f, sp.S.One, self.values)


@dataclass(frozen=True)
class Poisson(Likelihood):
    """A count with mean `rate`."""

    rate: Any

    @property
    def prediction(self) -> sp.Expr:
        """The rate."""
        return self.rate  # type: ignore[no-any-return]

    def observation(self) -> Observation:
        """Return the distribution of the count."""
        return likelihood(_times_log(dv, f) - f - sp.loggamma(dv + 1), 1 / f, COUNTS)


@dataclass(frozen=True)
class NegativeBinomial(Likelihood):
    """A count with mean `mean` and variance mean + mean²/size."""

    mean: Any
    size: Any
    population: ClassVar[tuple[str, ...]] = ("size",)

    @property
    def prediction(self) -> sp.Expr:
        """The mean."""
        return self.mean  # type: ignore[no-any-return]

    def observation(self) -> Observation:
        """Return the distribution of the count."""
        size = sp.sympify(self.size)
        ways = sp.loggamma(dv + size) - sp.loggamma(size) - sp.loggamma(dv + 1)
        log_density = ways - size * sp.log(1 + f / size) + _times_log(dv, f / (size + f))
        return likelihood(log_density, size / (f * (size + f)), COUNTS)


@dataclass(frozen=True)
class Bernoulli(Likelihood):
    """0 or 1, which has probability `p`."""

    p: Any

    @property
    def prediction(self) -> sp.Expr:
        """The probability of 1."""
        return self.p  # type: ignore[no-any-return]

    def observation(self) -> Observation:
        """Return the distribution of the datum."""
        log_density = sp.Piecewise((sp.log(f), dv > sp.Rational(1, 2)), (sp.log(1 - f), True))
        return likelihood(log_density, 1 / (f * (1 - f)), (0, 1))


@dataclass(frozen=True)
class Categorical(Likelihood):
    """One of the classes first, first + 1, …, with the given probabilities, which add up to 1."""

    probabilities: Any
    first: int = 1
    options: ClassVar[tuple[str, ...]] = ("first",)

    @classmethod
    def ordered(cls, score: Any, cuts: Sequence[Any], first: int = 1) -> Categorical:
        """Return ordered classes: P(y ≤ k) = expit(cut k − score), with increasing cuts (proportional odds)."""
        below = [sp.S.Zero, *(expit(c - score) for c in cuts), sp.S.One]
        return cls(tuple(b - a for a, b in zip(below, below[1:], strict=False)), first)

    @property
    def prediction(self) -> sp.Expr:
        """The log probability of the datum's class."""
        pieces = [(sp.log(p), dv < self.first + k + sp.Rational(1, 2)) for k, p in enumerate(self.probabilities)]
        return sp.Piecewise(*pieces[:-1], (pieces[-1][0], True))

    def observation(self) -> Observation:
        """Return the distribution of the class."""
        return likelihood(f, sp.S.One, tuple(range(self.first, self.first + len(self.probabilities))))


@dataclass(frozen=True)
class Event(Likelihood):
    """Events in time, of which DV is the number (0 or 1 where a subject can have one only).

    Follow-up begins where `cumulative` is 0: at TIME 0 in a closed form, at the subject's first record (which
    may be one of EVID 2) where it is a state.  With exact times a record with DV = 1 is an event at its TIME, DV = 0 at
    the last record ends the follow-up (right censoring); repeated events are more such records.
    With ``interval=True`` a record tells how many events there were since the subject's previous record.

    Parameters
    ----------
    hazard : expression
        Of `nw.time` and parameters; with `interval` only the cumulative hazard is used.
    cumulative : expression
        Its integral from 0: in closed form, or a state whose equation is the hazard.
    interval : bool
    repeated : bool
        With `interval`: whether a subject can have more than one event.
    """

    hazard: Any = None
    cumulative: Any = None
    interval: bool = False
    repeated: bool = False
    options: ClassVar[tuple[str, ...]] = ("interval", "repeated")

    def __post_init__(self) -> None:
        if self.cumulative is None or (self.hazard is None and not self.interval):
            raise ModelError("Event needs hazard= and cumulative=; with interval=True cumulative= alone.")

    @property
    def prediction(self) -> sp.Expr:
        """The log likelihood (the hazard of the whole follow-up at its last record), or the cumulative hazard."""
        if self.interval:
            return self.cumulative  # type: ignore[no-any-return]
        return sp.Piecewise((sp.log(self.hazard), dv > sp.Rational(1, 2)), (0, True)) - last * self.cumulative

    def observation(self) -> Observation:
        """Return the distribution; with intervals f is the hazard accumulated since the previous record."""
        if not self.interval:
            return likelihood(f, sp.S.One)
        if self.repeated:
            return likelihood(_times_log(dv, f) - f - sp.loggamma(dv + 1), 1 / f, COUNTS, increments=True)
        # log(1 − e^(−f)) without cancellation for small f.
        some = sp.log(2 * sp.sinh(f / 2)) - f / 2
        log_density = sp.Piecewise((some, dv > sp.Rational(1, 2)), (-f, True))
        return likelihood(log_density, sp.exp(-f / 2) / (2 * sp.sinh(f / 2)), (0, 1), increments=True)


def _times_log(n: sp.Expr, x: sp.Expr) -> sp.Expr:
    """Return n·log(x), 0 where n = 0."""
    return sp.Piecewise((n * sp.log(x), n > 0), (0, True))


LIKELIHOODS: dict[str, type[Likelihood]] = {
    cls.__name__: cls for cls in (LogLikelihood, Poisson, NegativeBinomial, Bernoulli, Categorical, Event)
}
"""Every likelihood by its name."""
