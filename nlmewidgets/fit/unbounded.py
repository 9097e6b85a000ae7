"""Likelihoods without a maximum: data that are predicted exactly, and a residual error that can vanish there.

A dose's first sample of 0 is the usual case: prediction and datum are 0 whatever the parameters, and an error
SD² = a² + b²f² has all of them to gain from a → 0.
"""

from __future__ import annotations

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["unbounded"]

_VANISHED = 1e-2
"""A standard deviation this small beside its initial value and beside those of the other data."""
_EXACT = 1e-8
"""Of the initial standard deviation: a prediction nearer to its datum is the datum."""


def unbounded(problem: Problem, values: Values, eta: Array) -> str:
    """Return a sentence that names the sigma and a datum at which the likelihood grows without bound, or ''.

    Parameters
    ----------
    problem : Problem
    values : Values
        Where a search ended.
    eta : (etas, subjects) float
    """
    start = problem.space.initial.sigma
    gone = [
        (values.sigma[k] / start[k], p.name)
        for k, p in enumerate(problem.space.sigma)
        if not p.fixed and values.sigma[k] < _VANISHED * start[k]
    ]
    if not gone or eta.shape != (problem.n_eta, problem.n_subjects):
        return ""
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
        before, now = (np.broadcast_to(problem.variance(f, s).value, f.shape) for s in (start, values.sigma))
        exact = problem.normal_rows & (np.abs(f - problem.data.dv) <= _EXACT * np.sqrt(before))
    others = now[problem.normal_rows & ~exact]
    if not exact.any():
        return ""
    usual = np.median(others) if others.size else np.inf
    lost = np.flatnonzero(exact & (now < _VANISHED**2 * np.minimum(before, usual)))
    if not lost.size:
        return ""
    i, data = lost[0], problem.data
    return (
        f"The likelihood has no maximum: DV = {data.dv[i]:g} of subject {data.ids[data.subject[i]]} at TIME "
        f"{data.time[i]:g} is predicted exactly ({lost.size} such observations), so that its "
        f"density grows without bound as {min(gone)[1]} goes to 0; leave these out (data.exclude), or fix "
        f"{min(gone)[1]}."
    )
