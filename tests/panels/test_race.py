"""A race of methods and of starting values: one scale, stopped at once, its winner taken."""

from __future__ import annotations

import time

import numpy as np
import pytest

import nlmewidgets as nw


@pytest.fixture
def explorer(explore, model, data):
    explorer = explore(model, data)
    explorer.panel = "race"
    return explorer


def test_methods_race_on_one_scale_and_the_winner_is_taken(explorer, model, data) -> None:
    panel = explorer.panels["race"]
    panel.methods["saem"].value = False
    for _ in range(10):
        panel.go.click()
    explorer.wait(60)
    table = panel.race.table()
    assert list(table.index) == ["focei", "laplace"]
    assert [f.method for f in explorer.fits] == ["focei", "laplace"]
    for lane, fit in zip(panel.race.lanes, explorer.fits, strict=True):
        alone = model.fit(data, lane.method)
        assert fit.ofv == pytest.approx(alone.ofv, abs=1e-9)
        compared = nw.compare({"one": alone}).table.loc["one"]
        assert table.loc[lane.label, "-2LL"] == pytest.approx(compared["-2LL"], abs=compared["error"] + 1e-6)
        assert np.diff(lane.at).min() >= 0
        # The last point of the curve is Laplace's objective at the estimates, with its constant.
        constant = fit.problem.n_normal * np.log(2 * np.pi)
        assert lane.minus2ll[-1] == pytest.approx(fit.model.ofv(data, method="laplace") + constant, abs=1e-6)
    assert explorer.status == "converged"
    panel.win.click()
    assert explorer.result is panel.race.winner.fit
    assert explorer.params == {k: float(v) for k, v in explorer.result.estimates.items()}


def test_starts_race_to_one_optimum(explorer) -> None:
    panel = explorer.panels["race"]
    panel.kind.value = "starts"
    panel.number.value, panel.spread.value = 3, 0.5
    panel.go.click()
    explorer.wait(60)
    table = panel.race.table()
    assert list(table.index) == ["start 1", "start 2", "start 3"]
    assert np.ptp(table["-2LL"].to_numpy()) < 0.01
    assert [lane.label for lane in panel.race.leaders] == list(table.index)  # nobody is named best by chance
    assert "start 1, start 2, start 3" in explorer.message
    assert sum(line.visible for line in panel.lines) == 3


def test_a_race_stops_within_a_second_and_keeps_what_was_finished(explorer) -> None:
    panel = explorer.panels["race"]
    explorer.method_options = {}
    explorer.options = {"saem": {"explore": 100_000}}
    panel.methods["laplace"].value = False
    panel.go.click()
    assert explorer.start() is explorer  # nothing else may begin
    began = time.monotonic()
    while not explorer._job.run.fits and time.monotonic() - began < 60:
        time.sleep(0.02)
    began = time.monotonic()
    panel.halt.click()
    explorer.wait(10)
    assert time.monotonic() - began < 1.0
    assert not explorer.running
    assert [f.method for f in explorer.fits] == ["focei"]
    assert panel.race.table().loc["saem", "status"] == "stopped"


def test_a_race_stops_while_a_lane_is_measured(explorer) -> None:
    panel = explorer.panels["race"]
    panel.methods["laplace"].value = panel.methods["saem"].value = False
    panel.go.click()
    race = explorer._job.run
    steps = race.steps()  # the same race, walked by hand once the job has ended
    panel.halt.click()
    explorer.wait(10)
    (lane,) = race.lanes
    lane.status = "waiting"
    while lane.measure is None:
        next(steps)
    assert lane.status == "measuring"
    race.result([], stopped="Stopped by the user")
    assert lane.status == "converged"
    assert lane.stick is None
    assert race.winner is None


def test_a_method_that_refuses_is_a_lane_that_failed(explore, data) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0), residual=nw.Additive(0.7)
    )
    explorer = explore(model, data)
    explorer.panel = "race"
    panel = explorer.panels["race"]
    panel.methods["laplace"].value = False
    panel.start()
    explorer.wait(60)
    assert panel.race.table()["status"].to_dict() == {"focei": "converged", "saem": "failed"}
    assert "random effects" in panel.text.value


def test_a_race_leaves_out_what_a_fit_would(explorer) -> None:
    panel = explorer.panels["race"]
    panel.methods["laplace"].value = panel.methods["saem"].value = False
    explorer.excluded = (9,)
    panel.go.click()
    explorer.wait(60)
    assert 9 not in explorer.fits[0].data.ids
    panel.win.click()
    assert explorer.point.problem is explorer.problem  # the panels show all subjects
    explorer.panel = "individuals"
