"""The report of a fit: everything a reviewer asks for, in one file that opens anywhere."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import covariate_tests, influence, notes, outlying_observations, outlying_subjects
from nlmewidgets.diagnostics.shrinkage import HIGH_SHRINKAGE
from nlmewidgets.fit import Fit
from nlmewidgets.fit.display import criteria, headline, shrinkage_by_parameter
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.identifiability import directions
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.pictures import PICTURES
from nlmewidgets.report.page import facts, mathematics, page, table, write

__all__ = ["report"]

_PACKAGES = ("nlmewidgets", "numpy", "scipy", "pandas", "sympy")


def report(
    fit: Fit,
    path: str | Path,
    *,
    title: str = "",
    pictures: Sequence[str] | None = None,
    progress: Callable[[float], object] | None = None,
) -> Path:
    """Write a report of a fit as one HTML file and return its path.

    Parameters
    ----------
    fit : Fit
    path : path
    title : str, optional
    pictures : sequence of str, optional
        Names in `nlmewidgets.pictures.PICTURES`; without, all that apply to this fit and need no refits.
    progress : callable, optional
        Called with the share of the work done.

    Raises
    ------
    NlmeError
        If a picture is not known, or the file cannot be written.
    """
    chosen = [n for n, p in PICTURES.items() if not p.slow] if pictures is None else list(pictures)
    for name in chosen:
        if name not in PICTURES:
            raise NlmeError(f"There is no picture '{name}'; there are {', '.join(PICTURES)}.")
    tell = progress or (lambda share: None)
    sections = [
        ("model", "Model", _model(fit)),
        ("data", "Data", _data(fit)),
        ("estimates", "Estimates", _estimates(fit)),
    ]
    drawn = []
    for k, name in enumerate(chosen):
        tell((k + 1) / (len(chosen) + 2))
        drawn.append(_picture(fit, name))
    sections += [
        ("diagnostics", "Diagnostics", "".join(drawn)),
        ("covariates", "Covariates", _covariates(fit)),
        ("subjects", "Influential subjects", _subjects(fit)),
        ("outliers", "Outliers", _outliers(fit)),
        ("provenance", "Provenance", _provenance(fit)),
    ]
    tell(1.0)
    text = page(title or headline(fit), sections, _lead(fit))
    return write(path, text)


def _lead(fit: Fit) -> str:
    mark = "" if fit.converged else " class='alert'"
    text = f"<p{mark}>{escape(fit.message)}</p>"
    text += "".join(f"<p class='alert'>{escape(note)}</p>" for note in notes(fit))
    for i, why in fit.excluded.items():
        text += f"<p class='alert'>Subject {escape(str(i))} is left out: {escape(why)}</p>"
    return text


def _model(fit: Fit) -> str:
    code = f"<details><summary>As code</summary><pre>{escape(fit.model.to_code())}</pre></details>"
    return mathematics(fit.start) + code


def _data(fit: Fit) -> str:
    shown = fit.data.describe()
    text = facts(shown.study.to_dict())
    if len(shown.outputs):
        text += "<h3>Outputs</h3>" + table(shown.outputs)
    if len(shown.covariates):
        text += "<h3>Covariates</h3>" + table(shown.covariates)
    for heading, lines in (("Left out", shown.left_out), ("How the records were read", shown.notes)):
        if lines:
            text += f"<h3>{heading}</h3><ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"
    return text


def _estimates(fit: Fit) -> str:
    space = fit.start.space
    frame = space.table()[["kind", "value", "fixed"]].rename(columns={"value": "initial"})
    frame.insert(2, "estimate", fit.estimates)
    frame.insert(3, "SE", fit.se)
    frame.insert(4, "RSE %", fit.rse)
    intervals = fit.intervals()
    frame.insert(5, "2.5 %", intervals["lower"].reindex(frame.index))
    frame.insert(6, "97.5 %", intervals["upper"].reindex(frame.index))
    frame.insert(7, "shrinkage %", shrinkage_by_parameter(fit))
    text = facts(criteria(fit)) + table(frame)
    text += f"<p class='soft'>Shrinkage of epsilon: {100 * fit.shrinkage['epsilon']:.1f} %. Omegas and sigmas are "
    text += "standard deviations; intervals are made where the parameters are unbounded and carried back.</p>"
    correlation = _correlation(fit)
    if len(correlation) > 1:
        text += "<h3>Correlation of the estimates</h3>" + table(correlation, digits=2)
    if weak := directions(fit.start.space, _information(fit)):
        text += "<h3>What the data say least about</h3><ul>"
        text += "".join(f"<li>{100 * share:.0f} % of the uncertainty: {escape(words)}</li>" for share, words in weak)
        text += "</ul>"
    return text


def _correlation(fit: Fit) -> pd.DataFrame:
    cov = fit.cov
    sd = np.sqrt(np.diag(cov))
    kept = [name for name, value in zip(cov.index, sd, strict=True) if np.isfinite(value) and value > 0]
    part = cov.loc[kept, kept]
    own = np.sqrt(np.diag(part))
    return part / np.outer(own, own) if kept else pd.DataFrame()


def _information(fit: Fit) -> Array:
    """Return the covariance that tells directions apart: the sandwich of few subjects is too noisy for it."""
    if "posterior" in fit.arrays:
        return fit.uncertainty.matrix
    try:
        return fit.uncertainty_by("R").matrix
    except NlmeError:
        return fit.uncertainty.matrix


def _picture(fit: Fit, name: str) -> str:
    picture = PICTURES[name]
    try:
        # Beyond 30 % shrinkage EBEs mislead: draws are shown instead.
        shrunk = "samples" in picture.options and bool((fit.shrinkage.drop("epsilon") > HIGH_SHRINKAGE).any())
        drawing = picture(fit, **({"samples": True} if shrunk else {}))
    except NlmeError as error:
        return f"<h3>{escape(picture.title)}</h3><p class='soft'>Not drawn: {escape(str(error))}</p>"
    return (
        f"<figure><h3>{escape(picture.title)}</h3>{drawing.svg}<figcaption><b>Reading.</b> {escape(picture.read)} "
        f"<b>Beware.</b> {escape(picture.misleads)}</figcaption></figure>"
    )


def _covariates(fit: Fit) -> str:
    if not fit.start.space.between or not fit.data.covariates:
        return ""
    tests = covariate_tests(fit.problem, fit.values, fit.etas.T)
    if not len(tests):
        return ""
    shown = tests[["eta", "covariate", "n", "effect", "se", "p", "worth", "ebe_p", "shrinkage", "note"]]
    return (
        "<p>What each covariate would be worth as an effect on each random effect, before refitting: 'worth' is the "
        "fall of −2 log L; p is given the effects on the other random effects and keeps its level under shrinkage, "
        "ebe_p does not.</p>" + table(shown, index=False)
    )


def _subjects(fit: Fit) -> str:
    for method in (fit.estimator, *(METHODS[name]() for name in ("focei", "laplace"))):
        if isinstance(method, Approximation) and method.refusal(fit.problem) is None:
            break
    else:
        return ""
    try:
        found = influence(fit.problem, fit.values, method, fit.etas.T)
    except NlmeError as error:
        return f"<p class='soft'>{escape(str(error))}</p>"
    text = "<p>The ten whose absence would move the estimates most, by one Newton step, and the estimates without.</p>"
    return text + table(found.nlargest(10, "cook"))


def _outliers(fit: Fit) -> str:
    """Return what the model would hardly have made, by p values adjusted for looking at many."""
    if fit.problem.normal_rows.any():
        found = outlying_observations(fit)
        text = (
            "<p>Observations: the model would have made one as far off in fewer than one of twenty data sets.</p>"
            + table(found.head(20), index=False)
            if len(found)
            else "<p>Observations: none that the model would not have made.</p>"
        )
    else:
        text = ""
    try:
        worst = outlying_subjects(fit, n=200)
    except NlmeError as error:
        return text + f"<p class='soft'>Subjects: {escape(str(error))}</p>"
    far = worst[worst["p_adjusted"] < 0.05]
    if not len(far):
        return text + "<p>Subjects: none whose part of the objective the model would not have made.</p>"
    return (
        text + "<p>Subjects: their part of the objective beside that of data simulated from the model.</p>" + table(far)
    )


def _provenance(fit: Fit) -> str:
    rows = {
        "method": f"{fit.method} ({', '.join(f'{k}={v}' for k, v in fit.options.items())})",
        "seed": fit.seed,
        "status": f"{fit.status}, {len(fit.iterations) - 1} iterations, {fit.elapsed:.2f} s",
        "data fingerprint (SHA-256)": fit.data.fingerprint,
        "data origin": ", ".join(f"{k}: {v}" for k, v in fit.data.origin.items()),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
    }
    for package in _PACKAGES:
        try:
            rows[package] = version(package)
        except PackageNotFoundError:
            rows[package] = "unknown"
    return facts(rows)
