"""Contract of the Metropolis–Hastings kernels: each leaves the conditional distribution of the etas unchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import integrate

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.sample import ChainState, Proposal, Target, sweep

CHAINS = 4_000
MANY = 40_000
"""Enough to tell a posterior from its 1.05th power by five standard errors."""
KERNELS = {
    "prior": {"prior": 1, "mode": 0, "single": 0, "block": 0},
    "mode": {"prior": 0, "mode": 1, "single": 0, "block": 0},
    "single": {"prior": 0, "mode": 0, "single": 1, "block": 0},
    "block": {"prior": 0, "mode": 0, "single": 0, "block": 1},
    "all": {},
}


def target_of(model: nw.Model, data: nw.Data) -> Target:
    problem, values = model.problem(data), model.values
    return Target(
        problem,
        problem.typical(values.theta).slots,
        np.linalg.inv(values.omega),
        np.linalg.cholesky(values.omega),
        values.sigma,
    )


def proposal_of(target: Target) -> Proposal:
    modes = find_modes(target.problem, target.typical, target.precision, target.sigma)
    return Proposal.around(modes.eta, 0.5 * modes.hessian)


def state_at(target: Target, eta: np.ndarray) -> ChainState:
    return ChainState.at(target, eta)


@pytest.fixture(scope="module")
def conjugate() -> tuple[Target, np.ndarray, np.ndarray]:
    """Return a linear model with normal errors, and each subject's exact posterior mean and covariance."""
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(2.0, sd=1.0), b: nw.Normal(0.5, sd=0.4)},
        correlation={(a, b): -0.4},
        residual=nw.Additive(0.6),
    )
    times = ([0.0, 1.0, 2.0, 5.0], [1.0], [0.5, 4.0])
    table = pd.DataFrame([(i, t) for i, ts in enumerate(times) for t in ts], columns=["ID", "TIME"])
    table["DV"] = [2.5, 3.4, 3.1, 5.9, 0.2, 1.0, 6.5]
    target = target_of(model, nw.Data.from_frame(table))
    means, covariances = [], []
    for _, subject in table.groupby("ID"):
        t, y = subject["TIME"].to_numpy(), subject["DV"].to_numpy()
        z = np.stack([np.ones_like(t), t], axis=1)
        covariance = np.linalg.inv(z.T @ z / 0.36 + target.precision)
        covariances.append(covariance)
        means.append(covariance @ z.T @ (y - 2.0 - 0.5 * t) / 0.36)
    return target, np.array(means), np.array(covariances)


