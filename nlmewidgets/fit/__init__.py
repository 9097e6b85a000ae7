"""Fitting: the loop, its result, and the result's file."""

from nlmewidgets.fit.result import Fit
from nlmewidgets.fit.run import Run, fit, fit_async, stream, time_left
from nlmewidgets.fit.store import load_fit

__all__ = ["Fit", "Run", "fit", "fit_async", "load_fit", "stream", "time_left"]
