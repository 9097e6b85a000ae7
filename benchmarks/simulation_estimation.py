"""Bias, error, coverage and optima of FOCEI, Laplace and SAEM on three models: ``make study``.

    python benchmarks/simulation_estimation.py [data sets] [processes] [models]

200 data sets of each model by default, and 20 random starts within ±100 % of the truth on 20 of them.  The models:
decay, oral, saturation.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw

METHODS = {"focei": {}, "laplace": {}, "saem": {"explore": 150, "smooth": 100}}


def design(subjects: int, times: list[float], dose: float = 0.0) -> nw.Data:
    rows = []
    for i in range(1, subjects + 1):
        if dose:
            rows.append({"ID": i, "TIME": 0.0, "AMT": dose, "EVID": 1, "DV": np.nan})
        rows += [{"ID": i, "TIME": t, "AMT": 0.0, "EVID": 0, "DV": 1.0} for t in times]
    frame = pd.DataFrame(rows)
    return nw.Data.from_frame(frame if dose else frame[["ID", "TIME", "DV"]])


def cases() -> dict[str, tuple[nw.Model, nw.Data]]:
    a, k, ka, cl, v, top, half = sp.symbols("A k ka CL V Emax T50", positive=True)
    bolus = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(10.0, sd=0.3), k: nw.LogNormal(0.2, sd=0.3)},
        residual=nw.Proportional(0.1),
        name="exponential decay, proportional error",
    )
    oral = nw.Model(
        nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * nw.time) - sp.exp(-ka * nw.time)),
        {ka: nw.LogNormal(1.5, sd=0.4), cl: nw.LogNormal(2.8, sd=0.25), v: nw.LogNormal(32.0, sd=0.2)},
        residual=nw.Additive(0.3),
        name="oral absorption, additive error",
    )
    emax = nw.Model(
        top * nw.time / (half + nw.time),
        {top: nw.Normal(20.0, sd=4.0), half: nw.LogNormal(3.0, sd=0.4)},
        residual=nw.Additive(1.0),
        name="saturation, additive error",
    )
    return {
        "decay": (bolus, design(40, [0.5, 2.0, 5.0, 10.0])),
        "oral": (oral, design(40, [0.25, 0.75, 1.5, 3.0, 6.0, 12.0, 24.0], dose=320.0)),
        "saturation": (emax, design(40, [0.5, 1.5, 4.0, 8.0, 16.0])),
    }


def main(n: int = 200, workers: int = 2, *names: str) -> None:
    began = time.monotonic()
    for model, data in (case for name, case in cases().items() if not names or name in names):
        sets = min(20, n)
        study = nw.studies.simest(model, data, n, METHODS, start_sets=sets, seed=1, workers=workers)
        print(f"\n== {model.name}: {data.n_subjects} subjects, {data.n_obs} observations\n{study}", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
