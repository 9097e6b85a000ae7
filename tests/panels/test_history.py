"""Undo and redo; what is refitted follows; arrows are there when the sliders rest."""

from __future__ import annotations

import threading
import time

import pytest

import nlmewidgets as nw
from nlmewidgets.panels import history
from nlmewidgets.panels.latest import Latest


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(history.time, "monotonic", lambda: now[0])
    return now


def test_undo_and_redo_walk_through_every_state(explorer, clock) -> None:
    states = [dict(explorer.params)]
    for k, (name, value) in enumerate([("CL", 3.0), ("V", 30.0), ("CL", 2.5)]):
        clock[0] += 10.0 * (k + 1)
        explorer.params = {name: value}
        states.append(dict(explorer.params))
    for expected in reversed(states[:-1]):
        explorer.undo()
        assert explorer.params == expected
        assert explorer.initial.rows["CL"].field.value == f"{expected['CL']:.5g}"
    assert (explorer.can_undo, explorer.can_redo) == (False, True)
    assert (explorer.initial.undo.disabled, explorer.initial.redo.disabled) == (True, False)
    explorer.undo()
    assert explorer.params == states[0]
    for expected in states[1:]:
        explorer.initial.redo.click()
        assert explorer.params == expected
    assert not explorer.can_redo


def test_a_drag_is_one_entry_and_a_pause_begins_another(explorer, clock) -> None:
    for k in range(5):
        clock[0] += 0.1
        explorer.params = {"CL": 3.0 + 0.1 * k}
    clock[0] += 1.0
    explorer.params = {"CL": 4.0}
    explorer.undo()
    assert explorer.params["CL"] == 3.4
    explorer.undo()
    assert explorer.params["CL"] == 2.8


def test_other_parameters_and_jumps_are_entries_of_their_own(explorer, clock) -> None:
    explorer.params = {"CL": 3.0}
    explorer.params = {"V": 30.0}
    explorer.reset()
    assert explorer.params["V"] == 32.0
    explorer.undo()
    assert (explorer.params["CL"], explorer.params["V"]) == (3.0, 30.0)
    explorer.undo()
    assert (explorer.params["CL"], explorer.params["V"]) == (3.0, 32.0)


def test_a_change_after_undo_forgets_what_was_undone(explorer, clock) -> None:
    explorer.params = {"CL": 3.0}
    explorer.undo()
    explorer.params = {"CL": 3.2}
    assert not explorer.can_redo
    explorer.undo()
    assert explorer.params["CL"] == 2.8


def test_fix_and_refit_are_undone_and_exclude_one_another(explorer, clock) -> None:
    row = explorer.initial.rows["ka"]
    row.fix.value = True
    row.refit.value = True
    explorer.wait(10)
    assert (explorer.fixed, explorer.refit) == ((), ("ka",))
    assert (row.fix.value, row.refit.value) == (False, True)
    explorer.undo()
    assert (explorer.fixed, explorer.refit) == (("ka",), ())
    assert explorer.params["ka"] == 1.5
    explorer.undo()
    assert (explorer.fixed, explorer.refit) == ((), ())
    explorer.redo()
    explorer.redo()
    assert (explorer.fixed, explorer.refit) == ((), ("ka",))


def test_the_history_is_bounded(explorer, clock) -> None:
    for k in range(history.LENGTH + 50):
        clock[0] += 1.0
        explorer.history._changed({"name": "params", "old": {"CL": 0.0}, "new": {"CL": float(k + 1)}})
    assert len(explorer.history._entries) == history.LENGTH


def test_a_refit_parameter_follows_any_other_and_is_undone_with_it(explorer, model, data, clock) -> None:
    explorer.refit = ("V", "additive")
    explorer.wait(10)
    clock[0] += 10.0
    explorer.params = {"CL": 3.4}
    explorer.wait(10)
    held = model.with_values({"CL": 3.4}).fix("ka", "CL", "omega_ka", "omega_CL", "omega_V").fit(data)
    # Each search ends where less than 1e-4 is promised.
    assert explorer.ofv == pytest.approx(held.ofv, abs=2e-4)
    assert explorer.params["V"] == pytest.approx(held.theta["V"], rel=1e-3)
    assert explorer.initial.rows["V"].field.value == f"{explorer.params['V']:.5g}"
    assert explorer.params["CL"] == 3.4
    followed = explorer.params["V"]
    explorer.params = {"V": 40.0}  # its own move is the user's
    explorer.wait(10)
    assert explorer.params["V"] == 40.0
    explorer.undo()
    assert explorer.params["V"] == followed
    explorer.undo()
    explorer.wait(10)
    assert explorer.params["CL"] == 2.8
    explorer.undo()
    assert explorer.refit == ()
    assert explorer.params == {name: model.table().loc[name, "value"] for name in model.names}


