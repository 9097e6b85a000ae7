"""The microscope shows the very chains of a run, what is accepted and what a draw counts."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.fit import chains as chains_module
from nlmewidgets.fit.chains import Chains


@pytest.fixture
def run(model, data):
    return lambda: nw.stream(model, data, "saem", seed=3, explore=12, smooth=6)


def test_the_record_holds_the_chains_of_every_iteration(run) -> None:
    chains, expected = Chains(), []
    for it in run():
        chains.take(it)
        expected.append(np.array(it.arrays["saem_eta"][1, :5, 4]))
    k, found = chains.of(1, 4)
    np.testing.assert_array_equal(k, np.arange(19))
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-6)  # kept in single precision
    assert chains.n_subjects == 12


def test_the_record_stays_within_its_memory(run, monkeypatch) -> None:
    monkeypatch.setattr(chains_module, "_BYTES", 4 * 3 * 5 * 12 * 6)  # six iterations of this run
    chains = Chains()
    for it in run():
        chains.take(it)
    k, found = chains.of(0, 0)
    np.testing.assert_array_equal(k, [0, 4, 8, 12, 16])
    assert found.shape == (5, 5)


def test_methods_without_chains_leave_nothing(model, data) -> None:
    chains = Chains()
    for it in nw.stream(model, data, "fo"):
        chains.take(it)
    assert chains.of(0, 0)[1].size == 0


def test_the_panel_follows_a_run_and_the_selection(explore, model, data) -> None:
    explorer = explore(model, data, method="saem", explore=30, smooth=10)
    explorer.panel = "microscope"
    panel = explorer.panels["microscope"]
    assert "No run of SAEM yet" in panel.empty.value
    explorer.start().wait()
    assert explorer.panel == "microscope"
    explorer.selected_ids = (data.ids[6],)
    panel.eta.value = 2
    k, each = explorer.chains.of(2, 6)
    np.testing.assert_array_equal(panel.lines.x, k)
    np.testing.assert_array_equal(panel.lines.y, each)
    gamma = [it.details["gamma"] for it in explorer.trace]
    np.testing.assert_array_equal(panel.step_size.y, gamma)
    np.testing.assert_allclose(gamma[31:], np.arange(1, 11) ** -0.7)
    shares = np.array(panel.accepted["acceptance"].y)
    assert ((shares > 0) & (shares <= 1)).all()
    assert "of subject 7, 5 of its chains" in panel.text.value
    assert "settle as it falls" in panel.text.value
    explorer.iteration = 12
    assert panel.markers[0].visible


def test_another_method_is_said_to_have_no_chains(explore, model, data) -> None:
    explorer = explore(model, data, method="fo")
    explorer.start().wait()
    explorer.panel = "microscope"
    assert "not by SAEM" in explorer.panels["microscope"].empty.value
