"""The no-U-turn sampler against distributions whose moments are known, and its density by the batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from nlmewidgets.core.convergence import ess_bulk, rhat
from nlmewidgets.core.nuts import Adaptation, Chain, Density, run

Log = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def sample(log: Log, size: int, *, chains: int = 8, warmup: int = 60, draws: int = 120, seed: int = 0) -> np.ndarray:
    """Return draws (chains, draws, size)."""

    def density(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, gradient = log(points)
        return value, gradient, np.zeros(len(points))

    rngs = np.random.default_rng(seed).spawn(chains)
    adaptation = Adaptation(np.ones(size), 0.5, warmup, chains)
    members = [Chain(r.standard_normal(size), draws, adaptation, r) for r in rngs]
    for _ in run(density, members):
        pass
    assert all(chain.step == members[0].step == adaptation.step for chain in members)
    return np.array([[d.position for d in chain.fresh] for chain in members])


def within(draws: np.ndarray, mean: float, sd: float) -> None:
    """Mean and SD of draws of a scalar are the stated ones to 4 Monte Carlo standard errors; the chains have met."""
    assert rhat(draws) < 1.03
    n = ess_bulk(draws)
    assert draws.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(n))
    square = (draws - mean) ** 2
    error = square.std() / np.sqrt(ess_bulk(square))
    assert square.mean() == pytest.approx(sd**2, abs=4 * error)


def gaussian(covariance: np.ndarray, mean: np.ndarray) -> Log:
    precision = np.linalg.inv(covariance)

    def log(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = points - mean
        gradient = -away @ precision
        return 0.5 * (away * gradient).sum(axis=1), gradient

    return log


def test_an_ill_scaled_correlated_gaussian() -> None:
    """Scales over four decades: the metric must be learned."""
    sd = 10.0 ** np.linspace(-2, 2, 6)
    covariance = (0.6 + 0.4 * np.eye(6)) * np.outer(sd, sd)
    mean = 3.0 * sd
    draws = sample(gaussian(covariance, mean), 6)
    for k in range(6):
        within(draws[..., k], mean[k], sd[k])
    z = (draws - mean) / sd
    for i, j in ((0, 1), (2, 5)):  # the covariance is right too
        product = z[..., i] * z[..., j]
        assert product.mean() == pytest.approx(0.6, abs=4 * product.std() / np.sqrt(ess_bulk(product)))


def test_a_funnel() -> None:
    """Neal's funnel with a throat that a leapfrog can pass: v ~ N(0, 1), x | v ~ N(0, e^v)."""

    def log(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v, x = points[:, :1], points[:, 1:]
        square = x**2 * np.exp(-v)
        slope = -v[:, 0] + 0.5 * square.sum(axis=1) - 0.5 * x.shape[1]
        value = -0.5 * v[:, 0] ** 2 - 0.5 * square.sum(axis=1) - 0.5 * x.shape[1] * v[:, 0]
        return value, np.column_stack([slope, -x * np.exp(-v)])

    draws = sample(log, 4, draws=250)
    within(draws[..., 0], 0.0, 1.0)
    within(draws[..., 1], 0.0, np.exp(0.25))


def test_a_normal_mean_and_an_inverse_gamma_variance() -> None:
    """Conjugate: y ~ N(m, v), m | v ~ N(1, v/2), v ~ IG(3, 2), along (m, log v)."""
    y = np.array([1.3, 0.2, 2.2, 1.7, 0.9])
    n, bar = len(y), y.mean()
    a, b = 3.0 + 0.5 * n, 2.0 + 0.5 * ((y - bar) ** 2).sum() + n * 2.0 * (bar - 1.0) ** 2 / (2.0 * (n + 2.0))
    centre = (n * bar + 2.0) / (n + 2.0)

    def log(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        m, w = points.T
        square = ((y - m[:, None]) ** 2).sum(axis=1) + 2.0 * (m - 1.0) ** 2 + 4.0
        half = 0.5 * (n + 1.0) + 3.0  # of log v in the density of log v
        on_m = ((y - m[:, None]).sum(axis=1) - 2.0 * (m - 1.0)) * np.exp(-w)
        return -half * w - 0.5 * square * np.exp(-w), np.column_stack([on_m, -half + 0.5 * square * np.exp(-w)])

    draws = sample(log, 2)
    variance = stats.invgamma(a, scale=b)
    within(np.exp(draws[..., 1]), variance.mean(), variance.std())
    within(draws[..., 0], centre, np.sqrt(variance.mean() / (n + 2.0)))


def test_acceptance_is_what_was_aimed_at_and_the_seed_decides() -> None:
    log = gaussian(np.eye(20), np.zeros(20))
    once, twice = (sample(log, 20, chains=2, warmup=20, draws=10, seed=3) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    adaptation = Adaptation(np.ones(20), 0.01, 200, 2)
    density: Density = lambda x: (*log(x), np.zeros(len(x)))  # noqa: E731
    chains = [Chain(np.zeros(20), 200, adaptation, r) for r in np.random.default_rng(1).spawn(2)]
    for _ in run(density, chains):
        pass
    assert np.mean([d.acceptance for c in chains for d in c.fresh]) == pytest.approx(0.8, abs=0.08)
    assert all(d.depth >= 1 and d.leapfrogs >= 1 for c in chains for d in c.fresh)


def test_a_density_that_is_no_number_is_a_divergence_and_never_visited() -> None:
    """A half-normal with a wall that is no number."""

    def log(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = np.where(points[:, 0] > 0, -0.5 * points[:, 0] ** 2, np.nan)
        return value, np.where(points > 0, -points, np.nan)

    rngs = np.random.default_rng(0).spawn(2)
    adaptation = Adaptation(np.ones(1), 0.5, 50, 2)
    chains = [Chain(np.ones(1), 600, adaptation, r) for r in rngs]
    for _ in run(lambda x: (*log(x), np.zeros(len(x))), chains):
        pass
    draws = np.array([[d.position[0] for d in c.fresh] for c in chains])
    assert (draws > 0).all()
    assert any(d.divergent for c in chains for d in c.fresh)
    assert draws.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.1)
