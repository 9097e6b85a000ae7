"""A fit watched and gone on with: traces, phases, resume, one run however often Start is pressed."""

from __future__ import annotations

import threading
import time

import pytest

import nlmewidgets as nw
from nlmewidgets.fit.history import history_of, phases_of


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def fit_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "nlmewidgets-fit"]


# --------------------------------------------------------------------------- traces


def test_traces_show_every_parameter_step_sizes_and_phases(explorer) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 600, "smooth": 50}
    explorer.start().wait(60)
    panel = explorer.panels["converge"]
    assert list(panel.traces) == ["OFV", "gamma", *explorer.model.names]
    for name, trace in panel.traces.items():
        assert len(trace.line.x) <= 401  # what a screen can show
        assert trace.line.x[-1] == 650
        assert trace.phases.x[0] == 600.5
        if name in explorer.model.names:
            assert trace.line.y[-1] == explorer.trace[-1].to_dict()[name]
    # γ as it is defined: 1 while exploring, then k^(−0.7).
    gamma = dict(zip(panel.traces["gamma"].line.x, panel.traces["gamma"].line.y, strict=True))
    assert gamma[600] == 1.0
    assert gamma[650] == pytest.approx(50**-0.7)
    assert "explore from 0, smooth from 601" in panel.text.value
    assert [str(t) for t in panel.traces["OFV"].names.text] == ["explore", "smooth"]


def test_a_quasi_newton_search_shows_its_gradient_and_its_steps(explorer) -> None:
    explorer.fixed = ("V",)
    explorer.start().wait(60)
    panel = explorer.panels["converge"]
    assert list(panel.traces)[:3] == ["OFV", "gradient", "step"]
    assert "V" not in panel.traces
    assert "fixed: V" in panel.text.value
    slope = panel.traces["gradient"].line.y
    assert slope[-1] == explorer.trace[-1].details["gradient"]
    assert panel.traces["step"].line.x[0] == 1  # nothing has been stepped at 0: no place on a logarithmic axis
    panel.zoom.value = True
    half = len(explorer.trace) // 2
    assert panel.traces["OFV"].frame.x.scale.min == half
    ofv = [it.ofv for it in explorer.trace[half:]]
    assert panel.traces["OFV"].frame.y.scale.max < explorer.trace[0].ofv
    assert panel.traces["OFV"].frame.y.scale.max >= max(ofv)


def test_phases_of_every_kind_of_run(model, data) -> None:
    stages = phases_of(list(nw.stream(model, data, "imp", seed=1, draws=60, max_iterations=40)))
    assert all(p.name.endswith("draws") for p in stages)
    assert [p.last + 1 for p in stages[:-1]] == [p.first for p in stages[1:]]
    assert phases_of(()) == ()
    start = next(iter(nw.stream(model, data, "saem", seed=1)))
    assert history_of([start]).k.tolist() == [0.0]


def test_many_parameters_take_four_columns(explore) -> None:
    model, data = nw.library.demo("oral_2cpt")
    explorer = explore(model, data, method="fo", max_iterations=1)
    explorer.start().wait(60)
    panel = explorer.panels["converge"]
    assert len(panel.traces) > 11
    assert panel.grid.layout.grid_template_columns.startswith("repeat(4")
    labelled = [t.frame.x.axis.label for t in panel.traces.values()]
    assert labelled.count("Iteration") == 5  # the objective's, and the bottom row


# --------------------------------------------------------------------------- resume


def test_resume_goes_on_where_the_fit_stopped(explorer, model, data) -> None:
    assert explorer.fitting.resume.disabled
    assert "no fit to go on from" in explorer.resume().message
    explorer.method_options = {"max_iterations": 2}
    explorer.start().wait(60)
    assert explorer.status == "limit"
    explorer.method_options = {}
    assert not explorer.fitting.resume.disabled
    explorer.fitting.resume.click()
    explorer.wait(60)
    assert explorer.status == "converged"
    assert [it.k for it in explorer.trace] == list(range(len(explorer.trace)))
    assert explorer.result.ofv == pytest.approx(model.fit(data, "focei").ofv, abs=2e-6)
    assert len(explorer.fits) == 2
    assert explorer.result.history["k"].tolist() == [it.k for it in explorer.trace]


def test_a_resumed_saem_is_the_one_that_was_not_stopped(explorer, model, data) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 30, "smooth": 20}
    stopped = model.fit(data, "saem", seed=1, explore=30, smooth=20, callback=lambda it: None)
    explorer.start()
    explorer.stop().wait(10)
    explorer.resume().wait(60)
    assert explorer.result.estimates.to_dict() == stopped.estimates.to_dict()


def test_a_method_chosen_later_does_not_change_what_is_resumed(explorer) -> None:
    explorer.method_options = {"max_iterations": 1}
    explorer.start().wait(60)
    explorer.method = "saem"
    explorer.resume(max_iterations=200).wait(60)
    assert (explorer.result.method, explorer.result.status) == ("focei", "converged")


# ---------------------------------------------------------------------------- start


def test_starts_from_many_threads_at_once_make_one_run(explorer) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 100_000}
    gate = threading.Barrier(20)

    def press() -> None:
        gate.wait(10)
        explorer.start()

    pressing = [threading.Thread(target=press) for _ in range(20)]
    for thread in pressing:
        thread.start()
    for thread in pressing:
        thread.join(20)
    assert len(fit_threads()) == 1
    while len(explorer.trace) < 3:
        time.sleep(0.01)
    began = time.monotonic()
    explorer.stop().wait(10)
    assert time.monotonic() - began < 1.0
    assert [it.k for it in explorer.trace] == list(range(len(explorer.trace)))
    assert len(explorer.fits) == 1


# ---------------------------------------------------------------------------- ends


def test_a_run_that_cannot_begin_leaves_nothing_running(explorer, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("something unforeseen")

    with monkeypatch.context() as patch:
        patch.setattr("nlmewidgets.panels.runner.Run.prepare", broken)
        explorer.start().wait(10)
    assert not explorer.running
    assert (explorer.status, "something unforeseen" in explorer.message) == ("failed", True)
    explorer.start().wait(60)
    assert explorer.status == "converged"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_panel_that_trips_over_the_end_leaves_nothing_running(explorer) -> None:
    def trip(_: object) -> None:
        raise ValueError("a panel fell over")

    explorer.observe(trip, "result")
    explorer.start().wait(60)
    assert not explorer.running
    assert explorer.fitting.stop.disabled


def test_a_stop_that_comes_too_late_leaves_the_words_of_the_end(explorer, monkeypatch) -> None:
    explorer.start().wait(60)
    monkeypatch.setattr("nlmewidgets.panels.driver.Job.alive", True)  # its thread has not ended yet
    explorer.stop()
    assert explorer.message.startswith("Converged")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_panel_that_falls_over_during_a_fit_does_not_end_it(explorer) -> None:
    said = []

    def trip(change: dict[str, object]) -> None:
        said.append(explorer.status)
        if change["new"]:
            raise ValueError("a panel fell over")

    explorer.observe(trip, "trace")
    explorer.start().wait(60)
    assert "running" in said
    assert explorer.status == "converged"
