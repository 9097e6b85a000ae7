"""What a population costs, in solves of one subject by SciPy: ``python benchmarks/odes.py``.

The unit is one ``solve_ivp(method="LSODA")`` of one subject's states alone, no sensitivities, at the same
tolerances and observation times.  Populations are 1,000 subjects × 10 observations with parameters of their
own.  Units and populations are timed in turn, in rounds, by processor time, and medians are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
from scipy.integrate import solve_ivp

import nlmewidgets as nw

SUBJECTS, ROUNDS = 1_000, 7


def michaelis_menten(tolerance: nw.Tolerance) -> tuple[nw.Model, list[float]]:
    """Return oral absorption with saturable elimination, and observation times."""
    depot, central = nw.states("depot central")
    ka, vm, km, v = sp.symbols("ka Vm Km V", positive=True)
    model = nw.Model(
        odes={depot: -ka * depot, central: ka * depot - vm * central / (km * v + central)},
        prediction=central / v,
        parameters={
            ka: nw.LogNormal(1.5, sd=0.3),
            vm: nw.LogNormal(10.0, sd=0.3),
            km: nw.LogNormal(2.0, sd=0.3),
            v: nw.LogNormal(30.0, sd=0.3),
        },
        residual=nw.Proportional(0.1),
        tolerance=tolerance,
    )
    return model, [0.25, 0.5, 1, 2, 4, 6, 8, 12, 18, 24]


def warfarin(tolerance: nw.Tolerance) -> tuple[nw.Model, list[float]]:
    """Return absorption by transit, elimination, and a turnover inhibited by the drug, and observation times."""
    depot, transit, central, effect = nw.states("depot transit central effect")
    ktr, cl, v, base, kout, c50, emax = sp.symbols("ktr CL V R0 kout C50 Emax", positive=True)
    drive = 1 - emax * central / (c50 * v + central)
    model = nw.Model(
        odes={
            depot: -ktr * depot,
            transit: ktr * (depot - transit),
            central: ktr * transit - cl / v * central,
            effect: base * kout * drive - kout * effect,
        },
        initial={effect: base},
        prediction=effect,
        parameters={
            ktr: nw.LogNormal(2.0, sd=0.3),
            cl: nw.LogNormal(0.13, sd=0.2),
            v: nw.LogNormal(8.0, sd=0.2),
            base: nw.LogNormal(100.0, sd=0.1),
            kout: nw.LogNormal(0.05, sd=0.2),
            c50: nw.LogNormal(1.2, sd=0.3),
            emax: nw.LogitNormal(0.95, sd=0.3),
        },
        residual=nw.Additive(3.0),
        tolerance=tolerance,
    )
    return model, [0.5, 1, 2, 6, 12, 24, 48, 72, 96, 120]


def study(times: list[float]) -> nw.Data:
    """Return one dose of 100 per subject and the observations."""
    n = len(times) + 1
    return nw.Data.from_frame(
        pd.DataFrame(
            {
                "ID": np.repeat(np.arange(SUBJECTS), n),
                "TIME": np.tile([0.0, *times], SUBJECTS),
                "AMT": np.tile([100.0, *[0.0] * len(times)], SUBJECTS),
                "EVID": np.tile([1, *[0] * len(times)], SUBJECTS),
                "DV": 1.0,
            }
        )
    )


def single(model: nw.Model, times: list[float], tolerance: nw.Tolerance) -> Callable[[], Any]:
    """Return one LSODA solve of the typical subject."""
    typical = {s: float(p.typical) for s, p in model.parameters.items()}
    states = list(model.odes)
    rhs = sp.lambdify((nw.time, *states), [e.xreplace(typical) for e in model.odes.values()], "math", cse=True)
    start = [float(model.initial.get(s, sp.Integer(0)).xreplace(typical)) for s in states]
    start[0] += 100.0
    options = {"method": "LSODA", "rtol": tolerance.rtol, "atol": tolerance.atol, "t_eval": times}
    return lambda: solve_ivp(lambda t, x: rhs(t, *x), (0.0, times[-1]), start, **options)


def cost(call: Callable[[], Any], repeat: int = 1) -> float:
    """Return the processor time of one call."""
    begin = time.process_time()
    for _ in range(repeat):
        call()
    return (time.process_time() - begin) / repeat


def main() -> None:
    """Print the table."""
    print(f"{SUBJECTS:,} subjects × 10 observations, median of {ROUNDS} rounds\n")
    print(f"{'model':18} {'rtol':>6} {'LSODA, one':>12} {'states':>16} {'+ first':>16} {'+ second':>16}")
    for make in (michaelis_menten, warfarin):
        for tolerance in (nw.Tolerance(1e-6, 1e-8), nw.Tolerance()):
            model, times = make(tolerance)
            problem = model.problem(study(times))
            eta = 0.2 * np.random.default_rng(1).standard_normal((problem.n_eta, SUBJECTS))
            slots = problem.slots(problem.typical(model.values.theta).slots, eta)
            one = single(model, times, tolerance)
            calls = [lambda order=order, p=problem, s=slots: p.structure(s, order) for order in (0, 1, 2)]
            for call in (one, *calls):  # kernels are made on first use
                call()
            rounds = [(cost(one, 10), *(cost(call) for call in calls)) for _ in range(ROUNDS)]
            unit, *ours = (statistics.median(column) for column in zip(*rounds, strict=True))
            cells = "".join(f"{1e3 * t:7.0f} ms {t / unit:5.0f}×" for t in ours)
            print(f"{make.__name__:18} {tolerance.rtol:6g} {1e3 * unit:9.2f} ms {cells}", flush=True)


if __name__ == "__main__":
    main()
