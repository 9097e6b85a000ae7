r"""Inter-occasion variability: random effects κ ~ N(0, Π) drawn anew for each occasion of a subject.

The random effects of a subject become one vector: the etas, then the kappas of its first occasion, of its
second, and so on up to the largest number of occasions any subject has.  A slot with kappas gets one more
slot per occasion, switched by an indicator that is 1 in the parameter blocks of that occasion,

.. math:: s = m + B\,\eta + \sum_o 1[\mathrm{occ} = o]\; s_o, \qquad s_o = B_\kappa\,\kappa_o ,

so every structure differentiates along constant slots and knows nothing of occasions, also where the state
carries what one occasion did into the next.  The covariance of the vector is block-diagonal with Π repeated.
An occasion that a subject does not have enters nothing but its own prior, which integrates to one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.slots import SlotForm
from nlmewidgets.core.symbols import Reserved

__all__ = ["Occasions"]


@dataclass(frozen=True, eq=False)
class Occasions:
    """The occasions of every subject, and what they make of the random effects.

    Attributes
    ----------
    between, within : int
        Random effects per subject (etas), and per occasion (kappas).
    number : (records,) int
        The occasion of each record, counted from 0 within its subject in order of appearance.
    count : (subjects,) int
        How many occasions each subject has.
    labels : tuple
        OCC of every occasion, subjects in turn.
    """

    between: int
    within: int
    number: Ints
    count: Ints
    labels: tuple[object, ...]

    @classmethod
    def of(cls, data: Data, between: int, within: int) -> Occasions:
        """Return the occasions of the data by their OCC column; without kappas there is nothing to look up."""
        n = data.n_subjects
        if not within:
            return cls(between, 0, np.zeros(len(data), dtype=np.intp), np.zeros(n, dtype=np.intp), ())
        occ, subject = data.records["OCC"].to_numpy(), data.record_subject
        number = np.empty(len(occ), dtype=np.intp)
        count = np.empty(n, dtype=np.intp)
        labels: list[object] = []
        for i, rows in enumerate(np.split(np.arange(len(occ)), np.flatnonzero(np.diff(subject)) + 1)):
            seen: dict[object, int] = {}
            number[rows] = [seen.setdefault(label, len(seen)) for label in occ[rows].tolist()]
            count[i] = len(seen)
            labels += seen
        return cls(between, within, number, count, tuple(labels))

    # ------------------------------------------------------------------- sizes

    @cached_property
    def most(self) -> int:
        """The largest number of occasions of a subject; 0 without kappas."""
        return int(self.count.max(initial=0))

    @property
    def n_eta(self) -> int:
        """Random effects of a subject: etas and the kappas of all occasions."""
        return self.between + self.within * self.most

    @cached_property
    def source(self) -> Ints:
        """Which eta or kappa of the model each random effect of a subject is a draw of, (etas,) int."""
        within = np.tile(np.arange(self.between, self.between + self.within), self.most)
        return np.concatenate([np.arange(self.between), within]).astype(np.intp)

    @cached_property
    def copy(self) -> Ints:
        """The occasion of each random effect, −1 for those of the subject, (etas,) int."""
        within = np.repeat(np.arange(self.most), self.within)
        return np.concatenate([np.full(self.between, -1), within]).astype(np.intp)

    @cached_property
    def present(self) -> Array:
        """1 where a subject has the occasion of a random effect, 0 elsewhere, (etas, subjects) float."""
        return (self.copy[:, None] < self.count).astype(float)

    @cached_property
    def draws(self) -> Array:
        """Number of draws behind each element of Omega, (model's, model's): subjects, or occasions of all."""
        draws = np.full((self.between + self.within,) * 2, float(len(self.count)))
        draws[self.between :, self.between :] = float(self.count.sum())
        return draws

    def drawn(self, eta: Array, effect: int) -> tuple[Array, Ints]:
        """Return all draws of one eta or kappa of the model, with the subject of each: (draws,), (draws,)."""
        rows = np.flatnonzero(self.source == effect)
        subject, copy = np.nonzero(self.present[rows].T)
        return eta[rows[copy], subject], subject

    # ------------------------------------------------------------ what it makes

    @cached_property
    def symbols(self) -> tuple[sp.Symbol, ...]:
        """The indicators of the occasions, inputs of the parameter blocks."""
        return tuple(Reserved(f"occasion {o + 1}", real=True) for o in range(self.most))  # type: ignore[misc]

    @property
    def columns(self) -> list[Array]:
        """The indicators at each record."""
        return [(self.number == o).astype(float) for o in range(self.most)]

    def form(self, form: SlotForm) -> SlotForm:
        """Return the slot form along the random effects of a subject."""
        if not self.within:
            return form
        q, blank = self.between, (0.0,) * self.n_eta
        items: list[tuple[sp.Symbol, sp.Expr, tuple[float, ...]]] = []
        copies: list[list[tuple[sp.Symbol, sp.Expr, tuple[float, ...]]]] = [[] for _ in range(self.most)]
        switched: dict[sp.Symbol, sp.Expr] = {}
        for symbol, typical, row in zip(form.symbols, form.typical, form.loadings, strict=True):
            items.append((symbol, typical, (*row[:q], *blank[q:])))
            if not any(row[q:]):
                continue
            total: sp.Expr = symbol
            for o, indicator in enumerate(self.symbols):
                own = sp.Symbol(f"{symbol.name} in occasion {o + 1}", real=True)
                start = q + o * self.within
                loading = (*blank[:start], *row[q:], *blank[start + self.within :])
                copies[o].append((own, sp.S.Zero, loading))
                total = total + indicator * own
            switched[symbol] = total
        fixed = [item for item in items if not any(item[2])]
        random = [item for item in items if any(item[2])]
        ordered = [*random, *(item for group in copies for item in group), *fixed]
        symbols, typical, loadings = zip(*ordered, strict=True) if ordered else ((), (), ())
        parameters = {s: e.xreplace(switched) for s, e in form.parameters.items()}
        return replace(form, symbols=symbols, typical=typical, loadings=loadings, parameters=parameters)

    def expand(self, omega: Array) -> Array:
        """Return the covariance of a subject's random effects from that of the model's."""
        if not self.within:
            return omega
        same = self.copy[:, None] == self.copy
        return np.where(same, omega[np.ix_(self.source, self.source)], 0.0)

    def collapse(self, matrix: Array) -> Array:
        """Return sums over the copies of each element of Omega, (..., model's, model's): the transpose of `expand`."""
        if not self.within:
            return matrix
        q, w = self.between, self.within
        out = np.zeros((*matrix.shape[:-2], q + w, q + w))
        out[..., :q, :q] = matrix[..., :q, :q]
        for o in range(self.most):
            part = slice(q + o * w, q + (o + 1) * w)
            out[..., q:, q:] += matrix[..., part, part]
        return out
