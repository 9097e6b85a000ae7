"""Simulation-based calibration: ranks of truths among posterior draws (Talts et al. 2018, arXiv:1804.06788)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.convergence import ess_bulk
from nlmewidgets.core.parameters import Values

a, k = sp.symbols("a k", positive=True)
MODEL = nw.Model(
    a * sp.exp(-k * nw.time),
    {a: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.3, sd=0.3)},
    residual=nw.Additive(0.5),
    priors={
        "a": priors.LogNormal(8.0, 0.3),
        "k": priors.LogNormal(0.3, 0.3),
        "omega_a": priors.HalfNormal(0.4),
        "omega_k": priors.InverseGamma(3.0, 0.2),
        "additive": priors.InverseGamma(3.0, 0.5),
    },
)


def drawn(model: nw.Model, rng: np.random.Generator) -> Values:
    """Return population values from the priors of scalars."""
    numbers = {}
    for name, prior in model.priors.items():
        x = prior.draw(rng)
        numbers[name] = float(np.sqrt(x)) if prior.of_variance else x
    return model.space.from_dict(numbers)


def ranks(
    model: nw.Model, replicates: int, draws: int, seed: int, subjects: int = 6, times: tuple[float, ...] = (0.5, 2, 6)
) -> np.ndarray:
    """Return the rank of each truth among its posterior draws, thinned to be independent, as shares (replicates, p)."""
    rng = np.random.default_rng(seed)
    rows = [(i + 1, t, 1.0) for i in range(subjects) for t in times]
    design = pd.DataFrame(rows, columns=["ID", "TIME", "DV"])
    out = []
    for _ in range(replicates):
        truth = drawn(model, rng)
        y = model.with_values(truth).simulate(nw.Data.from_frame(design), seed=int(rng.integers(2**31)))["DV"]
        data = nw.Data.from_frame(design.assign(DV=y.to_numpy()))
        *_, last = nw.stream(model, data, "bayes", seed=int(rng.integers(2**31)), chains=8, warmup=60, draws=draws)
        numbers = model.space.to_dict(truth)
        posterior = last.arrays["posterior"]
        row = []
        for place, name in enumerate(model.names):
            x = posterior[..., place]
            every = max(1, int(np.ceil(x.size / max(ess_bulk(x), 1.0))))
            kept = x[:, ::every]
            row.append(((kept < numbers[name]).sum() + rng.random()) / (kept.size + 1))
        out.append(row)
    return np.array(out)


def uniform(shares: np.ndarray, bins: int) -> dict[str, float]:
    """Return p-values of tests that ranks are uniform: χ² by parameter, and of all together.

    Ranks of one replicate's parameters depend on each other, so their pooled histogram is no multinomial.  Replicates
    are independent: the mean over them of each one's own histogram is tested by Hotelling's T².
    """
    n, p = shares.shape
    found = {
        str(i): float(stats.chisquare(np.histogram(shares[:, i], bins=bins, range=(0, 1))[0]).pvalue) for i in range(p)
    }
    own = np.array([np.histogram(row, bins=bins, range=(0, 1))[0][:-1] for row in shares]) - p / bins
    free = bins - 1
    mean, covariance = own.mean(axis=0), np.cov(own.T)
    if np.linalg.matrix_rank(covariance) < free:
        return found | {"all": 0.0}  # ranks that never differ
    squared = n * mean @ np.linalg.solve(covariance, mean)
    return found | {"all": float(stats.f.sf(squared * (n - free) / (free * (n - 1)), free, n - free))}
