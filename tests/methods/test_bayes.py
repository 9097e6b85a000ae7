"""Bayes: posteriors that are known, calibration by simulation, and what a stream and a fit of it keep."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.convergence import ess_bulk
from nlmewidgets.core.default_priors import complete
from nlmewidgets.methods.bayes import Bayes, safely
from nlmewidgets.methods.joint import Joint

MU, A, K = sp.symbols("mu A k", real=True)
OPTIONS = {"chains": 8, "warmup": 20, "draws": 50}


def table(y: np.ndarray, each: int) -> nw.Data:
    """Return data of `each` observations a subject."""
    n = len(y)
    return nw.Data.from_frame(
        pd.DataFrame({"ID": np.arange(n) // each + 1, "TIME": np.arange(n) % each + 1.0, "DV": y})
    )


def agrees(draws: np.ndarray, mean: float, sd: float) -> None:
    """Mean and SD of draws (chains, draws) are the stated ones to 4 Monte Carlo standard errors."""
    assert draws.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(ess_bulk(draws)))
    square = (draws - mean) ** 2
    assert square.mean() == pytest.approx(sd**2, abs=4 * square.std() / np.sqrt(ess_bulk(square)))


def follows(draws: np.ndarray, distribution: Any) -> None:
    """Draws have a distribution: their shares are uniform in mean and SD."""
    agrees(distribution.cdf(draws), 0.5, np.sqrt(1 / 12))


def column(fit: nw.Fit, name: str) -> np.ndarray:
    return fit.arrays["posterior"][..., fit.start.names.index(name)]


# ------------------------------------------------------------ known posteriors


def test_a_linear_mixed_model_with_known_variances() -> None:
    """y_ij = mu + eta_i + e_ij: the posterior of mu and of every eta is Gaussian."""
    rng = np.random.default_rng(1)
    each, omega, sigma, prior_mean, prior_sd = 3, 0.8, 0.5, 1.0, 0.6
    n = 6
    y = 2.0 + omega * np.repeat(rng.standard_normal(n), each) + sigma * rng.standard_normal(n * each)
    model = nw.Model(
        MU,
        {MU: nw.Normal(1.5, sd=omega)},
        residual=nw.Additive(sigma),
        priors={"mu": priors.Normal(prior_mean, prior_sd)},
    ).fix("omega_mu", "additive")
    fit = model.fit(table(y, each), "bayes", seed=2, **OPTIONS)
    # jointly: precision and linear term of (mu, eta_1 … eta_n)
    design = np.zeros((n * each, n + 1))
    design[:, 0] = 1.0
    design[np.arange(n * each), 1 + np.arange(n * each) // each] = 1.0
    precision = design.T @ design / sigma**2 + np.diag([1 / prior_sd**2] + [1 / omega**2] * n)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (design.T @ y / sigma**2 + np.r_[prior_mean / prior_sd**2, np.zeros(n)])
    assert fit.ofv == pytest.approx(fit.model.ofv(fit.data, "agq", nodes=15), abs=1e-6)
    assert fit.ofv_by.endswith("at the posterior means")
    assert "R-hat at most" in fit.message
    agrees(column(fit, "mu"), mean[0], np.sqrt(covariance[0, 0]))
    etas = fit.arrays["posterior_eta"]
    for i in range(n):
        agrees(etas[:, :, 0, i], mean[1 + i], np.sqrt(covariance[1 + i, 1 + i]))
    np.testing.assert_allclose(fit.arrays["conditional_mean"][0], etas.mean(axis=(0, 1))[0], rtol=1e-9)
    np.testing.assert_allclose(fit.arrays["conditional_sd"][0], etas.std(axis=(0, 1))[0], rtol=1e-6)


def test_a_conjugate_variance() -> None:
    """y ~ N(2, v), v ~ IG(3, 0.8), no random effect: the posterior of v is IG."""
    y = 2.0 + 0.7 * np.random.default_rng(3).standard_normal(8)
    model = nw.Model(
        MU,
        {MU: nw.Normal(2.0)},
        residual=nw.Additive(0.5),
        priors={"additive": priors.InverseGamma(3.0, 0.8)},
    ).fix("mu")
    fit = model.fit(table(y, 2), "bayes", seed=1, chains=8, warmup=20, draws=80)
    posterior = stats.invgamma(3.0 + 4.0, scale=0.8 + 0.5 * ((y - 2.0) ** 2).sum())
    follows(column(fit, "additive") ** 2, posterior)
    assert fit.values.theta[0] == 2.0


def test_data_that_say_nothing_give_back_the_priors() -> None:
    """Inverse-Wishart and LKJ blocks, half-normal and inverse-gamma SDs: every Jacobian at once."""
    p, q, r, s = sp.symbols("p q r s", real=True)
    model = nw.Model(
        1e-9 * (p + q * nw.time + r * nw.time**2 + s),
        {
            p: nw.Normal(0.0, sd=0.5, fixed=True),
            q: nw.Normal(0.0, sd=0.5, fixed=True),
            r: nw.Normal(0.0, sd=0.5, fixed=True),
            s: nw.Normal(0.0, sd=0.5, fixed=True),
        },
        correlation={(p, q): 0.1, (r, s): 0.1},
        residual=nw.Additive(1.0),
        priors={
            ("p", "q"): priors.InverseWishart(8.0, ((2.0, 0.6), (0.6, 1.0))),
            ("r", "s"): priors.LKJ(2.0),
            "omega_r": priors.HalfNormal(0.7),
            "omega_s": priors.InverseGamma(5.0, 1.0),
        },
    ).fix("additive")
    fit = model.fit(table(np.zeros(2), 2), "bayes", seed=4, chains=16, warmup=20, draws=20, max_depth=5)
    sd_p, sd_q = column(fit, "omega_p"), column(fit, "omega_q")
    # The marginal of an inverse Wishart: half of df − 1, half the scale.
    follows(sd_p**2, stats.invgamma(3.5, scale=1.0))
    follows(sd_q**2, stats.invgamma(3.5, scale=0.5))
    covariance = column(fit, "corr_p_q") * sd_p * sd_q
    error = covariance.std() / np.sqrt(ess_bulk(covariance))
    assert covariance.mean() == pytest.approx(0.6 / 5.0, abs=4 * error)
    follows(column(fit, "omega_r"), stats.halfnorm(scale=0.7))
    follows(column(fit, "omega_s") ** 2, stats.invgamma(5.0, scale=1.0))
    follows(column(fit, "corr_r_s"), stats.beta(2.0, 2.0, loc=-1.0, scale=2.0))


@pytest.mark.slow
def test_theophylline_with_vague_priors_is_near_the_exact_maximum() -> None:
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    fit = model.fit(data, "bayes", seed=1, chains=8, warmup=50, draws=50)
    exact = model.fit(data, "agq", nodes=5)
    draws = fit.arrays["posterior"].reshape(-1, len(model.names))
    for k, name in enumerate(model.names):
        median, sd = np.median(draws[:, k]), draws[:, k].std()
        assert abs(median - exact.estimates[name]) < 0.5 * sd, name
        assert fit.estimates[name] == pytest.approx(draws[:, k].mean(), rel=1e-9)
    assert fit.history["divergences"].iloc[-1] <= 4
    assert fit.history["ess"].iloc[-1] > 100
    assert "R-hat at most" in fit.message
    assert fit.ofv_by.endswith("at the posterior means")
    assert fit.ofv == pytest.approx(fit.model.ofv(data, "agq", nodes=15), abs=1e-3)


# ------------------------------------------------------------------ calibration


@pytest.mark.slow
def test_simulation_based_calibration() -> None:
    """Truths drawn from the priors have uniform ranks among their posteriors (Talts et al., arXiv:1804.06788).

    A few replicates; `benchmarks/calibration.py` makes many.
    """
    from tests.calibration import MODEL, ranks, uniform

    found = ranks(MODEL, replicates=30, draws=40, seed=5)
    assert min(uniform(found, bins=5).values()) > 0.01
    assert uniform(np.zeros_like(found), bins=5)["all"] < 1e-6


# ------------------------------------------------------- streams, stops, resume


def small() -> tuple[nw.Model, nw.Data]:
    a, k = sp.symbols("a k", positive=True)
    model = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.3, sd=0.2)},
        residual=nw.Additive(0.5),
    )
    design = table(np.zeros(15), 3)
    return model, table(model.simulate(design, seed=3)["DV"].to_numpy(), 3)


def test_a_stopped_fit_is_usable_and_resumed_it_has_more_draws() -> None:
    model, data = small()
    done = []

    def enough(it: nw.Iteration) -> None:
        done.append(time.monotonic())
        if it.phase == "sample" and it.details["draws"] >= 8:
            raise KeyboardInterrupt

    fit = model.fit(data, "bayes", seed=1, callback=enough, chains=2, warmup=12, draws=500)
    assert fit.status == "stopped"
    assert np.diff(done).max() < 1.0
    draws = fit.arrays["posterior"]
    assert 8 <= draws.shape[1] < 500
    assert np.isfinite(draws).all()
    assert np.isfinite(fit.ofv)
    np.testing.assert_allclose(list(fit.estimates), draws.mean(axis=(0, 1)), rtol=1e-9)
    method = Bayes(chains=2, draws=10)
    last = replace(_last(model, data), arrays=fit.arrays)
    more = list(method.resume(model.problem(data), last, np.random.default_rng(1)))
    assert more[-1].arrays["posterior"].shape[1] == draws.shape[1] + 10
    np.testing.assert_array_equal(more[-1].arrays["posterior"][:, : draws.shape[1]], draws)
    assert more[-1].status in ("converged", "limit")
    assert [it.k for it in more] == list(range(len(more)))


def _last(model: nw.Model, data: nw.Data) -> nw.Iteration:
    return list(nw.stream(model, data, "bayes", seed=1, chains=2, warmup=4, draws=8))[-1]


def test_a_stop_in_warm_up_is_a_fit_without_draws() -> None:
    model, data = small()
    fit = model.fit(data, "bayes", seed=1, time_limit=0.0, chains=2)
    assert fit.status == "stopped"
    assert np.isfinite(fit.ofv)
    assert "posterior" not in fit.arrays


def test_an_exception_in_the_density_is_an_impossible_point() -> None:
    model, data = small()
    problem = model.problem(data)
    joint, eta = Joint.around(problem, model.values, complete(model), model.values)

    class Broken:
        def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            if (points[:, 0] > 100).any():
                raise FloatingPointError("somewhere deep inside")
            return joint(points)

    points = np.tile(joint.point(model.values, eta), (3, 1))
    points[1, 0] = 101.0
    value, gradient, _ = safely(Broken())(points)  # type: ignore[arg-type]
    assert value[1] == -np.inf
    assert np.isfinite(value[[0, 2]]).all()
    assert np.isfinite(gradient).all()


def test_posterior_etas_are_thinned_to_a_stated_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = small()
    monkeypatch.setattr("nlmewidgets.methods.bayes.MOST_ETAS", 200)
    last = _last(model, data)
    assert last.arrays["posterior"].shape == (2, 8, 5)
    assert last.arrays["posterior_eta"].size <= 200
    assert np.isfinite(last.arrays["posterior_eta"]).all()


def test_options_that_make_no_sense_are_refused() -> None:
    model, data = small()
    for wrong in ({"chains": 0}, {"draws": 0}, {"target": 1.0}, {"warmup": -1}):
        with pytest.raises(nw.MethodError, match="Bayes needs chains, draws and max_depth of at least 1"):
            model.fit(data, "bayes", seed=1, **wrong)


# ------------------------------------------------------------------------ nutpie


def test_nutpie_draws_from_the_same_posterior() -> None:
    """Means and SDs of both samplers differ by Monte Carlo error; and a stream of it stops when it is closed."""
    pytest.importorskip("nutpie", reason="nutpie is not installed (extra bayes)", exc_type=ImportError)
    model, data = small()
    options: dict[str, Any] = {"chains": 4, "warmup": 80, "draws": 150}
    ours, theirs = (model.fit(data, "bayes", seed=1, sampler=s, **options) for s in ("numpy", "nutpie"))
    assert theirs.history["draws"].iloc[-1] == 150
    for name in model.names:
        x, y = column(ours, name), column(theirs, name)
        for a, b in ((x, y), ((x - x.mean()) ** 2, (y - x.mean()) ** 2)):
            error = np.hypot(a.std() / np.sqrt(ess_bulk(a)), b.std() / np.sqrt(ess_bulk(b)))
            assert abs(a.mean() - b.mean()) < 4 * error, name
    assert set(theirs.arrays) == set(ours.arrays)
    assert all(np.isfinite(array).all() for array in theirs.arrays.values())
    deviance = theirs.arrays["posterior_deviance"]
    assert deviance.mean() == pytest.approx(ours.arrays["posterior_deviance"].mean(), abs=deviance.std())
    assert theirs.arrays["nuts_step"][0] == pytest.approx(ours.arrays["nuts_step"][0], rel=0.6)
    more = theirs.resume(draws=10)
    assert more.arrays["posterior"].shape[1] == 160
    stream = nw.stream(model, data, "bayes", seed=1, sampler="nutpie", chains=4, warmup=40, draws=5000)
    for it in stream:
        if it.phase == "sample":
            break
    began = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 2.0


def test_an_exception_in_the_density_leaves_nutpie_running(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nutpie", reason="nutpie is not installed (extra bayes)", exc_type=ImportError)
    model, data = small()
    own, calls = Joint.__call__, []

    def broken(self: Joint, points: np.ndarray) -> Any:
        calls.append(len(points))
        if len(calls) % 7 == 0 and len(calls) > 300:
            raise FloatingPointError("somewhere deep inside")
        return own(self, points)

    monkeypatch.setattr(Joint, "__call__", broken)
    last = list(nw.stream(model, data, "bayes", seed=1, sampler="nutpie", chains=2, warmup=40, draws=30))[-1]
    assert len(calls) > 300
    assert last.arrays["posterior"].shape[:2] == (2, 30)


def test_a_sampler_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = small()
    with pytest.raises(nw.MethodError, match="samplers 'auto', 'numpy' and 'nutpie', not 'stan'"):
        model.fit(data, "bayes", seed=1, sampler="stan")
    monkeypatch.setattr("nlmewidgets.core.nuts_nutpie.available", lambda: False)
    with pytest.raises(nw.MethodError, match="nutpie is not installed: pip install"):
        model.fit(data, "bayes", seed=1, sampler="nutpie")
