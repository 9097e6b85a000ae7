"""Random effects given the data: tables and draws, against Bayes' theorem and the population's distribution."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import effects, eta_samples

SUBJECTS = 300


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    """A mean observed twice with much error: half of the variance of its EBEs is shrunk away."""
    rng = np.random.default_rng(8)
    y = 1 + 0.5 * rng.normal(size=(SUBJECTS, 1)) + 0.7 * rng.normal(size=(SUBJECTS, 2))
    frame = pd.DataFrame({"ID": np.repeat(np.arange(SUBJECTS), 2), "TIME": np.tile([0.0, 1.0], SUBJECTS)})
    data = nw.Data.from_frame(frame.assign(DV=y.ravel()))
    return nw.Model("a", {"a": nw.Normal(1.0, sd=0.5)}, residual=nw.Additive(0.7)).fit(data, "focei")


def posterior(fit: nw.Fit) -> tuple[np.ndarray, float]:
    """Return mean and variance of eta given the data, by Bayes' theorem."""
    omega, error = fit.values.omega[0, 0], fit.values.sigma[0] ** 2
    left = fit.problem.y.reshape(-1, 2) - fit.values.theta[0]
    variance = 1.0 / (1.0 / omega + 2.0 / error)
    return variance * left.sum(axis=1) / error, variance


def test_the_table_is_bayes_theorem(fit: nw.Fit) -> None:
    mean, variance = posterior(fit)
    table = fit.effects().droplevel("eta")
    np.testing.assert_allclose(table["ebe"], mean, atol=1e-6)
    np.testing.assert_allclose(table["se"], np.sqrt(variance), rtol=1e-6)
    # The sampler stops where the error of a mean is below 0.05 SD; over 300 subjects it averages out.
    error = (table["mean"] - mean) / np.sqrt(variance)
    assert error.abs().max() < 4 * 0.05
    assert abs(error.mean()) < 4 * 0.05 / np.sqrt(SUBJECTS)
    assert table["sd"].mean() == pytest.approx(np.sqrt(variance), rel=0.01)
    assert table["shrinkage"].mean() == pytest.approx(variance / fit.values.omega[0, 0], rel=0.02)


def test_draws_are_a_sample_of_the_population_where_ebes_are_not(fit: nw.Fit) -> None:
    """The empirical variance of draws is omega² at a maximum of the likelihood, whatever the shrinkage."""
    omega = float(np.sqrt(fit.values.omega[0, 0]))
    one = eta_samples(fit, 1, seed=3)
    assert one.index.names == ["ID", "draw"]
    assert len(one) == SUBJECTS
    assert stats.kstest(one["eta_a"] / omega, "norm").pvalue > 0.01
    assert stats.kstest(fit.eta["eta_a"] / omega, "norm").pvalue < 0.01
    mean, variance = posterior(fit)
    many = eta_samples(fit, 20, seed=3)["eta_a"].to_numpy().reshape(SUBJECTS, 20)
    standard = (many - mean[:, None]) / np.sqrt(variance)
    # Draws of one subject are from ten chains, some sweeps apart: nearly independent.
    assert standard.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * SUBJECTS * 20) * 2)
    assert abs(standard.mean()) < 4 / np.sqrt(SUBJECTS * 20) * 2
    pd.testing.assert_frame_equal(one, eta_samples(fit, 1, seed=3))


def test_draws_of_a_bayesian_fit_are_its_posterior() -> None:
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 1, 2, 2, 3, 3], "TIME": [0, 1] * 3, "DV": [1, 2, 3, 4, 5, 3.0]}))
    model = nw.Model("a", {"a": nw.Normal(3.0, sd=1.0)}, residual=nw.Additive(1.0)).fix("omega_a", "additive")
    fit = model.fit(data, "bayes", seed=1, chains=2, warmup=50, draws=50)
    kept = fit.arrays["posterior_eta"].reshape(-1, 1, 3)
    drawn = eta_samples(fit, 7)["eta_a"].to_numpy().reshape(3, 7)
    assert all(np.isin(drawn[i], kept[:, 0, i]).all() for i in range(3))
    table = effects(fit).droplevel("eta")
    np.testing.assert_allclose(table["mean"], kept.mean(axis=0)[0], atol=1e-9)


def test_what_cannot_be_drawn_is_said(fit: nw.Fit) -> None:
    with pytest.raises(nw.MethodError, match="draws=0 shows nothing"):
        eta_samples(fit, 0)
    with pytest.raises(nw.NlmeError, match=re.escape("no option 'samples' (its options: none)")):
        fit.draw("observed-predicted", samples=True)


@pytest.mark.parametrize(("samples", "points"), [(False, 1), (True, 1), (3, 3)])
def test_pictures_show_ebes_or_draws(fit: nw.Fit, samples: bool | int, points: int) -> None:
    drawing = fit.draw("eta-distribution", samples=samples)
    quantiles = drawing.figure.axes[1].lines[0].get_ydata()
    assert len(quantiles) == SUBJECTS * points
    words = drawing.figure.get_suptitle()
    assert words == {0: "EBEs", 1: "one draw per subject"}.get(int(samples), "3 draws per subject, each of weight 1/3")
    wide = quantiles.std() / np.sqrt(fit.values.omega[0, 0])
    assert wide < 0.8 if not samples else abs(wide - 1) < 0.1
