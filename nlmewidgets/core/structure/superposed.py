"""Compartments after one bolus per subject, as the closed form they are, at half the cost."""

from __future__ import annotations

import numpy as np
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.data import Data
from nlmewidgets.core.special import ExpMix
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.doses import states_of

__all__ = ["closed_outputs"]


def closed_outputs(binding: Binding) -> tuple[sp.Expr, ...] | None:
    r"""Return the outputs in time and dose, where a system and its data are simple enough; None elsewhere.

    Simple is: linear without input, empty at the start, doses at once and whole; each subject has at most one
    dose and one parameter block; every state an output uses takes the dose itself, or is fed by the state that does:

    .. math:: e^{A_{jj} t}, \qquad A_{ij}\,t\,M_{00}(-A_{jj} t, -A_{ii} t).
    """
    system, data = binding.model.system, binding.data
    assert system is not None
    parts = system.linear
    if parts is None or any(e != 0 for e in (*parts[1], *system.initial)) or not all(r.plain for r in system.routes):
        return None
    if binding.block_of_record.max(initial=0) + 1 != data.n_subjects or not _one_bolus(data):
        return None
    into = set(states_of(data, system, np.flatnonzero(data.dosed)).tolist()) or {0}
    if len(into) != 1:
        return None
    matrix, dosed = parts[0], into.pop()
    outputs = []
    for expression, _ in binding.outputs:
        if expression.atoms(role.Reserved):
            return None
        total, rest = sp.S.Zero, expression
        for i, state in enumerate(system.states):
            weight = sp.diff(expression, state)
            if weight.atoms(role.State):
                return None
            if weight == 0:
                continue
            content = _content(matrix, i, dosed)
            if content is None:
                return None
            total += weight * role.dose * content
            rest -= weight * state
        if total == 0 or sp.expand(rest) != 0:
            return None
        outputs.append(total)
    return tuple(outputs)


def _one_bolus(data: Data) -> bool:
    """Whether every subject has one plain bolus at most (none at all is refused with its sentence later)."""
    records, dosed = data.records, data.dosed
    odd = data.reset.any() or any((records.loc[dosed, name] != 0).any() for name in ("RATE", "ADDL", "SS"))
    return not odd and bool((np.bincount(data.record_subject[dosed], minlength=1) <= 1).all())


def _content(matrix: sp.Matrix, i: int, j: int) -> sp.Expr | None:
    """Return entry (i, j) of exp(A·t) for a compartment alone, or fed by j alone; None for any other."""
    others = [k for k in range(matrix.rows) if k not in (i, j)]
    if any(matrix[k, j] != 0 and _reaches(matrix, k, (i, j)) for k in others):
        return None
    if i == j:
        return sp.exp(matrix[j, j] * role.time)
    if matrix[j, i] != 0 or any(matrix[k, i] != 0 and _reaches(matrix, k, (i, j)) for k in others):
        return None
    mixture = ExpMix(0, 0, -matrix[j, j] * role.time, -matrix[i, i] * role.time)
    return matrix[i, j] * role.time * mixture


def _reaches(matrix: sp.Matrix, start: int, ends: tuple[int, ...]) -> bool:
    """Whether material of one compartment gets to one of others."""
    seen, pending = {start}, [start]
    while pending:
        k = pending.pop()
        fresh = {m for m in range(matrix.rows) if m not in seen and matrix[m, k] != 0}
        seen |= fresh
        pending += fresh
    return any(e in seen for e in ends)