def check_moments(eta: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> None:
    """Compare with the exact posterior; chains are independent, so 5 standard errors are five of the normal's."""
    chains = eta.shape[1]
    for i, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        draws = eta[:, :, i]
        se = np.sqrt(np.diag(covariance) / chains)
        assert (np.abs(draws.mean(axis=1) - mean) < 5 * se).all()
        found = np.cov(draws)
        # Var(s_ab) = (σ_aa σ_bb + σ_ab²)/chains for normal draws.
        se = np.sqrt((np.outer(np.diag(covariance), np.diag(covariance)) + covariance**2) / chains)
        assert (np.abs(found - covariance) < 5 * se).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_posterior_sample_stays_one(kernel: str, conjugate) -> None:
    target, means, covariances = conjugate
    rng = np.random.default_rng(7)
    factor = np.linalg.cholesky(covariances)
    z = rng.standard_normal((2, MANY, 3))
    state = state_at(target, means.T[:, None] + np.einsum("nab,bcn->acn", factor, z))
    start = state.eta
    for _ in range(10):
        state = sweep(target, state, rng, proposal_of(target), **KERNELS[kernel])
    assert (state.eta != start).any(axis=0).mean() > 0.5  # it does move
    check_moments(state.eta, means, covariances)


@pytest.mark.parametrize("kernel", ["mode", "single", "block", "all"])
def test_a_far_start_is_forgotten(kernel: str, conjugate) -> None:
    target, means, covariances = conjugate
    rng = np.random.default_rng(8)
    state = state_at(target, np.full((2, CHAINS, 3), 4.0))
    for _ in range(150):
        state = sweep(target, state, rng, proposal_of(target), **KERNELS[kernel])
    check_moments(state.eta, means, covariances)


def test_what_the_state_carries_belongs_to_its_etas(conjugate) -> None:
    target, _, _ = conjugate
    rng = np.random.default_rng(9)
    state = state_at(target, rng.standard_normal((2, 50, 3)))
    for _ in range(5):
        state = sweep(target, state, rng, proposal_of(target))
    data, _ = target.data_part(state.eta)
    np.testing.assert_array_equal(state.data, data)
    np.testing.assert_allclose(state.prior, target.prior_part(state.eta), rtol=1e-13)


def test_a_posterior_that_is_not_normal_is_sampled_too():
    """Two observations, a log-normal rate: mean and variance of η against one-dimensional integrals."""
    k = sp.Symbol("k", positive=True)
    model = nw.Model(10 * sp.exp(-k * nw.time), {k: nw.LogNormal(0.5, sd=0.9)}, residual=nw.Proportional(0.5))
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [1.0, 4.0], "DV": [8.0, 4.0]}))
    target = target_of(model, data)

    def weight(eta: float, power: int) -> float:
        at = np.array([[[eta]]])
        with np.errstate(all="ignore"):
            minus2 = target.data_part(at)[0] + target.prior_part(at)
        return float(eta**power * np.exp(-0.5 * minus2[0, 0]))

    m0, m1, m2 = (integrate.quad(weight, -6, 6, args=(p,), epsabs=0, limit=300)[0] for p in (0, 1, 2))
    mean, variance = m1 / m0, m2 / m0 - (m1 / m0) ** 2
    m4 = integrate.quad(lambda e: (e - mean) ** 4 * weight(e, 0), -6, 6, epsabs=0, limit=300)[0] / m0
    rng = np.random.default_rng(10)
    state = state_at(target, rng.standard_normal((1, CHAINS, 1)))
    with np.errstate(all="ignore"):
        for _ in range(60):
            state = sweep(target, state, rng, proposal_of(target))
    draws = state.eta[0, :, 0]
    assert abs(draws.mean() - mean) < 5 * np.sqrt(variance / CHAINS)
    assert abs(draws.var() - variance) < 5 * np.sqrt((m4 - variance**2) / CHAINS)


def test_random_walks_adapt_to_their_target_acceptance(conjugate) -> None:
    target, _, _ = conjugate
    rng = np.random.default_rng(11)
    state = state_at(target, rng.standard_normal((2, 200, 3)))
    rates = []
    for k in range(120):
        state = sweep(target, state, rng, single=k % 2, block=1 - k % 2)
        rates.append(state.accepted)
    assert np.mean(rates[60:]) == pytest.approx(0.4, abs=0.05)


def test_a_prediction_that_fails_is_never_accepted():
    k = sp.Symbol("k", real=True)
    model = nw.Model(sp.log(k) + nw.time, {k: nw.Normal(0.5, sd=2.0)}, residual=nw.Additive(5.0))
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [1.0], "DV": [1.0]}))
    target = target_of(model, data)
    rng = np.random.default_rng(12)
    state = state_at(target, np.zeros((1, 500, 1)))
    with np.errstate(all="ignore"):
        for _ in range(20):
            state = sweep(target, state, rng)
    assert np.isfinite(state.data).all()
    assert (0.5 + state.eta > 0).all()


def test_a_proposal_knows_its_own_density(conjugate) -> None:
    target, _, _ = conjugate
    proposal = proposal_of(target)
    eta, minus2 = proposal.draw(np.random.default_rng(13), 20_000)
    np.testing.assert_allclose(proposal.minus2log(eta), minus2, rtol=1e-9, atol=1e-12)
    for i in range(3):
        wanted = Proposal.widening**2 * np.linalg.inv(
            0.5 * find_modes(target.problem, target.typical, target.precision, target.sigma).hessian[i]
        )
        found = np.cov(eta[:, :, i])
        scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)))
        np.testing.assert_allclose(found / scale, wanted / scale, atol=5 * np.sqrt(2 / 20_000))
        assert (np.abs(eta[:, :, i].mean(axis=1) - proposal.centre[:, i]) < 5 * np.sqrt(np.diag(wanted) / 20_000)).all()
