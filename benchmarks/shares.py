"""Where the time of a fit goes: shares by layer, by cProfile, whose own cost is in them.

python benchmarks/shares.py
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cProfile
import pstats
import time
from pathlib import Path

import numpy as np
from problems import Problem, theophylline
from theophylline import declare, design

import nlmewidgets as nw

LAYERS = {
    "sweeps of the chains": ("core/sample.py", "sweep"),
    "of all: predictions": ("core/problem.py", "predict"),
    "maximisation": ("methods/mstep.py", "maximise"),
    "modes and Laplace objective": ("methods/saem.py", "_look"),
    "statistics": ("methods/mstep.py", "of"),
    "iterations as they are shown": ("methods/saem.py", "_iteration"),
    "whether it arrived": ("methods/arrival.py", "not_arrived"),
    "the objective at the end": ("methods/saem.py", "finish"),
}
"""The function of SAEM that each layer is the time of, with everything it calls."""


def shares(problem: Problem) -> tuple[float, dict[str, float]]:
    """Return processor seconds of a fit (the best of five), and each layer's share of one under the profiler."""
    model, data = problem
    fit = lambda: model.fit(data, "saem", seed=1, explore=300, smooth=100)  # noqa: E731
    fit()
    seconds = np.inf
    for _ in range(5):
        began = time.process_time()
        fit()
        seconds = min(seconds, time.process_time() - began)
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(fit)
    stats = pstats.Stats(profiler)
    package = str(Path(nw.__file__).parent)
    found: dict[tuple[str, str], float] = {}
    for (file, _, name), row in stats.stats.items():  # type: ignore[attr-defined]
        key = file.removeprefix(package).lstrip("/\\").replace("\\", "/"), name
        found[key] = found.get(key, 0.0) + row[3]
    whole = found["fit/run.py", "fit"]
    return seconds, {layer: found.get(key, 0.0) / whole for layer, key in LAYERS.items()}


def main() -> None:
    """Print the table."""
    cases = {"theophylline": theophylline(), "1,000 × 8": (declare(), design(1000, declare()))}
    measured = {name: shares(problem) for name, problem in cases.items()}
    print(f"{'':30}" + "".join(f"{name:>16}" for name in measured))
    print(f"{'seconds':30}" + "".join(f"{seconds:16.2f}" for seconds, _ in measured.values()))
    for layer in LAYERS:
        print(f"{layer:30}" + "".join(f"{100 * part[layer]:14.0f} %" for _, part in measured.values()))


if __name__ == "__main__":
    main()
