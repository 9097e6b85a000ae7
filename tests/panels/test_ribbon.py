"""The ribbon about the typical curve follows the sliders, the choice of parameter and the last fit."""

from __future__ import annotations

import numpy as np
import pytest

from nlmewidgets.diagnostics import typical_curve


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_the_ribbon_is_of_the_parameter_moved_last(explorer) -> None:
    panel = explorer.panels["population"]
    assert not panel.ribbon.visible
    panel.parameter.value = "moved"
    explorer.params = {"CL": 3.0}
    assert explorer.touched == "CL"
    assert "CL matters between" in panel.ribbon_text.value
    assert "CL ± 30 %" in panel.key.children[0].value
    low, high = np.array(panel.ribbon.y)
    # To first order CL 30 % up is CL 1 % up thirty times.
    explorer.params = {"CL": 3.03}
    up = 30.0 * (typical_curve(panel.grid, explorer.values) - 0.5 * (low + high))
    np.testing.assert_allclose(0.5 * (high - low), np.abs(up), atol=0.02 * np.abs(up).max())
    explorer.ribbon = ""
    assert not panel.ribbon.visible
    assert panel.ribbon_text.value == ""
    assert "±" not in panel.key.children[0].value


def test_a_parameter_of_the_spread_has_no_ribbon_and_says_so(explorer) -> None:
    panel = explorer.panels["population"]
    explorer.ribbon = "moved"
    explorer.params = {"omega_CL": 0.5}
    assert not panel.ribbon.visible
    assert "omega_CL moves the spread" in panel.ribbon_text.value


def test_one_standard_error_of_the_last_fit(explorer) -> None:
    panel = explorer.panels["population"]
    explorer.ribbon, explorer.ribbon_by = "ka", "1 SE"
    assert "no fit yet" in panel.ribbon_text.value
    explorer.method = "fo"
    explorer.start().wait()
    explorer.panel = "population"
    for _ in range(2):  # the band, which on a busy machine is beside the sliders, asks for the standard errors
        explorer.wait()
    assert explorer.errors["ka"] == pytest.approx(explorer.result.se["ka"])
    share = explorer.result.se["ka"] / explorer.result.estimates["ka"]
    before = np.ptp(np.array(panel.ribbon.y), axis=0)
    explorer.ribbon_by = "10 %"
    explorer.wait()
    np.testing.assert_allclose(before * 0.1, np.ptp(np.array(panel.ribbon.y), axis=0) * share, rtol=1e-9)


def test_a_dear_ribbon_follows_the_curve(explore, model, data) -> None:
    panels = [explore(model, data).panels["population"] for _ in range(2)]
    for panel, cost in zip(panels, (0.0, 1e9), strict=True):
        panel.state.ribbon = "V"
        panel._cost = cost
        panel.state.params = {"V": 25.0}
        panel.state.wait()
    np.testing.assert_array_equal(panels[0].ribbon.y, panels[1].ribbon.y)
