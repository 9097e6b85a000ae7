"""The objective follows the sliders, and says when it cannot."""

from __future__ import annotations

import math
import threading
import time

import numpy as np
import pytest
import traitlets as tl

import nlmewidgets as nw
from nlmewidgets.panels.latest import Latest
from tests.kinds import KINDS


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_the_objective_is_that_of_the_model_at_the_slider_values(explorer, model, data) -> None:
    explorer.params = {"CL": 3.1, "omega_ka": 0.45, "additive": 0.9}
    expected = model.with_values({"CL": 3.1, "omega_ka": 0.45, "additive": 0.9}).ofv(data, method="focei")
    assert explorer.ofv == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("method", "by"), [("fo", "fo"), ("focei", "focei"), ("saem", "laplace")])
def test_each_method_shows_its_own_objective(explorer, model, data, method, by) -> None:
    explorer.method = method
    assert explorer.objective_by == by
    assert explorer.ofv == pytest.approx(model.ofv(data, method=by), abs=1e-9)


def test_the_change_is_counted_from_the_pin(explorer) -> None:
    first = explorer.ofv
    assert explorer.pinned == first
    explorer.params = {"CL": 3.5}
    assert explorer.pinned == first
    assert f"{explorer.ofv - first:+.3f}" in explorer.header.objective.value
    explorer.pin()
    assert explorer.pinned == explorer.ofv


def test_another_method_restarts_the_pin_because_objectives_do_not_compare(explorer) -> None:
    explorer.method = "fo"
    assert explorer.pinned == explorer.ofv


def test_impossible_correlations_are_said_not_raised(explore, data) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
        correlation={("ka", "CL"): 0.1, ("CL", "V"): 0.1, ("ka", "V"): 0.1},
    )
    explorer = explore(model, data)
    explorer.params = {"corr_ka_CL": 0.9, "corr_CL_V": 0.9, "corr_ka_V": -0.9}
    assert math.isnan(explorer.ofv)
    assert "covariance matrix" in explorer.notice
    explorer.params = {"corr_ka_V": 0.8}
    assert math.isfinite(explorer.ofv)
    assert explorer.notice == ""


def test_a_prediction_that_fails_is_named_and_the_next_move_recovers(explore, data) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Combined(additive=0.3, proportional=0.1),
    )
    explorer = explore(model, data)
    explorer.params = {"V": 1e-300, "CL": 1e300}
    explorer._latest.wait(10)  # on a busy machine the objective is computed beside the sliders
    assert math.isnan(explorer.ofv)
    assert "subject 1" in explorer.notice
    explorer.reset()
    explorer._latest.wait(10)
    assert math.isfinite(explorer.ofv)
    assert explorer.notice == ""


def test_unknown_names_are_refused(explorer) -> None:
    with pytest.raises(tl.TraitError, match="no parameter 'Cl'"):
        explorer.params = {"Cl": 3.0}
    with pytest.raises(tl.TraitError, match="not in the data"):
        explorer.selected_ids = (99,)


def test_toggling_a_subject_twice_leaves_the_selection_as_it_was(explorer) -> None:
    explorer.toggle(5)
    explorer.toggle(1)
    assert explorer.selected_ids == (5, 1)
    explorer.toggle(5)
    assert explorer.selected_ids == (1,)


def test_a_slow_objective_is_computed_beside_the_sliders(explorer, monkeypatch) -> None:
    explorer._cost = 1.0  # as measured on a large study
    caller = threading.current_thread()
    seen: list[threading.Thread] = []
    original = explorer._latest._compute
    monkeypatch.setattr(
        explorer._latest, "_compute", lambda v: (seen.append(threading.current_thread()), original(v))[1]
    )
    explorer.params = {"CL": 3.3}
    explorer._latest.wait(10)
    assert seen
    assert seen[0] is not caller
    assert explorer.point.values.theta[1] == 3.3


def test_latest_skips_what_was_overtaken_and_always_answers_the_last() -> None:
    answers: list[int] = []
    begun = threading.Event()

    def slow(x: int) -> int:
        begun.set()
        time.sleep(0.05)
        return x

    latest = Latest(slow, answers.append)
    latest.put(0)
    begun.wait(5)
    for k in range(1, 20):
        latest.put(k)
    latest.wait(10)
    assert answers[-1] == 19
    assert len(answers) <= 2
    assert not any(t.name == "nlmewidgets-look" for t in threading.enumerate())


def test_panels_show_the_sliders_until_a_fit_ends_and_again_when_one_moves(explorer) -> None:
    assert explorer.point.label == "the slider values"
    explorer.start().wait()
    assert explorer.point.label == "the FOCEI estimates (converged)"
    assert np.array_equal(explorer.point.values.theta, explorer.result.values.theta)
    explorer.params = {"CL": 2.9}
    assert explorer.point.label == "the slider values"


def test_latest_answers_again_after_a_request_that_failed(monkeypatch) -> None:
    """Failing to compute or to publish is reported before the wait is over, and ends nothing."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    answers: list[float] = []

    def publish(x: float) -> None:
        if x > 1.0:
            raise ValueError("too large")
        answers.append(x)

    latest = Latest(lambda x: 1.0 / x, publish)
    latest.put(0.0)
    assert latest.wait(10)
    assert told == [ZeroDivisionError]
    latest.put(0.5)
    assert latest.wait(10)
    assert told == [ZeroDivisionError, ValueError]
    latest.put(2.0)
    assert latest.wait(10)
    assert answers == [0.5]


def test_latest_gives_a_refusal_or_a_sentence_instead_of_an_answer(monkeypatch) -> None:
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))

    def compute(x: float) -> float:
        if x < 0:
            raise nw.NlmeError("No roots of negative numbers; give a positive one.")
        return 1.0 / x

    answers: list[float | str] = []
    latest = Latest(compute, answers.append, lambda refusal: answers.append(str(refusal)))
    for request in (-1.0, 0.0, 2.0):
        latest.put(request)
        assert latest.wait(10)
    assert answers[0] == "No roots of negative numbers; give a positive one."
    assert answers[1] == "This failed (ZeroDivisionError: float division by zero); please report it."
    assert answers[2] == 0.5
    assert told == [ZeroDivisionError]


def test_the_correlations_of_a_block_are_fixed_and_freed_together(explore, data) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
        correlation="full",
    )
    explorer = explore(model, data)
    names = [name for name, _, _ in model.space.correlations]
    assert len(names) == 3
    explorer.fixed = ("CL", names[1])
    assert set(explorer.fixed) == {"CL", *names}
    explorer.fixed = tuple(name for name in explorer.fixed if name != names[0])
    assert explorer.fixed == ("CL",)


def test_a_look_at_numbers_far_from_any_other_is_no_exception(explore) -> None:
    """Curvatures of 1e60 beside one of 10 are singular to rounding."""
    explorer = explore(*KINDS["occasions"]())
    explorer.params = {"a": 1e30}
    explorer._latest.wait(20)
    assert math.isfinite(explorer.ofv) or explorer.notice
    explorer.reset()
    explorer._latest.wait(20)
    assert explorer.ofv < 100
