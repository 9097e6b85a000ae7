r"""The doses of a study: when each arrives, how much of it, over what time.

Lag, bioavailability and a modelled rate or duration make these functions of the parameters, so they are
jets along the slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import sympy as sp

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.program import TapeProgram, program_of
from nlmewidgets.core.system import Route, System

__all__ = ["Doses", "Routed", "Routes", "read_doses", "states_of"]


class Doses(NamedTuple):
    """One row per dose, additional doses included.

    Attributes
    ----------
    record, subject, epoch, block, state : (doses,) int
    tau, amount, rate, ii : (doses,) float
        Nominal time, AMT, RATE (−1, −2: modelled), II.
    steady : (doses,) int
        SS: 1 replaces the state, 2 adds to it; 0 for additional doses.
    additional : (doses,) int
        Its number among the doses of its record.
    """

    record: Ints
    subject: Ints
    epoch: Ints
    block: Ints
    state: Ints
    tau: Array
    amount: Array
    rate: Array
    ii: Array
    steady: Ints
    additional: Ints


def read_doses(data: Data, system: System, block_of_record: Ints, epoch: Ints, last: Ints) -> Doses:
    """Return all doses of the data.

    Parameters
    ----------
    data : Data
    system : System
    block_of_record, epoch : (records,) int
    last : (records,) int
        The last record of each record's epoch: what is due after it is seen by nobody.
    """
    records = data.records
    time = records["TIME"].to_numpy(dtype=float)
    rows = np.flatnonzero(data.dosed)
    copies = 1 + np.maximum(records["ADDL"].to_numpy(dtype=float)[rows].astype(np.intp), 0)
    state = np.repeat(states_of(data, system, rows), copies)
    row = np.repeat(rows, copies)
    k = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    ii = records["II"].to_numpy(dtype=float)[row]
    tau = time[row] + k * ii
    keep = (k == 0) | (tau <= time[last[row]])
    row, k, ii, tau, state = row[keep], k[keep], ii[keep], tau[keep], state[keep]
    block = block_of_record[row]
    extra = np.flatnonzero(k > 0)
    if extra.size:
        # The parameters of the record that ends the interval an additional dose falls into.
        span = np.ptp(time) + 1.0
        key = last * span + (time - time.min())
        wanted = last[row[extra]] * span + (tau[extra] - time.min())
        block[extra] = block_of_record[np.minimum(np.searchsorted(key, wanted), last[row[extra]])]
    return Doses(
        row,
        data.record_subject[row],
        epoch[row],
        block,
        state,
        tau,
        records["AMT"].to_numpy(dtype=float)[row],
        records["RATE"].to_numpy(dtype=float)[row],
        ii,
        np.where(k == 0, records["SS"].to_numpy(dtype=float)[row].astype(np.intp), 0),
        k,
    )


def states_of(data: Data, system: System, rows: Ints) -> Ints:
    """Return the state each dose goes into: CMT by number, by name, or the first."""
    names = [s.name for s in system.states]
    codes = data.records["CMT"].to_numpy()[rows]
    out = np.zeros(len(rows), dtype=np.intp)
    for code in dict.fromkeys(codes.tolist()):
        hit = codes == code
        if isinstance(code, str) and code in names:
            out[hit] = names.index(code)
            continue
        try:
            number = int(float(code))
        except ValueError:
            number = -1
        if not 0 <= number <= len(names):
            i = int(rows[np.flatnonzero(hit)[0]])
            label, time = data.records["ID"].iloc[i], data.records["TIME"].iloc[i]
            have = ", ".join(f"{k} {n}" for k, n in enumerate(names, 1))
            raise DataError(
                f"The dose of subject {label} at TIME {time:g} goes into CMT {code}, but the model's states are "
                f"{have}; correct CMT or the order of odes=."
            )
        out[hit] = max(number, 1) - 1
    return out


class Routed(NamedTuple):
    """Jets of all doses, (..., doses) last.

    `strength` is the amount of a bolus or the rate of an infusion, `duration` 0 for a bolus.
    """

    lag: Jet
    strength: Jet
    duration: Jet


_AMT, _RATE = sp.Symbol("AMT", real=True), sp.Symbol("RATE", real=True)


@dataclass(frozen=True, eq=False)
class Routes:
    """The routes of a model bound to the doses of a study.

    Attributes
    ----------
    doses : Doses
    groups : tuple of (program, covariates, doses)
        Doses of one route and kind.
    varies : bool
        Whether anything depends on parameters.
    """

    doses: Doses
    groups: tuple[tuple[TapeProgram, tuple[Array, ...], Ints], ...]
    varies: bool
    shape: tuple[int, int]

    @classmethod
    def bind(cls, binding: Binding, doses: Doses) -> Routes:
        """Return the routes of a model's system.

        Raises
        ------
        DataError
            If a dose asks for a rate or duration that the model does not give.
        """
        system = binding.model.system
        assert system is not None
        form = binding.form
        kind = np.select([doses.rate > 0, doses.rate == -1, doses.rate == -2], [1, 2, 3], 0)
        groups = []
        for state in np.unique(doses.state):
            for k in np.unique(kind[doses.state == state]):
                index = np.flatnonzero((doses.state == state) & (kind == k))
                route = system.routes[state]
                _require(binding.data, system, doses, int(index[0]), route, int(k))
                expressions = tuple(binding.in_slots(sp.sympify(e)) for e in _behaviour(route, int(k)))
                symbols, values = binding.used(*expressions)
                program = program_of(expressions, form.symbols, form.n_random, symbols, (_AMT, _RATE))
                groups.append((program, values, index))
        varies = any(p.varies for p, _, _ in groups)
        return cls(doses, tuple(groups), varies, (len(form.symbols), form.n_random))

    def __call__(self, slots: Array, order: int) -> Routed:
        """Return what the routes make of every dose, at slots (slots, ..., blocks)."""
        doses, batch = self.doses, slots.shape[1:-1]
        n_slots, n_random = self.shape
        size = (*batch, len(doses.tau))
        value = np.zeros((3, *size))
        first = np.zeros((n_slots, 3, *size)) if order >= 1 and self.varies else None
        second = np.zeros((n_random, n_slots, 3, *size)) if order >= 2 and self.varies else None
        for program, covariates, index in self.groups:
            inputs = (*slots, *covariates, doses.amount[index], doses.rate[index])
            jet = program(inputs, doses.block[index], (*batch, len(index)), order if self.varies else 0)
            value[..., index] = jet[0]
            if first is not None and jet[1] is not None:
                first[..., index] = jet[1]
            if second is not None and jet[2] is not None:
                second[..., index] = jet[2]

        def part(k: int) -> Jet:
            return value[k], None if first is None else first[:, k], None if second is None else second[:, :, k]

        return Routed(part(0), part(1), part(2))


def _behaviour(route: Route, kind: int) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Return (lag, strength, duration) of a bolus, an infusion of given, modelled rate, or modelled duration."""
    amount = route.bioavailability * _AMT
    if kind == 0:
        return route.lag, amount, sp.S.Zero
    if kind == 1:
        return route.lag, _RATE, amount / _RATE
    if kind == 2:
        return route.lag, route.rate, amount / route.rate
    return route.lag, amount / route.duration, route.duration


def _require(data: Data, system: System, doses: Doses, dose: int, route: Route, kind: int) -> None:
    missing = {2: "rate", 3: "duration"}.get(kind)
    if missing and getattr(route, missing) is None:
        i = int(doses.record[dose])
        label, time = data.records["ID"].iloc[i], data.records["TIME"].iloc[i]
        name = system.states[doses.state[dose]].name
        raise DataError(
            f"RATE={doses.rate[dose]:g} of subject {label} at TIME {time:g} asks for a modelled {missing}; declare it "
            f"with doses={{{name}: nw.Route({missing}=...)}}."
        )
