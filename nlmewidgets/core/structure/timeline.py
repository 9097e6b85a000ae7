r"""What happens to each subject and when: doses, infusions, resets, changes of parameters, observations.

The state of a lane (a subject in a batch) is advanced over intervals; at the end of each it is multiplied
by `keep` and `add` is added: a bolus to its compartment, an infusion's rate to a rate state, everything
to its initial value at a reset.  Where doses may arrive late or over a time that is a parameter, times
are jets along the slots and the order of events is found anew.

Notes
-----
NONMEM's meaning of records: the interval that ends at a record uses that record's parameters; F multiplies
the amount, so an infusion of given RATE lasts F·AMT/RATE; a steady-state dose stands for infinitely many
doses at its time − II, − 2·II, …; an additional dose comes before a record of the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.structure.doses import Doses, Routed, read_doses
from nlmewidgets.core.system import System

__all__ = ["Steady", "Steps", "Timeline"]

_START, _STEADY, _RESUME, _END, _ARRIVAL, _MARK, _READ = range(7)


class Steady(NamedTuple):
    """Steady-state doses: after step `step` the state of `lane` is raised by theirs (SS=1: from nothing)."""

    step: Ints
    lane: Ints
    dose: Ints


class Steps(NamedTuple):
    """Lanes' histories, padded to one number of steps.

    Attributes
    ----------
    start, dt : Jet of (steps, lanes)
        When the interval before the step begins, and how long it is.
    block : (steps, lanes) int
        Parameter block of the interval.
    keep : (steps, states, lanes) float
    add : Jet of (steps, states, lanes)
    steady : Steady
    read_step, read_lane : (batch · observations,) int
        The last step before each observation, whose lane's state then is read.
    since : Jet of (batch · observations,)
        Time from that step to the observation.
    """

    start: Jet
    dt: Jet
    block: Ints
    keep: Array
    add: Jet
    steady: Steady
    read_step: Ints
    read_lane: Ints
    since: Jet


@dataclass(frozen=True, eq=False)
class Timeline:
    """The fixed part of all histories.

    Attributes
    ----------
    doses : Doses
    n_subjects, n_states : int
    rates : tuple of int
        The states that receive infusions; their rate states follow the system's states.
    epoch_subject, epoch_number, epoch_block : (epochs,) int
    epoch_start, epoch_stop : (epochs,) float
        An epoch begins with a subject, a reset or a steady state that replaces everything.
    marks, observed : (…,) int
        Records to stop at, and the observations.
    """

    doses: Doses
    n_subjects: int
    n_states: int
    rates: tuple[int, ...]
    record_time: Array
    record_subject: Ints
    record_epoch: Ints
    block_of_record: Ints
    epoch_subject: Ints
    epoch_number: Ints
    epoch_block: Ints
    epoch_start: Array
    epoch_stop: Array
    marks: Ints
    observed: Ints

    @classmethod
    def of(cls, data: Data, system: System, block_of_record: Ints, stops: NDArray[np.bool_] | None = None) -> Timeline:
        """Return the timeline of the data's records; it stops at the ends of parameter blocks and at `stops`."""
        records = data.records
        time = records["TIME"].to_numpy(dtype=float)
        subject = data.record_subject
        n = len(time)
        opens = np.diff(subject, prepend=-1) != 0
        first = np.flatnonzero(opens)
        opens |= np.asarray(data.reset) | (np.asarray(data.dosed) & (records["SS"].to_numpy(dtype=float) == 1))
        start = np.flatnonzero(opens)
        number = np.cumsum(opens) - 1
        epoch = number - number[first][subject]
        last = np.append(start[1:], n) - 1
        followed = np.append(subject[start[1:]] == subject[start[:-1]], False)
        # What is under way when an epoch ends is cut there; the clock may start again after a reset.
        stop = np.where(followed, np.maximum(np.append(time[start[1:]], np.inf), time[last]), np.inf)
        closing = np.append((block_of_record[1:] != block_of_record[:-1]) & (subject[1:] == subject[:-1]), False)
        doses = read_doses(data, system, block_of_record, epoch, last[number])
        return cls(
            doses=doses,
            n_subjects=data.n_subjects,
            n_states=len(system.states),
            rates=tuple(np.unique(doses.state[doses.rate != 0]).tolist()),
            record_time=time,
            record_subject=subject,
            record_epoch=epoch,
            block_of_record=block_of_record,
            epoch_subject=subject[start],
            epoch_number=epoch[start],
            epoch_block=block_of_record[start],
            epoch_start=time[start],
            epoch_stop=stop,
            marks=np.flatnonzero(closing if stops is None else closing | stops),
            observed=np.flatnonzero(data.observed),
        )

    @property
    def n_all(self) -> int:
        """Number of states, the rate states included."""
        return self.n_states + len(self.rates)

    def steps(self, routed: Routed, initial: Jet, batch: int) -> Steps:
        """Return every lane's history, lanes batch-major.

        Parameters
        ----------
        routed : Routed
            Jets of (batch, doses).
        initial : Jet of (states, batch, epochs)
            The state at the start of every epoch.
        batch : int
        """
        events = _events(self, routed)
        return _lay_out(self, events, routed, initial, batch)


