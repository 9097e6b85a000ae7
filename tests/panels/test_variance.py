"""The variance over time as a panel, against simulated data: without a browser."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics.variance_time import variance_in_time
from nlmewidgets.panels.numbers import tables_of
from nlmewidgets.panels.variance import VariancePanel
from tests.kinds import KINDS


@pytest.fixture
def panel(alone):
    return alone(VariancePanel)


def test_the_stack_is_the_variance_of_simulated_observations(model, data) -> None:
    """Var(Y) of 20,000 data sets simulated by other code; an error of a variance is about its own √(2/n) and more."""
    grid = model.problem(data.subset([1]).on_grid(9))
    found = variance_in_time(grid, model.values, n=20_000)
    _, y = grid.simulate(model.values, 20_000, np.random.default_rng(5))
    moments = ((y - y.mean(axis=0)) ** 2).var(axis=0) ** 0.5 / np.sqrt(20_000)
    assert np.all(np.abs(found.total - y.var(axis=0)) < 5 * np.sqrt(2) * moments)
    np.testing.assert_allclose(sum(found.parts.values()), found.total, rtol=1e-9)
    stack = found.stacked()
    assert list(stack) == ["eta_ka", "eta_CL", "eta_V", "interaction", "additive"]
    assert np.all(stack["eta_ka"][0] == 0)
    assert np.all(stack["additive"][1] >= found.total - 1e-12)
    np.testing.assert_allclose(found.stacked(share=True)["additive"][1], 1.0)
    assert np.allclose(found.residual, 0.49)


def test_it_follows_sliders_selection_and_shares(panel, model, data) -> None:
    assert "doses and covariates of ID 1, at the slider values" in panel.text.value
    assert "standard deviation" in panel.text.value
    expected = variance_in_time(model.problem(data.subset([1]).on_grid(101)), model.values, n=3000)
    assert np.array_equal(panel.found.total, expected.total)
    assert panel.frame.y.axis.label == "Variance (mg/L)²"
    table = tables_of(panel.frame.figure)["up to eta_ka"]
    assert np.array_equal(table["up to additive"], panel.found.stacked()["additive"][1])
    assert list(table)[1:] == [f"up to {name}" for name in panel.found.parts]
    panel.state.params = {"additive": 2.0}
    panel.wait(30)
    assert panel.found.residual[0] == pytest.approx(4.0)
    panel.state.selected_ids = (3,)
    panel.wait(30)
    assert "ID 3" in panel.text.value
    panel.share.value = True
    assert panel.frame.y.axis.label == "Share of the variance (%)"
    assert max(panel.areas["additive"].y) == pytest.approx(100.0)
    assert not panel.line.visible


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind, alone) -> None:
    model, data = KINDS[kind]()
    panel = alone(VariancePanel, model, data, "fo" if kind == "equations" else "laplace")
    assert "between subjects" in panel.text.value, panel.text.value
    if kind == "counts":
        assert list(panel.areas)[-1] == "residual"
        assert not panel.line.visible
    if kind == "occasions":
        assert "kappa_k" in panel.areas


def test_a_likelihood_that_cannot_be_drawn_from_is_refused(data, alone) -> None:
    panel = alone(VariancePanel, nw.Model({"y": nw.LogLikelihood("-(dv - a)**2")}, {"a": nw.Normal(5.0, sd=1.0)}), data)
    assert "cannot be simulated" in panel.text.value
    assert panel.place.layout.display == "none"
