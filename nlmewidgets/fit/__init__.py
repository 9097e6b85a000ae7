"""Fitting: the loop, its result, the result's file, and results side by side."""

from nlmewidgets.fit.compare import Comparison, compare
from nlmewidgets.fit.criteria import LikelihoodRatio, aic, akaike_weights, bic, bicc, lrt
from nlmewidgets.fit.prior_predictive import prior_predictive as _prior_predictive  # noqa: F401 - fills VERBS
from nlmewidgets.fit.result import Fit
from nlmewidgets.fit.run import Run, fit, fit_async, stream, time_left
from nlmewidgets.fit.store import load_fit

__all__ = [
    "Comparison",
    "Fit",
    "LikelihoodRatio",
    "Run",
    "aic",
    "akaike_weights",
    "bic",
    "bicc",
    "compare",
    "fit",
    "fit_async",
    "load_fit",
    "lrt",
    "stream",
    "time_left",
]
