"""Which observations have correlated residuals: two outputs of a subject, measured at the same time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.grid import runs
from nlmewidgets.core.observation import Observation
from nlmewidgets.core.pairs import PairGroup, pair_program
from nlmewidgets.core.parameters import Parameter

if TYPE_CHECKING:
    from nlmewidgets.core.data import Data
    from nlmewidgets.core.model import Model

__all__ = ["correlation_parameters", "pair_groups"]


def correlation_parameters(
    declared: Any, observations: Mapping[str, Observation], blq: str
) -> dict[tuple[str, str], Parameter]:
    """Return the parameter of each pair of outputs in residual_correlation=.

    Raises
    ------
    ModelError
        If a key is not a pair of normal outputs, or a number is no correlation.
    """
    if declared is None:
        return {}
    if not isinstance(declared, Mapping):
        raise ModelError(
            'residual_correlation= is not a mapping of pairs of outputs to numbers, e.g. {("cp", "pca"): 0.3}.'
        )
    out: dict[tuple[str, str], Parameter] = {}
    for pair, value in declared.items():
        if not (isinstance(pair, tuple) and len(pair) == 2 and pair[0] != pair[1]):
            raise ModelError(f"residual_correlation= has the key {pair!r}; a key is a pair of outputs.")
        for name in pair:
            if name not in observations:
                raise ModelError(
                    f"residual_correlation= names '{name}', which is no output; there are {', '.join(observations)}."
                )
            if any(name in other for other in out):
                raise ModelError(
                    f"residual_correlation= has '{name}' in two pairs; an output is correlated with one other at most."
                )
            if observations[name].sd is None:
                raise ModelError(f"The residual of '{name}' is not normal and has no correlation; leave the pair out.")
        if blq == "M4":
            raise ModelError("residual_correlation= and blq='M4' do not go together; use blq='M3'.")
        label = f"rho_{pair[0]}_{pair[1]}"
        number = role._finite("The", f"residual correlation of {pair[0]} and {pair[1]}", value)
        if not -1 < number < 1:
            raise ModelError(
                f"The residual correlation of {pair[0]} and {pair[1]} is {number:g}; a correlation is between -1 and 1."
            )
        out[pair[0], pair[1]] = Parameter(label, number, -1.0, 1.0)
    return out


def pair_groups(model: Model, data: Data, output: Ints, covariates: Mapping[sp.Symbol, Array]) -> tuple[PairGroup, ...]:
    """Return the pairs of each two correlated outputs.

    Raises
    ------
    DataError
        If an output has several observations at a time of the other, or a member of a pair is censored.
    """
    if not model.residual_correlation:
        return ()
    sigmas = tuple(role.plain_sigma(p.name, p.lower) for p in model.space.sigma)
    names = [p.name for p in model.space.sigma]
    outputs = list(model.outputs)
    stretch = runs(data.records, data.record_subject)[data.observed]
    found = pd.DataFrame({"stretch": stretch, "time": data.time, "output": output, "row": np.arange(data.n_obs)})
    groups = []
    for pair, name in model.residual_correlation.items():
        one, two = (found[found["output"] == outputs.index(o)] for o in pair)
        joined = one.merge(two, on=["stretch", "time"], suffixes=("_1", "_2"))
        rows = (joined["row_1"].to_numpy(np.intp), joined["row_2"].to_numpy(np.intp))
        for place, own in zip(pair, rows, strict=True):
            _refuse_repeats(data, own, pair, place)
            _refuse_censored(data, own, pair, place)
        if not len(rows[0]):
            continue
        own_covariates = [
            tuple(s for s in covariates if s in model.observations[o].atoms(role.Covariate)) for o in pair
        ]
        columns = [covariates[s][r] for used, r in zip(own_covariates, rows, strict=True) for s in used]
        program = pair_program(
            model.observations[pair[0]],
            model.observations[pair[1]],
            sigmas[names.index(name)],
            sigmas,
            (own_covariates[0], own_covariates[1]),
        )
        y = (data.dv[rows[0]], data.dv[rows[1]])
        groups.append(PairGroup(program, rows, y, (data.time[rows[0]], *columns), names.index(name)))
    return tuple(groups)


def _other(pair: tuple[str, str], name: str) -> str:
    return pair[1] if name == pair[0] else pair[0]


def _refuse_repeats(data: Data, rows: Ints, pair: tuple[str, str], name: str) -> None:
    # A member of two pairs means two observations of the other output at its time.
    values, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        i = int(values[counts > 1][0])
        raise DataError(
            f"Subject {data.ids[data.subject[i]]} has {counts.max()} observations of '{_other(pair, name)}' at TIME "
            f"{data.time[i]:g}; a residual correlation with '{name}' needs one of each at a time: average them, or "
            "shift the time of those that are no pair."
        )


def _refuse_censored(data: Data, rows: Ints, pair: tuple[str, str], name: str) -> None:
    censored = rows[data.cens[rows] != 0]
    if censored.size:
        i = int(censored[0])
        raise DataError(
            f"The observation of '{name}' of subject {data.ids[data.subject[i]]} at TIME {data.time[i]:g} is censored; "
            f"a residual correlation with '{_other(pair, name)}' needs measured ones: leave out the record, or the "
            "correlation."
        )
