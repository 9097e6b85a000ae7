"""What a structure is bound to: a model's expressions, the data, and the parameter blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.slots import SlotForm

if TYPE_CHECKING:
    from nlmewidgets.core.model import Model

__all__ = ["Binding"]


@dataclass(frozen=True, eq=False)
class Binding:
    """A model, data, and how records fall into parameter blocks.

    Attributes
    ----------
    model, form, data
        The declaration, its slots, the records.
    covariates : tuple of Symbol
        The covariates the model uses, and the indicators of its occasions.
    values : tuple of (blocks,) float
        Their values.
    block_of_record : (records,) int
    rows_of_outputs : tuple of (int, (m,) int or None)
        Number of each observed output, and its observations; None: all.
    """

    model: Model
    form: SlotForm
    data: Data
    covariates: tuple[sp.Symbol, ...]
    values: tuple[Array, ...]
    block_of_record: Ints
    rows_of_outputs: tuple[tuple[int, Ints | None], ...]

    @property
    def outputs(self) -> tuple[tuple[sp.Expr, Ints | None], ...]:
        """Expression of each observed output, free of removable singularities, and its observations (None: all)."""
        expressions = tuple(self.model.stable_outputs.values())
        return tuple((expressions[k], rows) for k, rows in self.rows_of_outputs)

    @property
    def block_of_obs(self) -> Ints:
        """Parameter block of each observation."""
        return self.block_of_record[self.data.observed]

    @property
    def last(self) -> Array:
        """Return 1 at each subject's last observation of an output, 0 elsewhere, (obs,)."""
        out = np.zeros(self.data.n_obs)
        for _, rows in self.rows_of_outputs:
            own = np.arange(self.data.n_obs) if rows is None else rows
            out[own] = np.diff(self.data.subject[own], append=-1) != 0
        return out

    @property
    def previous(self) -> Ints | None:
        """Return the observation whose prediction is taken off each one's, −1 for none; None where none is."""
        observations = list(self.model.observations.values())
        if not any(o.increments for o in observations):
            return None
        out = np.full(self.data.n_obs, -1, dtype=np.intp)
        for k, rows in self.rows_of_outputs:
            if observations[k].increments:
                own = np.arange(self.data.n_obs) if rows is None else rows
                follows = np.flatnonzero(np.diff(self.data.subject[own]) == 0)
                out[own[follows + 1]] = own[follows]
        return out

    def in_slots(self, expr: sp.Expr) -> sp.Expr:
        """Return an expression of parameters as one of slots and covariates."""
        return expr.xreplace(self.form.parameters)

    def used(self, *expressions: sp.Expr) -> tuple[tuple[sp.Symbol, ...], tuple[Array, ...]]:
        """Return the covariates that occur in expressions of slots, and their values."""
        pairs = [
            (s, v) for s, v in zip(self.covariates, self.values, strict=True) if any(e.has(s) for e in expressions)
        ]
        return tuple(s for s, _ in pairs), tuple(v for _, v in pairs)
