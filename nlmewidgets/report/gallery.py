"""The gallery: every picture once, of a shipped data set, with how to read it and when it misleads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape

import sympy as sp

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import covariate, time
from nlmewidgets.datasets import load
from nlmewidgets.fit import Fit
from nlmewidgets.fit.run import fit as run
from nlmewidgets.library.likelihood import Poisson
from nlmewidgets.library.pk_iv import iv_1cpt
from nlmewidgets.library.pk_oral import oral_1cpt
from nlmewidgets.library.residual import Additive
from nlmewidgets.pictures import PICTURES
from nlmewidgets.report.page import page

__all__ = ["EXAMPLES", "gallery"]


def theophylline() -> Fit:
    """Return a fit of theophylline."""
    model = oral_1cpt(
        ka=LogNormal(1.5, sd=0.6), CL=LogNormal(2.8, sd=0.3), V=LogNormal(32.0, sd=0.2), residual=Additive(0.7)
    )
    return run(model, load("theophylline"), "focei")


def phenobarbital() -> Fit:
    """Return a fit of phenobarbital without covariates: sparse, with much shrinkage."""
    model = iv_1cpt(CL=LogNormal(0.006, sd=0.5), V=LogNormal(1.4, sd=0.4), residual=Additive(3.0))
    return run(model, load("phenobarbital"), "focei")


def counts() -> Fit:
    """Return a fit of counts, with the effect of treatment."""
    base, effect, onset = sp.symbols("base effect onset", positive=True)
    rate = base * sp.exp(-effect * covariate("TRT") * (1 - sp.exp(-time / onset)))
    parameters = {base: LogNormal(5.0, sd=0.5), effect: LogNormal(0.4, sd=0.4), onset: LogNormal(2.0)}
    model = Model({"y": Poisson(rate)}, parameters, name="Counts under treatment")
    return run(model, load("counts"), "laplace")


EXAMPLES: Mapping[str, tuple[Callable[[], Fit], tuple[str, ...]]] = {
    "Theophylline": (theophylline, tuple(PICTURES)),
    "Phenobarbital, sparse": (phenobarbital, ("eta-distribution", "eta-covariates", "pcvpc", "influence")),
    "Counts": (counts, ("vpc", "npde", "eta-distribution")),
}
"""Name → (a fit, the pictures shown of it)."""


def gallery(examples: Mapping[str, tuple[Callable[[], Fit], tuple[str, ...]]] = EXAMPLES) -> str:
    """Return the page as HTML."""
    sections = []
    for title, (make, names) in examples.items():
        fit = make()
        body = ""
        for name in names:
            drawing = PICTURES[name](fit)
            body += (
                f"<figure><h3>{escape(drawing.title)}</h3><p><code>fit.draw({name!r})</code></p>{drawing.svg}"
                f"<figcaption><b>Reading.</b> {escape(drawing.read)} <b>Beware.</b> {escape(drawing.misleads)}"
                "</figcaption></figure>"
            )
        sections.append((title.split(",")[0].lower(), title, body))
    lead = "<p>What <code>fit.draw(name)</code> makes, how to read it, and when it misleads.</p>"
    return page("Gallery of diagnostics", sections, lead)
