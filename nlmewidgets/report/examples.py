"""Fits of shipped data, one of each kind, for the gallery."""

from __future__ import annotations

import sympy as sp

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import covariate, theta, time
from nlmewidgets.datasets import load
from nlmewidgets.fit import Fit
from nlmewidgets.fit.run import fit as run
from nlmewidgets.library.likelihood import Bernoulli, Event, Poisson
from nlmewidgets.library.pk_iv import iv_1cpt
from nlmewidgets.library.pk_oral import oral_1cpt
from nlmewidgets.library.residual import Additive

__all__ = ["classes", "counts", "events", "phenobarbital", "theophylline"]


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


def classes() -> Fit:
    """Return a fit of classes: whether a patient had fewer than three seizures in a week."""
    data = load("counts")
    records = data.records.assign(DV=(data.records["DV"] < 3).astype(float))
    few = type(data).from_frame(records[["ID", "TIME", "DV", "TRT"]], units={"TIME": "weeks"})
    odds = sp.Symbol("odds", positive=True)
    share = odds * sp.exp(theta("b_TRT", 0.5) * covariate("TRT"))
    model = Model({"y": Bernoulli(share / (1 + share))}, {odds: LogNormal(0.3, sd=1.0)}, name="Few seizures")
    return run(model, few, "laplace")


def events() -> Fit:
    """Return a fit of times to relapse, by treatment."""
    rate, shape = sp.symbols("rate shape", positive=True)
    risk = sp.exp(theta("b_TRT", -0.5) * covariate("TRT"))
    cumulative = (rate * time) ** shape * risk
    model = Model(
        {"y": Event(hazard=shape * rate * (rate * time) ** (shape - 1) * risk, cumulative=cumulative)},
        {rate: LogNormal(0.03), shape: LogNormal(1.2)},
        name="Time to relapse",
    )
    return run(model, load("time_to_event"), "laplace")