class _Events(NamedTuple):
    """What may happen, per copy of a subject: kind, subject, epoch, rank at equal times, own number, time, weight."""

    kind: Ints
    subject: Ints
    epoch: Ints
    rank: Array
    own: Ints
    time: Jet
    weight: Array


def _events(line: Timeline, routed: Routed) -> _Events:
    doses = line.doses
    given = np.flatnonzero(doses.amount != 0)
    infused = given[doses.rate[given] != 0]
    steady = np.flatnonzero(doses.steady > 0)
    running, periods = _still_running(doses, routed, steady)
    # An additional dose precedes records of its time; a dose is where its record is.
    rank = np.where(doses.additional[given] > 0, -1.0, doses.record[given] + 0.0)
    record = (line.record_subject, line.record_epoch, line.record_time)
    dose = (doses.subject, doses.epoch, doses.tau)
    epochs = (line.epoch_subject, line.epoch_number, line.epoch_start)
    groups: list[Any] = [
        (_START, epochs, np.arange(len(line.epoch_start)), -5.0, 0.0),
        (_STEADY, dose, steady, doses.record[steady] - 0.3, 0.0),
        (_RESUME, dose, running, doses.record[running] - 0.2, -periods * doses.ii[running]),
        (_END, dose, running, doses.record[running] - 0.1, -periods * doses.ii[running]),
        (_END, dose, infused, -2.0, 0.0),
        (_ARRIVAL, dose, given, rank, 0.0),
        (_MARK, record, line.marks, line.marks + 0.5, 0.0),
        (_READ, record, line.observed, line.observed + 0.25, 0.0),
    ]
    kind = np.concatenate([np.full(len(own), k) for k, _, own, _, _ in groups])
    own = np.concatenate([own for _, _, own, _, _ in groups]).astype(np.intp)
    subject, epoch, base = (np.concatenate([t[j][own] for _, t, own, _, _ in groups]) for j in range(3))
    ranks = np.concatenate([np.broadcast_to(r, len(own)) for _, _, own, r, _ in groups])
    base = base + np.concatenate([np.broadcast_to(shift, len(own)) for _, _, own, _, shift in groups])
    late = np.flatnonzero((kind == _ARRIVAL) | (kind == _END) | (kind == _RESUME))
    ends = np.flatnonzero(kind == _END)
    parts: list[Array | None] = []
    for order in range(3):
        lag, duration = routed.lag[order], routed.duration[order]
        if lag is None or duration is None:
            parts.append(None)
            continue
        part = np.zeros((*lag.shape[:-1], len(kind)))
        if order == 0:
            part += base
        part[..., late] += lag[..., own[late]]
        part[..., ends] += duration[..., own[ends]]
        parts.append(part)
    value = parts[0]
    assert value is not None
    stop = np.full((line.n_subjects, line.epoch_number.max() + 1), np.inf)
    stop[line.epoch_subject, line.epoch_number] = line.epoch_stop
    limit = stop[subject, epoch]
    # Doses before a steady state's record: over by then, under way, or (with a lag beyond II) still to come.
    floor = np.full(len(kind), -np.inf)
    earlier = np.flatnonzero((kind == _END) | (kind == _RESUME))
    floor[earlier] = doses.tau[own[earlier]]
    cut = (value > limit) | (value < floor)
    weight = np.ones(value.shape)
    resumed = np.flatnonzero(kind == _RESUME)
    bolus = resumed[doses.rate[own[resumed]] == 0]
    weight[:, bolus] = value[:, bolus] > floor[bolus]
    if cut.any():
        value = np.clip(value, floor, limit)
        parts = [value, *(None if p is None else np.where(cut, 0.0, p) for p in parts[1:])]
    return _Events(kind, subject, epoch, ranks, own, (parts[0], parts[1], parts[2]), weight)  # type: ignore[arg-type]


