"""A run played back and followed: every panel shows the iteration chosen, in bounded memory."""

from __future__ import annotations

import time

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.history import iteration_at, thinned


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_every_panel_follows_the_iteration_chosen(explorer) -> None:
    explorer.start().wait(60)
    fit = explorer.result
    explorer.playback.slider.value = 3
    third = explorer.trace[3]
    assert explorer.iteration == 3
    assert explorer.shown == third.values
    assert np.array_equal(explorer.point.eta, third.eta)
    assert explorer.playback.play.value == 3
    assert all(t.marker.visible and t.marker.x[0] == 3 for t in explorer.panels["converge"].traces.values())
    for name in ("population", "individuals", "covariates", "shrinkage"):
        explorer.panel = name
        assert "iteration 3" in explorer.panels[name].text.value
    curve = nw.diagnostics.typical_curve(explorer.panels["population"].grid, third.values)
    assert np.array_equal(explorer.panels["population"].typical.y, curve)
    explorer.playback.newest.click()
    assert explorer.iteration is None
    assert explorer.shown == fit.values
    assert np.array_equal(explorer.point.eta, fit.etas.T)
    assert explorer.playback.slider.value == len(explorer.trace) - 1


def test_moving_a_slider_ends_the_playback(explorer) -> None:
    explorer.start().wait(60)
    explorer.iteration = 2
    explorer.params = {"CL": 3.1}
    assert explorer.iteration is None
    assert explorer.point.label == "the slider values"
    assert explorer.shown.theta[1] == 3.1


def test_a_long_history_keeps_few_random_effects_and_finds_the_others_again(explorer, model, data) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 500, "smooth": 50}
    explorer.start().wait(60)
    held = [it.k for it in explorer.trace if it.eta.shape[1]]
    assert len(held) <= 201
    assert held[-1] == 550
    gone = next(it for it in explorer.trace if not it.eta.shape[1])
    explorer.iteration = gone.k
    explorer.playback.wait(20)
    assert "sought again" in explorer.point.label
    modes = nw.core.problem.Problem  # the modes are those of Laplace at these values
    assert isinstance(explorer.point.problem, modes)
    again = model.with_values(gone.values).fit(data, "laplace", max_iterations=0)
    assert pytest.approx(again.etas, abs=1e-5) == explorer.point.eta.T


def test_memory_is_bounded_in_bytes_and_the_nearest_iteration_is_found(explorer, monkeypatch) -> None:
    steps = tuple(nw.stream(explorer.model, explorer.data, "focei"))
    assert iteration_at(steps, 4) is steps[4]
    assert iteration_at(steps, 10_000) is steps[-1]
    monkeypatch.setattr("nlmewidgets.fit.history._BYTES", 3 * steps[-1].eta.nbytes)
    held = [it.k for it in thinned(steps) if it.eta.shape[1]]
    assert len(held) <= 4
    assert held[0] == 0
    assert held[-1] == steps[-1].k


def running(explorer) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 100_000}
    explorer.start()
    while explorer.message == "Starting …" or len(explorer.trace) < 5:
        time.sleep(0.01)


def test_panels_follow_a_running_fit_until_a_slider_moves(explorer) -> None:
    explorer.start().wait(60)
    seen: list[str] = []
    explorer.observe(lambda change: seen.append(change["new"].label), "point")
    began = time.monotonic()
    running(explorer)
    followed: list[str] = []
    while len(followed) < 3 and time.monotonic() - began < 20:
        time.sleep(0.02)
        followed = [s for s in seen if s.startswith("iteration")]
    assert len(followed) >= 3
    assert len(followed) <= 5 * (time.monotonic() - began) + 1
    explorer.params = {"CL": 3.0}
    assert not explorer.follow
    explorer._latest.wait(10)
    assert explorer.point.label == "the slider values"
    time.sleep(0.5)
    assert explorer.point.label == "the slider values"
    assert explorer.running
    explorer.stop().wait(10)
    assert "stopped" in explorer.point.label
    running(explorer)
    assert explorer.follow  # the next run is followed again
    explorer.stop().wait(10)


def test_a_run_may_be_looked_back_on_while_it_goes_on(explorer) -> None:
    running(explorer)
    explorer.iteration = 2
    assert explorer.point.label.startswith("iteration 2")
    time.sleep(0.4)
    assert explorer.point.label.startswith("iteration 2")
    explorer.iteration = None
    explorer.stop().wait(10)


def test_a_run_without_some_subjects_is_followed_with_etas_of_all(explorer) -> None:
    explorer.excluded = (9,)
    seen: list[object] = []
    explorer.observe(lambda change: seen.append(change["new"]), "point")
    running(explorer)
    began = time.monotonic()
    while len(seen) < 2 and time.monotonic() - began < 20:
        time.sleep(0.02)
    assert all(point.eta.shape[1] == 12 for point in seen)
    assert [point.label for point in seen if point.label.startswith("iteration")]
    explorer.stop().wait(10)
    assert "stopped" in explorer.point.label
