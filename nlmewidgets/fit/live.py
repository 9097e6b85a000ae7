"""One look at the objective at given values, for sliders: fast, and never an exception."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.marginal import Approximation

__all__ = ["Look", "look", "stand_in", "usable"]


_SINGULAR = (
    "The curvature of a subject's likelihood is singular to rounding at these values; bring them nearer to the data."
)


@dataclass(frozen=True, eq=False)
class Look:
    """The objective at some values.

    Attributes
    ----------
    values : Values
    ofv : float
        NaN where a subject's objective is not a number; `message` then names it.
    by : str
        The method that computed it.
    per_subject : (subjects,) float
    eta : (etas, subjects) float
        The etas it is centred at; zero where they could not be found.
    message : str
    """

    values: Values
    ofv: float
    by: str
    per_subject: Array
    eta: Array
    message: str = ""


def stand_in(problem: Problem, method: str) -> Approximation:
    """Return the approximation whose objective a slider shows for a method: itself, or Laplace."""
    chosen = METHODS[method]()
    if isinstance(chosen, Approximation) and chosen.refusal(problem) is None:
        return chosen
    laplace = METHODS["laplace"]()
    assert isinstance(laplace, Approximation)
    return laplace


def usable(problem: Problem, method: str) -> str:
    """Return the method's name, or that of Laplace where the method refuses the problem."""
    return "laplace" if METHODS[method]().refusal(problem) else method


def look(problem: Problem, values: Values, method: str = "focei", start: Array | None = None) -> Look:
    """Evaluate the objective that belongs to a method.

    Without `start` the etas are sought from zero, so that the same values always give the same digits.
    SAEM maximises the likelihood itself, which is too dear for a slider; Laplace stands for it.
    """
    approximation = stand_in(problem, method)
    try:
        result = approximation.evaluate(problem, values, start)
    except np.linalg.LinAlgError:
        unknown, nothing = np.full(problem.n_subjects, np.nan), np.zeros((problem.n_eta, problem.n_subjects))
        return Look(values, float("nan"), approximation.name, unknown, nothing, _SINGULAR)
    eta = np.where(np.isfinite(result.eta), result.eta, 0.0)
    bad = np.flatnonzero(~np.isfinite(result.per_subject))
    message = ""
    if bad.size:
        with np.errstate(all="ignore"):
            slots = problem.slots(problem.typical(values.theta).slots, eta)
            f = problem.predict(slots)
        message = problem.explain_nonfinite(f, int(bad[0]), slots)
    ofv = float("nan") if bad.size else result.ofv
    return Look(values, ofv, approximation.name, result.per_subject, eta, message)
