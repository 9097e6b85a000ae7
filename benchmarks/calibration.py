"""Is the Bayesian posterior calibrated?  Truths drawn from the priors must have uniform ranks among their posteriors.

Run from the root of the repository: ``python -m benchmarks.calibration [replicates]``.
"""

from __future__ import annotations

import sys
import time

from tests.calibration import MODEL, ranks, uniform


def main(replicates: int = 100) -> None:
    began = time.process_time()
    shares = ranks(MODEL, replicates, draws=50, seed=1)
    p = uniform(shares, bins=10)
    print(f"{replicates} replicates, 8 chains of 60 + 50, {time.process_time() - began:.0f} s of CPU")
    print(f"{'parameter':<12}{'p (10 bins)':>18}")
    for name, value in zip((*MODEL.names, "all"), p.values(), strict=True):
        print(f"{name:<12}{value:>18.3f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
