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
        Record → its parameters: `flow` (state, inflow, dt → state), `rest` (inflow → the state where nothing
        changes), `x0`, and `lag`, `F`, `rate`, `duration` by compartment.
    """
    here = at(rows[0])
    n = len(here["x0"])
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
        x = p["flow"](x, rates, until - now)
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


def linear(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Return `flow` and `rest` of x' = A·x + b + inflow."""

    def flow(x: np.ndarray, inflow: np.ndarray, dt: float) -> np.ndarray:
        state, constant = _propagator(a.tobytes(), len(x), round(dt, 14))  # equal gaps share a propagator
        return state @ x + constant @ (b + inflow)

    return {"flow": flow, "rest": lambda inflow: np.linalg.solve(a, -b - inflow)}


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
    """Return what infinitely many earlier doses left, and (end, rate) of the infusions still running.

    The doses are repeated until they change nothing.  SS=2 takes away what is there without them.
    """
    c, now, tau = dose["CMT"] - 1, dose["TIME"], dose["II"]
    base = p["rest"](np.zeros(len(p["x0"])))
    inflow = np.zeros(len(base))
    rate, duration = infusion(p, dose)
    ends = []
    if dose["AMT"] == 0:
        inflow[c] = dose["RATE"]
        x = p["rest"](inflow)
    else:

        def since(x: np.ndarray, length: float) -> np.ndarray:
            """Return the state some time after a dose, which found x."""
            x = x.copy()
            if rate is None:
                x[c] += p["F"][c] * dose["AMT"]
                return p["flow"](x, inflow, length)
            others, first = divmod(duration, tau)  # infusions longer than tau overlap
            inflow[c] = (others + 1) * rate
            x = p["flow"](x, inflow, min(first, length))
            inflow[c] = others * rate
            return p["flow"](x, inflow, max(length - first, 0.0))

        x, before = since(base, tau), base
        for _ in range(5000):
            x, before = since(x, tau), x
            if np.abs(x - before).max() <= 1e-14 * np.abs(x).max():
                break
        else:
            raise AssertionError("no steady state")
        last = now + p["lag"][c] - tau
        x = since(x, now - last)
        if rate is not None:
            ends = [(last - k * tau + duration, rate) for k in range(int(duration / tau) + 2)]
            ends = [(end, rate) for end, rate in ends if end > now]
    return x - base if dose["SS"] == 2 else x, ends
