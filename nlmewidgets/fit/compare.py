r"""Fits side by side on one scale of −2 log L, with criteria and likelihood-ratio tests.

The objectives of different methods cannot be compared; the yardstick, −2 log L by quadrature or importance sampling at
each fit's estimates, can.  Only fits to the same observations, measured in the same way, are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import Covariate, Eta, Theta
from nlmewidgets.core.verbs import VERBS
from nlmewidgets.fit.criteria import aic, akaike_weights, bic, bicc, lrt
from nlmewidgets.fit.nesting import Nesting, nesting
from nlmewidgets.fit.result import Fit
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.methods.yardstick import Yardstick

__all__ = ["Comparison", "compare", "parameter_counts", "why_not_comparable"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Fits on one scale.

    Attributes
    ----------
    table : DataFrame
        A row per fit, best AIC first: method, its own OFV, −2LL with error and how it was computed, k, AIC, BIC (ln
        subjects), BICc, dAIC, weight, status.
    tests : DataFrame
        A row per pair of nested models: smaller, larger, statistic, df, reference, p, by.
    notes : tuple of str
        What to know before using them.
    fits : mapping of name to Fit
        As they were given.
    """

    table: pd.DataFrame
    tests: pd.DataFrame
    notes: tuple[str, ...] = ()
    fits: Mapping[str, Fit] = field(default_factory=dict, repr=False)

    def report(self, path: str | Path, **options: Any) -> Path:
        """Write the comparison with estimates, equations and pictures side by side as one HTML file.

        See `nlmewidgets.report.runs`.
        """
        return VERBS["runs"](self, path, **options)  # type: ignore[no-any-return]

    def to_frame(self) -> pd.DataFrame:
        """Return the table of fits."""
        return self.table.copy()

    def __repr__(self) -> str:
        parts = [_shown(self.table).to_string()]
        if len(self.tests):
            parts.append("Nested models\n" + _shown(self.tests).to_string(index=False))
        return "\n\n".join([*parts, *self.notes])

    def _repr_html_(self) -> str:
        tests = "<b>Nested models</b>" + _shown(self.tests).to_html(index=False) if len(self.tests) else ""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        return f"<div>{_shown(self.table).to_html()}{tests}{notes}</div>"


_FORMATS = {"p": "{:.2g}", "weight": "{:.3f}", "error": "{:.2g}", "statistic": "{:.2f}"}


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    out = table.copy()
    for column in out:
        if out[column].dtype.kind == "f":
            pattern = _FORMATS.get(str(column), "{:.3f}" if column in ("OFV", "-2LL") else "{:.2f}")
            out[column] = ["" if pd.isna(v) else pattern.format(v) for v in out[column]]
    return out


def compare(
    fits: Mapping[str, Fit] | Iterable[Fit],
    *others: Fit,
    error: float = 0.05,
    seed: int = 0,
    nested: Sequence[tuple[str, str]] | None = None,
    boundary: Mapping[tuple[str, str], int] | None = None,
) -> Comparison:
    """Return fits in a table on one −2 log L scale, with criteria and likelihood-ratio tests.

    Parameters
    ----------
    fits : mapping of name to Fit, or Fits
        Names default to the model's name or number, and the method.
    error : float
        Aim of the error of −2 log L.
    seed : int
        Of importance sampling, where quadrature cannot be afforded.
    nested : sequence of (smaller, larger), optional
        Names of nested fits; by default they are found by their parameters.
    boundary : mapping of (smaller, larger) to int, optional
        How many variances the smaller one sets to zero, for pairs given in `nested` that cannot be told.

    Raises
    ------
    NlmeError
        If the fits are not of the same observations measured in the same way, with the reason.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> fits = {name: model.fit(data, name) for name in ("fo", "focei")}
    >>> table = nw.compare(fits).table
    >>> table["-2LL"].round(2).tolist(), int(table["k"].iloc[0])  # linear in eta: every method is exact
    ([263.14, 263.14], 5)
    """
    named = _named(fits, others)
    reason = why_not_comparable(list(named.values()))
    if reason is not None:
        raise NlmeError(reason)
    sticks = {name: fit.yardstick(error=error, seed=seed) for name, fit in named.items()}
    table = _table(named, sticks)
    tests, notes = _tests(named, sticks, nested, boundary or {})
    open_ended = [name for name, fit in named.items() if not fit.converged]
    if open_ended:
        notes.append(f"Not converged: {', '.join(open_ended)}; their −2LL may still fall.")
    notes += [f"{name}: {stick.message}" for name, stick in sticks.items() if stick.message]
    return Comparison(table, tests, tuple(notes), named)


