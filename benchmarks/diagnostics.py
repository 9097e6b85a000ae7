"""Do the diagnostics keep their word?  ``make calibration``, or ``python benchmarks/diagnostics.py [data sets]``.

Data sets are simulated from theophylline's model (its design and FOCEI estimates).  Against the model they came
from NPDE must be N(0, 1), tests reject at their level and bands of a VPC hold what they promise; against wrong
models they must not.  Figures come with the binomial interval they would lie in 95 times of 100 if all were well.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import npc, npde, npde_test, vpc

REPLICATES = 1000
"""Behind every NPDE; their own error inflates a variance by about a thousandth."""


def truth() -> tuple[nw.Model, nw.Data]:
    """Return theophylline at FOCEI's estimates."""
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    return model.fit(data, "focei").model, data


WRONG = {
    "CL 25 % too high": {"CL": 1.25},
    "omega of CL doubled": {"omega_CL": 2.0},
    "omega of ka halved": {"omega_ka": 0.5},
    "error 30 % too large": {"additive": 1.3},
}
"""By what a parameter of the true model is multiplied."""


@dataclass
class Study:
    """What a model says of every data set."""

    npde: list[np.ndarray]
    tests: list[pd.Series]
    inside: list[float]
    npc: list[float]


def judge(model: nw.Model, data_sets: list[nw.Data], replicates: int = REPLICATES) -> Study:
    """Return NPDE, their tests, and the shares of VPC and NPC within 95 % bands, of each data set."""
    out = Study([], [], [], [])
    for k, data in enumerate(data_sets):
        x = npde(model, data, n=replicates, seed=1000 + k)["NPDE"].to_numpy()
        out.npde.append(x)
        out.tests.append(npde_test(x))
        out.inside.append(1.0 - vpc(model, data, n=300, seed=k).outside)
        out.npc.append(1.0 - float(npc(model, data, n=300, seed=k)["outside"].mean()))
    return out


def simulated(model: nw.Model, data: nw.Data, n: int, seed: int = 1) -> list[nw.Data]:
    """Return n data sets of the same design."""
    drawn = model.simulate(data, n=n, seed=seed)["DV"].to_numpy().reshape(n, -1)
    return [data_with(data, y) for y in drawn]


def data_with(data: nw.Data, y: np.ndarray) -> nw.Data:
    """Return data with other observations."""
    values = data.records["DV"].to_numpy(dtype=float).copy()
    values[data.observed] = y
    return replace(data, records=data.records.assign(DV=values))


def powers(model: nw.Model, data: nw.Data, n: int = 40, times: int = 4) -> None:
    """Print how often each wrong model is told from the true one, with several times as many subjects."""
    size = len(data.ids)
    records = [data.records.assign(ID=data.records["ID"].to_numpy() + k * size) for k in range(times)]
    many = nw.Data.from_frame(pd.concat(records, ignore_index=True))
    sets = simulated(model, many, n, seed=2)
    right = judge(model, sets, 300)
    # The least share within the bands that one data set in twenty of the right model falls short of.
    least = [float(np.quantile(share, 0.05)) for share in (right.inside, right.npc)]
    columns = ["NPDE", *(f"{name} < {100 * at:.0f} % in" for name, at in zip(("VPC", "NPC"), least, strict=True))]
    print(f"\nPower at a level of 5 %, per cent of {n} data sets of {times * size} subjects")
    print(f"  {'':<30} {columns[0]:>7} {columns[1]:>15} {columns[2]:>15}")
    here = model.space.to_dict(model.values)
    for name, changes in WRONG.items():
        wrong = judge(model.with_values({k: here[k] * f for k, f in changes.items()}), sets, 300)
        power = float((pd.DataFrame(wrong.tests)["global_p"] < 0.05).mean())
        of_vpc, of_npc = (
            float((np.array(s) < at).mean()) for s, at in zip((wrong.inside, wrong.npc), least, strict=True)
        )
        print(f"  {name:<30} {100 * power:>7.0f} {100 * of_vpc:>15.0f} {100 * of_npc:>15.0f}", flush=True)


def interval(p: float, n: int) -> str:
    """Return where a share of n lies 95 times of 100, per cent."""
    low, high = stats.binom.interval(0.95, n, p)
    return f"{100 * low / n:.1f}–{100 * high / n:.1f}"


def main(n: int = 200) -> None:
    """Print the figures."""
    began = time.perf_counter()
    model, data = truth()
    sets = simulated(model, data, n)
    own = judge(model, sets)
    x = np.stack(own.npde)
    tests = pd.DataFrame(own.tests)
    print(f"theophylline: {n} data sets of {data.n_subjects} subjects and {data.n_obs} observations\n")
    print("NPDE of data from the model           figure     if N(0, 1)")
    se = 1 / np.sqrt(x.size)
    print(f"  mean of all                        {x.mean():>8.4f}     0 ± {2 * se:.4f}")
    print(f"  variance of all                    {x.var():>8.4f}     1 ± {2 * np.sqrt(2) * se:.4f}")
    for q in (1.645, 1.96, 2.576):
        share = float((np.abs(x) > q).mean())
        print(f"  beyond ±{q:<6}, per cent          {100 * share:>8.2f}     {200 * stats.norm.sf(q):.2f}")
    print("  rejected at 5 %, per cent of the data sets")
    for column in ("mean_p", "variance_p", "normal_p", "global_p"):
        print(f"    {column:<32} {100 * float((tests[column] < 0.05).mean()):>8.1f}     {interval(0.05, n)}")
    per = [float(np.mean(share)) for share in (own.inside, own.npc)]
    error = [float(np.std(share) / np.sqrt(n)) for share in (own.inside, own.npc)]
    print(f"\nVPC, numbers within 95 % bands        {100 * per[0]:>8.2f}     95 ± {200 * error[0]:.2f}")
    print(f"NPC, numbers within 95 % bands        {100 * per[1]:>8.2f}     95 ± {200 * error[1]:.2f}")
    powers(model, data)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
