"""The surface of two parameters as a panel: without a browser."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.panels.numbers import tables_of
from nlmewidgets.panels.surface import SurfacePanel
from tests.kinds import KINDS


@pytest.fixture(autouse=True)
def _few_points(monkeypatch) -> None:
    monkeypatch.setattr("nlmewidgets.panels.surface._POINTS", {False: 9, True: 5})


@pytest.fixture
def panel(alone):
    return alone(SurfacePanel)


def test_it_is_drawn_when_asked_and_says_what_it_shows(panel) -> None:
    assert panel.empty.layout.display is None
    panel.start()
    panel.wait(60)
    assert panel.empty.layout.display == "none"
    assert panel.surface.names == ("ka", "CL")
    assert panel.surface.ofv.shape == (9, 9)
    assert not panel.go.disabled
    assert panel.halt.disabled
    assert panel.lines[5.99].visible
    assert (panel.frame.x.axis.label, panel.frame.y.axis.label) == ("ka", "CL")
    for words in ("OFV (FOCEI) over ka and CL on 9 × 9 points", "held at the slider values", "Within 5.99"):
        assert words in panel.text.value
    assert "rise of 5.99" in tables_of(panel.frame.figure)
    assert panel.numbers is not None
    # The mark is where the sliders are, and moves with them.
    assert (panel.here.x[0], panel.here.y[0]) == (1.5, 2.8)
    panel.state.params = {"ka": 2.0}
    assert panel.here.x[0] == 2.0
    assert "have moved since" not in panel.text.value
    panel.state.params = {"V": 30.0}
    assert "Other parameters have moved since" in panel.text.value


def test_a_click_moves_the_sliders(panel) -> None:
    panel.start()
    panel.wait(60)
    panel.clicked(1.23456, 3.1)
    assert (panel.state.params["ka"], panel.state.params["CL"]) == (1.235, 3.1)
    assert panel.here.x[0] == 1.235
    panel.state.undo()
    assert (panel.state.params["ka"], panel.state.params["CL"]) == (1.5, 2.8)


def test_the_way_of_a_fit_is_drawn_over_it(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.panel = "surface"
    panel = explorer.panels["surface"]
    panel.start()
    panel.wait(60)
    assert not panel.way.visible
    state = panel.state
    state.start().wait(60)
    state.panel = "surface"
    assert panel.way.x[0] == 1.5
    assert panel.way.x[-1] == pytest.approx(state.result.estimates["ka"])
    assert len(panel.way.x) == len(state.trace)
    assert (panel.begin.x[0], panel.begin.y[0]) == (1.5, 2.8)
    assert panel.here.x[0] == pytest.approx(state.result.estimates["ka"])
    panel.second.value = "omega_ka"  # draws again, around the estimates
    panel.wait(60)
    assert panel.surface.centre == pytest.approx(state.result.ofv, abs=1e-4)
    assert "held at the FOCEI estimates" in panel.text.value


def test_it_can_be_stopped_and_is_replaced_by_the_next(panel, monkeypatch) -> None:
    monkeypatch.setattr("nlmewidgets.panels.surface._POINTS", {False: 513, True: 513})
    panel.start()
    panel.start()
    first = panel.asked
    panel.others.value = True
    assert panel.asked is not first
    panel.stop()
    panel.wait(30)
    assert not panel._job.alive
    assert not panel.go.disabled


def test_the_same_parameter_twice_is_refused_in_words(panel) -> None:
    panel.second.value = panel.first.value
    panel.start()
    assert "two different parameters" in panel.text.value


def test_a_fixed_parameter_can_be_looked_along(data, alone) -> None:
    model = nw.Model("a", {"a": nw.Normal(5.0)}, residual=nw.Additive(1.0, fixed=True))
    panel = alone(SurfacePanel, model, data)
    panel.first.value, panel.second.value = "additive", "a"
    panel.start()
    panel.wait(60)
    assert panel.surface.names == ("additive", "a")


def test_equations_have_a_surface_too(monkeypatch, alone) -> None:
    monkeypatch.setattr("nlmewidgets.panels.surface._POINTS", {False: 5, True: 5})
    model, data = KINDS["equations"]()
    panel = alone(SurfacePanel, model, data, "fo")  # one solution a point
    panel.start()
    panel.wait(120)
    assert np.isfinite(panel.surface.ofv).all()
    assert "OFV (FO)" in panel.text.value
    there = model.with_values({n: axis[0] for n, axis in zip(panel.surface.names, panel.surface.axes, strict=True)})
    assert panel.surface.ofv[0, 0] == pytest.approx(there.ofv(data, method="fo"), abs=1e-4)


def test_what_is_left_out_does_not_count(panel) -> None:
    panel.state.excluded = (panel.state.data.ids[0],)
    panel.start()
    panel.wait(60)
    expected = panel.state.model_now.ofv(panel.state.data_kept, method="focei")
    assert panel.surface.centre == pytest.approx(expected, abs=1e-4)
    assert "left out do not count" in panel.text.value
