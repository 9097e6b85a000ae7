"""Where each fit of a session came from, and what two of them differ in."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.code import model_code
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.fit.compare import why_not_comparable
from nlmewidgets.fit.criteria import lrt
from nlmewidgets.fit.nesting import nesting
from nlmewidgets.fit.result import Fit
from nlmewidgets.methods.marginal import Approximation

__all__ = ["Difference", "data_words", "difference", "origins"]

_SAME = 1e-9
"""Relative difference of values that are the same, rounding aside."""
_OFV = "~ofv"


def origins(fits: Sequence[Fit]) -> list[str]:
    """Return in words where each fit began: at the estimates of an earlier one, where another began, or elsewhere.

    Values tell it, to nine digits, the latest earlier fit first; fits are numbered from 1.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8))
    >>> one = model.fit(data, "fo")
    >>> origins([one, one.model.fit(data, "focei"), model.fit(data, "focei")])
    ['own values', 'estimates of 1', 'start of 1']
    """
    return [_origin(fits, k) for k in range(len(fits))]


def _origin(fits: Sequence[Fit], k: int) -> str:
    own = fits[k]
    start = own.start.space.to_dict(own.start.values)
    earlier = list(enumerate(fits[:k], 1))[::-1]
    for number, other in earlier:
        if _goes_on(other, own):
            return f"goes on from {number}"
    for number, other in earlier:
        found = other.estimates.to_dict()
        shared = [n for n in start if n in found]
        if shared and 2 * len(shared) >= len(start) and _same(start, found, shared):
            return f"estimates of {number}" + ("" if len(shared) == len(start) else " where shared")
    for number, other in earlier[::-1]:
        found = other.start.space.to_dict(other.start.values)
        if set(found) == set(start) and _same(start, found, list(start)):
            return f"start of {number}"
    return "own values"


def _same(one: dict[str, float], two: dict[str, float], names: Sequence[str]) -> bool:
    return all(math.isclose(one[n], two[n], rel_tol=_SAME, abs_tol=1e-300) for n in names)


def _goes_on(before: Fit, after: Fit) -> bool:
    """Whether the history of a fit begins with that of another."""
    n = len(before.iterations)
    if before.method != after.method or len(after.iterations) <= n or n < 2 or before.start.names != after.start.names:
        return False
    a, b = (fit.iterations[_OFV].to_numpy(dtype=float)[: n - 1] for fit in (before, after))
    return np.array_equal(a, b, equal_nan=True) and after.elapsed > before.elapsed


def data_words(fit: Fit) -> str:
    """Return what a fit leaves out of its data, in a few words."""
    complete, now = fit.data.complete, fit.problem.data
    every = list(pd.unique(complete["ID"]))
    gone = [i for i in every if i not in set(now.ids)]
    left = complete[complete["ID"].isin(now.ids)]
    observed = (left["EVID"].to_numpy() == 0) & left["DV"].notna().to_numpy() & (left["MDV"].to_numpy() == 0)
    fewer = int(observed.sum()) - now.n_obs
    parts = []
    if gone:
        parts.append(f"ID {', '.join(map(str, gone[:3]))}" + (f" and {len(gone) - 3} others" if len(gone) > 3 else ""))
    if fewer > 0:
        parts.append(f"{fewer} observation{'s' if fewer > 1 else ''}")
    return f"without {' and '.join(parts)}" if parts else "all"


@dataclass(frozen=True, eq=False)
class Difference:
    """Two fits side by side.

    Attributes
    ----------
    facts : DataFrame
        Method, options that differ, data, status, number of parameters, OFV and criteria, seconds; as words.
    estimates : DataFrame
        By parameter: first, second, change, and the change in standard errors of the first ('SEs', where asked for).
    code : tuple of str
        Lines of the declaration that differ, with '-' or '+' before them; initial values aside.
    verdict : str
        What the objectives say, or why they say nothing.
    """

    facts: pd.DataFrame
    estimates: pd.DataFrame
    code: tuple[str, ...]
    verdict: str


def difference(one: Fit, two: Fit, *, errors: bool = True) -> Difference:
    """Return what two fits differ in.

    Parameters
    ----------
    one, two : Fit
    errors : bool
        Whether changes are told in standard errors of the first too; these take a while.
    """
    a, b = one.estimates, two.estimates
    names = list(dict.fromkeys([*a.index, *b.index]))
    table = pd.DataFrame({"first": a.reindex(names), "second": b.reindex(names)})
    table["change"] = table["second"] - table["first"]
    if errors:
        try:
            se = one.se.reindex(names)
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
            se = pd.Series(np.nan, index=names)
        table["SEs"] = table["change"] / se.where(se > 0)
    table.index.name = "parameter"
    verdict, comparable = _verdict(one, two)
    return Difference(_facts(one, two, comparable), table, _code(one, two), verdict)


def _facts(one: Fit, two: Fit, comparable: bool) -> pd.DataFrame:
    options = [n for n in dict.fromkeys([*one.options, *two.options]) if one.options.get(n) != two.options.get(n)]

    def column(fit: Fit) -> dict[str, str]:
        shown = {"method": fit.method.upper(), "data": data_words(fit), "status": fit.status}
        shown["subjects, observations"] = f"{fit.n_subjects}, {fit.n_obs}"
        if fit.method == (two if fit is one else one).method:
            shown |= {n: str(fit.options.get(n, "–")) for n in options}
        shown["parameters"] = str(fit.n_parameters)
        shown[f"OFV{'' if one.ofv_by == two.ofv_by else ' by its own method'}"] = f"{fit.ofv:.3f}"
        if comparable:
            shown |= {"AIC": f"{fit.aic:.2f}", "BIC": f"{fit.bic:.2f}"}
        return shown | {"iterations": str(len(fit.iterations) - 1), "seconds": f"{fit.elapsed:.2f}"}

    table = pd.DataFrame({"first": column(one), "second": column(two)})
    changes: dict[str, str] = {}
    if comparable:
        changes = {
            "OFV": f"{two.ofv - one.ofv:+.3f}",
            "AIC": f"{two.aic - one.aic:+.2f}",
            "BIC": f"{two.bic - one.bic:+.2f}",
            "parameters": f"{two.n_parameters - one.n_parameters:+d}",
        }
    table["change"] = [changes.get(str(name), "") for name in table.index]
    table.index.name = "fit"
    return table


def _verdict(one: Fit, two: Fit) -> tuple[str, bool]:
    """Return what the objectives say, and whether criteria of the fits' own objectives may be compared."""
    why = why_not_comparable([one, two])
    if why is not None:
        return why, False
    same = one.method == two.method and isinstance(one.estimator, Approximation) and one.options == two.options
    if not same:
        return "Objectives of different methods or options are not comparable; 'One scale' computes −2 log L.", False
    for small, large, first in ((one, two, True), (two, one, False)):
        found = nesting(small, large)
        if found is None:
            continue
        test = lrt(small.loglik, large.loglik, len(found.extra), found.boundary)
        smaller, larger = ("first", "second") if first else ("second", "first")
        if test.statistic < -0.1:
            return f"The {larger} contains the {smaller} and fits worse: it is not at its minimum; resume it.", True
        return (
            f"The {smaller} is a special case of the {larger} ({', '.join(found.extra)}): likelihood ratio "
            f"{test.statistic:.2f}, {test.reference}, p = {test.p:.2g}."
        ), True
    if one.n_parameters == two.n_parameters and not _code(one, two):
        return "Both are of the same model: the lower OFV is the better minimum.", True
    return "Neither is told to be a special case of the other, so there is no test; AIC and BIC can be compared.", True


def _code(one: Fit, two: Fit) -> tuple[str, ...]:
    """Return the lines of the declarations that differ where initial values do not."""
    numbers: dict[str, Any] = one.start.space.to_dict(one.start.values)
    second = two.start
    with contextlib.suppress(NlmeError):  # not a covariance together with what is not shared
        second = second.with_values({n: numbers[n] for n in second.names if n in numbers})
    lines = difflib.ndiff(model_code(one.start).splitlines(), model_code(second).splitlines())
    return tuple(f"{line[0]} {line[2:].strip()}" for line in lines if line[:2] in ("- ", "+ ") and line[2:].strip())
