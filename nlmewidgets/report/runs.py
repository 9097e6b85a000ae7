"""Several fits on one page: which is better, by how much, for whom, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import iofv_difference, notes
from nlmewidgets.fit import Fit
from nlmewidgets.fit.compare import Comparison, compare
from nlmewidgets.pictures import PICTURES
from nlmewidgets.report.page import equation_lines, mathematics, number, page, table, write

__all__ = ["runs"]

_BESIDE = ("observed-predicted", "vpc")


def runs(
    fits: Comparison | Mapping[str, Fit] | Iterable[Fit],
    path: str | Path,
    *,
    title: str = "Comparison of fits",
    pictures: Sequence[str] = _BESIDE,
) -> Path:
    """Write a report of several fits as one HTML file and return its path.

    It holds the fits on one −2 log L scale with likelihood-ratio tests, their estimates side by side with changes
    against the first fit given, the subjects that prefer one to the other, what differs in the equations, and pictures
    side by side.

    Parameters
    ----------
    fits : Comparison, mapping of name to Fit, or Fits
        As for `nlmewidgets.compare`.
    path : path
    title : str
    pictures : sequence of str
        Names in `nlmewidgets.pictures.PICTURES`.

    Raises
    ------
    NlmeError
        If the fits cannot be compared, a picture is not known, or the file cannot be written.
    """
    for name in pictures:
        if name not in PICTURES:
            raise NlmeError(f"There is no picture '{name}'; there are {', '.join(PICTURES)}.")
    comparison = fits if isinstance(fits, Comparison) else compare(fits)
    named = dict(comparison.fits)
    lead = "".join(f"<p class='alert'>{escape(note)}</p>" for note in comparison.notes)
    lead += "".join(
        f"<p class='alert'><b>{escape(name)}.</b> {escape(note)}</p>"
        for name, fit in named.items()
        for note in notes(fit)
    )
    sections = [
        ("fits", "Fits on one scale", _fits(comparison)),
        ("estimates", "Estimates", _estimates(named)),
        ("equations", "Equations that differ", _equations(named)),
        ("subjects", "Who prefers which", _subjects(named)),
        ("pictures", "Pictures side by side", "".join(_beside(named, name) for name in pictures)),
    ]
    return write(path, page(title, sections, lead))


def _fits(comparison: Comparison) -> str:
    text = "<p>−2LL is by the same integral for all fits; dAIC and weights are by it.</p>"
    text += table(comparison.table.round({"OFV": 3, "-2LL": 3, "error": 3, "weight": 3, "dAIC": 2}), digits=6)
    if len(comparison.tests):
        text += "<h3>Likelihood-ratio tests of nested models</h3>" + table(comparison.tests, index=False)
    return text


def _estimates(named: Mapping[str, Fit]) -> str:
    first = next(iter(named.values())).estimates
    columns: dict[str, pd.Series] = {}
    for k, (name, fit) in enumerate(named.items()):
        columns[name] = fit.estimates
        columns["SE" + "\u200b" * k] = fit.se  # columns of one name need something unseen between them
        if k:
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["change %" + "\u200b" * k] = 100.0 * (fit.estimates / first.reindex(fit.estimates.index) - 1.0)
    order = list(dict.fromkeys(p for fit in named.values() for p in fit.estimates.index))
    text = f"<p>Changes are against {escape(next(iter(named)))}; a dash is a parameter that a model does not have.</p>"
    return text + table(pd.DataFrame(columns).reindex(order))


def _equations(named: Mapping[str, Fit]) -> str:
    lines = {name: equation_lines(fit.start) for name, fit in named.items()}
    shared = set.intersection(*map(set, lines.values()))
    if all(set(own) == shared for own in lines.values()):
        return "<p>The models have the same equations.</p>"
    out = ""
    for name, fit in named.items():
        own = mathematics(fit.start, only=[line for line in lines[name] if line not in shared])
        out += f"<h3>{escape(name)}</h3>" + (own or "<p class='soft'>Nothing that the others do not have.</p>")
    return out


def _subjects(named: Mapping[str, Fit]) -> str:
    (first, one), *others = named.items()
    out = ""
    for name, fit in others:
        out += f"<h3>{escape(name)} against {escape(first)}</h3>"
        try:
            found = iofv_difference(one, fit)
        except NlmeError as error:
            out += f"<p class='soft'>{escape(str(error))}</p>"
            continue
        better = int((found["difference"] < 0).sum())
        total = float(found["difference"].sum())
        out += (
            f"<p>−2 log L changes by {number(total)}; {better} of {len(found)} subjects prefer {escape(name)}. The "
            "largest changes, and what the sum would be without the subject:</p>"
        )
        shown = found.head(8).rename(columns={"one": first, "two": name})
        out += table(shown)
    return out


def _beside(named: Mapping[str, Fit], name: str) -> str:
    picture, cells = PICTURES[name], ""
    for run, fit in named.items():
        try:
            body = picture(fit).svg
        except NlmeError as error:
            body = f"<p class='soft'>Not drawn: {escape(str(error))}</p>"
        cells += f"<div><p><b>{escape(run)}</b></p>{body}</div>"
    return (
        f"<figure><h3>{escape(picture.title)}</h3><div class='beside'>{cells}</div><figcaption><b>Reading.</b> "
        f"{escape(picture.read)} <b>Beware.</b> {escape(picture.misleads)}</figcaption></figure>"
    )
