r"""Whether chains have met, and what their draws are worth: R-hat and effective sample sizes.

All of rank-normalised split chains; the autocorrelations are summed up to where sums of neighbouring pairs stop
being positive and falling (Geyer's initial monotone sequence).

References
----------
Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), doi:10.1214/20-BA1221.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, special

from nlmewidgets.core.arrays import Array

__all__ = ["ess_bulk", "ess_tail", "rhat"]


def _split(draws: Array) -> Array:
    """Return the halves of chains (chains, draws) as chains of their own."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws: Array) -> Array:
    from scipy.stats import rankdata  # a second to import

    ranks = rankdata(draws, method="average").reshape(draws.shape)
    return np.asarray(special.ndtri((ranks - 0.375) / (draws.size + 0.25)))


def _constant(draws: Array) -> bool:
    return draws.shape[1] < 8 or not np.isfinite(draws).all() or float(np.ptp(draws)) == 0.0


def _ratio(chains: Array) -> float:
    n = chains.shape[1]
    within = chains.var(axis=1, ddof=1).mean()
    between = chains.mean(axis=1).var(ddof=1)
    return float(np.sqrt(between / within + (n - 1) / n)) if within > 0 else np.inf


def rhat(draws: Array) -> float:
    """Return R-hat of draws (chains, draws): the larger of those of location and of scale; NaN if they are constant."""
    if _constant(draws):
        return np.nan
    chains = _split(draws)
    return max(_ratio(_normal_scores(chains)), _ratio(_normal_scores(np.abs(chains - np.median(chains)))))


def _ess(chains: Array) -> float:
    """Return the effective sample size of the mean of chains as they are."""
    m, n = chains.shape
    if float(np.ptp(chains)) == 0.0:
        return float(m * n)
    away = chains - chains.mean(axis=1, keepdims=True)
    size = fft.next_fast_len(2 * n)
    power = np.abs(fft.rfft(away, size, axis=1)) ** 2
    autocovariance = fft.irfft(power, size, axis=1)[:, :n].mean(axis=0) / n
    within = autocovariance[0] * n / (n - 1.0)
    total = autocovariance[0] + (chains.mean(axis=1).var(ddof=1) if m > 1 else 0.0)
    rho = 1.0 - (within - autocovariance) / total
    rho[0] = 1.0
    pairs = rho[: (n - 3) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs < 0)
    k = int(negative[0]) if len(negative) else len(pairs)
    left = max(float(rho[2 * k]), 0.0)
    tau = -1.0 + 2.0 * float(np.minimum.accumulate(pairs[:k]).sum()) + left
    return m * n / max(tau, 1.0 / np.log10(m * n))


def ess_bulk(draws: Array) -> float:
    """Return what draws (chains, draws) are worth for the centre of the distribution; NaN if they are constant."""
    return np.nan if _constant(draws) else _ess(_normal_scores(_split(draws)))


def ess_tail(draws: Array) -> float:
    """Return what draws (chains, draws) are worth for the 5 and 95 % quantiles, the smaller; NaN if constant."""
    if _constant(draws):
        return np.nan
    return min(_ess(_split((draws <= np.quantile(draws, p)).astype(float))) for p in (0.05, 0.95))
