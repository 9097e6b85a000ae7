"""Dragging the typical curve moves the free typical values, is one step to undo, and says what it did."""

from __future__ import annotations

import numpy as np
import pytest

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import single_dose, typical_curve


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def level_at(explorer, time: float) -> float:
    grid = explorer.model.problem(explorer.data.on_grid(times=np.array([time])))
    return float(typical_curve(grid, explorer.values, explorer.per)[0])


def drag(panel, index: int, *levels: float) -> None:
    """Do what a front end reports of a drag."""
    mark = panel.handles.mark
    event = {"index": index, "point": {"x": float(mark.x[index]), "y": float(mark.y[index])}}
    mark._drag_start_handlers(mark, event)
    for level in levels:
        mark._drag_handlers(mark, event | {"point": event["point"] | {"y": level}})
    mark._drag_end_handlers(mark, event | {"point": event["point"] | {"y": levels[-1]}})
    panel.wait()


def test_by_code_the_curve_passes_where_it_is_asked_to(explorer) -> None:
    explorer.fixed = ("ka",)
    explorer.drag(5.0, 9.0)
    assert level_at(explorer, 5.0) == pytest.approx(9.0, rel=1e-6)
    assert explorer.params["ka"] == 1.5
    explorer.undo()
    assert explorer.params["CL"] == 2.8
    explorer.fixed = ("ka", "CL", "V")
    with pytest.raises(NlmeError, match="free one of"):
        explorer.drag(5.0, 9.0)


def test_a_drag_of_a_handle_is_one_step_and_told_in_words(explorer) -> None:
    panel = explorer.panels["population"]
    panel.handles.toggle.value = True
    assert panel.handles.mark.visible
    before, time = dict(explorer.params), float(panel.handles.mark.x[4])
    drag(panel, 4, 5.0, 6.0, 9.0)
    assert level_at(explorer, time) == pytest.approx(9.0, rel=1e-6)
    assert "To pass 9 mg/L at" in panel.handles.text.value
    assert "V 32 →" in panel.handles.text.value
    np.testing.assert_allclose(panel.handles.mark.y, np.interp(panel.handles.mark.x, panel.times, panel.typical.y))
    explorer.undo()
    assert explorer.params == before


def test_what_cannot_be_reached_is_said_and_nothing_moves(explorer) -> None:
    panel = explorer.panels["population"]
    panel.handles.toggle.value = True
    explorer.fixed = ("CL", "V")
    before = dict(explorer.params)
    panel.handles.ask(3.0, 500.0)
    panel.wait()
    assert "No values of ka near these" in panel.handles.text.value
    assert explorer.params == before


def test_fields_are_the_keyboard_s_way_and_follow_the_units_shown(explorer) -> None:
    panel = explorer.panels["population"]
    panel.handles.toggle.value = True
    explorer.per_dose = True
    panel.handles.time.value = 9.0
    dose = single_dose(explorer.data)
    assert panel.handles.level.value == pytest.approx(level_at(explorer, 9.0), rel=0.02)
    assert panel.handles.level.value < 9.0 / dose.min()
    panel.handles.level.value = 0.02
    panel.handles.pass_here.click()
    panel.wait()
    assert level_at(explorer, 9.0) == pytest.approx(0.02, rel=1e-6)
    assert "0.02 mg/L per mg at 9 h" in panel.handles.text.value
