"""What each subject contributes to −2 log L."""

from __future__ import annotations

import pandas as pd

from nlmewidgets.core.errors import MethodError, NlmeError
from nlmewidgets.fit import Fit
from nlmewidgets.fit.compare import why_not_comparable
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.importance import evaluate_importance
from nlmewidgets.methods.marginal import Approximation

__all__ = ["iofv", "iofv_difference"]


def iofv(fit: Fit, by: str | None = None) -> pd.Series:
    r"""Return each subject's contribution to the objective, NONMEM's OBJ of the .phi file (OBJI of a table).

    .. math:: \mathrm{OFV} = \sum_i \mathrm{iOFV}_i

    Parameters
    ----------
    fit : Fit
    by : str, optional
        An approximation ("fo", "focei", "laplace", "agq", "agq, 15 nodes", "imp" …); what gave `fit.ofv` without it.

    Returns
    -------
    Series
        By ID of the subjects used. Two fits can be compared subject by subject if `by` is the same.

    Raises
    ------
    MethodError
        If `by` evaluates no contributions, or does not treat the data.
    """
    name, _, nodes = (fit.ofv_by if by is None else by).partition(", ")
    if name == "imp":
        found = evaluate_importance(fit.problem, fit.values, start=fit.etas.T).per_subject
        return pd.Series(found, index=pd.Index(fit.problem.data.ids, name="ID"), name="iOFV")
    cls = METHODS.get(name)
    if cls is None or not issubclass(cls, Approximation):
        have = ", ".join(repr(n) for n, c in METHODS.items() if issubclass(c, Approximation))
        raise MethodError(f"by={name!r} gives no contributions of subjects; take one of {have} or 'imp'.")
    # "agq, 9 nodes" is how a fit says what its objective was found with.
    options = {"nodes": int(nodes.split()[0])} if nodes else dict(fit.options) if name == fit.method else {}
    method = cls(**options)
    why = method.refusal(fit.problem)
    if why is not None:
        raise MethodError(why)
    found = method.evaluate(fit.problem, fit.values, fit.etas.T).per_subject
    return pd.Series(found, index=pd.Index(fit.problem.data.ids, name="ID"), name="iOFV")


def iofv_difference(one: Fit, two: Fit, by: str | None = None) -> pd.DataFrame:
    r"""Return by how much each subject prefers one of two fits: :math:`\mathrm{iOFV}_2 - \mathrm{iOFV}_1`.

    Parameters
    ----------
    one, two : Fit
        Of the same observations.
    by : str, optional
        What computes both, see `iofv`; without, what gave the objectives if it is the same, else 'laplace'.

    Returns
    -------
    DataFrame
        By ID, the largest change first: one, two, difference (negative: the second fits the subject better), without
        (the difference of −2 log L of all others: a change of sign means that this subject alone decides).

    Raises
    ------
    NlmeError
        If the fits cannot be compared, with the reason.
    """
    if (why := why_not_comparable([one, two])) is not None:
        raise NlmeError(why)
    name = by or _common(one.ofv_by, two.ofv_by)
    table = pd.DataFrame({"one": iofv(one, name), "two": iofv(two, name)})
    table["difference"] = table["two"] - table["one"]
    table["without"] = table["difference"].sum() - table["difference"]
    return table.loc[table["difference"].abs().sort_values(ascending=False, kind="stable").index]


def _common(one: str, two: str) -> str:
    """Return what both objectives can be computed by: of two quadratures the finer, else Laplace."""
    if one == two:
        return one
    grids = [by.removeprefix("agq, ").split()[0] for by in (one, two) if by.startswith("agq, ")]
    return f"agq, {max(map(int, grids))} nodes" if len(grids) == 2 else "laplace"
