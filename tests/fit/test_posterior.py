"""What a Bayesian fit shows of its draws, its export, and draws from the priors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.default_priors import complete
from nlmewidgets.fit.prior_predictive import draw_values

A, K = sp.symbols("a k", positive=True)
MODEL = nw.Model(
    A * sp.exp(-K * nw.time),
    {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
    correlation={(A, K): 0.2},
    residual=nw.Combined(0.5, 0.1),
).fix("proportional")
DESIGN = nw.Data.from_frame(
    pd.DataFrame([(i + 1, t, 0.0) for i in range(5) for t in (0.5, 2.0, 5.0)], columns=["ID", "TIME", "DV"])
)


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    y = MODEL.simulate(DESIGN, seed=1)["DV"].to_numpy()
    data = nw.Data.from_frame(DESIGN.records[["ID", "TIME"]].assign(DV=y))
    return MODEL.fit(data, "bayes", seed=1, chains=4, warmup=10, draws=20)


def test_the_summary_is_that_of_the_draws(fit: nw.Fit) -> None:
    draws, table = fit.posterior.draws, fit.posterior.summary()
    assert draws.shape == (80, 7)
    assert list(table.index) == list(MODEL.names)
    np.testing.assert_allclose(table["mean"], draws.mean(), rtol=1e-12)
    np.testing.assert_allclose(table["sd"], draws.std(), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(table["97.5%"], draws.quantile(0.975), rtol=1e-12)
    assert table.loc["proportional", "prior"] == "fixed"
    assert table.loc["corr_a_k", "prior"] == "LKJ(shape=2) (default)"
    assert table.loc["omega_a", "prior"] == "HalfNormal(scale=1.5) (default)"
    assert table.loc["a", "prior"] == "LogNormal(median=8, sd=1.5) (default)"
    free = [n for n in MODEL.names if n != "proportional"]
    np.testing.assert_allclose(fit.se[free], draws.std()[free], rtol=1e-6)
    assert "prior of a" in repr(fit)


def test_the_export_is_what_arviz_takes(fit: nw.Fit) -> None:
    groups = fit.to_arviz()
    assert set(groups) == {"posterior", "sample_stats", "observed_data"}
    assert groups["posterior"]["a"].shape == (4, 20)
    assert groups["posterior"]["eta_k"].shape == (4, 20, 5)
    assert groups["sample_stats"]["diverging"].dtype == bool
    arviz = pytest.importorskip("arviz", reason="arviz is not installed")
    found = arviz.from_dict(**groups) if int(arviz.__version__.split(".")[0]) < 1 else arviz.from_dict(groups)
    np.testing.assert_array_equal(found["posterior"]["a"].to_numpy(), groups["posterior"]["a"])


def test_a_saved_fit_has_its_draws(fit: nw.Fit, tmp_path: Path) -> None:
    again = nw.load_fit(fit.save(tmp_path / "fit.json"))
    pd.testing.assert_frame_equal(again.posterior.summary(), fit.posterior.summary())


def test_a_fit_without_draws_says_so(fit: nw.Fit) -> None:
    other = fit.start.fit(fit.data, "fo", max_iterations=1)
    with pytest.raises(nw.MethodError, match="There is no posterior: the fit is by 'fo'"):
        _ = other.posterior


def test_draws_from_priors_have_their_distributions() -> None:
    p, q, r = sp.symbols("p q r", real=True)
    model = nw.Model(
        p + q * nw.time + r,
        {p: nw.Normal(1.0, sd=0.5), q: nw.Normal(0.0, sd=0.5), r: nw.Normal(0.0, sd=0.5)},
        correlation={(p, q): 0.1, (p, r): 0.1, (q, r): 0.1},
        residual=nw.Additive(1.0),
        priors={
            ("p", "q", "r"): priors.InverseWishart(7.0, ((2.0, 0.6, 0.1), (0.6, 1.0, 0.0), (0.1, 0.0, 0.5))),
            "p": priors.Normal(0.0, 2.0),
            "additive": priors.InverseGamma(3.0, 0.4),
        },
    )
    rng = np.random.default_rng(1)
    drawn = [draw_values(model.space, complete(model), rng) for _ in range(1500)]
    omega = np.array([v.omega for v in drawn])
    for i, scale in enumerate((2.0, 1.0, 0.5)):
        assert stats.kstest(omega[:, i, i], stats.invgamma(2.5, scale=scale / 2).cdf).pvalue > 1e-3
    # the inverse is Wishart with mean df·scale⁻¹
    scale = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, 0.0], [0.1, 0.0, 0.5]])
    inverse = np.linalg.inv(omega)
    error = inverse.std(axis=0) / np.sqrt(len(inverse))
    assert (np.abs(inverse.mean(axis=0) - 7.0 * np.linalg.inv(scale)) < 4 * error).all()
    assert stats.kstest([v.theta[0] for v in drawn], stats.norm(0, 2).cdf).pvalue > 1e-3
    assert stats.kstest([v.sigma[0] ** 2 for v in drawn], stats.invgamma(3, scale=0.4).cdf).pvalue > 1e-3
    corr = np.array([priors.LKJ(1.7).draw_block(3, rng) for _ in range(1500)])
    for i, j in ((0, 1), (0, 2), (1, 2)):  # each correlation is beta(shape + size/2 − 1) on (−1, 1)
        assert stats.kstest(corr[:, i, j], stats.beta(2.2, 2.2, loc=-1, scale=2).cdf).pvalue > 1e-3


def test_a_prior_predictive_is_a_table_like_a_simulation() -> None:
    table = MODEL.prior_predictive(DESIGN, n=4, seed=2)
    assert list(table) == ["REP", "ID", "TIME", "IPRED", "DV"]
    assert len(table) == 4 * DESIGN.n_obs
    assert table["DV"].notna().all()
    pd.testing.assert_frame_equal(table, MODEL.prior_predictive(DESIGN, n=4, seed=2))
    two = nw.Model(
        MODEL.prediction,
        dict(MODEL.parameters),
        residual=nw.Additive(0.5),
        priors={"omega_a": priors.HalfNormal(0.3), ("a",): priors.InverseWishart(4.0, (0.3,))},
    )
    with pytest.raises(nw.ModelError, match="'omega_a' has two priors, its own and the InverseWishart"):
        two.prior_predictive(DESIGN, n=2)
