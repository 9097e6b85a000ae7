r"""What a sampling design will tell: standard errors and shrinkage before there are data.

The standard errors are those of the expected information of a model made linear in its random effects, of one subject
times the number of subjects; shrinkage that of `diagnostics.design`.  Two designs are compared by the D-criterion,

.. math:: \mathrm{efficiency} = (|M_1| / |M_2|)^{1/p} ,

which is the same on every scale of the p parameters: 0.5 means that the first needs twice the subjects.

References
----------
Mentré, Mallet & Baccar (1997), doi:10.1093/biomet/84.2.429.
Atkinson, Donev & Tobias (2007), Optimum Experimental Designs, with SAS (the D-criterion).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.design import predicted_shrinkage
from nlmewidgets.methods.identifiability import identified
from nlmewidgets.methods.information import expected_information
from nlmewidgets.methods.natural import natural
from nlmewidgets.methods.uncertainty import Uncertainty

__all__ = ["Precision", "efficiency", "precision", "sampling_design"]


def sampling_design(
    data: Data,
    subject: Any,
    times: Sequence[float] | Array,
    *,
    dose: float | None = None,
    outputs: Sequence[Any] | None = None,
) -> Data:
    """Return a subject with its doses and covariates, observed at other times.

    Parameters
    ----------
    data : Data
    subject
        ID of whose doses, covariates and occasions are taken.
    times : (times,) float
        When every output is observed.
    dose : float, optional
        The amount of its first dose; the others, and rates, change in proportion.
    outputs : sequence of DVID, optional
        Those observed; all without it.

    Raises
    ------
    DataError
        If there are no times, or a dose is asked for where there is none or it is no positive number.
    """
    if not len(times) or not np.isfinite(times).all():
        raise DataError("A design needs at least one sampling time, and all of them numbers.")
    one = data.subset([subject])
    if dose is not None:
        dosed = np.flatnonzero(one.dosed)
        if not len(dosed) or not (math.isfinite(dose) and dose > 0):
            raise DataError(
                f"A dose of {dose:g} cannot be given to ID {subject}: it needs a dose record, and a number > 0."
            )
        factor = dose / float(one.records["AMT"].to_numpy()[dosed[0]])
        rate = one.records["RATE"].to_numpy(dtype=float)
        scaled = {"AMT": one.records["AMT"] * factor, "RATE": np.where(rate > 0, rate * factor, rate)}
        one = replace(one, records=one.records.assign(**scaled), base=None, exclusions=())
    return one.on_grid(times=np.array(times, dtype=float), dvid=None if outputs is None else list(outputs))


@dataclass(frozen=True, eq=False)
class Precision:
    """What a design will tell.

    Attributes
    ----------
    table : DataFrame
        By estimated parameter: value, se, rse (per cent); NaN for what the design does not identify.
    shrinkage : DataFrame
        By eta, see `predicted_shrinkage`; empty where it cannot be predicted.
    log_det : float
        Of the information of all subjects along the unconstrained coordinates; −inf where it is singular.
    n_parameters, n_subjects, n_obs : int
        n_obs: of one subject.
    message : str
        What the design does not identify, or why there are no standard errors.
    """

    table: pd.DataFrame
    shrinkage: pd.DataFrame
    log_det: float
    n_parameters: int
    n_subjects: int
    n_obs: int
    message: str = ""
    notes: tuple[str, ...] = field(default=())


def precision(
    problem: Problem, values: Values, subjects: int = 1, *, full: bool = True, draws: int = 100, scale: str = "sd"
) -> Precision:
    """Return the standard errors and shrinkage to expect of a design.

    Parameters
    ----------
    problem : Problem
        The model on the design of one subject (see `sampling_design`), or of several.
    values : Values
    subjects : int
        How many times it is repeated.
    full : bool
        Whether the variance of the data moves with the typical values too, see `expected_information`.
    draws : int
        Of the random effects, for shrinkage; 0: at zero only.
    scale : {"sd", "variance"}
        Omegas and sigmas as standard deviations, or as variances.

    Raises
    ------
    DataError
        If a prediction of the design is not a number.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> from nlmewidgets.diagnostics.sampling import precision, sampling_design
    >>> data = nw.datasets.load("theophylline")
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> few = precision(model.problem(sampling_design(data, 1, [1, 4, 12])), model.values, 12)
    >>> many = precision(model.problem(sampling_design(data, 1, [1, 4, 12])), model.values, 48)
    >>> bool(np.allclose(many.table["rse"] * 2, few.table["rse"]))  # four times the subjects, half the error
    True
    """
    space = problem.space
    nothing = pd.DataFrame(columns=["value", "se", "rse"], dtype=float)
    n_obs = problem.n_obs // max(problem.n_subjects, 1)
    size = (len(space.x_names), subjects * problem.n_subjects, n_obs)
    with np.errstate(all="ignore"):
        slots = problem.slots(problem.typical(values.theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
        f = problem.predict(slots)
    if not problem.pointwise_rows.any() and not np.isfinite(f).all():
        raise DataError(problem.explain_nonfinite(f, int(problem.data.subject[np.argmin(np.isfinite(f))]), slots))
    notes: tuple[str, ...] = ()
    try:
        shrinkage = predicted_shrinkage(problem, values, n=draws) if problem.n_eta else pd.DataFrame()
    except MethodError as refusal:
        shrinkage, notes = pd.DataFrame(), (str(refusal),)
    why = problem.not_normal(correlated=False)
    if why is None:
        silent = np.flatnonzero(~(problem.residual_sd(f, values.sigma) > 0))
        if len(silent):
            raise DataError(
                f"The residual standard deviation is 0 at TIME {problem.data.time[silent[0]]:g} (a prediction of 0 "
                "under proportional error?); move that sample, or add an additive part."
            )
    else:
        words = f"Standard errors are predicted for normal data, not for {why}; simulate and refit (nw.studies.simest)."
        return Precision(nothing, shrinkage, math.nan, *size, words, notes)
    try:
        matrix = subjects * expected_information(problem, values, full=full)
    except MethodError:
        words = "Standard errors are not predicted for a transform that is estimated; fix its parameter."
        return Precision(nothing, shrinkage, math.nan, *size, words, notes)
    if not np.isfinite(matrix).all():
        raise DataError("The information of this design is not a number; move the samples or change the values.")
    known = identified(space, values, matrix)
    found = Uncertainty(space, values, "expected", "expected", known.inverse, known)
    sign, log_det = np.linalg.slogdet(matrix) if len(matrix) else (1.0, 0.0)
    here = natural(space, values, scale)
    free = np.array([not space.is_fixed(name) for name in space.names], dtype=bool)
    table = pd.DataFrame({"value": here.numbers, "se": found.se_on(scale).to_numpy()}, index=list(here.names))[free]
    table["rse"] = 100.0 * table["se"] / table["value"].abs()
    table.index.name = "parameter"
    usable = sign > 0 and bool(np.isfinite(table["se"]).all())
    return Precision(table, shrinkage, float(log_det) if usable else -math.inf, *size, known.message, notes)


def efficiency(one: Precision, two: Precision) -> float:
    """Return the D-efficiency of a design against another, of the same parameters; NaN where one is singular."""
    if one.n_parameters != two.n_parameters or not (math.isfinite(one.log_det) and math.isfinite(two.log_det)):
        return math.nan
    return math.exp((one.log_det - two.log_det) / one.n_parameters) if one.n_parameters else math.nan
