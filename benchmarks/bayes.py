"""What a posterior costs, and whether another way to the same one agrees: ``python benchmarks/bayes.py``.

The other way shares neither the sampler nor the joint density: −2 log L with the random effects integrated out by
quadrature, priors by SciPy, and draws of Student's t around the posterior, weighted (importance sampling).  Means and
SDs of both must be within four Monte Carlo errors; the exit status is 1 if they are not.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from problems import phenobarbital, theophylline
from scipy import stats
from theophylline import declare

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.convergence import ess_bulk
from nlmewidgets.methods.quadrature import evaluate_quadrature

PRIORS = {
    "ka": (priors.LogNormal(1.5, 0.5), stats.lognorm(0.5, scale=1.5)),
    "CL": (priors.LogNormal(2.8, 0.3), stats.lognorm(0.3, scale=2.8)),
    "V": (priors.LogNormal(32.0, 0.3), stats.lognorm(0.3, scale=32.0)),
    "omega_ka": (priors.HalfNormal(0.7), stats.halfnorm(scale=0.7)),
    "omega_CL": (priors.InverseGamma(3.0, 0.2), stats.invgamma(3.0, scale=0.2)),
    "omega_V": (priors.InverseGamma(3.0, 0.1), stats.invgamma(3.0, scale=0.1)),
    "additive": (priors.InverseGamma(3.0, 1.0), stats.invgamma(3.0, scale=1.0)),
}
NODES, DF, DRAWS = 5, 6, 1500
ERRORS = 4.0


def timings() -> None:
    """Print processor time and effective sample sizes of 8 × (200 + 250)."""
    print(
        f"{'8 × (200 + 250)':16} {'CPU, s':>7} {'smallest ESS':>13} {'per second':>11} {'R-hat':>6} {'divergences':>12}"
    )
    for name, make in {"theophylline": theophylline, "phenobarbital": phenobarbital}.items():
        model, data = make()
        began = time.process_time()
        fit = model.fit(data, "bayes", seed=1)
        spent = time.process_time() - began
        last = fit.history.iloc[-1]
        print(
            f"{name:16} {spent:7.1f} {last['ess']:13.0f} {last['ess'] / spent:11.0f} {last['rhat']:6.3f} "
            f"{last['divergences']:12.0f}",
            flush=True,
        )


def weighted(fit: nw.Fit, draws: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (n, p) on the natural scale and their normalised weights, around draws (n, p)."""
    logs = np.log(draws)
    proposal = stats.multivariate_t(logs.mean(axis=0), np.cov(logs.T) * (DF - 2) / DF * 1.2, df=DF, seed=seed)
    points = proposal.rvs(DRAWS)
    values = np.exp(points)
    log_weight = points.sum(axis=1) - proposal.logpdf(points)  # Jacobian of the logarithms
    for k, (own, density) in enumerate(PRIORS.values()):
        x = values[:, k]
        log_weight += density.logpdf(x**2) + np.log(2 * x) if own.of_variance else density.logpdf(x)
    eta = fit.etas.T
    for k, row in enumerate(values):
        at = fit.problem.space.from_dict(dict(zip(PRIORS, row.tolist(), strict=True)))
        log_weight[k] -= 0.5 * evaluate_quadrature(fit.problem, at, NODES, eta).ofv
    weight = np.exp(log_weight - log_weight.max())
    return values, weight / weight.sum()


def agreement() -> bool:
    """Print posterior means and SDs in both ways; return whether they agree."""
    plain, data = declare(), nw.datasets.load("theophylline")
    own = {name: prior for name, (prior, _) in PRIORS.items()}
    model = nw.Model(plain.prediction, plain.parameters, residual=plain.residual, priors=own)
    fit = model.fit(data, "bayes", seed=2)
    names = list(PRIORS)
    draws = np.stack([fit.arrays["posterior"][..., model.names.index(n)] for n in names], axis=-1)
    values, weight = weighted(fit, draws.reshape(-1, len(names)), 3)
    print(f"\ntheophylline: NUTS, and importance sampling with {1 / (weight**2).sum():.0f} effective draws")
    print(f"{'':10} {'mean':>9} {'':>9} {'errors apart':>13} {'SD':>8} {'':>8} {'errors apart':>13}")
    good = True
    for k, name in enumerate(names):
        x, y = draws[..., k], values[:, k]
        mean = float(weight @ y)
        row = []
        for ours, other in ((x, y), ((x - mean) ** 2, (y - mean) ** 2)):
            there = float(weight @ other)
            error = np.hypot(ours.std() / np.sqrt(ess_bulk(ours)), np.sqrt((weight**2) @ (other - there) ** 2))
            row.append((float(ours.mean()), there, float((ours.mean() - there) / error)))
        (a, b, c), (d, e, f) = row
        good &= max(abs(c), abs(f)) < ERRORS
        print(f"{name:10} {a:9.4f} {b:9.4f} {c:13.2f} {d**0.5:8.4f} {e**0.5:8.4f} {f:13.2f}")
    return good


if __name__ == "__main__":
    timings()
    sys.exit(0 if agreement() else 1)
