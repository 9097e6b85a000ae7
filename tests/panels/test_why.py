"""Why did it stop: every kind of ending of real fits in words, and each remedy carried out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics.remedies import remedies


def labels(fit: nw.Fit) -> list[str]:
    return [r.label for r in remedies(fit)]


def press(explorer, label: str) -> None:
    next(b for b in explorer.fitting.why.box.children if getattr(b, "description", "") == label).click()
    explorer.wait(60)


def test_a_converged_fit_says_so_and_offers_nothing(explore, model, data) -> None:
    explorer = explore(model, data)
    assert explorer.fitting.why.root.layout.display == "none"
    explorer.start().wait(60)
    assert explorer.fitting.why.root.layout.display is None
    said = explorer.fitting.why.words.value
    assert "It converged" in said
    assert f"The largest gradient is {explorer.trace[-1].details['gradient']:.2g}" in said
    assert explorer.fitting.why.remedies == ()


def test_a_fit_at_its_limit_is_resumed_with_more_iterations(explore, model, data) -> None:
    explorer = explore(model, data, max_iterations=2)
    explorer.start().wait(60)
    assert "It did not converge" in explorer.fitting.why.words.value
    assert "largest gradient" in explorer.fitting.why.words.value
    press(explorer, "Resume")
    assert explorer.status == "converged"
    assert len(explorer.fits) == 2


def test_a_stopped_fit_goes_on(explore, model, data) -> None:
    explorer = explore(model, data, method="saem", explore=20, smooth=10)
    explorer.start()
    explorer.stop().wait(10)
    assert "stopped before its end" in explorer.fitting.why.words.value
    press(explorer, "Resume")
    assert explorer.status == "converged"
    assert "Completed 20 exploring and 10 smoothing iterations" in explorer.message


def test_a_variance_at_zero_is_fixed_there_and_the_objective_stays(explore) -> None:
    model = nw.Model(
        "asym/(1 + exp(-(t - mid)/scale))",
        {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700, sd=0.3), "scale": nw.LogNormal(340, sd=0.3)},
        residual=nw.Additive(8),
    )
    explorer = explore(model, nw.datasets.load("orange"))
    explorer.start().wait(60)
    first = explorer.result
    assert first.values.omega[1, 1] < 1e-6 * model.values.omega[1, 1]
    assert "omega_mid went to zero" in explorer.fitting.why.box.children[0].value
    press(explorer, "Fix omega_mid near 0")
    second = explorer.result
    assert second.start.space.is_fixed("omega_mid")
    assert second.values.omega[1, 1] == pytest.approx(first.values.omega[1, 1], rel=1e-12)
    assert second.converged
    assert second.n_parameters == first.n_parameters - 1
    assert second.ofv == pytest.approx(first.ofv, abs=1e-4)


def decays(curve: str) -> tuple[nw.Model, nw.Data]:
    """Return a model of A, B and k, and decays of A·B = 10 with k = 0.3."""
    rng = np.random.default_rng(3)
    rows = [
        (i, t, 10 * np.exp(0.3 * e - 0.3 * t) + 0.2 * rng.standard_normal())
        for i, e in enumerate(rng.standard_normal(20), 1)
        for t in (0.5, 1.0, 2.0, 4.0, 6.0)
    ]
    parameters = {"A": nw.LogNormal(5.0, sd=0.3), "B": nw.LogNormal(1.5), "k": nw.LogNormal(0.25)}
    model = nw.Model(curve, parameters, residual=nw.Additive(0.3))
    return model, nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


def test_what_the_data_do_not_determine_is_fixed(explore) -> None:
    explorer = explore(*decays("A*B*exp(-k*t)"))
    explorer.start().wait(60)
    assert explorer.status == "limit"
    assert "not A and B apart" in explorer.message
    assert "do not determine A and B" in explorer.fitting.why.box.children[0].value
    before = explorer.result.ofv
    press(explorer, "Fix B at 1.5")
    assert explorer.result.converged
    assert explorer.result.theta["B"] == 1.5
    assert explorer.result.ofv == pytest.approx(before, abs=1e-3)
    assert explorer.fitting.why.remedies == ()


def test_a_parameter_without_influence_is_fixed(explore) -> None:
    explorer = explore(*decays("A*exp(-k*t) + exp(-B*t - 800)"))
    explorer.start().wait(10)
    assert explorer.status == "failed"
    press(explorer, "Fix B")
    assert explorer.status == "converged"


def test_a_saem_that_is_still_drifting_or_too_noisy_says_so(model, data) -> None:
    fit = model.fit(data, "saem", seed=1, explore=5, smooth=5)
    drifting = replace(fit, message="Exploring ended with a parameter still drifting; resume the fit, or start nearer.")
    assert labels(drifting) == ["Start there"]
    noisy = replace(fit, message="A Monte Carlo error of 0.1 standard errors needs more; resume the fit.")
    assert labels(noisy) == ["Smooth on", "More chains"]


def test_high_shrinkage_leads_to_its_panel(explore, model, data) -> None:
    few = data.records.groupby("ID").head(4)
    explorer = explore(model.with_values({"additive": 4.0}).fix("additive"), nw.Data.from_frame(few))
    explorer.start().wait(60)
    assert "See shrinkage" in labels(explorer.result)
    press(explorer, "See shrinkage")
    assert explorer.panel == "shrinkage"


def test_a_method_that_cannot_begin_gives_way_to_the_one_its_message_names(explore, data) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0), residual=nw.Additive(0.7)
    )
    explorer = explore(model, data, method="saem")
    explorer.start().wait(10)
    assert "random effects" in explorer.message
    press(explorer, "Fit by FOCEI")
    assert explorer.status == "converged"
    assert np.isfinite(explorer.result.ofv)
