"""Which observations share one density: by the output they measure, and by how they are censored."""

from __future__ import annotations

import numpy as np
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.model import Model
from nlmewidgets.core.observation import Group, observation_program

__all__ = ["column_of", "groups_of", "output_of_observations", "rows_of_outputs"]


def output_of_observations(model: Model, data: Data) -> Ints:
    """Return which output each observation measures: DVID is its name or its number, from 1.

    Raises
    ------
    DataError
        Naming the record whose DVID matches no output.
    """
    names = list(model.outputs)
    label = data.dvid
    # One output and one kind of measurement: nothing to tell apart, whatever the data call it.
    if len(names) == 1 and len(set(label.tolist())) <= 1:
        return np.zeros(len(label), dtype=np.intp)
    place = {name: k for k, name in enumerate(names)} | {k + 1: k for k in range(len(names))}
    place |= {str(k + 1): k for k in range(len(names))}
    output = np.array([place.get(x, -1) for x in label.tolist()], dtype=np.intp)
    wrong = np.flatnonzero(output < 0)
    if wrong.size:
        i = int(wrong[0])
        have = ", ".join(f"{k + 1} or {name}" for k, name in enumerate(names))
        raise DataError(
            f"DVID={label[i]} of subject {data.ids[data.subject[i]]} at TIME {data.time[i]:g} (record "
            f"{np.flatnonzero(data.observed)[i] + 1}) matches no output of the model ({have}); add the output to "
            "prediction=, or leave these records out."
        )
    return output


def rows_of_outputs(output: Ints, n: int) -> list[tuple[int, Ints | None]]:
    """Return (output, its observations) of every output observed; None: all observations."""
    if n == 1:
        return [(0, None)]
    found = [(k, np.flatnonzero(output == k)) for k in range(n)]
    return [(k, rows) for k, rows in found if rows.size] or [(0, np.zeros(0, dtype=np.intp))]


def groups_of(
    model: Model, data: Data, rows_of: list[tuple[int, Ints | None]], covariates: dict[sp.Symbol, Array]
) -> tuple[Group, ...]:
    """Return the observations that share one density, with their programs."""
    observations = list(model.observations.values())
    sigmas = tuple(role.plain_sigma(p.name, p.lower) for p in model.space.sigma)
    groups = []
    for k, all_rows in rows_of:
        used = tuple(s for s in covariates if s in observations[k].atoms(role.Covariate))
        columns = (data.dv, data.time, data.limit, *(covariates[s] for s in used))
        for kind, rows in _censoring(data, all_rows):
            if kind and observations[k].score is None:
                raise DataError(_no_interval(model, data, k, all_rows, kind))
            program = observation_program(observations[k].censored(kind, model.blq), sigmas, used)
            y, *rest = columns if rows is None else (column[rows] for column in columns)
            groups.append(Group(program, rows, y, tuple(rest), k, kind))
    return tuple(groups)


def column_of(data: Data, symbol: role.Covariate) -> Array:
    """Return a covariate, or the indicator of one of its levels, at each record."""
    if isinstance(symbol, role.Level):
        return data.indicator(*symbol.details)
    return data.numeric_covariate(symbol.name)


def _censoring(data: Data, rows: Ints | None) -> list[tuple[str, Ints | None]]:
    """Return the rows of each kind: '' measured, 'below' DV, 'above' DV, 'between' DV and LIMIT."""
    cens, known = data.cens, np.isfinite(data.limit)
    if not cens.any():
        return [("", rows)]
    kinds = {"": cens == 0, "below": (cens > 0) & ~known, "above": (cens < 0) & ~known, "between": (cens != 0) & known}
    inside = np.ones(len(cens), dtype=bool)
    if rows is not None:
        inside[:] = False
        inside[rows] = True
    found = [(kind, np.flatnonzero(mask & inside)) for kind, mask in kinds.items()]
    if rows is None and sum(bool(r.size) for _, r in found) == 1:
        return [(kind, None) for kind, r in found if r.size]
    return [(kind, r) for kind, r in found if r.size] or [("", np.zeros(0, dtype=np.intp))]


def _no_interval(model: Model, data: Data, output: int, rows: Ints | None, kind: str) -> str:
    own = np.arange(data.n_obs) if rows is None else rows
    i = int(own[data.cens[own] != 0][0])
    name = list(model.outputs)[output]
    return (
        f"CENS={data.cens[i]} for subject {data.ids[data.subject[i]]} at TIME {data.time[i]:g} (record "
        f"{np.flatnonzero(data.observed)[i] + 1}) asks for the probability of an interval, which the distribution of "
        f"'{name}' does not have; use a normal residual, or leave these records out."
    )
