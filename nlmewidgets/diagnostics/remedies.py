"""Why a fit stopped, in words, and what may be done about it, as data that an interface can carry out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nlmewidgets.diagnostics.shrinkage import HIGH_SHRINKAGE
from nlmewidgets.fit import Fit
from nlmewidgets.methods.focei import FOCEI
from nlmewidgets.methods.marginal import Approximation

__all__ = ["Remedy", "remedies", "remedies_of_refusal", "why_stopped"]

_AT_ZERO = 1e-3
"""Of a standard deviation to its initial value: it went to zero (as `methods.ending` has it)."""

_AT_ONE = 0.9999
_FEW_CHAINS = 20


@dataclass(frozen=True)
class Remedy:
    """Something that may help.

    Attributes
    ----------
    words : str
        Why, in a sentence that names the parameters.
    label : str
        What to do, in two or three words.
    action : str
        'resume' (arguments: options of the method), 'fit' (method and options), 'guess', 'fix' (parameters with the
        values to keep, None for those of the sliders), 'take' (estimates as starting values), 'show' (a panel).
    arguments : mapping
    """

    words: str
    label: str
    action: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def why_stopped(fit: Fit, *, brief: bool = False) -> str:
    """Return in one or two sentences why a fit ended, with the size of its gradient where it has one.

    With `brief` they do not repeat the message of the fit.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("theophylline")
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> early = model.fit(data, "focei", max_iterations=2)
    >>> why_stopped(early).split(":")[0]
    'It did not converge'
    >>> [(r.label, r.action, dict(r.arguments)) for r in remedies(early)][0]
    ('Resume', 'resume', {'max_iterations': 500})
    """
    gradient = fit.iterations["~gradient"].iloc[-1] if "~gradient" in fit.iterations else np.nan
    slope = ""
    if np.isfinite(gradient) and (brief or "largest gradient" not in fit.message):
        slope = f" The largest gradient is {gradient:.2g}."
    head = {
        "converged": "It converged",
        "stopped": "It was stopped before its end, and goes on from here when resumed",
        "limit": "It did not converge",
        "failed": "It failed",
    }[fit.status]
    if brief:
        return f"{head}.{slope}"
    text = fit.message.removeprefix("Converged: ")
    return f"{head}: {text[:1].lower()}{text[1:]}{slope}"


def remedies(fit: Fit) -> tuple[Remedy, ...]:
    """Return what may be done about the end of a fit, the most promising first; nothing if nothing is wrong.

    Parameters
    ----------
    fit : Fit
        Nothing is computed that takes long: identifiability and standard errors are in `diagnostics.notes`.
    """
    space, values = fit.start.space, fit.values
    out: list[Remedy] = []
    if fit.status == "stopped":
        out.append(Remedy("It was stopped: it can go on from there.", "Resume", "resume"))
    if "largest number allowed" in fit.message:
        most = max(500, 2 * int(fit.options.get("max_iterations", 0)))
        out.append(
            Remedy(
                "It used all the iterations allowed: let it have more.", "Resume", "resume", {"max_iterations": most}
            )
        )
    lost = [
        p.name
        for p, v in zip(space.theta, values.theta, strict=True)
        if re.search(rf"\b{p.name} went from", fit.message)
    ]
    if lost:
        names = _listed(lost)
        kept = {p.name: p.value for p in space.theta if p.name in lost}
        out.append(Remedy(f"{names} ran away: starting values nearer the data may hold it.", "Guess", "guess"))
        out.append(
            Remedy(f"If the data do not determine {names}, keep it at its initial value.", f"Fix {names}", "fix", kept)
        )
    apart = re.search(r"fix (.+), not (.+) apart|say nothing about (\S+): fix", fit.message)
    if apart:
        named = [p for p in space.theta if not p.fixed and re.search(rf"\b{re.escape(p.name)}\b", apart[0])]
        if named:
            name, value = named[-1].name, named[-1].value
            why = f"The data do not determine {_listed([p.name for p in named])}: with {name} kept, the rest is."
            out.append(Remedy(why, f"Fix {name} at {value:g}", "fix", {name: value}))
    if "by more than rounding" in fit.message:
        out.append(Remedy("The search stalled: a new one from its estimates starts afresh.", "Start there", "take"))
    out += _edges(fit)
    out += _saem(fit)
    if "bounded there" in fit.message:
        why = "Gaussians describe some subjects poorly: importance sampling and SAEM need none."
        out.append(Remedy(why, "Fit by SAEM", "fit", {"method": "saem"}))
    elif fit.status == "limit" and isinstance(fit.estimator, Approximation) and fit.start.space.eta and not out:
        why = "What the message names may not be determined by the data; SAEM is robust to poor starting values."
        out += [
            Remedy(why, "Fit by SAEM", "fit", {"method": "saem"}),
            Remedy("Starting values from the data may lead elsewhere.", "Guess", "guess"),
        ]
    with np.errstate(all="ignore"):
        shrunk = fit.shrinkage.drop("epsilon")
    high = [f"{name} ({100 * value:.0f} %)" for name, value in shrunk.items() if value > HIGH_SHRINKAGE]
    if high:
        why = f"Shrinkage is high: {', '.join(high)}. EBEs of these hide or invent relations."
        out.append(Remedy(why, "See shrinkage", "show", {"panel": "shrinkage"}))
    return tuple(out)


def _edges(fit: Fit) -> list[Remedy]:
    """Return remedies for variances at zero, correlations at one, and residual terms that went away."""
    space, values = fit.start.space, fit.values
    initial = space.initial
    out = []
    sd, first = np.sqrt(np.diag(values.omega)), np.sqrt(np.diag(initial.omega))
    for name, size, start in zip(space.omega_names, sd, first, strict=True):
        if not space.is_fixed(name) and start > 0 and size < _AT_ZERO * start:
            why = f"{name} went to zero: the data show no such variability. Kept there, the model has a parameter less."
            # A standard deviation of exactly zero is another model, without the random effect.
            out.append(Remedy(why, f"Fix {name} near 0", "fix", {name: max(float(size), 1e-6 * float(start))}))
    for name, i, j in space.correlations:
        if not space.is_fixed(name) and abs(values.omega[i, j]) > _AT_ONE * sd[i] * sd[j]:
            why = f"{name} went to ±1: the two random effects move as one. Without correlation they stay apart."
            out.append(Remedy(why, f"Fix {name} at 0", "fix", {name: 0.0}))
    for p, size in zip(space.sigma, values.sigma, strict=True):
        if not p.fixed and len(space.sigma) > 1 and size < _AT_ZERO * p.value:
            why = f"{p.name} went to zero: the other residual term explains the data alone."
            out.append(Remedy(why, f"Fix {p.name}", "fix", {p.name: float(size)}))
    return out


def _saem(fit: Fit) -> list[Remedy]:
    if fit.method != "saem" or fit.status == "stopped":
        return []
    out = []
    if "not at a maximum" in fit.message:
        why = "It is stuck where variances are too small to move: starting values nearer the data free it."
        out.append(Remedy(why, "Guess", "guess"))
        if FOCEI().refusal(fit.problem) is None:
            why = "FOCEI follows the slope that the chains do not feel."
            out.append(Remedy(why, "Fit by FOCEI", "fit", {"method": "focei"}))
    if "still drifting" in fit.message:
        explored = int((fit.iterations["~phase"] == "explore").sum())
        why = f"A parameter was still drifting after {explored} exploring iterations: start again from where it is."
        out.append(Remedy(why, "Start there", "take"))
    if "needs more" in fit.message:
        why = "Its Monte Carlo error is above the aim: smoothing on averages more."
        out.append(Remedy(why, "Smooth on", "resume"))
        chains = int(fit.options.get("chains", 0))
        why = "More chains per subject make every iteration less noisy."
        out.append(Remedy(why, "More chains", "fit", {"method": "saem", "chains": max(_FEW_CHAINS, 2 * chains)}))
    return out


def remedies_of_refusal(message: str, method: str) -> tuple[Remedy, ...]:
    """Return what may be done where a fit could not begin or failed with a message.

    Examples
    --------
    >>> said = "SAEM simulates random effects and this model has none; use method='focei'."
    >>> remedies_of_refusal(said, "saem")[0].label
    'Fit by FOCEI'
    """
    other = re.search(r"use method='(\w+)'", message)
    if other and other[1] != method:
        why = "The message names a method that treats this model."
        return (Remedy(why, f"Fit by {other[1].upper()}", "fit", {"method": other[1]}),)
    idle = re.search(r"The parameter (\S+) cannot influence any observation", message)
    if idle:
        return (Remedy(f"Without influence {idle[1]} cannot be estimated.", f"Fix {idle[1]}", "fix", {idle[1]: None}),)
    if "not a number" in message or "not finite" in message or "not a finite" in message:
        return (Remedy("The model cannot be evaluated at these starting values; others may do.", "Guess", "guess"),)
    return ()


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
