"""Every method on one scale of −2 log L, for real and simulated problems: ``make yardstick``.

    python benchmarks/yardstick.py [problem …]

A table per problem: each method's own objective, −2 log L at its estimates by quadrature with growing nodes (± the
last change) and by importance sampling (± Monte Carlo standard error), the distance to the best, and processor
seconds of the fit.  At the end the two ways are compared everywhere; the exit status is 1 if they disagree.
"""

from __future__ import annotations

import math
import os
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from problems import PROBLEMS

import nlmewidgets as nw
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.importance import evaluate_importance
from nlmewidgets.methods.yardstick import yardstick

SETTLED = 0.1
"""Change by the last nodes from which on a quadrature counts as settled."""
ALLOWED = 3.5
"""Errors that quadrature and importance sampling may be apart."""
REPLICATES = 32
"""Of the draws: an error estimated from them has few surprises."""
BAYES = {"orange"}
"""Where a posterior is drawn too; elsewhere it takes longer than all the other methods together."""
ERROR = {"quinidine": 0.1}
"""Monte Carlo errors that are not 0.05, to save time."""
SHORTER = {
    "soybean": {"imp": {"stages": 1}},
    "quinidine": {"saem": {"explore": 150, "smooth": 100}, "imp": {"stages": 1}},
}
"""Options that save time."""


@dataclass(frozen=True)
class Row:
    """A method's estimates on the scale."""

    method: str
    status: str
    own: float
    grid: float
    grid_error: float
    nodes: str
    sampled: float
    sampled_error: float
    seconds: float

    @property
    def settled(self) -> bool:
        """Whether more nodes no longer change the quadrature: otherwise it says nothing."""
        return self.grid_error <= SETTLED

    @property
    def value(self) -> float:
        """−2 log L, by the way that is trusted."""
        return self.grid if self.settled else self.sampled

    @property
    def apart(self) -> float:
        """Quadrature minus importance sampling, in errors of both."""
        return (self.grid - self.sampled) / math.hypot(self.grid_error, self.sampled_error)


def measure(name: str, model: nw.Model, data: nw.Data, method: str, seed: int) -> Row:
    """Return the method's fit, and −2 log L there in two ways."""
    began = time.process_time()
    fit = model.fit(data, method, seed=1, **SHORTER.get(name, {}).get(method, {}))
    seconds = time.process_time() - began
    eta = fit.etas.T
    grid = yardstick(fit.problem, fit.values, by="agq", eta=eta)
    sampled = evaluate_importance(
        fit.problem, fit.values, error=ERROR.get(name, 0.05), replicates=REPLICATES, seed=seed, start=eta
    )
    nodes = grid.by.removeprefix("agq, ")
    return Row(
        method, fit.status, fit.ofv, grid.ofv, grid.error, nodes, sampled.ofv, sampled.ofv_error, seconds
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    head = f"{'method':8} {'own OFV':>11}  {'-2LL, quadrature':>28}  {'-2LL, sampled':>18}"
    head += f" {'apart':>6}  {'to best':>8} {'s':>6}"
    best = min(row.value for row in rows)
    lines = [head]
    for r in rows:
        grid = f"{r.grid:.3f} ±{r.grid_error:.4f} {r.nodes:>8}"
        sampled = f"{r.sampled:.3f} ±{r.sampled_error:.3f}"
        line = f"{r.method:8} {r.own:11.3f}  {grid:>28}  {sampled:>18}"
        line += f" {r.apart:6.2f}" if r.settled else f" {'':>6}"
        line += f"  {r.value - best:8.3f} {r.seconds:6.2f}"
        notes = [] if r.status == "converged" else [r.status]
        notes += [] if r.settled else ["the quadrature has not settled"]
        lines.append("  ".join([line, *notes]))
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Print a table per problem and the verdict; return the exit status."""
    began, everything = time.perf_counter(), []
    for name in names or PROBLEMS:
        model, data = PROBLEMS[name]()
        rows, refused = [], []
        for seed, method in enumerate(METHODS):
            if method == "bayes" and name not in BAYES:
                continue
            try:
                rows.append(measure(name, model, data, method, seed))
            except nw.MethodError as error:
                refused.append(f"{method:8} {error}")
        print(f"\n== {name}: {data.n_subjects} subjects, {data.n_obs} observations")
        print("\n".join([table(rows), *refused]), flush=True)
        everything += [(name, row) for row in rows]
    settled = [(name, row) for name, row in everything if row.settled]
    apart = [(name, row) for name, row in settled if not abs(row.apart) < ALLOWED]
    worst = max(abs(row.apart) for _, row in settled)
    print(
        f"\nQuadrature and importance sampling at {len(settled)} estimates of {len(names or PROBLEMS)} problems: "
        f"at most {worst:.2f} errors apart ({ALLOWED} allowed)."
    )
    left = [f"{name}, {row.method}" for name, row in everything if not row.settled]
    if left:
        print(f"Not compared, because no affordable number of nodes settles: {'; '.join(left)}.")
    for name, row in apart:
        print(f"They disagree: {name}, {row.method}: {row.grid:.3f} and {row.sampled:.3f}, {row.apart:.1f} errors.")
    print(f"{time.perf_counter() - began:.0f} s")
    return bool(apart)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
