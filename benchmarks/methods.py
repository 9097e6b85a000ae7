"""FOCEI and SAEM on data of all sizes, and beside other programs: part of ``make benchmark``.

    python benchmarks/methods.py [rounds]

The unit is one NumPy evaluation (``sympy.lambdify``, ``cse=True``) of an oral one-compartment curve and its three
first derivatives, for as many observations as the data have: what any program must compute at the very least, once
per evaluation of an objective.  Unit and fit take turns; medians of processor time are printed.  10,000 subjects are
fitted in a process of their own, whose peak memory is nothing else's.  R's nlme and lme4 and pynlme (PyPI) take turns
with the same methods here, where they are installed; −2 log L at everybody's estimates is by one quadrature.

The exit status is 1 if cost does not grow linearly with subjects or 10,000 of them take a gigabyte.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from peers import CASES, PEERS, Case, Peer
from problems import WARFARIN, Problem, phenobarbital, theophylline, warfarin_kinetics, warfarin_turnover
from theophylline import declare, design

import nlmewidgets as nw

SAEM = {"explore": 300, "smooth": 100}
"""Iterations of both phases, as many as other programs make by default."""
AIMS = {
    ("theophylline", "focei"): 0.1, ("1,000 × 8", "focei"): 1.0, ("10,000 × 8", "focei"): 6.0,
    ("theophylline", "saem"): 0.5, ("1,000 × 8", "saem"): 2.0, ("warfarin PKPD, ODE", "focei"): 10.0,
}  # fmt: skip
LINEAR = 1.5
"""What a subject may cost at most among 10,000, in what it costs among 1,000."""
MEMORY = 1000.0
PATIENCE = 10.0
"""Seconds from which on another program is run once only, and on data larger than `MANY` no more."""
MANY = 10_000
"""Observations."""


def simulated(subjects: int) -> Problem:
    return declare(), design(subjects, declare())


def unit(observations: int) -> Callable[[], object]:
    """Return one evaluation of prediction and first derivatives at so many observations."""
    ka, cl, v, t, dose = sp.symbols("ka CL V t dose", positive=True)
    f = dose * ka / (v * ka - cl) * (sp.exp(-cl / v * t) - sp.exp(-ka * t))
    function = sp.lambdify((ka, cl, v, t, dose), [f, *(sp.diff(f, p) for p in (ka, cl, v))], "numpy", cse=True)
    rng = np.random.default_rng(1)
    parameters = [p * np.exp(0.1 * rng.standard_normal(observations)) for p in (1.5, 2.8, 32.0)]
    times = rng.uniform(0.25, 24.0, observations)
    return lambda: function(*parameters, times, 320.0)


def options(method: str) -> dict[str, Any]:
    return SAEM if method == "saem" else {}


def timed(call: Callable[[], Any], least: float = 0.0) -> tuple[float, Any]:
    """Return processor seconds of one call, of as many as take `least` seconds, and what it returned."""
    calls, began = 0, time.process_time()
    while True:
        out = call()
        calls += 1
        spent = time.process_time() - began
        if spent >= least:
            return spent / calls, out


def megabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(problem: Problem, method: str, rounds: int) -> dict[str, float]:
    """Return medians over rounds of unit and fit, the iterations, and the objective."""
    model, data = problem
    one = unit(data.n_obs)
    before = megabytes()
    model.ofv(data, "focei")  # kernels are made on first use
    units, fits = [], []
    for _ in range(rounds):
        gc.collect()
        units.append(timed(one, 0.1)[0])
        seconds, fit = timed(lambda: model.fit(data, method, seed=1, **options(method)))
        fits.append(seconds)
    return {
        "unit": statistics.median(units),
        "seconds": statistics.median(fits),
        "iterations": len(fit.history) - 1,
        "ofv": fit.ofv,
        "before": before,
        "peak": megabytes(),
        "converged": fit.converged,
    }


def apart(subjects: int, method: str, rounds: int) -> dict[str, float]:
    """Return the same, measured in a process of its own."""
    command = [sys.executable, __file__, "--apart", str(subjects), method, str(rounds)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(out)  # type: ignore[no-any-return]


def line(name: str, method: str, found: dict[str, float]) -> str:
    """Return a row of the table."""
    aim = AIMS.get((name, method))
    judged = "" if aim is None else f"{aim:6g} {'met' if found['seconds'] < aim else 'missed'}"
    note = "" if found["converged"] else "  (not converged)"
    ratio = found["seconds"] / found["unit"]
    return (
        f"{name:20} {method:6} {found['seconds']:8.3f} {ratio:10,.0f} {found['iterations']:6d} {found['peak']:7.0f} "
        f"{found['ofv']:12.3f} {judged}{note}"
    )


def sizes(rounds: int) -> bool:
    """Print the table of our own methods; return whether cost is linear and memory within bounds."""
    small: dict[str, Callable[[], Problem]] = {"theophylline": theophylline, "phenobarbital": phenobarbital}
    if WARFARIN.exists():
        small |= {"warfarin PK": warfarin_kinetics, "warfarin PKPD, ODE": warfarin_turnover}
    print(f"{'':20} {'':6} {'seconds':>8} {'units':>10} {'iter.':>6} {'MB':>7} {'OFV':>12} {'aim, s':>6}")
    for name, make in small.items():
        problem = make()
        for method in ("focei", "saem"):
            few = 1 if name.endswith("ODE") else rounds
            print(line(name, method, measure(problem, method, few)), flush=True)
    if not WARFARIN.exists():
        print(f"warfarin: left out, because {WARFARIN} is absent")
    good = True
    for method in ("focei", "saem"):
        cost: dict[int, float] = {}
        for subjects in (1000, 10_000):
            found = apart(subjects, method, rounds if subjects == 1000 else 1)
            cost[subjects] = found["seconds"] / found["iterations"] / subjects
            print(line(f"{subjects:,} × 8", method, found), flush=True)
        growth = cost[10_000] / cost[1000]
        good &= growth < LINEAR and found["peak"] < MEMORY
        print(
            f"{'':20} {method:6} an iteration and subject costs {growth:.2f} times as much among 10,000 as among 1,000 "
            f"(at most {LINEAR}); {found['peak']:.0f} MB (at most {MEMORY:.0f}; {found['before']:.0f} before the fit)"
        )
    return good


def beside(rounds: int) -> None:
    """Print paired ratios to other programs, own objectives, and −2 log L of everybody by one quadrature."""
    print("\nOther programs on the same data, in turn; all objectives without n·log 2π")
    print(f"{'':13} {'':23} {'theirs':>8} {'ours':>7} {'':>6} {'own objective':>23} {'-2LL, quadrature':>23}")
    print(f"{'data':13} {'program':23} {'s':>8} {'s':>7} {'ratio':>6} {'theirs':>11} {'ours':>11} ", end="")
    print(f"{'theirs':>11} {'ours':>11}")
    absent = {peer.name: peer.absent() for peer in PEERS}
    for name in [name for name, reason in absent.items() if reason]:
        print(f"{'':13} {name:23} left out: {absent[name]}")
    slow: set[str] = set()
    for name, make in CASES.items() if not all(absent.values()) else ():
        case = make()
        for peer in PEERS:
            lack = case.lacks.get(peer.program, "")
            if peer.name in slow and case.data.n_obs > MANY:
                lack = f"{PATIENCE:g} s passed with fewer subjects"
            if absent[peer.name]:
                continue
            if lack:
                print(f"{name:13} {peer.name:23} left out: {lack}", flush=True)
                continue
            try:
                print(pair(name, case, peer, rounds, slow), flush=True)
            except RuntimeError as error:
                print(f"{name:13} {peer.name:23} failed: {error}", flush=True)


def pair(name: str, case: Case, peer: Peer, rounds: int, slow: set[str]) -> str:
    """Return the row of a program on data; it is among the `slow` from then on if that took long."""
    model, data = case.model, case.data
    model.ofv(data, peer.ours)
    pairs = []
    for _ in range(rounds):
        ours, fit = timed(partial(model.fit, data, peer.ours, seed=1, **options(peer.ours)))
        theirs = peer.run(case)
        pairs.append((theirs.seconds, ours))
        if theirs.seconds > PATIENCE:
            slow.add(peer.name)
            break
    ratio = statistics.median(a / b for a, b in pairs)
    scale = [nw.methods.yardstick.yardstick(fit.problem, v).ofv for v in (theirs.values, fit.values)]
    them, us = (statistics.median(column) for column in zip(*pairs, strict=True))
    own = f"{theirs.own:11.3f}" if np.isfinite(theirs.own) else f"{'':11}"
    return (
        f"{name:13} {peer.name:23} {them:8.3f} {us:7.3f} {ratio:6.1f} {own} {fit.ofv:11.3f} "
        f"{scale[0]:11.3f} {scale[1]:11.3f} (ours: {peer.ours})"
    )


def main(rounds: int = 5) -> int:
    """Print both tables and return the exit status."""
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}, one thread\n")
    good = sizes(rounds)
    beside(min(rounds, 3))
    return 0 if good else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--apart"]:
        print(json.dumps(measure(simulated(int(sys.argv[2])), sys.argv[3], int(sys.argv[4]))))
    else:
        sys.exit(main(*map(int, sys.argv[1:])))
