"""Predictions given as an expression in time and dose, summed over past doses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.symbols import dose, dv, last, time
from nlmewidgets.core.tape import Level, Tape

__all__ = ["ClosedForm", "PerOutput", "Program", "split_dose_terms"]


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
        levels = dict.fromkeys((*slots, *covariates), Level.BLOCK) | dict.fromkeys((time, dose, dv, last), Level.RECORD)
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
    datum : tuple of (obs,) float
        DV of each observation and whether it is the subject's last, for likelihoods.
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
    datum: tuple[Array, Array]
    block: Ints
    since: Array
    amount: Array
    pair_block: Ints
    pair_start: Ints | None
    covariates: tuple[Array, ...]

    memoryless: ClassVar[bool] = True
    """An observation depends on its own parameter block only: nothing is carried over from earlier ones."""

    @classmethod
    def bind(cls, binding: Binding, prediction: sp.Expr, rows: Ints | None = None) -> ClosedForm:
        """Return the closed form of one output for its observations (`rows`; None: all)."""
        data, form, block = binding.data, binding.form, binding.block_of_obs
        base, given, linear = split_dose_terms(prediction)
        base, given = binding.in_slots(base), binding.in_slots(given)
        symbols, covariates = binding.used(base, given)
        slots, n_random, covariate_symbols = form.symbols, form.n_random, symbols
        since, amount, of_observation, counts = past_doses(data, rows)
        time, subject, datum = data.time, data.subject, (data.dv, binding.last)
        if rows is not None:
            time, subject, block = time[rows], subject[rows], block[rows]
            datum = (datum[0][rows], datum[1][rows])
        if given != 0:
            _refuse_what_is_no_sum(data)
            if not data.dosed.any():
                raise DataError(
                    "The prediction uses dose, but the data have no dose records; name the amounts with amt=."
                )
            if not linear and counts.max(initial=0) > 1:
                first = int(np.flatnonzero(counts > 1)[0])
                raise DataError(
                    "The prediction is not proportional to dose and cannot be summed over doses; subject "
                    f"{data.ids[subject[first]]} has {counts[first]} doses before TIME {time[first]:g}."
                )
        one_each = bool((counts == 1).all())
        return cls(
            program(base, slots, n_random, covariate_symbols) if base != 0 or given == 0 else None,
            program(given, slots, n_random, covariate_symbols) if given != 0 else None,
            time,
            datum,
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
            inputs = (*slots, *self.covariates, self.since, self.amount, _NONE, _NONE)
            jet = _run(self.given, order, inputs, self.pair_block, (*batch, len(self.since)))
            if self.pair_start is not None:
                start = self.pair_start
                jet = tuple(None if p is None else np.add.reduceat(p, start, axis=-1) for p in jet)  # type: ignore[assignment]
        if self.base is not None:
            inputs = (*slots, *self.covariates, self.time, _NONE, *self.datum)
            own = _run(self.base, order, inputs, self.block, (*batch, len(self.time)))
            jet = own if jet is None else _add(jet, own)
        assert jet is not None
        return jet


@dataclass(frozen=True, eq=False)
class PerOutput:
    """Several outputs, each evaluated at its own observations only.

    Attributes
    ----------
    parts : tuple of ((m,) int, structure)
        The observations of each output and what predicts them.
    n_obs : int
    """

    parts: tuple[tuple[Ints, ClosedForm], ...]
    n_obs: int

    @staticmethod
    def of(parts: list[tuple[Ints | None, ClosedForm]], n_obs: int) -> Callable[[Array, int], Jet]:
        """Return the structure of the parts: the only one itself, where it has every observation."""
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][1]
        return PerOutput(tuple((rows, structure) for rows, structure in parts if rows is not None), n_obs)

    def __call__(self, slots: Array, order: int = 0) -> Jet:
        """Evaluate at slots (slots, ..., blocks); return f (..., obs) and derivatives."""
        jets = [(rows, structure(slots, order)) for rows, structure in self.parts]

        def gathered(k: int) -> Array | None:
            if k > order:
                return None
            out: Array | None = None
            for rows, jet in jets:
                part = jet[k]
                assert part is not None
                if out is None:
                    out = np.empty((*part.shape[:-1], self.n_obs))
                out[..., rows] = part
            return out

        value = gathered(0)
        assert value is not None
        return value, gathered(1), gathered(2)


_NONE = np.zeros(1)


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


def _refuse_what_is_no_sum(data: Data) -> None:
    """Refuse doses that are no sum of amounts in one place.

    Raises
    ------
    DataError
        Naming the first such dose.
    """
    records = data.records
    ids, times = records["ID"].to_numpy(), records["TIME"].to_numpy()
    for item, what in (("RATE", "an infusion"), ("SS", "a steady state")):
        rows = np.flatnonzero(records[item].to_numpy() != 0)
        if rows.size:
            i = rows[0]
            raise DataError(
                f"{item}={records[item].iloc[i]:g} for subject {ids[i]} at TIME {times[i]:g} asks for {what}, which a "
                "prediction in time and dose cannot express; declare the compartments with odes= or take a structure "
                "of nw.library."
            )
    places = records["CMT"].to_numpy()[data.dosed]
    other = np.flatnonzero(places != places[:1])
    if other.size:
        i = np.flatnonzero(data.dosed)[other[0]]
        raise DataError(
            f"Doses go into the compartments {places[0]} and {places[other[0]]} (subject {ids[i]}, TIME {times[i]:g}), "
            "which a prediction in time and dose cannot tell apart; declare the compartments with odes= or take a "
            "structure of nw.library."
        )


def past_doses(data: Data, rows: Ints | None = None) -> tuple[Array, Array, Ints, Ints]:
    """Return (time since, amount, observation, count per observation) of every past dose of `rows`.

    A dose is past if its record comes before the observation's and no reset comes between; additional
    doses are past up to the observation's time.  An observation without one gets a single pair of
    amount 0, which contributes nothing.
    """
    records = data.records
    times = records["TIME"].to_numpy()
    dosed = data.dosed
    observed = np.flatnonzero(data.observed)
    if rows is not None:
        observed = observed[rows]
    dose_rows = np.flatnonzero(dosed)
    before: Ints = np.cumsum(dosed)  # doses up to and including each record, over all subjects
    # A stretch of records begins with a subject or a reset: earlier doses are gone.
    begins = data.reset.copy()
    begins[data._first] = True
    start = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    at_start: Ints = before[start] - dosed[start]
    counts: Ints = (before - at_start)[observed]
    of_observation, within = _spread(counts)
    doses = dose_rows[at_start[observed][of_observation] + within]
    given = _given_until(records, doses, times[observed][of_observation])
    of_pair, number = _spread(given)
    doses, of_observation = doses[of_pair], of_observation[of_pair]
    when = times[doses] + number * records["II"].to_numpy()[doses]
    counts = np.bincount(of_observation, minlength=len(counts))
    padded = np.maximum(counts, 1)
    place = np.flatnonzero(np.repeat(counts > 0, padded))
    since, amount = np.zeros(padded.sum()), np.zeros(padded.sum())
    since[place] = times[observed][of_observation] - when
    amount[place] = records["AMT"].to_numpy()[doses]
    return since, amount, np.repeat(np.arange(len(counts)), padded).astype(np.intp), padded


def _given_until(records: pd.DataFrame, rows: Ints, time: Array) -> Ints:
    """Return how many doses each dose record has given up to a time: itself and additional ones."""
    more = records["ADDL"].to_numpy()[rows]
    if not more.any():
        return np.ones(len(rows), dtype=np.intp)
    first, interval = records["TIME"].to_numpy()[rows], np.where(more > 0, records["II"].to_numpy()[rows], 1.0)
    number = np.floor((time - first) / interval)
    # The quotient may round either way where a dose falls on the time itself.
    number += first + (number + 1) * interval <= time
    number -= first + number * interval > time
    return 1 + np.clip(number, 0, more).astype(np.intp)


def _spread(counts: Ints) -> tuple[Ints, Ints]:
    """Return for each of `counts` members in turn its owner and its place within the owner."""
    owner = np.repeat(np.arange(len(counts)), counts).astype(np.intp)
    return owner, (np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.intp)
