"""How long things take, as ratios to one plain evaluation of the data: ``python benchmarks/theophylline.py``.

The unit is one call of the model's prediction and its derivatives along ka, CL and V for all 132 theophylline
observations, made by ``sympy.lambdify(..., "numpy", cse=True)``: what any program must compute at the very least,
once per evaluation of the objective.  Units and fits are timed in turn, in rounds, and medians are reported, so a
machine that drifts changes both.
"""

from __future__ import annotations

import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods import METHODS

ROUNDS = 9

NEW_MODEL = """
import time
import sympy as sp, nlmewidgets as nw
data = nw.datasets.load("theophylline")
began = time.perf_counter()
ka, CL, V = sp.symbols("ka CL V", positive=True)
model = nw.Model(
    nw.dose*ka/(V*ka - CL)*(sp.exp(-CL/V*nw.time) - sp.exp(-ka*nw.time)),
    {ka: nw.LogNormal(1.5, sd=0.6), CL: nw.LogNormal(2.8, sd=0.3), V: nw.LogNormal(32.0, sd=0.2)},
    residual=nw.Combined(0.3, 0.1),
)
model.ofv(data)
print(time.perf_counter() - began)
"""


def declare() -> nw.Model:
    """Return the model as a user writes it, additive error."""
    ka, CL, V = sp.symbols("ka CL V", positive=True)
    return nw.Model(
        nw.dose * ka / (V * ka - CL) * (sp.exp(-CL / V * nw.time) - sp.exp(-ka * nw.time)),
        {ka: nw.LogNormal(1.5, sd=0.6), CL: nw.LogNormal(2.8, sd=0.3), V: nw.LogNormal(32.0, sd=0.2)},
        residual=nw.Additive(0.7),
    )


def plain_evaluation(data: nw.Data) -> Callable[[], object]:
    """Return one evaluation of prediction and first derivatives at every observation, by lambdify."""
    ka, CL, V, t, dose = sp.symbols("ka CL V t dose", positive=True)
    f = dose * ka / (V * ka - CL) * (sp.exp(-CL / V * t) - sp.exp(-ka * t))
    function = sp.lambdify((ka, CL, V, t, dose), [f, *(sp.diff(f, p) for p in (ka, CL, V))], "numpy", cse=True)
    amount = data.records["AMT"].to_numpy()[data.dosed][data.subject]
    rng = np.random.default_rng(1)
    parameters = [v * np.exp(0.1 * rng.standard_normal(data.n_obs)) for v in (1.5, 2.8, 32.0)]
    return lambda: function(*parameters, data.time, amount)


def design(subjects: int, model: nw.Model) -> nw.Data:
    """Return simulated data: 8 samples after 320 mg for each subject."""
    times = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0])
    n = len(times) + 1
    table = pd.DataFrame({"ID": np.repeat(np.arange(1, subjects + 1), n), "TIME": np.tile([0.0, *times], subjects)})
    table["EVID"] = np.tile([1] + [0] * len(times), subjects)
    table["AMT"], table["DV"] = 320.0 * table["EVID"], 1.0
    simulated = model.simulate(nw.Data.from_frame(table), seed=1)
    table.loc[table["EVID"] == 0, "DV"] = simulated["DV"].to_numpy()
    return nw.Data.from_frame(table)


def timed(function: Callable[[], object], repeats: int = 1) -> float:
    """Return seconds per call."""
    began = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - began) / repeats


def first_objective() -> float:
    """Return seconds from declaration to first objective in a fresh process, imports not counted."""
    out = subprocess.run([sys.executable, "-c", NEW_MODEL], capture_output=True, text=True, check=True)
    return float(out.stdout)


def main() -> None:
    """Time everything in turn and print one table."""
    data = nw.datasets.load("theophylline")
    model = declare()
    problem, values = model.problem(data), model.values
    method = METHODS["focei"]()
    warm = method.evaluate(problem, values).eta
    moved = model.space.from_dict({"ka": 1.52})
    many = design(1000, model)

    unit = plain_evaluation(data)
    tasks: dict[str, tuple[Callable[[], object], int, int]] = {
        # name: (function, calls a round, rounds)
        "FOCEI fit, to convergence": (lambda: model.fit(data, "focei"), 2, ROUNDS),
        "SAEM fit, 300 + 100 iterations": (lambda: model.fit(data, "saem", seed=1, explore=300, smooth=100), 1, ROUNDS),
        "one FOCEI objective, warm (a slider)": (lambda: method.evaluate(problem, moved, warm), 20, ROUNDS),
        "FOCEI fit of 1,000 × 8 simulated": (lambda: model.fit(many, "focei"), 1, 3),
    }
    aims = {"FOCEI fit, to convergence": 2_500, "SAEM fit, 300 + 100 iterations": 20_000}
    for function, _, _ in tasks.values():
        function()
    units: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    gc.disable()
    for round_ in range(ROUNDS):
        for name, (function, calls, rounds) in tasks.items():
            units.append(timed(unit, 4000))  # as long as a fit, to share its luck on a busy machine
            if round_ < rounds:
                seconds[name].append(timed(function, calls))
        gc.collect()
    gc.enable()
    one = statistics.median(units)
    start = statistics.median(first_objective() for _ in range(3))

    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.machine()}; {ROUNDS} rounds, medians")
    print(f"unit: one lambdified evaluation of 132 observations with first derivatives = {1e6 * one:.0f} µs\n")
    print(f"{'':<40}{'seconds':>10}{'units':>10}{'aim':>10}")
    for name, times in seconds.items():
        value = statistics.median(times)
        aim = f"{aims[name]:,}" if name in aims else ""
        print(f"{name:<40}{value:>10.4f}{value / one:>10,.0f}{aim:>10}")
    print(f"{'declaration to first objective':<40}{start:>10.3f}{'':>10}{'1 s':>10}")


if __name__ == "__main__":
    main()