def _still_running(doses: Doses, routed: Routed, steady: Ints) -> tuple[Ints, Array]:
    """Return (dose, periods back) of the earlier doses of a steady state that are not over at its record."""
    chosen = steady[doses.amount[steady] != 0]
    span = np.nan_to_num(routed.duration[0] + routed.lag[0])[..., chosen]
    most = np.ceil(span / doses.ii[chosen] - 1e-12).max(axis=0, initial=1.0) if chosen.size else np.zeros(0)
    copies = np.clip(most - 1, 0, 10_000).astype(np.intp)
    dose = np.repeat(chosen, copies)
    return dose, np.arange(len(dose)) - np.repeat(np.cumsum(copies) - copies, copies) + 1.0


def _lay_out(line: Timeline, events: _Events, routed: Routed, initial: Jet, batch: int) -> Steps:
    """Sort the events of every lane and lay those that change something out as steps."""
    n, n_events = line.n_subjects, len(events.kind)
    lanes = batch * n
    copy = np.repeat(np.arange(batch), n_events)
    lane = copy * n + np.tile(events.subject, batch)
    flat = [None if p is None else p.reshape(*p.shape[:-2], -1) for p in events.time]
    assert flat[0] is not None
    order = np.lexsort((np.tile(events.rank, batch), flat[0], np.tile(events.epoch, batch), lane))
    kind, own = events.kind[order % n_events], events.own[order % n_events]
    lane, copy = lane[order], copy[order]
    change = kind != _READ
    opens = np.searchsorted(lane, np.arange(lanes))
    passed = np.cumsum(change)
    position = passed - (passed - change)[opens][lane] - 1  # number of the last step up to each event
    closing = np.zeros(len(line.block_of_record), dtype=bool)
    closing[:-1] = line.block_of_record[1:] != line.block_of_record[:-1]
    turned = np.cumsum((kind == _MARK) & closing[np.where(kind == _MARK, own, 0)])
    turns = turned - turned[opens][lane] - ((kind == _MARK) & closing[np.where(kind == _MARK, own, 0)])
    blocks = line.block_of_record[np.searchsorted(line.record_subject, np.arange(n))]
    block = blocks[lane % n] + turns

    step, at = position[change], lane[change]
    count = np.bincount(at, minlength=lanes)
    size = int(count.max())
    laid: list[Array | None] = []
    for part in flat:
        if part is None:
            laid.append(None)
            continue
        table = np.zeros((*part.shape[:-1], size, lanes))
        table[..., step, at] = part[..., order[change]]
        final = table[..., count - 1, np.arange(lanes)]
        laid.append(np.where(np.arange(size)[:, None] >= count, final[..., None, :], table))
    start = [None if t is None else np.concatenate([t[..., :1, :], t[..., :-1, :]], axis=-2) for t in laid]
    dt = [None if t is None or s is None else t - s for t, s in zip(laid, start, strict=True)]
    # Clocks that start again after a reset make a negative interval, at whose end nothing is kept.
    dt[0] = np.maximum(dt[0], 0.0)  # type: ignore[arg-type,type-var,assignment]
    step_block = np.repeat(blocks[np.arange(lanes) % n][None], size, axis=0)
    step_block[step, at] = block[change]

    weight = events.weight[copy, order % n_events][change]
    keep, add = _actions(
        line, routed, initial, kind[change], own[change], copy[change], weight, step, at, (size, lanes)
    )
    chosen = kind[change] == _STEADY
    steady = Steady(step[chosen], at[chosen], own[change][chosen])
    reads = np.flatnonzero(~change)
    reads = reads[np.argsort(order[reads], kind="stable")]  # as in the data, copy by copy
    read_step, read_lane = position[reads], lane[reads]
    since = [
        None if p is None or t is None else p[..., order[reads]] - t[..., read_step, read_lane]
        for p, t in zip(flat, laid, strict=True)
    ]
    since[0] = np.maximum(since[0], 0.0)  # type: ignore[arg-type,type-var,assignment]
    return Steps(
        (start[0], start[1], start[2]),  # type: ignore[arg-type]
        (dt[0], dt[1], dt[2]),  # type: ignore[arg-type]
        step_block,
        keep,
        add,
        steady,
        read_step,
        read_lane,
        (since[0], since[1], since[2]),  # type: ignore[arg-type]
    )


