"""Every structure of the library can be explored by the line its documentation gives."""

from __future__ import annotations

import ipywidgets as ipw
import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.live import Look
from nlmewidgets.library import LIBRARY
from nlmewidgets.panels.initial import ParameterRow
from nlmewidgets.panels.population import PopulationPanel
from nlmewidgets.panels.state import State
from tests.demos import demonstration

EVERY = pytest.mark.parametrize("name", LIBRARY)
INTEGRATED = ("PK, saturable elimination", "PK, target-mediated", "PD, turnover")
"""Families of differential equations: the default run takes the last of each, `-m slow` takes all in full."""


def quick() -> list[str]:
    """Return the structures of the default run."""
    last = {entry.family: name for name, entry in LIBRARY.items()}
    return [name for name, entry in LIBRARY.items() if entry.family not in INTEGRATED or last[entry.family] == name]


def check(state: State, panel: PopulationPanel, row: ParameterRow, seconds: float) -> None:
    """Look at curves and objective, move a slider, and look again."""
    state._latest.wait(seconds)
    assert np.isfinite(state.ofv)
    assert panel.typical.visible
    assert panel.band.visible
    before, objective = np.array(panel.typical.y), state.ofv
    row.slider.value += 60
    state._latest.wait(seconds)
    assert np.abs(panel.typical.y - before).max() > 1e-3 * np.abs(before).max()
    assert panel.typical.visible
    assert panel.band.visible
    assert np.isfinite(state.ofv)
    assert state.ofv != objective
    assert state.notice == ""


@pytest.mark.parametrize("name", quick())
def test_a_slider_moves_curve_and_objective_of_every_structure(name, monkeypatch):
    """In small: one subject, few curves, and the density at eta = 0 as objective, because modes are dear."""

    def joint(problem, values, method="focei", start=None):
        eta = np.zeros((problem.n_eta, problem.n_subjects))
        with np.errstate(all="ignore"):
            f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
            each = problem.minus2ll(f, values.sigma)
        return Look(values, float(each.sum()), method, each, eta)

    monkeypatch.setattr("nlmewidgets.panels.state.look", joint)
    monkeypatch.setattr("nlmewidgets.panels.population._SIMULATED", 2)
    monkeypatch.setattr("nlmewidgets.panels.population._TIMES", 17)
    model, data = demonstration(name)
    state = State()
    state.setup(model, data.subset(data.ids[:1]))
    panel = PopulationPanel(state)
    panel.show()
    check(state, panel, ParameterRow(state, model.names[0], "theta", model.names[0]), 60.0)


def alerts(widget: ipw.Widget) -> list[str]:
    """Return the texts of a widget and of all inside it that say what went wrong."""
    inside = [w for child in getattr(widget, "children", ()) for w in alerts(child)]
    value = getattr(widget, "value", None)
    return [*inside, value] if isinstance(value, str) and "class='nlme-alert" in value else inside


@pytest.mark.slow
@EVERY
def test_the_line_of_the_documentation_opens_every_structure_in_full(name, explore):
    explorer = explore(*nw.library.demo(name))
    check(explorer, explorer.panels["population"], explorer.initial.rows[explorer.model.names[0]], 900.0)
    for panel in explorer.panels:
        explorer.panel = panel
    assert not alerts(explorer)
