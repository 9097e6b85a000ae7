"""Where SAEM ends from poor starts, and whether it says so: ``python benchmarks/starts.py [starts [problem ...]]``.

Starts are within ±100 % of the estimates (every parameter times a number from 0.02 to 2), and with every typical value
ten times too large or too small.  Ends within two units of the best −2 log L of all count as the best.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys

import numpy as np
from problems import PROBLEMS, WARFARIN, warfarin_kinetics

import nlmewidgets as nw

KINDS = ("within ±100 %", "ten-fold")
WITHIN = 2.0


def started(fit: nw.Fit, kind: str, rng: np.random.Generator) -> nw.Model:
    """Return the fit's model at a poor start."""
    space = fit.start.space
    thetas = [p.name for p in space.theta]
    numbers = {}
    for name, value in fit.estimates.items():
        if space.is_fixed(name) or value <= 0:
            continue
        if kind == KINDS[0]:
            numbers[name] = value * rng.uniform(0.02, 2.0)
        elif name in thetas:
            numbers[name] = value * (10.0 if rng.uniform() < 0.5 else 0.1)
    return fit.model.with_values(space.from_dict(numbers, fit.values))


def main(starts: int = 10, names: tuple[str, ...] = ()) -> None:
    """Print a line for each problem and kind of start."""
    problems = {n: PROBLEMS[n] for n in ("theophylline", "phenobarbital", "quinidine", "indomethacin")}
    if WARFARIN.exists():
        problems["warfarin"] = warfarin_kinetics
    print(f"{'':16}{'starts':16}{'best':>10}{'near it':>9}{'others':>8}{'of these converged':>20}")
    for name in names or problems:
        model, data = problems[name]()
        near = model.fit(data, "saem", seed=0)
        for kind in KINDS:
            rng = np.random.default_rng(5)
            fits = [started(near, kind, rng).fit(data, "saem", seed=k) for k in range(starts)]
            best = min([near.ofv, *(f.ofv for f in fits)])
            others = [f for f in fits if f.ofv > best + WITHIN]
            claimed = [f for f in others if f.converged]
            ends = ", ".join(sorted({f"{f.ofv - best:+.1f}" for f in claimed}))
            print(
                f"{name:16}{kind:16}{best:10.2f}{len(fits) - len(others):9d}{len(others):8d}{len(claimed):20d}  {ends}",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10, tuple(sys.argv[2:]))