def _actions(
    line: Timeline,
    routed: Routed,
    initial: Jet,
    kind: Ints,
    own: Ints,
    copy: Ints,
    weight: Array,
    step: Ints,
    at: Ints,
    shape: tuple[int, int],
) -> tuple[Array, Jet]:
    """Return what each step does to the state: keep (steps, states, lanes) and the jet add of the same shape."""
    doses, size, lanes = line.doses, *shape
    keep = np.ones((size, line.n_all, lanes))
    begins = kind == _START
    keep[step[begins], :, at[begins]] = 0.0
    replaced = np.flatnonzero(kind == _STEADY)
    replaced = replaced[doses.steady[own[replaced]] == 1]
    keep[step[replaced], :, at[replaced]] = 0.0
    rate_place = np.full(line.n_states, -1)
    rate_place[list(line.rates)] = line.n_states + np.arange(len(line.rates))
    arrives = np.flatnonzero((kind == _ARRIVAL) | (kind == _RESUME))
    ends = np.flatnonzero(kind == _END)
    bolus = arrives[doses.rate[own[arrives]] == 0]
    infusion = arrives[doses.rate[own[arrives]] != 0]
    # Where the last infusion into a state ends its rate is zero, not the rounding of a sum.
    for place in rate_place[list(line.rates)]:
        change = np.zeros(len(kind))
        change[infusion[rate_place[doses.state[own[infusion]]] == place]] = 1.0
        change[ends[rate_place[doses.state[own[ends]]] == place]] = -1.0
        silent = (np.cumsum(change) < 0.5) & (change < 0)
        keep[step[silent], place, at[silent]] = 0.0
        ends = ends[~silent[ends]]
    parts: list[Array | None] = []
    for order in range(3):
        strength, begin = routed.strength[order], initial[order]
        if strength is None and begin is None:
            parts.append(None)
            continue
        lead = (strength if strength is not None else begin).shape[:order]  # type: ignore[union-attr]
        add = np.zeros((*lead, size, line.n_all, lanes))
        if begin is not None:
            for state in range(line.n_states):
                add[..., step[begins], state, at[begins]] = begin[..., state, copy[begins], own[begins]]
        if strength is not None:
            for events, place, sign in (
                (bolus, doses.state[own[bolus]], 1.0),
                (infusion, rate_place[doses.state[own[infusion]]], 1.0),
                (ends, rate_place[doses.state[own[ends]]], -1.0),
            ):
                add[..., step[events], place, at[events]] = (
                    sign * weight[events] * strength[..., copy[events], own[events]]
                )
        parts.append(add)
    return keep, (parts[0], parts[1], parts[2])  # type: ignore[return-value]
