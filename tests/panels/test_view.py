"""Log axis, dose normalisation and colours: one choice for all panels of curves, kept in links and workspaces."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import traitlets as tl

import nlmewidgets as nw
from nlmewidgets.diagnostics import individual_curves, single_dose, typical_curve
from tests.kinds import classes, events


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_the_dose_of_each_subject_is_that_of_the_records(data) -> None:
    records = data.records[data.records["AMT"] > 0]
    np.testing.assert_array_equal(single_dose(data), records.set_index("ID")["AMT"].loc[list(data.ids)])


def test_per_dose_divides_observations_and_every_curve(explorer) -> None:
    data, dose = explorer.data, single_dose(explorer.data)
    panel = explorer.panels["population"]
    panel.view.per_dose.value = True
    assert explorer.per_dose
    np.testing.assert_allclose(panel.points[0].y, data.dv / dose[data.subject])
    each = individual_curves(panel.grid, explorer.values, np.zeros((3, data.n_subjects)))
    np.testing.assert_allclose(panel.typical.y, (each / dose[:, None]).mean(axis=0))
    assert panel.frame.y.axis.label == "Observation per dose (mg/L per mg)"
    assert panel.band.y.max() < data.dv.max() / dose.min()
    explorer.panel = "individuals"
    place = explorer.panels["individuals"].places[4]
    own = individual_curves(panel.grid, explorer.point.values, explorer.point.eta)[4] / dose[4]
    assert np.interp(3.0, panel.times, own) == pytest.approx(
        np.interp(3.0, explorer.panels["individuals"].times, place["own"].y), rel=0.01
    )  # two grids
    assert "divided by the subject's dose" in explorer.panels["individuals"].text.value


def test_several_doses_are_refused_in_a_sentence_and_nothing_changes(explore) -> None:
    data = nw.datasets.load("phenobarbital")
    model = nw.library.iv_1cpt(
        CL=nw.LogNormal(0.007, sd=0.3), V=nw.LogNormal(1.5, sd=0.3), residual=nw.Proportional(0.1)
    )
    explorer = explore(model, data)
    panel = explorer.panels["population"]
    before = np.array(panel.points[0].y)
    panel.view.per_dose.value = True
    assert not panel.view.per_dose.value
    assert not explorer.per_dose
    assert "subject 1 has" in panel.view.refused.value
    np.testing.assert_array_equal(panel.points[0].y, before)
    with pytest.raises(tl.TraitError, match="one, and subject 1 has"):
        explorer.per_dose = True


def test_groups_are_told_apart_by_colour_and_shape_and_named(explorer) -> None:
    panel = explorer.panels["population"]
    panel.view.by.value = "WT"
    weight = explorer.data.subject_covariates()["WT"].to_numpy()
    cuts = np.quantile(weight, [1 / 3, 2 / 3])
    expected = np.bincount(np.searchsorted(cuts, weight, side="right")[explorer.data.subject])
    assert [len(mark.y) for mark in panel.points] == expected.tolist()
    assert len({mark.colors[0] for mark in panel.points}) == len({mark.marker for mark in panel.points}) == 3
    assert panel.key.children[0].value.count("kg") == 3
    panel.points[2]._element_click_handlers(panel.points[2], {"data": {"index": 0}})
    (chosen,) = explorer.selected_ids
    assert weight[explorer.data.ids.index(chosen)] >= cuts[1]
    explorer.panel = "individuals"
    markers = [place["points"].marker for place in explorer.panels["individuals"].places]
    assert markers[int(np.argmax(weight))] == panel.points[2].marker
    assert markers[int(np.argmin(weight))] == panel.points[0].marker


def test_the_log_axis_of_the_pages_shows_what_is_positive(explorer) -> None:
    explorer.log_axis = True
    explorer.panel = "individuals"
    panel = explorer.panels["individuals"]
    for place, subject in zip(panel.places, explorer.data.ids, strict=True):
        dv = explorer.data.dv[explorer.data.subject == explorer.data.ids.index(subject)]
        np.testing.assert_array_equal(place["points"].y, dv[dv > 0])
        assert place["frame"].y.scale.min > 0
        assert (place["own"].y > 0).all()
    assert "≤ 0 cannot be shown on a log axis" in panel.text.value


def test_the_view_is_kept_in_links_and_follows_other_data(explorer) -> None:
    explorer.log_axis, explorer.per_dose, explorer.by = True, True, "WT"
    again = nw.open(explorer.link())
    assert (again.log_axis, again.per_dose, again.by) == (True, True, "WT")
    frame = explorer.data.records
    twice = frame[frame["AMT"] > 0].assign(TIME=12.0)
    both = pd.concat([frame, twice]).sort_values(["ID", "TIME"], kind="stable")
    other = nw.Data.from_frame(both.drop(columns="WT"))
    explorer.use(data=other)
    assert (explorer.log_axis, explorer.per_dose, explorer.by) == (True, False, "")
    again.close()


def test_an_unknown_colour_names_what_there_is(explorer) -> None:
    with pytest.raises(tl.TraitError, match="'', 'WT', 'DOSE', 'dose'"):
        explorer.by = "SEX"


def test_the_typical_curve_without_dose_is_as_before(explorer) -> None:
    grid = explorer.panels["population"].grid
    ones = typical_curve(grid, explorer.values, np.ones(grid.n_subjects))
    np.testing.assert_array_equal(ones, typical_curve(grid, explorer.values))


@pytest.mark.parametrize("kind", [classes, events])
def test_where_there_is_no_prediction_no_curve_is_drawn(explore, kind) -> None:
    """What stood for one was the log density of a class that nobody was in."""
    explorer = explore(*kind())
    panel = explorer.panels["population"]
    panel.wait(20)
    assert math.isfinite(explorer.ofv)
    assert not panel.typical.visible
    assert panel.band.visible == (kind is classes)
    assert "There is no curve" in panel.text.value
    assert ("cannot be simulated" in panel.text.value) == (kind is events)
    explorer.panel = "individuals"
    assert not any(place["own"].visible or place["typical"].visible for place in explorer.panels["individuals"].places)
    explorer.method = "laplace"
    explorer.start().wait(60)
    assert explorer.status == "converged"


def test_many_observations_are_one_mark_that_can_be_clicked_and_read(explore, model) -> None:
    from nlmewidgets.panels.numbers import tables_of

    records = nw.datasets.load("theophylline").records
    many = pd.concat([records.assign(ID=records["ID"] + 100 * k) for k in range(8)], ignore_index=True)
    data = nw.Data.from_frame(many)
    explorer = explore(model, data)
    panel = explorer.panels["population"]
    assert not panel.points
    cloud = panel.frame.figure.marks[0]
    seen = np.isfinite(cloud.y)
    np.testing.assert_array_equal(cloud.y[seen], data.dv)
    table = tables_of(panel.frame.figure)["observed"]
    assert len(table) == data.n_obs
    assert table["subject"].iloc[25] == f"ID {data.ids[data.subject[25]]}"
    for log in (False, True):
        explorer.log_axis, explorer.selected_ids = log, ()
        row = int(panel.rows[np.argmax(panel.dv[panel.rows])])
        panel._clicked_near(
            float(panel.frame.x.share(data.time[row])), float(panel.frame.y.share(data.dv[row])) + 0.005
        )
        chosen = [k for k, i in enumerate(data.ids) if i in explorer.selected_ids]
        assert len(chosen) == 1
        assert data.dv[data.subject == chosen[0]].max() == data.dv[row]  # the copies of a subject lie upon each other
        panel._clicked_near(0.99, 0.99)  # far from any
        assert len(explorer.selected_ids) == 1
