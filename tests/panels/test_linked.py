"""The linked diagnostics and what is left out of a fit: without a browser."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics.linked import linked, thinned


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def panel_of(explorer):
    panel = explorer.panels["diagnostics"]
    panel.show()
    panel.wait(60)
    return panel


def test_every_figure_shows_what_the_tables_of_the_fit_have(explorer) -> None:
    explorer.start().wait(30)
    panel = panel_of(explorer)
    table = explorer.result.table(n=0)
    assert np.allclose(panel.clouds["observed"].points.x, table["IPRED"])
    assert np.allclose(panel.clouds["population"].points.y, table["CWRES"])
    assert np.allclose(panel.clouds["within"].points.y, table["IWRES"].abs())
    assert np.allclose(panel.clouds["effects"].points.x, explorer.result.eta["eta_ka"])
    assert panel.simulated[0] == "NPDE"
    assert np.allclose(panel.clouds["simulated"].points.y, panel.simulated[1])
    assert panel.found.found.subjects["iofv"].sum() == pytest.approx(explorer.result.ofv, abs=1e-6)
    assert "expected 0, 1 and 5 %" in panel.clouds["population"].text.value
    panel.prediction.value = "PRED"
    assert np.allclose(panel.clouds["observed"].points.x, table["PRED"])


def test_figures_are_empty_until_there_is_something_in_them(explorer) -> None:
    panel = explorer.panels["diagnostics"]
    panel.build()
    for cloud in panel.clouds.values():
        assert not any(mark.visible for mark in cloud.frame.figure.marks)


def test_one_click_lights_the_subject_up_in_every_figure(explorer) -> None:
    panel = panel_of(explorer)
    cloud = panel.clouds["population"]
    cloud.points._element_click_handlers(cloud.points, {"data": {"index": 3}})
    assert explorer.selected_ids == (1,)
    own = explorer.data.subject == 0
    assert cloud.picked.visible
    assert np.allclose(cloud.picked.x, explorer.data.time[own])
    assert all(c.picked.visible for c in panel.clouds.values())
    assert len(panel.clouds["effects"].picked.x) == 1
    assert panel.clouds["curves"].lines.visible
    assert "<th class='text' scope='row'>1</th>" in panel.table.root.value
    explorer.selected_ids = (1, 5)
    assert np.isnan(cloud.lines.x).sum() == 1  # a gap between two subjects
    explorer.selected_ids = ()
    assert not any(c.picked.visible for c in panel.clouds.values())


def test_draws_take_the_place_of_ebes(explorer) -> None:
    panel = panel_of(explorer)
    before = np.array(panel.clouds["effects"].points.x)
    panel.samples.value = True
    panel.wait(60)
    assert panel.found.found.drawn
    assert not np.allclose(panel.clouds["effects"].points.x, before)
    assert "given its data" in panel.text.value


def test_draws_do_not_shrink() -> None:
    """One late sample: EBEs have little of the variance, draws of all subjects have Omega's."""
    rng = np.random.default_rng(1)
    frame = nw.datasets.load("theophylline").records.iloc[:0][["ID", "TIME", "DV"]]
    eta = rng.normal(0.0, 1.0, 400)
    y = 5.0 + eta + rng.normal(0.0, 2.0, 400)
    frame = frame.reindex(range(400)).assign(ID=np.arange(400), TIME=0.0, DV=y)
    model = nw.Model("a", {"a": nw.Normal(5.0, sd=1.0)}, residual=nw.Additive(2.0))
    problem = model.problem(nw.Data.from_frame(frame))
    at = linked(problem, model.values, np.zeros((1, 400)) + (y - 5.0) / 5.0)
    drawn = linked(problem, model.values, np.zeros((1, 400)) + (y - 5.0) / 5.0, draws=True)
    assert at.subjects["eta_a"].std() == pytest.approx(np.sqrt(0.2), rel=0.15)  # √(ω⁴/(ω² + σ²)); error 1/√800
    assert drawn.subjects["eta_a"].std() == pytest.approx(1.0, rel=0.15)


def test_many_points_are_thinned_but_no_outlier_is(model, data) -> None:
    problem = model.problem(data)
    table = linked(problem, model.values, np.zeros((3, 12))).observations
    table.loc[17, "CWRES"] = 9.0
    rows = thinned(table, 40)
    assert 17 in rows
    assert 40 <= len(rows) <= 50
    assert len(thinned(table, 1000)) == len(table)


def test_a_subject_and_an_observation_are_left_out_and_taken_back(explorer) -> None:
    panel = panel_of(explorer)
    box = panel.leave_out
    assert box.subjects.disabled
    explorer.selected_ids = (5,)
    box.subjects.click()
    assert explorer.excluded == (5,)
    explorer.selected_ids = (9,)
    box.observation.value = box.observation.options[2][1]
    box.point.click()
    assert len(explorer.excluded_records) == 1
    assert panel.clouds["observed"].gone.visible
    assert len(panel.clouds["observed"].gone.x) == 12
    assert "ID 5" in box.text.value
    box.refit.click()
    explorer.wait(30)
    fit = explorer.result
    assert fit.n_subjects == 11
    assert fit.n_obs == explorer.data.n_obs - 12
    assert len(fit.data.history) == 2
    same = explorer.model.fit(explorer.data.exclude(records=list(explorer.excluded_records)).exclude(ids=[5]))
    assert fit.ofv == pytest.approx(same.ofv, abs=1e-6)
    panel_of(explorer)  # all subjects are judged by the fit
    assert len(panel.clouds["effects"].points.x) + len(panel.clouds["effects"].gone.x) == 12
    assert ".exclude(ids=[5])" in explorer.to_code()
    box.back.click()
    assert explorer.data_kept is explorer.data


def test_leaving_everybody_out_is_refused(explorer) -> None:
    box = panel_of(explorer).leave_out
    explorer.selected_ids = explorer.data.ids
    box.subjects.click()
    assert explorer.excluded == ()
    assert "nothing was left out" in box.text.value