def _named(fits: Mapping[str, Fit] | Iterable[Fit], others: tuple[Fit, ...]) -> dict[str, Fit]:
    if isinstance(fits, Mapping):
        found = {str(k): v for k, v in fits.items()}
        listed: list[Fit] = []
    else:
        found, listed = {}, [fits] if isinstance(fits, Fit) else list(fits)
    models: list[Model] = []
    for fit in [*listed, *others]:
        if not isinstance(fit, Fit):
            raise NlmeError(f"compare() takes fits, as model.fit() returns them; it got {fit!r}.")
        if not any(fit.start is m for m in models):
            models.append(fit.start)
        number = next(k for k, m in enumerate(models) if m is fit.start) + 1
        base = f"{fit.start.name or f'model {number}'}, {fit.method}"
        same = sum(n == base or n.startswith(base + " (") for n in found)
        found[base if not same else f"{base} ({same + 1})"] = fit
    wrong = next((v for v in found.values() if not isinstance(v, Fit)), None)
    if not found or wrong is not None:
        raise NlmeError(f"compare() takes fits, as model.fit() returns them; it got {wrong!r}.")
    return found


# --------------------------------------------------------------------------- legitimate?


def why_not_comparable(fits: Sequence[Fit]) -> str | None:
    """Return in one sentence why the likelihoods of these fits cannot be compared; None if they can."""
    first = fits[0]
    for other in fits[1:]:
        reason = (
            _other_subjects(first, other)
            or _other_observations(first, other)
            or _other_measure(first, other)
            or _other_priors(first, other)
        )
        if reason:
            return reason
    return None


def _other_subjects(one: Fit, two: Fit) -> str | None:
    if one.data.ids == two.data.ids and set(one.excluded) != set(two.excluded):
        odd = sorted(set(one.excluded) ^ set(two.excluded), key=str)
        which = ", ".join(map(str, odd[:5])) + (" …" if len(odd) > 5 else "")
        return (
            f"The fits left out different subjects ({which} in one only), so their likelihoods are of different data; "
            "fit both to data.exclude() of these subjects."
        )
    return None


def _other_observations(one: Fit, two: Fit) -> str | None:
    a, b = one.problem.data, two.problem.data
    if a.n_obs != b.n_obs or list(a.ids) != list(b.ids):
        return (
            f"The fits are of different data ({a.n_subjects} subjects with {a.n_obs} observations, {b.n_subjects} with "
            f"{b.n_obs}); likelihoods of different data cannot be compared: fit both models to the same."
        )
    same = np.array_equal(a.subject, b.subject) and np.array_equal(a.time, b.time) and list(a.dvid) == list(b.dvid)
    if not same:
        return "The fits are of observations of different subjects, times or kinds (DVID); fit both to the same data."
    if not (np.array_equal(a.cens, b.cens) and np.array_equal(a.limit, b.limit, equal_nan=True)):
        return "The fits treat different observations as censored (CENS, LIMIT); fit both to the same data."
    if np.array_equal(a.dv, b.dv):
        return None
    with np.errstate(all="ignore"):
        for small, large, first in ((a.dv, b.dv, True), (b.dv, a.dv, False)):
            if np.allclose(np.log(large), small, rtol=1e-6, atol=1e-6):
                which = "first" if first else "other"
                return (
                    f"The DV of the {which} fit is the logarithm of that of the other: densities of y and of log y are "
                    "not on one scale; keep DV as measured and use residual=LogNormalError(sd) instead."
                )
    ratio = a.dv[b.dv != 0] / b.dv[b.dv != 0]
    if len(ratio) and np.allclose(ratio, ratio[0], rtol=1e-9):
        return (
            f"The DV of one fit is {ratio[0]:.6g} times that of the other: densities of y in different units are not "
            "on one scale; fit both to DV in the same unit."
        )
    return "The fits have different DV: a transformed response or other data; fit both models to the same DV."


def _other_measure(one: Fit, two: Fit) -> str | None:
    measures = []
    for fit in (one, two):
        own = [fit.start.observations[name] for name in fit.start.outputs]
        measures.append([own[k].values is not None for k in fit.problem.output])
    if measures[0] != measures[1]:
        return (
            "One fit gives some observations a probability (a discrete likelihood), the other a density: these are not "
            "on one scale; compare their predictions instead."
        )
    return None


