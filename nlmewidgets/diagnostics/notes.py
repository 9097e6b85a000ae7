"""What to know before using a fit: what is not identified, at an edge, shrunk, or one of two solutions."""

from __future__ import annotations

import numpy as np
import sympy as sp

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.diagnostics.shrinkage import HIGH_SHRINKAGE
from nlmewidgets.fit import Fit

__all__ = ["flip_flop", "notes"]

_CONDITION = 1000.0
"""NONMEM's users take a condition number of the correlations beyond it for ill-conditioning."""


def notes(fit: Fit) -> list[str]:
    """Return sentences on what to know before using the estimates; none if nothing was found.

    They name parameters that the data do not identify, or combinations of them, estimates at the end of their range,
    random effects whose correlation is nearly ±1, a large condition number, high shrinkage, and absorption that is
    slower than elimination (flip-flop).

    Parameters
    ----------
    fit : Fit

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("theophylline")
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> nw.diagnostics.notes(model.fit(data))
    []
    """
    out = []
    try:
        known = fit.uncertainty
        if known.message:
            out.append(known.message)
        number = known.condition_number
        if np.isfinite(number) and number > _CONDITION:
            out.append(
                f"The condition number of the estimates' correlations is {number:.0f}: some parameters are nearly "
                "interchangeable; look at their correlations before trusting one of them."
            )
    except NlmeError as error:
        out.append(str(error))
    sd = np.sqrt(np.diag(fit.values.omega))
    for name, i, j in fit.start.space.correlations:
        r = fit.values.omega[i, j] / (sd[i] * sd[j])
        if 0.95 < abs(r) < 0.9999:  # beyond, it is at the end of its range, and said so
            out.append(f"{name} is {r:.3f}: two random effects move as one; let them share it, or leave one out.")
    shrunk = fit.shrinkage.drop("epsilon")
    high = [f"{name} ({100 * value:.0f} %)" for name, value in shrunk.items() if value > HIGH_SHRINKAGE]
    if high:
        out.append(
            f"Shrinkage is high: {', '.join(high)}. EBEs of these hide or invent relations; judge by conditional draws."
        )
    if why := flip_flop(fit):
        out.append(why)
    return out


def flip_flop(fit: Fit) -> str:
    """Return a sentence where a typical subject absorbs more slowly than it eliminates, '' elsewhere.

    The structure is read from the equations: a compartment that only empties, at a constant rate, into others is an
    absorption; the slowest rate of those it empties into is their elimination.  The same curve is then made by the
    two exchanged with another volume, and data after an extravascular dose alone cannot tell which is right.
    """
    problem = fit.problem
    values = problem.individual_parameters(fit.values.theta, np.zeros((problem.n_eta, problem.n_subjects)))
    typical = {name: float(np.median(v)) for name, v in values.items()}
    rates = _rates(fit.model, typical)
    for name, absorption, elimination in rates:
        if absorption < elimination:
            return (
                f"Flip-flop: a typical subject absorbs ({name}: {absorption:.3g} per unit of time) more slowly than it "
                f"eliminates ({elimination:.3g}); the two exchanged, with another volume, fit extravascular data as "
                "well. Intravenous data, or a bound on one of them, decide."
            )
    return ""


def _rates(model: Model, typical: dict[str, float]) -> list[tuple[str, float, float]]:
    """Return (what, absorption rate, slowest rate of what it goes into) of the typical subject."""
    numbers = {s: typical[s.name] for e in model.odes.values() for s in e.free_symbols if s.name in typical}
    states = list(model.odes)
    if not states:
        ka, ke = typical.get("ka"), typical.get("k", typical.get("ke"))
        if ke is None and "CL" in typical and "V" in typical:
            ke = typical["CL"] / typical["V"]
        return [("ka", ka, ke)] if ka is not None and ke is not None else []
    flows = sp.Matrix([model.odes[s] for s in states])
    jacobian = flows.jacobian(states).subs(numbers)
    if not all(entry.is_number for entry in jacobian):  # not linear, or it changes in time
        return []
    matrix = np.array(jacobian.tolist(), dtype=float)
    out = []
    for k, state in enumerate(states):
        others = [j for j in range(len(states)) if j != k]
        into = {j for j in others if matrix[j, k] > 0}
        if matrix[k, others].any() or not matrix[k, k] < 0 or not into:
            continue  # something flows into it, or it goes nowhere
        reached = set(into)
        while more := {i for i in others for j in reached if matrix[i, j] != 0} - reached:
            reached |= more
        part = np.linalg.eigvals(matrix[np.ix_(sorted(reached), sorted(reached))])
        slowest = float(np.min(np.abs(part.real)))
        # What it passes on later, in further absorption steps, has inflow of its own kind: only sources are judged.
        if len(reached) < len(states) and slowest > 0:
            out.append((str(state), -float(matrix[k, k]), slowest))
    return out
