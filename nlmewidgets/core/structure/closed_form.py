"""Predictions given as an expression in time and dose, summed over past doses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.symbols import dose, time
from nlmewidgets.core.tape import Level, Tape

__all__ = ["ClosedForm", "Program", "split_dose_terms"]


class Program:
    """One expression of slots, covariates, time and dose on a tape, with kernels made on demand.

    Parameters
    ----------
    expression : SymPy expression
    slots : tuple of Symbol
        The directions of differentiation.
    n_random : int
        Second derivatives are taken along (one of the first `n_random` slots, any slot).
    covariates : tuple of Symbol
        Block-level inputs, after the slots.
    """

    def __init__(
        self,
        expression: sp.Expr,
        slots: tuple[sp.Symbol, ...],
        n_random: int,
        covariates: tuple[sp.Symbol, ...],
    ) -> None:
        levels = dict.fromkeys((*slots, *covariates), Level.BLOCK) | dict.fromkeys((time, dose), Level.RECORD)
        self.tape = Tape(levels)
        self.slots = slots
        self.n_random = n_random
        self.value = self.tape.expression(expression)
        self._kernels: dict[int, Kernel] = {}

    def kernel(self, order: int) -> Kernel:
        """Return the kernel giving value, first and second derivatives up to `order`."""
        if order not in self._kernels:
            tape = self.tape
            directions = [tape.inputs[s] for s in self.slots]
            packs: list[Any] = [self.value]
            if order >= 1:
                first = tape.gradient(self.value, directions)
                packs.append(first)
            if order >= 2:
                # ∂²f/∂a∂b from the derivative along the earlier slot: the two orders share one node.
                packs.append(
                    [
                        [tape.derivative(first[min(a, b)], directions[max(a, b)]) for b in range(len(directions))]
                        for a in range(self.n_random)
                    ]
                )
            self._kernels[order] = numpy_kernel(tape, packs)
        return self._kernels[order]


@lru_cache(maxsize=256)
def program(
    expression: sp.Expr, slots: tuple[sp.Symbol, ...], n_random: int, covariates: tuple[sp.Symbol, ...]
) -> Program:
    """Return the (cached) program of an expression."""
    return Program(expression, slots, n_random, covariates)


@lru_cache(maxsize=256)
def split_dose_terms(prediction: sp.Expr) -> tuple[sp.Expr, sp.Expr, bool]:
    """Return (terms without dose, terms with dose, whether these are proportional to it).

    Raises
    ------
    ModelError
        If a term with dose does not vanish at dose = 0: it could not be summed over doses.
    """
    base, given = sp.S.Zero, sp.S.Zero
    linear = True
    for term in sp.Add.make_args(prediction):
        if not term.has(dose):
            base += term
            continue
        if sp.simplify(term.subs(dose, 0)) != 0:
            raise ModelError(
                f"The term {term} of the prediction contains dose but does not vanish at dose = 0; write what does not "
                "depend on the dose as a term of its own."
            )
        linear = linear and not sp.diff(term, dose).has(dose)
        given += term
    return base, given, linear


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """A closed-form prediction bound to observation times and past doses.

    Attributes
    ----------
    base, given : Program or None
        Terms without and with dose.
    time : (obs,) float
        TIME of each observation, for the terms without dose.
    block : (obs,) int or None
        Parameter block of each observation; None where they coincide.
    since, amount : (pairs,) float
        Time since, and amount of, each past dose of each observation.
    pair_block : (pairs,) int
    pair_start : (obs,) int or None
        First pair of each observation; None where every observation has exactly one.
    covariates : tuple of (blocks,) float
    """

    base: Program | None
    given: Program | None
    time: Array
    block: Ints
    since: Array
    amount: Array
    pair_block: Ints
    pair_start: Ints | None
    covariates: tuple[Array, ...]

    @classmethod
    def bind(cls, binding: Binding) -> ClosedForm:
        """Return the closed form of a model for the observations of its data."""
        data, form, block = binding.data, binding.form, binding.block_of_obs
        base, given, linear = split_dose_terms(binding.model.stable_prediction)
        base, given = binding.in_slots(base), binding.in_slots(given)
        symbols, covariates = binding.used(base, given)
        slots, n_random, covariate_symbols = form.symbols, form.n_random, symbols
        since, amount, of_observation, counts = past_doses(data)
        if given != 0:
            if not data.dosed.any():
                raise DataError(
                    "The prediction uses dose, but the data have no dose records; name the amounts with amt=."
                )
            if not linear and counts.max() > 1:
                first = int(np.flatnonzero(counts > 1)[0])
                raise DataError(
                    "The prediction is not proportional to dose and cannot be summed over doses; subject "
                    f"{data.ids[data.subject[first]]} has {counts[first]} doses before TIME {data.time[first]:g}."
                )
        one_each = bool((counts == 1).all())
        return cls(
            program(base, slots, n_random, covariate_symbols) if base != 0 or given == 0 else None,
            program(given, slots, n_random, covariate_symbols) if given != 0 else None,
            data.time,
            block,
            since,
            amount,
            block[of_observation],
            None if one_each else np.concatenate(([0], np.cumsum(counts)[:-1])).astype(np.intp),
            covariates,
        )

    def __call__(self, slots: Array, order: int = 0) -> Jet:
        """Evaluate at slots (slots, ..., blocks); return f (..., obs) and derivatives."""
        jet: Jet | None = None
        batch = slots.shape[1:-1]
        if self.given is not None:
            inputs = (*slots, *self.covariates, self.since, self.amount)
            jet = _run(self.given, order, inputs, self.pair_block, (*batch, len(self.since)))
            if self.pair_start is not None:
                start = self.pair_start
                jet = tuple(None if p is None else np.add.reduceat(p, start, axis=-1) for p in jet)  # type: ignore[assignment]
        if self.base is not None:
            inputs = (*slots, *self.covariates, self.time, _NO_DOSE)
            own = _run(self.base, order, inputs, self.block, (*batch, len(self.time)))
            jet = own if jet is None else _add(jet, own)
        assert jet is not None
        return jet


_NO_DOSE = np.zeros(1)


def _run(program: Program, order: int, inputs: tuple[Array, ...], block: Ints, shape: tuple[int, ...]) -> Jet:
    parts = program.kernel(order)(inputs, block, shape)
    value = parts[0]
    if value is None or np.shape(value) != shape:  # a prediction that does not depend on time or dose
        value = np.broadcast_to(0.0 if value is None else value, shape).copy()
    first = parts[1] if order >= 1 else None
    second = parts[2] if order >= 2 else None
    n_slots = len(program.slots)
    if order >= 1 and first is None:
        first = np.zeros((n_slots, *shape))
    if order >= 2 and second is None:
        second = np.zeros((program.n_random, n_slots, *shape))
    return value, first, second


def _add(a: Jet, b: Jet) -> Jet:
    return tuple(y if x is None else x if y is None else x + y for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def past_doses(data: Data) -> tuple[Array, Array, Ints, Ints]:
    """Return (time since, amount, observation, count per observation) of every past dose.

    A dose is past if its record comes before the observation's.  An observation without one gets a
    single pair of amount 0, which contributes nothing.
    """
    records = data.records
    times, amounts = records["TIME"].to_numpy(), records["AMT"].to_numpy()
    dosed, observed = data.dosed, data.observed
    dose_rows = np.flatnonzero(dosed)
    before: Ints = np.cumsum(dosed)  # doses up to and including each record, over all subjects
    first_record = data._first[data.record_subject]
    at_start: Ints = before[first_record] - dosed[first_record]  # doses of earlier subjects
    first_dose: Ints = at_start[observed]
    counts: Ints = (before - at_start)[observed]
    padded = np.maximum(counts, 1)
    of_observation = np.repeat(np.arange(len(counts)), padded).astype(np.intp)
    within = np.arange(len(of_observation)) - np.repeat(np.cumsum(padded) - padded, padded)
    none = counts[of_observation] == 0
    index = np.where(none, 0, first_dose[of_observation] + within)
    if dose_rows.size:
        rows = dose_rows[index]
        since = np.where(none, 0.0, times[observed][of_observation] - times[rows])
        amount = np.where(none, 0.0, amounts[rows])
    else:
        since, amount = np.zeros(len(of_observation)), np.zeros(len(of_observation))
    return since, amount, of_observation, padded
