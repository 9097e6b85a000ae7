"""How a fit shows itself, as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from nlmewidgets.core.default_priors import complete

if TYPE_CHECKING:
    from nlmewidgets.fit.result import Fit

__all__ = ["criteria", "estimate_table", "headline", "html", "shrinkage_by_parameter", "summary", "text"]

_ENDS = {"converged": "converged", "stopped": "stopped early", "limit": "not converged"}


def headline(fit: Fit) -> str:
    """Return the model's name, the method, and how the fit ended."""
    return f"{fit.start.name or 'Model'} by {fit.method.upper()}: {_ENDS.get(fit.status, fit.status)}"


def criteria(fit: Fit) -> list[tuple[str, str]]:
    """Return (what, number as text) of the likelihood and the run."""
    rows = [
        (f"OFV ({fit.ofv_by})", f"{fit.ofv:.4f}"),
        ("−2 log L", f"{-2 * fit.loglik:.4f}"),
        *([("−2 log prior", f"{fit.prior:.4f}")] if fit.start.priors else []),
        ("AIC", f"{fit.aic:.2f}"),
        ("BIC (ln subjects)", f"{fit.bic:.2f}"),
        ("subjects / observations", f"{fit.n_subjects} / {fit.n_obs}"),
        ("iterations, time", f"{len(fit.iterations) - 1}, {fit.elapsed:.2f} s"),
    ]
    if fit.method == "bayes":
        rows += [(f"prior of {name}", words) for name, words in complete(fit.start).words.items()]
    if fit.options.get("explore") is not None or fit.method == "bayes":
        rows.append(("seed", str(fit.seed)))
    return rows


def shrinkage_by_parameter(fit: Fit) -> pd.Series:
    """Return the shrinkage of each random effect in per cent, by the name of its standard deviation."""
    space = fit.start.space
    names = dict(zip(space.eta, space.omega_names, strict=True))
    shrinkage = 100.0 * fit.shrinkage.drop("epsilon")
    return shrinkage.rename(index=names).reindex(list(space.names))


def estimate_table(fit: Fit) -> pd.DataFrame:
    """Return kind, initial, estimate, shrinkage and fixed of every parameter."""
    table = fit.start.space.table()[["kind", "value", "fixed"]].rename(columns={"value": "initial"})
    table.insert(2, "estimate", fit.estimates)
    table.insert(3, "shrinkage %", shrinkage_by_parameter(fit))
    return table


def summary(fit: Fit) -> pd.DataFrame:
    """Return kind, initial, estimate, SE, RSE %, shrinkage % and fixed of every parameter."""
    table = fit.start.space.table()[["kind", "value", "fixed"]].rename(columns={"value": "initial"})
    table["estimate"], table["se"], table["rse_%"] = fit.estimates, fit.se, fit.rse
    table["shrinkage_%"] = shrinkage_by_parameter(fit)
    return table[["kind", "initial", "estimate", "se", "rse_%", "shrinkage_%", "fixed"]]


def text(fit: Fit) -> str:
    """Return the fit in lines of text."""
    lines = [headline(fit), fit.message, ""]
    lines += [f"  {name:<26}{value:>14}" for name, value in criteria(fit)]
    table = estimate_table(fit).to_string(
        float_format=lambda v: f"{v:.4g}", na_rep="", formatters={"fixed": lambda v: "fixed" if v else ""}
    )
    return "\n".join([*lines, "", table])


def html(fit: Fit) -> str:
    """Return the fit as HTML."""
    rows = "".join(
        f"<tr><td style='text-align:left'>{escape(n)}</td><td style='text-align:right'>{escape(v)}</td></tr>"
        for n, v in criteria(fit)
    )
    body = "".join(
        "<tr>"
        f"<th style='text-align:left'>{escape(str(name))}</th><td style='text-align:left'>{row['kind']}</td>"
        f"<td>{row['initial']:.4g}</td><td><b>{row['estimate']:.4g}</b></td>"
        f"<td>{'' if pd.isna(row['shrinkage %']) else format(row['shrinkage %'], '.1f')}</td>"
        f"<td>{'fixed' if row['fixed'] else ''}</td></tr>"
        for name, row in estimate_table(fit).iterrows()
    )
    return (
        f"<div><b>{escape(headline(fit))}</b><br><span>{escape(fit.message)}</span>"
        "<div style='display:flex;gap:2em;flex-wrap:wrap;align-items:flex-start'>"
        "<table><thead><tr><th></th><th></th><th>initial</th><th>estimate</th><th>shrinkage %</th><th></th></tr>"
        f"</thead><tbody>{body}</tbody></table><table><tbody>{rows}</tbody></table></div></div>"
    )
