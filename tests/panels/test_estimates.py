"""Estimates beside what they are compared with, the change in standard errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.fit.changes import changes, changes_in_words


def test_the_change_is_counted_in_standard_errors(explore, model, data) -> None:
    explorer = explore(model.fix("V"), data, method="fo")
    explorer.panel = "estimates"
    panel = explorer.panels["estimates"]
    assert panel.empty.layout.display is None
    first = explorer.start().wait().result
    explorer.panel = "estimates"
    explorer.wait()
    table = changes(first, {"ka": 1.5, "CL": 2.8})
    assert table.loc["CL", "change_se"] == pytest.approx((first.theta["CL"] - 2.8) / first.se["CL"])
    assert np.isnan(table.loc["V", "change_se"])  # fixed
    assert np.isnan(table.loc["omega_ka", "change"])  # nothing to compare with
    assert "Change in SE" in panel.view.root.value
    initial = explorer.model.space.to_dict(explorer.model.space.initial)
    assert changes_in_words(changes(first, initial)) in panel.text.value
    assert f"{changes(first, initial).loc['CL', 'change_se']:.4g}" in panel.view.root.value
    explorer.take_estimates()
    panel.other.value = "the sliders"
    assert "No estimate is two standard errors or more away." in panel.text.value
    explorer.params = {"CL": float(first.theta["CL"] + 3.0 * first.se["CL"])}
    assert "Two standard errors or more away: CL by -3.0." in panel.text.value
    explorer.start().wait()
    explorer.panel = "estimates"
    panel.other.value = 1
    explorer.wait()
    assert "Other fit" in panel.view.root.value


def test_an_estimate_at_its_bound_by_rounding_can_be_taken(explore) -> None:
    k, share = sp.symbols("k share", positive=True)
    model = nw.Model(
        share * sp.exp(-k * nw.time),
        {share: nw.LogitNormal(0.9, sd=0.3), k: nw.LogNormal(0.1, sd=0.2)},
        residual=nw.Additive(0.1),
    )
    times = np.tile(np.arange(1.0, 7.0), 8)
    shares = np.repeat(np.linspace(0.8, 0.95, 8), 6)
    records = pd.DataFrame({"ID": np.repeat(np.arange(1, 9), 6), "TIME": times, "DV": shares * np.exp(-0.1 * times)})
    explorer = explore(model, nw.Data.from_frame(records))
    explorer.start().wait(60)
    fit = explorer.result
    first = [p.name for p in model.space.theta].index("share")
    omega = fit.values.omega.copy()
    omega[first, :] = omega[:, first] = 0.0
    theta = np.where(np.arange(2) == first, 1.0, fit.values.theta)
    explorer.result = replace(fit, values=replace(fit.values, theta=theta, omega=omega))
    explorer.take_estimates()
    explorer.wait(10)
    assert 1.0 - 1e-11 < explorer.params["share"] < 1.0
    assert 0.0 < explorer.params["omega_share"] <= 1e-6
    assert explorer.params["k"] == float(fit.theta["k"])
    assert np.isfinite(explorer.ofv)


def test_counts_begin_with_a_method_that_treats_them(explore) -> None:
    explorer = explore(*nw.library.demo("counts_poisson"))
    assert explorer.method == "laplace"
    assert explorer.start().wait(60).status == "converged"
    explorer.method = "focei"
    assert explorer.use(*nw.library.demo("oral_1cpt")).method == "focei"
    assert explorer.use(*nw.library.demo("counts_poisson")).method == "laplace"