def test_a_drag_with_refits_ends_at_the_profile_and_is_one_entry(explorer, clock) -> None:
    explorer.refit = ("V",)
    explorer.wait(10)
    clock[0] += 10.0
    before = dict(explorer.params)
    for k in range(20):
        explorer.initial.rows["CL"].slider.value = 505 + 5 * k
        time.sleep(0.002)
    explorer.wait(10)
    assert explorer.params["CL"] == explorer.initial.rows["CL"].value_at(600)
    last = explorer.params["V"]
    explorer.params = {"CL": explorer.params["CL"]}
    assert explorer.arrows["V"].size == 0  # nothing more to gain along what was refitted
    explorer.undo()
    assert explorer.params == before != {**before, "V": last}


def test_refitting_where_nothing_is_finite_says_so_and_recovers(explorer) -> None:
    explorer.refit = ("V",)
    explorer.params = {"CL": 1e300, "ka": 1e-300}
    explorer.wait(10)
    explorer.params = {"V": 1e-300}
    explorer.wait(10)
    explorer.reset()
    explorer.wait(10)
    assert explorer.notice == ""
    assert explorer.ofv < 140.0


def test_arrows_come_when_the_sliders_rest_and_pressing_one_lowers_the_objective(explorer) -> None:
    explorer.params = {"CL": 2.0}
    assert "nlme-stale" in explorer.initial.root._dom_classes
    explorer.wait(10)
    assert "nlme-stale" not in explorer.initial.root._dom_classes
    row, before = explorer.initial.rows["CL"], explorer.ofv
    arrow = explorer.arrows["CL"]
    assert (row.arrow.description, row.arrow.disabled) == ("→", False)
    assert row.arrow.tooltip == arrow.words() + " Press to move there."
    row.arrow.click()
    explorer.wait(10)  # on a busy machine the objective is computed beside the sliders
    assert explorer.params["CL"] == pytest.approx(2.2)
    assert before - explorer.ofv == pytest.approx(arrow.gain, rel=0.2)
    explorer.undo()
    assert explorer.params["CL"] == 2.0


def test_arrows_are_those_of_the_method_shown(explorer, model, data) -> None:
    seen = {}
    for method in ("fo", "focei"):
        explorer.method = method
        explorer.wait(10)
        seen[method] = explorer.arrows["omega_ka"].gradient
    assert seen["fo"] != pytest.approx(seen["focei"], rel=0.01)


def test_no_arrow_where_the_objective_is_no_number(explorer) -> None:
    explorer.params = {"V": 1e-300, "CL": 1e300}
    explorer.wait(10)
    assert explorer.arrows == {}
    assert explorer.initial.rows["CL"].arrow.description == ""
    explorer.nudge("CL")
    assert explorer.params["CL"] == 1e300


def test_refit_is_kept_by_a_link_and_refused_where_it_is_damaged(explorer, data) -> None:
    explorer.refit = ("V", "omega_CL")
    explorer.fixed = ("ka",)
    explorer.wait(10)
    again = nw.open(explorer.link(), data)
    assert (again.refit, again.fixed) == (("V", "omega_CL"), ("ka",))
    assert again.params == explorer.params
    again.close()
    from nlmewidgets.panels.session import checked

    with pytest.raises(nw.NlmeError, match="damaged at 'refit'"):
        checked({"refit": ["nobody"]}, explorer.model)


def test_what_is_offered_waits_for_rest_and_is_dropped_when_overtaken() -> None:
    answers: list[str] = []
    latest: Latest[str, str] = Latest(lambda x: x, answers.append)
    latest.offer("arrows of 1", 5.0)
    latest.put("look at 2")
    latest.offer("arrows of 2", 5.0)
    assert latest.wait(10)  # waiting hurries what rests
    assert "arrows of 1" not in answers
    assert answers[-1] in ("look at 2", "arrows of 2")
    begun, go = threading.Event(), threading.Event()

    def slow(x: str) -> str:
        begun.set()
        go.wait(5)
        return x

    latest = Latest(slow, answers.append)
    latest.put("look at 3")
    begun.wait(5)
    latest.put("look at 4")
    latest.offer("arrows of 3", 0.0)  # something more important is waiting
    go.set()
    assert latest.wait(10)
    assert answers[-1] == "look at 4"
