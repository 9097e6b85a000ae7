"""Beside the interface: what waits for a slider, what is dropped half-way, and what a stop leaves."""

import threading
import time

import pytest

from nlmewidgets.core.breath import breathe
from nlmewidgets.panels import courtesy
from nlmewidgets.panels.latest import Latest


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_whoever_works_as_long_as_it_has_waited(monkeypatch) -> None:
    monkeypatch.setattr(courtesy, "_until", time.perf_counter() + 0.2)
    began = time.monotonic()
    courtesy.give_way()
    waited = time.monotonic() - began
    assert 0.19 < waited < 1.0
    monkeypatch.setattr(courtesy, "_until", time.perf_counter() + 5.0)
    again = time.monotonic()
    courtesy.give_way()  # in its own turn
    assert time.monotonic() - again < 0.1


def test_whoever_serves_does_not_wait_for_itself() -> None:
    with courtesy.serving():
        began = time.monotonic()
        breathe()
        assert time.monotonic() - began < 0.1


def test_a_request_overtaken_is_dropped_at_its_next_breath() -> None:
    breaths, answers, begun = [], [], threading.Event()

    def compute(request: str) -> str:
        begun.set()
        deadline = time.monotonic() + 10
        while request == "long" and time.monotonic() < deadline:
            breathe()
            breaths.append(1)
            time.sleep(0.001)
        return request

    latest: Latest[str, str] = Latest(compute, answers.append)
    latest.put("long")
    assert begun.wait(5)
    latest.put("short")
    assert latest.wait(5)
    assert answers == ["short"]


def test_a_stop_shows_the_fit_at_once_and_its_own_objective_later(explorer, monkeypatch) -> None:
    from nlmewidgets.methods.saem import SAEM

    going_on, finish = threading.Event(), SAEM.finish
    monkeypatch.setattr(SAEM, "finish", lambda *of: going_on.wait(20) and finish(*of))
    explorer.method, explorer.method_options = "saem", {"explore": 100_000}
    explorer.start()
    while len(explorer.trace) < 3:
        time.sleep(0.01)
    explorer.stop()
    while explorer.running:
        time.sleep(0.01)
    at_once = explorer.result
    assert (at_once.status, at_once.ofv_by, explorer.fits) == ("stopped", "laplace", (at_once,))
    assert "being computed" in explorer.message
    going_on.set()
    explorer.wait(20)
    whole = explorer.result
    assert whole.ofv_by.startswith("agq")
    assert explorer.fits == (whole,)
    assert whole.values is at_once.values
    assert f"OFV {whole.ofv:.4f}" in explorer.message


def test_a_new_run_ends_what_the_last_one_still_computes(explorer, monkeypatch) -> None:
    from nlmewidgets.methods.saem import SAEM

    def finish(*_: object) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            breathe()
            time.sleep(0.001)
        raise AssertionError("nobody ended this")

    explorer.method, explorer.method_options = "saem", {"explore": 100_000}
    with monkeypatch.context() as patch:
        patch.setattr(SAEM, "finish", finish)
        explorer.start()
        while len(explorer.trace) < 3:
            time.sleep(0.01)
        explorer.stop()
        while explorer.running:
            time.sleep(0.01)
        job, cut = explorer._job, explorer.result
        explorer.method = "focei"
        explorer.start()
        assert job.wait(5)
    explorer.wait(60)
    assert [fit.method for fit in explorer.fits] == ["saem", "focei"]
    assert explorer.fits[0] is cut
    assert explorer.status == "converged"


def test_a_click_on_start_leaves_the_preparation_to_the_job(explorer, monkeypatch) -> None:
    from nlmewidgets.fit import Run

    prepare, who = Run.prepare, []
    monkeypatch.setattr(
        "nlmewidgets.panels.runner.Run.prepare", lambda *of: who.append(threading.current_thread()) or prepare(*of)
    )
    explorer.start().wait(60)
    assert explorer.status == "converged"
    assert [thread.name for thread in who] == ["nlmewidgets-fit"]


def test_a_workspace_is_not_written_between_two_models(explorer, tmp_path) -> None:
    import json

    from nlmewidgets.panels.workspace import Workspace

    space = Workspace(explorer, tmp_path / "study.json")
    space.write()
    before = json.loads(space.path.read_text())
    explorer.changing = True
    explorer.params = {"CL": 3.0}
    space.write()
    assert json.loads(space.path.read_text()) == before
    explorer.changing = False
    space.close()
    assert json.loads(space.path.read_text())["state"]["params"]["CL"] == 3.0
