"""Looking at data without a browser: what is drawn, lit up and said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import traitlets as tl

import nlmewidgets as nw
from nlmewidgets.panels.look import LOOK_PANELS
from nlmewidgets.panels.theme import SELECTED


@pytest.fixture
def look(data):
    widget = nw.look(data)
    yield widget
    widget.close()


def drawn(panel) -> int:
    """Return how many numbers the group lines hold."""
    lines = [m for m in panel.frame.figure.marks if type(m).__name__ == "Lines" and m is not panel.picked]
    return sum(int(np.isfinite(m.y).sum()) for m in lines)


def test_there_is_a_tab_for_every_panel_and_only_the_shown_one_is_built(look) -> None:
    assert [look.tabs.get_title(k) for k in range(4)] == ["Profiles", "Covariates", "Summary", "NCA"]
    assert [p._built for p in look.panels.values()] == [True, False, False, False]
    look.tabs.selected_index = 3
    assert [p.visible for p in look.panels.values()] == [False, False, False, True]


def test_all_observations_are_drawn_and_each_group_has_its_colour(look) -> None:
    panel = look.panels["profiles"]
    assert drawn(panel) == 132
    panel.by.value = "WT"
    assert drawn(panel) == 132
    assert len(panel.points) == 3
    assert len({p.colors[0] for p in panel.points} | {SELECTED}) == 4


def test_the_lines_of_subjects_are_not_joined(look) -> None:
    (line,) = [m for m in look.panels["profiles"].frame.figure.marks if type(m).__name__ == "Lines"][:1]
    assert int(np.isnan(line.y).sum()) == 11
    assert np.isfinite(line.y[-1])


def test_the_axes_have_units_that_follow_the_toggles(look) -> None:
    panel = look.panels["profiles"]
    assert (panel.frame.x.axis.label, panel.frame.y.axis.label) == ("Time (h)", "Observation (mg/L)")
    panel.per_dose.value = panel.after_dose.value = True
    assert panel.frame.x.axis.label == "Time after dose (h)"
    assert panel.frame.y.axis.label == "Observation per dose (mg/L per mg)"


def test_a_log_axis_leaves_out_what_is_not_positive_and_says_so(look) -> None:
    panel = look.panels["profiles"]
    panel.log.value = True
    assert drawn(panel) == 123
    assert "9 not shown (not positive)" in panel.text.value


def test_a_selection_lights_up_in_every_tab(look) -> None:
    for k in range(4):
        look.tabs.selected_index = k
    look.tabs.selected_index = 0
    look.selected_ids = (5, 7)
    panel = look.panels["profiles"]
    assert panel.picked.visible
    assert int(np.isfinite(panel.picked.y).sum()) == 22
    assert look._subject.label == "2 selected"
    look.tabs.selected_index = 1
    assert look.panels["covariates"].scatters[0][0].x.tolist() == [54.6, 64.6]
    look.tabs.selected_index = 3
    assert look.panels["nca"].rows.root.value.count("class='picked'") == 2
    look.toggle(5)
    assert look.selected_ids == (7,)
    look._subject.value = ()
    assert look.selected_ids == ()


def test_clicking_a_point_selects_its_subject(look) -> None:
    panel = look.panels["profiles"]
    panel.by.value = "WT"
    ids = panel.shown.loc[panel.shown["group"] == panel.shown["group"].cat.categories[1], "ID"].to_numpy()
    panel.points[1]._element_click_handlers(panel.points[1], {"data": {"index": 3}})
    assert look.selected_ids == (int(ids[3]),)


def test_the_rule_of_the_areas_is_chosen_in_the_panel(look) -> None:
    look.tabs.selected_index = 3
    panel = look.panels["nca"]
    before = panel.table["AUCinf"].to_numpy()
    panel.rule.value = "linear"
    assert (panel.table["AUCinf"].to_numpy() > before).all()
    assert "linear; extravascular" in panel.text.value


def test_what_was_left_out_is_shown(data) -> None:
    widget = nw.look(data.filter("TIME < 24", reason="<late>"))
    widget.tabs.selected_index = 2
    html = "".join(child.value for child in _leaves(widget.panels["summary"].root))
    assert "all but TIME &lt; 24" in html
    assert "&lt;late&gt;" in html
    late = int((data.records["TIME"] >= 24).sum())
    assert f"{late} records left out" in _leaves(widget.children[1])[0].value
    widget.close()


def _leaves(widget):
    children = getattr(widget, "children", ())
    return [leaf for child in children for leaf in _leaves(child)] or ([widget] if hasattr(widget, "value") else [])


@pytest.mark.parametrize("name", nw.datasets.names())
def test_every_data_set_can_be_looked_at_in_every_way(name) -> None:
    widget = nw.look(nw.datasets.load(name), selected_ids=(nw.datasets.load(name).ids[0],))
    for k in range(len(LOOK_PANELS)):
        widget.tabs.selected_index = k
    panel = widget.panels["profiles"]
    for _, by in panel.by.options:
        panel.by.value = by
        assert drawn(panel) == len(panel.shown)
    for _, output in panel.output.options:
        panel.output.value = output
        assert drawn(panel) == (widget.data.dvid == output).sum()
    widget.close()


def test_empty_states_say_what_to_do() -> None:
    frame = pd.DataFrame({"ID": [1, 1, 2], "TIME": [0, 1, 0], "DV": [-1.0, 0.0, -2.0]})
    widget = nw.look(nw.Data.from_frame(frame))
    widget.panels["profiles"].log.value = True
    (message,) = widget.panels["profiles"].box.children
    assert "switch the log axis off" in message.value
    widget.selected_ids = (1,)
    widget.tabs.selected_index = 1
    assert "no covariates" in widget.panels["covariates"].root.children[0].value
    widget.close()


def test_an_unknown_subject_or_other_data_are_refused(look) -> None:
    with pytest.raises(tl.TraitError, match="ID 99 is not in the data"):
        look.selected_ids = (99,)
    with pytest.raises(nw.DataError, match=r"look\(\) needs Data and was given a DataFrame"):
        nw.look(look.data.records)
