"""The result: names, identities, and what it shows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw


@pytest.fixture(scope="module")
def fit(oral_model: Any, theophylline: nw.Data) -> nw.Fit:
    return oral_model(name="Theophylline <mg>").fit(theophylline, seed=1)


@pytest.fixture(scope="module")
def held(oral_model: Any, theophylline: nw.Data) -> nw.Fit:
    """Return a fit with a fixed parameter and a correlated block."""
    return oral_model(correlation={("ka", "V"): 0.3}, ka=nw.LogNormal(1.5, sd=0.6, fixed=True)).fit(theophylline)


def test_the_pieces_carry_their_names(fit):
    assert list(fit.theta.index) == ["ka", "CL", "V"]
    assert list(fit.sigma.index) == ["additive"]
    assert list(fit.omega.index) == list(fit.omega.columns) == ["eta_ka", "eta_CL", "eta_V"]
    assert list(fit.eta.columns) == list(fit.omega.index)
    assert fit.eta.index.tolist() == list(fit.data.ids)
    assert fit.eta.index.name == "ID"
    assert list(fit.estimates.index) == list(fit.start.names)


def test_omega_is_a_covariance_and_estimates_are_standard_deviations(held):
    sd = np.sqrt(np.diag(held.omega))
    assert held.estimates[["omega_ka", "omega_CL", "omega_V"]].to_numpy() == pytest.approx(sd, rel=1e-12)
    correlation = held.omega.loc["eta_ka", "eta_V"] / (sd[0] * sd[2])
    assert held.estimates["corr_ka_V"] == pytest.approx(correlation, rel=1e-12)
    assert held.omega.loc["eta_ka", "eta_CL"] == 0


def test_likelihood_identities(fit):
    n, subjects, k = 132, 12, 7
    assert (fit.n_obs, fit.n_subjects, fit.n_parameters) == (n, subjects, k)
    assert -2 * fit.loglik == pytest.approx(fit.ofv + n * math.log(2 * math.pi), rel=1e-14)
    assert fit.aic == pytest.approx(-2 * fit.loglik + 2 * k, rel=1e-14)
    assert fit.bic == pytest.approx(-2 * fit.loglik + k * math.log(subjects), rel=1e-14)


def test_fixed_parameters_do_not_count(held):
    assert held.n_parameters == 7  # CL, V, the block of ka and V (3), omega_CL, additive
    assert held.theta["ka"] == 1.5
    assert held.estimates["ka"] == 1.5


def test_the_objective_is_that_of_the_model_at_its_estimates(fit, held):
    for result in (fit, held):
        assert result.model.ofv(result.data, "focei") == pytest.approx(result.ofv, abs=1e-6)
        assert result.model.names == result.start.names
        assert result.model.space.initial == result.values
    assert fit.start.space.to_dict(fit.start.values)["CL"] == pytest.approx(2.8)  # the start stays


def test_a_refit_from_the_estimates_stays_there(fit):
    again = fit.model.fit(fit.data)
    assert again.converged
    assert again.ofv == pytest.approx(fit.ofv, abs=1e-5)


def test_individual_parameters_are_those_at_the_etas(fit):
    expected = fit.theta.to_numpy() * np.exp(fit.eta.to_numpy())
    np.testing.assert_allclose(fit.individual[["ka", "CL", "V"]].to_numpy(), expected, rtol=1e-12)
    assert fit.individual.index.tolist() == list(fit.data.ids)


def test_the_table_has_a_row_for_every_observation(fit):
    table = fit.table()
    assert list(table)[:4] == ["ID", "TIME", "DV", "PRED"]
    assert {"IPRED", "RES", "IRES", "WRES", "IWRES", "CWRES"} <= set(table)
    np.testing.assert_array_equal(table["DV"], fit.data.dv)
    np.testing.assert_allclose(table["IRES"], table["DV"] - table["IPRED"], rtol=1e-12)
    np.testing.assert_allclose(table["PRED"], fit.model.predict(fit.data)["PRED"], rtol=1e-12)


def test_history_is_a_row_for_every_iteration(fit):
    history = fit.history
    assert list(history)[:3] == ["k", "phase", "ofv"]
    assert history["k"].tolist() == list(range(len(history)))
    assert {"phase", "ofv", *fit.start.names, "gradient"} <= set(history)
    assert history["ofv"].iloc[-1] == fit.ofv
    assert history.iloc[0]["CL"] == pytest.approx(2.8)


def test_a_parameter_keeps_its_name_in_the_history(theophylline):
    # An elimination rate is called k, and so is the number of an iteration; FOCEI has a 'gradient'.
    parameters = {"k": nw.LogNormal(0.1, sd=0.1), "gradient": nw.LogNormal(8.0, sd=0.1)}
    model = nw.Model("gradient*exp(-k*t)", parameters, residual=nw.Additive(3.0))
    history = model.fit(theophylline, max_iterations=2).history
    assert history.columns.is_unique
    assert history["k"].iloc[0] == pytest.approx(0.1)
    assert history["gradient"].iloc[0] == pytest.approx(8.0)
    assert history["k_"].tolist() == list(range(len(history)))
    assert "gradient_" in history


def test_standard_errors_are_missing_for_fixed_parameters(held):
    assert math.isnan(held.se["ka"])
    assert held.se.drop("ka").gt(0).all()
    np.testing.assert_allclose(
        held.rse.drop("ka"), 100 * held.se.drop("ka") / held.estimates.drop("ka").abs(), rtol=1e-12
    )
    assert list(held.se.index) == list(held.start.names)


def test_the_summary_has_a_row_for_every_parameter(held):
    summary = held.summary()
    assert list(summary.index) == list(held.start.names)
    assert list(summary) == ["kind", "initial", "estimate", "se", "rse_%", "shrinkage_%", "fixed"]
    assert summary.loc["ka", "fixed"]
    assert summary["shrinkage_%"].dropna().index.tolist() == ["omega_ka", "omega_CL", "omega_V"]


def test_a_fit_cannot_be_changed(fit):
    with pytest.raises(AttributeError):
        fit.ofv = 0.0
    theta, omega = fit.theta, fit.omega  # copies
    theta["CL"] = 99.0
    omega.iloc[0, 0] = 99.0
    assert fit.theta["CL"] < 10
    assert fit.omega.iloc[0, 0] < 1


def test_a_model_without_random_effects_fits(theophylline):
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0), residual=nw.Additive(0.7)
    )
    fit = model.fit(theophylline)
    assert fit.converged
    # Least squares: sigma² is the mean square.
    residuals = fit.table()["RES"]
    assert fit.sigma["additive"] == pytest.approx(math.sqrt((residuals**2).mean()), rel=1e-4)
    assert fit.eta.shape == (12, 0)
    assert fit.shrinkage.index.tolist() == ["epsilon"]
    assert repr(fit)


# ------------------------------------------------------------------------------ display


def test_repr_says_what_was_fitted_how_it_ended_and_the_estimates(fit):
    text = repr(fit)
    assert text.splitlines()[0] == "Theophylline <mg> by FOCEI: converged"
    assert fit.message in text
    for word in ("OFV (focei)", "−2 log L", "AIC", "BIC (ln subjects)", "12 / 132", "iterations, time"):
        assert word in text
    for name in fit.start.names:
        assert name in text
    assert f"{fit.ofv:.4f}" in text
    assert "seed" not in text  # nothing is simulated


def test_repr_marks_fixed_parameters_and_unfinished_fits(held, oral_model, theophylline):
    line = next(row for row in repr(held).splitlines() if row.startswith("ka "))
    assert line.endswith("fixed")
    stopped = oral_model().fit(theophylline, time_limit=0.0)
    assert repr(stopped).startswith(
        "One compartment, first-order absorption by FOCEI: stopped early\nStopped at the time limit"
    )
    limited = oral_model().fit(theophylline, max_iterations=1)
    assert repr(limited).startswith("One compartment, first-order absorption by FOCEI: not converged\n")


def test_a_simulating_method_shows_its_seed(oral_model, theophylline):
    fit = oral_model().fit(theophylline, "saem", seed=7, explore=5, smooth=5)
    assert "seed" in repr(fit)
    assert ">7<" in fit._repr_html_()


def test_html_escapes_names_and_shows_the_same_numbers(fit):
    page = fit._repr_html_()
    assert "Theophylline &lt;mg&gt; by FOCEI: converged" in page
    assert "<mg>" not in page
    for name in fit.start.names:
        assert name in page
    assert f"{fit.ofv:.4f}" in page
    for tag in ("div", "table", "tr", "td", "th", "b", "span", "thead", "tbody"):
        assert page.count(f"<{tag}>") + page.count(f"<{tag} ") == page.count(f"</{tag}>"), tag


def test_estimates_are_series_a_user_can_join(fit):
    joined = pd.concat([fit.estimates, fit.se, fit.rse], axis=1)
    assert list(joined) == ["estimate", "se", "rse"]
    assert joined.notna().all().all()
