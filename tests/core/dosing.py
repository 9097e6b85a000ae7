"""NONMEM's meaning of dosing records, one subject and one event at a time: an oracle of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.linalg import expm

__all__ = ["simulate"]


def simulate(rows: list[Mapping[str, Any]], at: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> list[np.ndarray]:
    """Return the state at every record.

    Parameters
    ----------
    rows : list of records
        In order, with TIME EVID AMT CMT (1-based) RATE ADDL II SS.
    at : callable
        Record → its parameters: A, b, x0, and lag, F, rate, duration by compartment.
    """
    here = at(rows[0])
    n = len(here["b"])
    x, rates, now = np.array(here["x0"], dtype=float), np.zeros(n), rows[0]["TIME"]
    queue: list[tuple[float, int, str, Any]] = []
    number = 0
    out = []

    def push(time: float, kind: str, content: Any) -> None:
        nonlocal number
        number += 1
        heapq.heappush(queue, (time, number, kind, content))

    def advance(p: Mapping[str, Any], until: float) -> None:
        nonlocal x, now
        x = flow(p["A"], p["b"] + rates, until - now, x)
        now = until

    def start(p: Mapping[str, Any], dose: Mapping[str, Any]) -> None:
        c = dose["CMT"] - 1
        rate, duration = infusion(p, dose)
        if rate is None:
            x[c] += p["F"][c] * dose["AMT"]
        else:
            rates[c] += rate
            push(now + duration, "stop", (c, rate))

    def drain(p: Mapping[str, Any], until: float) -> None:
        while queue and queue[0][0] <= until:
            time, _, kind, content = heapq.heappop(queue)
            advance(p, max(time, now))
            if kind == "stop":
                c, rate = content
                rates[c] -= rate
                if not any(k == "stop" and i[0] == c for _, _, k, i in queue):
                    rates[c] = 0.0
            elif kind == "arrive":
                start(p, content)
            else:  # an additional dose: its lag is that of the interval it falls into
                lag = p["lag"][content["CMT"] - 1]
                if lag:
                    push(time + lag, "arrive", content)
                else:
                    start(p, content)

    for row in rows:
        p = at(row)
        if row["EVID"] in (3, 4):
            x, rates, now = np.array(p["x0"], dtype=float), np.zeros(n), row["TIME"]
            queue.clear()
        elif row["EVID"] == 1 and row["SS"] == 1:
            drain(p, row["TIME"])
            now = row["TIME"]
            queue.clear()
        else:
            drain(p, row["TIME"])
            advance(p, row["TIME"])
        if row["EVID"] in (1, 4):
            c = row["CMT"] - 1
            if row["SS"]:
                if row["SS"] == 1:
                    x, rates = np.zeros(n), np.zeros(n)
                earlier, running = steady(p, row)
                x = x + earlier
                for time, rate in running:
                    rates[c] += rate
                    push(time, "stop", (c, rate))
            if row["AMT"]:
                if p["lag"][c]:
                    push(row["TIME"] + p["lag"][c], "arrive", row)
                else:
                    start(p, row)
                for k in range(1, int(row["ADDL"]) + 1):
                    push(row["TIME"] + k * row["II"], "add", row)
        out.append(x.copy())
    return out


def flow(a: np.ndarray, inflow: np.ndarray, dt: float, x: np.ndarray) -> np.ndarray:
    """Return x after `dt` under x' = A·x + inflow."""
    state, constant = _propagator(a.tobytes(), len(x), float(dt))
    return state @ x + constant @ inflow


@lru_cache(maxsize=100_000)
def _propagator(a: bytes, n: int, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Return e^(A·dt) and its integral from 0 to dt."""
    big = np.zeros((2 * n, 2 * n))
    big[:n, :n], big[:n, n:] = np.frombuffer(a).reshape(n, n), np.eye(n)
    big = expm(big * dt)
    return big[:n, :n], big[:n, n:]


def infusion(p: Mapping[str, Any], dose: Mapping[str, Any]) -> tuple[float | None, float]:
    """Return (rate, duration) of a dose, (None, 0) of a bolus."""
    c = dose["CMT"] - 1
    amount = p["F"][c] * dose["AMT"]
    if dose["RATE"] > 0:
        return dose["RATE"], amount / dose["RATE"]
    if dose["RATE"] == -1:
        return p["rate"][c], amount / p["rate"][c]
    if dose["RATE"] == -2:
        return amount / p["duration"][c], p["duration"][c]
    return None, 0.0


def steady(p: Mapping[str, Any], dose: Mapping[str, Any]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return what hundreds of earlier doses left, and (end, rate) of the infusions still running."""
    c, tau = dose["CMT"] - 1, dose["TIME"]
    n = len(p["b"])
    slowest = np.abs(np.linalg.eigvals(p["A"]).real).min()
    rate, duration = infusion(p, dose)
    own = p["b"] if dose["SS"] == 1 else np.zeros(n)
    if dose["AMT"] == 0:
        inflow = own.copy()
        inflow[c] += dose["RATE"]
        return np.linalg.solve(p["A"], -inflow), []
    count = int(40.0 / slowest / dose["II"]) + 3
    x, rates = np.linalg.solve(p["A"], -own), np.zeros(n)
    first = tau + p["lag"][c] - count * dose["II"]
    events = [(first + k * dose["II"], 1) for k in range(count)]
    if rate is not None:
        events += [(t + duration, -1) for t, _ in events]
    now = first
    running = 0
    for time, sign in sorted(events):
        if time > tau:
            continue
        x = flow(p["A"], own + rates, round(time - now, 14), x)  # equal gaps share a propagator
        now = time
        if rate is None:
            x[c] += p["F"][c] * dose["AMT"]
        else:
            running += sign
            rates[c] = running * rate
    x = flow(p["A"], own + rates, tau - now, x)
    ends = [(t, rate) for t, sign in events if sign < 0 and t > tau and t - duration <= tau and rate is not None]
    return x, ends
