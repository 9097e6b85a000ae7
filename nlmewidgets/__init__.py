"""An exploratory environment for nonlinear mixed-effects models, in JupyterLab.

>>> import nlmewidgets as nw
>>> nw.datasets.load("theophylline")
Data: 12 subjects, 132 observations, 12 doses; covariates WT, DOSE
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlmewidgets import datasets, diagnostics, exercises, library, methods, pictures, report, studies
from nlmewidgets.core import priors
from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import BoxCoxNormal, LogitNormal, LogNormal, Normal, ProbitNormal, StudentLogNormal
from nlmewidgets.core.effects import (
    allometric,
    category,
    exponential,
    hockey_stick,
    linear,
    maturation,
    power,
    saturation,
)
from nlmewidgets.core.errors import DataError, MethodError, ModelError, NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.special import ExpMix, expit, ndtr, ndtri
from nlmewidgets.core.symbols import covariate, dose, dv, eta, f, level, sigma, states, theta, time
from nlmewidgets.core.system import Route
from nlmewidgets.core.tails import log_ndtr, log_ndtr_between
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.fit import Comparison, Fit, aic, bic, bicc, compare, fit_async, load_fit, lrt, stream
from nlmewidgets.library.likelihood import Bernoulli, Categorical, Event, LogLikelihood, NegativeBinomial, Poisson
from nlmewidgets.library.residual import (
    Additive,
    BoxCoxError,
    Combined,
    Combined1,
    LogNormalError,
    Power,
    Proportional,
    Student,
    TransformBothSides,
)
from nlmewidgets.methods import Iteration
from nlmewidgets.studies import Multistart, multistart

if TYPE_CHECKING:
    from pathlib import Path

    from nlmewidgets.panels.explore import Explorer
    from nlmewidgets.panels.look import DataLook
    from nlmewidgets.panels.startpage import StartPage

__version__ = "0.1.0"

__all__ = [
    "Additive",
    "Bernoulli",
    "BoxCoxError",
    "BoxCoxNormal",
    "Categorical",
    "Combined",
    "Combined1",
    "Comparison",
    "Data",
    "DataError",
    "Event",
    "ExpMix",
    "Fit",
    "Iteration",
    "LogLikelihood",
    "LogNormal",
    "LogNormalError",
    "LogitNormal",
    "MethodError",
    "Model",
    "ModelError",
    "Multistart",
    "NegativeBinomial",
    "NlmeError",
    "Normal",
    "Poisson",
    "Power",
    "ProbitNormal",
    "Problem",
    "Proportional",
    "Route",
    "Student",
    "StudentLogNormal",
    "TransformBothSides",
    "Tolerance",
    "aic",
    "allometric",
    "bic",
    "bicc",
    "category",
    "compare",
    "covariate",
    "datasets",
    "diagnostics",
    "dose",
    "dv",
    "eta",
    "exercises",
    "expit",
    "explore",
    "exponential",
    "f",
    "fit_async",
    "hockey_stick",
    "level",
    "library",
    "linear",
    "load_fit",
    "log_ndtr",
    "log_ndtr_between",
    "look",
    "lrt",
    "maturation",
    "methods",
    "multistart",
    "open",
    "ndtr",
    "ndtri",
    "pictures",
    "power",
    "priors",
    "saturation",
    "report",
    "sigma",
    "states",
    "stream",
    "studies",
    "theta",
    "time",
]


def explore(
    model: Model | None = None, data: Data | None = None, *, workspace: str | Path | bool | None = None, **options: Any
) -> Explorer | StartPage:
    """Return the environment: sliders over the data, fits to watch, and panels to judge them.

    Needs the extra ``lab`` (ipywidgets, bqplot); importing them waits until here.

    Parameters
    ----------
    model, data : optional
        Without them, the start page: upload a file, choose a structure by search and picture, start.
    workspace : path or True, optional
        A JSON file, or the one beside the notebook, that everything is kept in and restored from after a restart of
        the kernel: sliders, method, selection, fits, the last iterate of a running one.  With the name of one alone,
        ``nw.explore(workspace="study.json")``, its own model and data are opened.
    **options
        As for `nlmewidgets.panels.explore.Explorer`.
    """
    try:
        from nlmewidgets.panels.explore import Explorer
        from nlmewidgets.panels.startpage import StartPage
        from nlmewidgets.panels.workspace import default_path, model_and_data
    except ModuleNotFoundError as error:
        raise _lab_missing("explore()", error) from None
    if model is None and workspace:
        path = default_path() if workspace is True else workspace
        model, kept = model_and_data(path)
        return Explorer(model, kept if data is None else data, workspace=workspace, **options)
    if model is None or data is None:
        return StartPage(data=data, model=model, workspace=workspace, **options)
    return Explorer(model, data, workspace=workspace, **options)


def open(link: str, data: Data | None = None, **options: Any) -> Explorer:
    """Return the environment in the state of a link made by ``explorer.link()``.

    The link is parsed, never evaluated; its size is limited.  It holds no data: where these are neither shipped nor
    at the path they had, give them.

    Parameters
    ----------
    link : str
    data : Data, optional

    Raises
    ------
    NlmeError
        If the link is damaged, or its data are not here.
    """
    try:
        from nlmewidgets.panels.explore import Explorer
        from nlmewidgets.panels.session import from_link
    except ModuleNotFoundError as error:
        raise _lab_missing("open()", error) from None
    return from_link(link, data, Explorer, **options)  # type: ignore[no-any-return]


def look(data: Data, **options: Any) -> DataLook:
    """Return a widget to look at data: profiles, covariates, summary, non-compartmental analysis.

    Needs the extra ``lab`` (ipywidgets, bqplot); importing them waits until here.
    """
    try:
        from nlmewidgets.panels.look import DataLook
    except ModuleNotFoundError as error:
        raise _lab_missing("look()", error) from None
    return DataLook(data, **options)


def _lab_missing(who: str, error: ModuleNotFoundError) -> ImportError:
    return ImportError(f"{who} needs '{error.name}': install the extra with pip install nlmewidgets[lab].")
