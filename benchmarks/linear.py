"""What linear compartments with many doses cost, as ratios to one evaluation of a closed form at a single dose.

The unit is one lambdified evaluation of the one-compartment oral closed form with its first derivatives at as many
observations as the study has.  Superposition needs one such evaluation for every dose, so 30 units are its price.

    python benchmarks/linear.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw


def timed(work: Callable[[], object], rounds: int = 9) -> float:
    """Return the median time of a call, after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def study(subjects: int, doses: int, observations: int) -> nw.Data:
    """Return subjects with a dose every 12 h and observations spread over the same days."""
    given = pd.DataFrame({"TIME": 12.0 * np.arange(doses), "EVID": 1, "AMT": 100.0, "DV": np.nan})
    seen = pd.DataFrame({"TIME": np.linspace(1.0, 12.0 * doses + 10.0, observations), "EVID": 0, "AMT": 0.0, "DV": 1.0})
    one = pd.concat([given, seen]).sort_values(["TIME", "EVID"])
    return nw.Data.from_frame(pd.concat([one.assign(ID=i + 1) for i in range(subjects)], ignore_index=True))


def models() -> dict[str, nw.Model]:
    """Return oral models of one and two compartments."""
    ka, cl, v, q, v2 = sp.symbols("ka CL V Q V2", positive=True)
    depot, central, peripheral = nw.states("depot central peripheral")
    first = {
        ka: nw.LogNormal(1.0, sd=0.3),
        cl: nw.LogNormal(3.0, sd=0.3),
        v: nw.LogNormal(30.0, sd=0.3),
    }
    exchange = q / v * central - q / v2 * peripheral
    inflow = ka * depot - cl / v * central
    return {
        "one compartment": nw.Model(
            central / v, first, odes={depot: -ka * depot, central: inflow}, residual=nw.Additive(1.0)
        ),
        "two compartments": nw.Model(
            central / v,
            first | {q: nw.LogNormal(2.0, sd=0.2), v2: nw.LogNormal(40.0, sd=0.2)},
            odes={depot: -ka * depot, central: inflow - exchange, peripheral: exchange},
            residual=nw.Additive(1.0),
        ),
    }


def main() -> None:
    """Print the table."""
    subjects, doses, observations = 1_000, 30, 10
    data = study(subjects, doses, observations)
    ka, cl, v, t = sp.symbols("ka CL V t", positive=True)
    f = 100 * ka / (v * ka - cl) * (sp.exp(-cl / v * t) - sp.exp(-ka * t))
    unit_function = sp.lambdify((ka, cl, v, t), [f, *(sp.diff(f, s) for s in (ka, cl, v))], modules="numpy", cse=True)
    t_obs = np.tile(np.linspace(1.0, 370.0, observations), subjects)
    spread = [
        np.repeat(x * np.exp(np.random.default_rng(1).normal(0, 0.1, subjects)), observations) for x in (1, 3, 30)
    ]
    unit = timed(lambda: unit_function(*spread, t_obs))
    print(f"{subjects} subjects × {doses} doses, {observations} observations each; medians of 9")
    print(f"unit: closed form with first derivatives at {len(t_obs):,} observations, one dose = {unit * 1e3:.2f} ms\n")
    print(f"{'':20}{'order':>7}{'ms':>10}{'units':>9}")
    for name, model in models().items():
        problem = model.problem(data)
        slots = problem.typical(model.values.theta).slots
        for order in (0, 1, 2):
            seconds = timed(partial(problem.structure, slots, order))
            print(f"{name:20}{order:>7}{seconds * 1e3:>10.1f}{seconds / unit:>9.0f}")


if __name__ == "__main__":
    main()
