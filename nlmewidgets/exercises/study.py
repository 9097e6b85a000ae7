"""A study with known truth, simulated for a lesson."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model

__all__ = ["study"]


def study(
    model: Model,
    times: Sequence[float],
    *,
    dose: float = 0.0,
    subjects: int = 50,
    covariates: Mapping[str, Sequence[float]] | None = None,
    seed: int = 1,
) -> Data:
    """Return data simulated from a model with one output: the truth behind them are its values.

    Parameters
    ----------
    model : Model
    times : sequence of float
        When every subject is observed.
    dose : float
        Given to each at time 0; 0: none.
    subjects : int
    covariates : mapping of str to (subjects,) float, optional
        A number per subject.
    seed : int

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> truth = nw.library.iv_bolus_1cpt(CL=nw.LogNormal(3, sd=0.3), V=30, residual=nw.Proportional(0.1))
    >>> nw.exercises.study(truth, times=(1, 4, 12), dose=100, subjects=20)
    Data: 20 subjects, 60 observations, 20 doses
    """
    at = ([0.0] if dose else []) + [float(t) for t in times]
    given = ([True] if dose else []) + [False] * len(times)
    table = pd.DataFrame(
        {
            "ID": np.repeat(np.arange(1, subjects + 1), len(at)),
            "TIME": np.tile(at, subjects),
            "AMT": np.where(np.tile(given, subjects), dose, 0.0),
            "EVID": np.tile(given, subjects).astype(int),
            "DV": np.where(np.tile(given, subjects), np.nan, 0.0),
        }
    )
    for name, values in (covariates or {}).items():
        table[name] = np.repeat(np.asarray(values, dtype=float), len(at))
    observed = table["EVID"] == 0
    table.loc[observed, "DV"] = model.simulate(Data.from_frame(table), seed=seed)["DV"].to_numpy()
    return Data.from_frame(table)