def _other_priors(one: Fit, two: Fit) -> str | None:
    a, b = dict(one.start.priors), dict(two.start.priors)
    if a == b:
        return None
    if bool(a) != bool(b):
        return (
            "One fit has priors and the other none: its estimates do not maximise the likelihood, so criteria and "
            "tests do not apply; fit both without priors."
        )
    return "The fits have different priors, so neither maximises the likelihood alone; fit both with the same or none."


# ------------------------------------------------------------------------------- tables


def parameter_counts(model: Model) -> tuple[int, int]:
    """Return how many estimated parameters count as random and as fixed for BICc.

    Random are variances, correlations, and covariate effects on parameters that have a random effect; fixed are typical
    values, other covariate effects and residual parameters, as in Monolix.
    """
    space = model.space
    effects: set[str] = set()
    for value in model.parameters.values():
        if isinstance(value, Distribution):
            varies = any(getattr(value, name, 0) for name in ("sd", "scale", "iov"))
            effects |= {s.name for s in sp.sympify(value.effect).atoms(Theta)} if varies else set()
        elif value.atoms(Eta):
            for theta in value.atoms(Theta):
                if value.diff(theta).atoms(Covariate) and value.subs(theta, 0) != 0:
                    effects.add(theta.name)
    thetas = [p.name for p in space.theta if not p.fixed]
    random = len(space.omega_map.entries[0]) + sum(name in effects for name in thetas)
    return random, len(space.x_names) - random


def _table(named: dict[str, Fit], sticks: dict[str, Yardstick]) -> pd.DataFrame:
    rows = {}
    for name, fit in named.items():
        stick = sticks[name]
        full = stick.ofv + fit.problem.n_normal * math.log(2.0 * math.pi)
        loglik, k = -0.5 * full, fit.n_parameters
        random, fixed = parameter_counts(fit.start)
        rows[name] = {
            "method": fit.method,
            "OFV": fit.ofv,
            "-2LL": full,
            "error": stick.error,
            "by": stick.by,
            "k": k,
            "AIC": aic(loglik, k),
            "BIC": bic(loglik, k, fit.n_subjects),
            "BICc": bicc(loglik, random, fixed, fit.n_subjects, fit.n_obs),
            "status": fit.status,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.insert(9, "dAIC", table["AIC"] - table["AIC"].min())
    table.insert(10, "weight", akaike_weights(table["AIC"].to_numpy()))
    table.index.name = "fit"
    return table.sort_values("AIC", kind="stable")


def _tests(
    named: dict[str, Fit],
    sticks: dict[str, Yardstick],
    declared: Sequence[tuple[str, str]] | None,
    boundary: Mapping[tuple[str, str], int],
) -> tuple[pd.DataFrame, list[str]]:
    pairs: list[tuple[str, str, Nesting]] = []
    if declared is not None:
        for small, large in declared:
            for name in (small, large):
                if name not in named:
                    raise NlmeError(f"nested= names '{name}', which is no fit here; there are {', '.join(named)}.")
            found = nesting(named[small], named[large])
            df = named[large].n_parameters - named[small].n_parameters
            if df < 1:
                raise NlmeError(f"'{small}' does not have fewer parameters than '{large}'; they cannot be nested.")
            b = boundary.get((small, large), 0 if found is None else found.boundary)
            pairs.append((small, large, Nesting(("",) * df, b)))
    else:
        for small, one in named.items():
            for large, two in named.items():
                own = nesting(one, two) if small != large and one.method == two.method else None
                if own is not None:
                    pairs.append((small, large, own))
    rows, notes = [], []
    for small, large, own in pairs:
        one, two = named[small], named[large]
        # A method's own objective is on one scale with itself, and the estimates are at its minimum.
        same = one.method == two.method and isinstance(one.estimator, Approximation) and one.options == two.options
        if same:
            lower, upper, by = one.loglik, two.loglik, one.ofv_by
        else:
            constant = one.problem.n_normal * math.log(2.0 * math.pi)
            lower, upper = (-0.5 * (sticks[n].ofv + constant) for n in (small, large))
            by = "-2LL"
        test = lrt(lower, upper, len(own.extra), own.boundary)
        rows.append(
            {
                "smaller": small,
                "larger": large,
                "statistic": test.statistic,
                "df": test.df,
                "reference": test.reference,
                "p": test.p,
                "by": by,
            }
        )
        if test.statistic < -max(0.1, 2 * (0.0 if same else sticks[small].error + sticks[large].error)):
            notes.append(
                f"'{large}' fits worse than '{small}', which it contains: it is not at its maximum; resume it."
            )
    columns = ["smaller", "larger", "statistic", "df", "reference", "p", "by"]
    return pd.DataFrame(rows, columns=columns), notes
