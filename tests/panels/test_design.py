"""The sampling design as a panel: without a browser."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics.sampling import efficiency, precision, sampling_design
from nlmewidgets.panels.design import DesignPanel
from tests.kinds import KINDS


@pytest.fixture
def panel(alone):
    return alone(DesignPanel)


def test_it_begins_with_the_design_of_the_data(panel, model, data) -> None:
    assert panel.plan.subjects == 12
    assert panel.plan.dose == data.records["AMT"].iloc[0]
    assert panel.plan.times == tuple(t for t in data.subset([1]).time if t > 0)
    expected = precision(model.problem(sampling_design(data, 1, panel.plan.times)), model.values, 12)
    assert panel.answer.now.table["rse"].to_numpy() == pytest.approx(expected.table["rse"].to_numpy())
    assert panel.curve.visible
    for words in ("12 subjects × 10 samples", "Least precise: ", "at the slider values", "ID 1"):
        assert words in panel.text.value


def test_samples_are_dragged_added_typed_and_removed(panel) -> None:
    panel.text_times.value = "1, 4, 12"
    panel.wait(30)
    assert panel.plan.times == (1.0, 4.0, 12.0)
    assert list(panel.points.x) == [1.0, 4.0, 12.0]
    before = panel.answer.now.table["rse"]["ka"]
    panel.points.x = np.array([0.5123, 4.0, 12.0])  # as the front end does while a point is dragged
    panel.wait(30)
    assert panel.plan.times == (0.5, 4.0, 12.0)
    assert panel.text_times.value == "0.5, 4, 12"
    assert panel.answer.now.table["rse"]["ka"] != before
    assert panel.drop.description == "Remove 0.5"
    panel.drop.click()
    assert panel.plan.times == (4.0, 12.0)
    panel.add_sample(8.04)
    assert panel.plan.times == (4.0, 8.0, 12.0)
    panel.add.click()  # in the widest gap, from 12 to the last time
    assert len(panel.plan.times) == 4
    panel.text_times.value = "soon"
    assert "Samples are numbers" in panel.text.value
    panel.reset.click()
    assert len(panel.plan.times) == 10


def test_a_pinned_design_is_compared_at_the_values_of_the_moment(panel, model, data) -> None:
    panel.pin.click()
    panel.number.value = 6
    panel.state.params = {"ka": 2.0}
    panel.wait(30)
    assert "D-efficiency 0.5 with 0.5 times the samples; per subject 1." in panel.text.value
    assert "RSE % pinned" in panel.table.root.value
    assert panel.kept.visible
    panel.text_times.value = "2, 9"
    panel.wait(30)
    values = model.space.from_dict({"ka": 2.0})
    few = precision(model.problem(sampling_design(data, 1, [2, 9])), values, 6)
    all_of_them = precision(model.problem(sampling_design(data, 1, panel.pinned.times)), values, 12)
    expected = efficiency(few, all_of_them)
    assert (f"{expected:.3g}" if np.isfinite(expected) else "no efficiency") in panel.text.value


def test_fixed_parameters_are_not_estimated(panel) -> None:
    panel.state.fixed = ("omega_ka", "omega_V")
    panel.wait(30)
    assert "omega_ka" not in panel.answer.now.table.index
    assert panel.answer.now.n_parameters == 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind, alone) -> None:
    model, data = KINDS[kind]()
    panel = alone(DesignPanel, model, data, "fo" if kind == "equations" else "laplace")
    assert "samples at" in panel.text.value
    if kind == "counts":
        assert "Standard errors are predicted for normal data" in panel.text.value
        assert "eta_base" in panel.shrunk.root.value
        assert panel.dose.layout.display == "none"


def test_what_cannot_be_computed_is_said(data, alone) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Proportional(0.2),
    )
    panel = alone(DesignPanel, model, data)
    panel.text_times.value = "0, 4, 12"
    panel.wait(30)
    assert "deviation is 0 at TIME 0" in panel.text.value
