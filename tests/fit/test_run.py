"""The loop: it ends as it is told to, and whatever ends it leaves a fit that can be used."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.fit.run import time_left
from nlmewidgets.methods import METHODS, Iteration, Method

SHORT = {
    "saem": {"explore": 20, "smooth": 10},
    "agq": {"nodes": 3},
    "bayes": {"chains": 2, "warmup": 4, "draws": 6, "max_depth": 4},
}


@dataclass(frozen=True)
class Waiting(Method):
    """A method that does nothing but take its time: `steps` iterations of `seconds` each, and a finish."""

    count: int = 5
    seconds: float = 0.02
    fails_at: int = -1
    failure: type[BaseException] = RuntimeError

    name: ClassVar[str] = "waiting"
    title: ClassVar[str] = "Waiting"
    summary: ClassVar[str] = "For tests."

    def steps(self, problem: nw.Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        eta = np.zeros((problem.n_eta, problem.n_subjects))
        for k in range(self.count + 1):
            if k == self.fails_at:
                raise self.failure("in a step")
            if k:
                time.sleep(self.seconds)
            status = "converged" if k == self.count else "running"
            yield Iteration(k, "wait", start, -float(k), eta, problem.space, "waiting", status, progress=k / self.count)

    def finish(self, problem: nw.Problem, last: Iteration) -> Iteration:
        time.sleep(self.seconds)
        return last

    def ofv(self, problem: nw.Problem, values: Values) -> float:
        return 0.0


def usable(fit: nw.Fit) -> bool:
    """Whether everything a fit offers can be computed from it."""
    return (
        np.isfinite([fit.ofv, fit.loglik, fit.aic, fit.bic]).all()
        and len(fit.table()) == fit.n_obs
        and fit.shrinkage.notna().all()
        and isinstance(fit.model, nw.Model)
        and len(fit.history) >= 1
        and bool(repr(fit))
        and bool(fit._repr_html_())
    )


# ------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("method", METHODS)
def test_fit_drains_the_stream(method, oral_model, theophylline):
    options = SHORT.get(method, {})
    iterations = list(nw.stream(oral_model(), theophylline, method, seed=1, **options))
    fit = oral_model().fit(theophylline, method, seed=1, **options)
    assert [it.k for it in iterations] == list(range(len(iterations)))
    assert all(it.status == "running" for it in iterations[:-1])
    assert iterations[-1].status != "running"
    assert iterations[-1].values == fit.values
    assert len(fit.history) == len(iterations)
    assert usable(fit)


@pytest.mark.parametrize("method", METHODS)
def test_iterations_are_frozen_copies(method, oral_model, theophylline):
    iterations = []
    for it in nw.stream(oral_model(), theophylline, method, seed=1, **SHORT.get(method, {})):
        iterations.append(it)
        if it.k == 2:
            break
    first, last = iterations[0], iterations[-1]
    assert first.values != last.values
    with pytest.raises(AttributeError):
        first.k = 7
    with pytest.raises(ValueError, match="read-only"):
        first.values.theta[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        first.eta[0] = 1.0


def test_nothing_runs_between_two_pulls(oral_model, theophylline):
    steps = nw.stream(oral_model(), theophylline, Waiting(count=1000, seconds=10.0))
    assert next(steps).k == 0  # at once: the first wait is before the second


def test_the_same_seed_gives_the_same_estimates_and_is_recorded(oral_model, theophylline):
    runs = [oral_model().fit(theophylline, "saem", seed=s, **SHORT["saem"]) for s in (4, 4, 5)]
    assert runs[0].values == runs[1].values
    assert runs[0].values != runs[2].values
    assert [run.seed for run in runs] == [4, 4, 5]


def test_an_unasked_seed_is_recorded_and_reproduces(oral_model, theophylline):
    first = oral_model().fit(theophylline, "saem", **SHORT["saem"])
    again = oral_model().fit(theophylline, "saem", seed=first.seed, **SHORT["saem"])
    assert first.values == again.values


# ------------------------------------------------------------------------------ ends


def stop_at(k: int, stop: threading.Event) -> Callable[[Iteration], None]:
    return lambda it: stop.set() if it.k == k else None


def interrupt_at(k: int) -> Callable[[Iteration], None]:
    def callback(it: Iteration) -> None:
        if it.k == k:
            raise KeyboardInterrupt

    return callback


@pytest.mark.parametrize("method", METHODS)
def test_stop_ends_after_the_current_iteration(method, oral_model, theophylline):
    stop = threading.Event()
    fit = oral_model().fit(theophylline, method, seed=1, stop=stop, callback=stop_at(3, stop))
    assert (fit.status, fit.converged, len(fit.history)) == ("stopped", False, 4)
    assert fit.message == "Stopped by the user after 3 iterations."
    assert usable(fit)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_ends_after_the_current_iteration(method, oral_model, theophylline):
    fit = oral_model().fit(theophylline, method, seed=1, callback=interrupt_at(1))
    assert (fit.status, fit.message) == ("stopped", "Interrupted after 1 iteration.")
    assert usable(fit)


@pytest.mark.parametrize("method", METHODS)
def test_a_time_limit_ends_the_fit(method, oral_model, theophylline):
    fit = oral_model().fit(theophylline, method, seed=1, time_limit=0.0)
    assert (fit.status, fit.message) == ("stopped", "Stopped at the time limit of 0 s after 0 iterations.")
    assert usable(fit)


def test_an_interrupt_within_a_step_keeps_the_iterations_before(oral_model, theophylline):
    fit = oral_model().fit(theophylline, Waiting(fails_at=3, failure=KeyboardInterrupt, seconds=0.0))
    assert (fit.status, len(fit.history)) == ("stopped", 3)
    assert usable(fit)


def test_an_interrupt_before_the_first_iteration_is_passed_on(oral_model, theophylline):
    with pytest.raises(KeyboardInterrupt):
        oral_model().fit(theophylline, Waiting(fails_at=0, failure=KeyboardInterrupt))


def test_an_interrupt_after_the_last_iteration_does_not_undo_it(oral_model, theophylline):
    fit = oral_model().fit(theophylline, Waiting(count=2, seconds=0.0), callback=interrupt_at(2))
    assert fit.status == "converged"


def test_an_interrupt_while_the_end_is_computed_keeps_the_estimates(oral_model, theophylline, monkeypatch):
    def interrupted(*_: object) -> Iteration:
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiting, "finish", interrupted)
    whole = oral_model().fit(theophylline, Waiting(count=2, seconds=0.0))
    assert (whole.status, len(whole.history)) == ("converged", 3)
    cut = oral_model().fit(theophylline, Waiting(count=9, seconds=0.0), callback=interrupt_at(2))
    assert (cut.status, len(cut.history)) == ("stopped", 3)
    assert cut.message == "Interrupted at iteration 2: this is its last iterate, from which resume() goes on."
    assert usable(cut)


def test_errors_of_the_callback_and_of_a_step_are_passed_on(oral_model, theophylline):
    def callback(it: Iteration) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        oral_model().fit(theophylline, callback=callback)
    with pytest.raises(RuntimeError, match="in a step"):
        oral_model().fit(theophylline, Waiting(fails_at=2, seconds=0.0))


def test_every_iteration_reaches_the_callback(oral_model, theophylline):
    seen: list[int] = []
    fit = oral_model().fit(theophylline, callback=lambda it: seen.append(it.k))
    assert seen == fit.history["k"].tolist()


def test_too_few_iterations_are_a_limit_not_an_end(oral_model, theophylline):
    fit = oral_model().fit(theophylline, max_iterations=2)
    assert (fit.status, fit.converged) == ("limit", False)
    assert re.match(r"Stopped after \d iterations, the largest number allowed, before convergence\.", fit.message)


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("entry", [nw.stream, nw.Model.fit, nw.Model.ofv], ids=["stream", "fit", "ofv"])
def test_a_method_or_option_that_does_not_exist_is_refused_at_the_call(entry, oral_model, theophylline):
    with pytest.raises(
        nw.MethodError, match=rf"^There is no method 'em' in this version; there are {', '.join(METHODS)}\.$"
    ):
        entry(oral_model(), theophylline, "em")
    with pytest.raises(nw.MethodError, match=r"^The method 'focei' has no option 'speed' \(its options: tolerance, "):
        entry(oral_model(), theophylline, "focei", speed=2)


def test_a_method_is_found_in_any_case_and_an_object_takes_options_too(oral_model, theophylline):
    expected = oral_model().ofv(theophylline, "focei")
    assert oral_model().ofv(theophylline, "FOCEI") == expected
    fit = oral_model().fit(theophylline, Waiting(count=9, seconds=0.0), count=2)
    assert len(fit.history) == 3
    with pytest.raises(nw.MethodError, match=r"^The method 'waiting' has no option 'speed' \(its options: count, "):
        oral_model().fit(theophylline, Waiting(), speed=2)


@pytest.mark.parametrize("seed", [-1, 1.5, "x"])
def test_an_impossible_seed_is_refused(seed, oral_model, theophylline):
    with pytest.raises(nw.MethodError) as error:
        oral_model().fit(theophylline, seed=seed)
    assert str(error.value) == f"seed={seed!r} is not a whole number from 0; give one, or None to have it chosen."


# ------------------------------------------------------------------- unusable subjects


def with_a_bad_subject(bad: tuple[int, ...] = (2,)) -> tuple[nw.Model, nw.Data]:
    """Return a model and data whose prediction is not a number for some subjects (log of a negative weight)."""
    a, k = sp.symbols("A k", positive=True)
    effect = nw.theta("b", 0.5) * sp.log(nw.covariate("WT") / 70)
    model = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(6.0, sd=0.2, effect=effect), k: nw.LogNormal(0.2, sd=0.3)},
        residual=nw.Additive(0.3),
    )
    design = pd.DataFrame({"ID": np.repeat([1, 2, 3, 4], 4), "TIME": np.tile([0.5, 1.0, 2.0, 4.0], 4), "DV": 1.0})
    design["WT"] = np.repeat([60.0, 70, 80, 90], 4)
    design["DV"] = model.simulate(nw.Data.from_frame(design), seed=2)["DV"]
    design.loc[design["ID"].isin(bad), "WT"] *= -1
    return model, nw.Data.from_frame(design)


LEFT_OUT = (
    "Subject 2 is left out: The prediction for subject 2 at TIME 0.5 is nan; change the initial values or check the "
    "dose and covariates of this subject."
)


@pytest.mark.parametrize("method", METHODS)
def test_a_subject_without_a_prediction_is_named_and_left_out(method):
    model, data = with_a_bad_subject()
    options = SHORT.get(method, {})
    fit = model.fit(data, method, seed=1, **options)
    others = model.fit(data.subset([1, 3, 4]), method, seed=1, **options)
    assert fit.ofv == pytest.approx(others.ofv, rel=1e-12)
    assert fit.excluded == {2: LEFT_OUT.removeprefix("Subject 2 is left out: ")}
    assert fit.message.endswith(LEFT_OUT)
    assert (fit.n_subjects, fit.n_obs, len(fit.table())) == (3, 12, 12)
    assert fit.eta.index.tolist() == [1, 2, 3, 4]
    assert fit.eta.loc[2].isna().all()
    assert fit.eta.drop(2).notna().all().all()
    assert usable(fit)


def test_the_first_iteration_names_the_subjects_left_out():
    model, data = with_a_bad_subject()
    messages = [it.message for it in nw.stream(model, data)]
    assert messages[0].endswith(LEFT_OUT)
    assert messages[-1].endswith(LEFT_OUT)
    assert not any(LEFT_OUT in message for message in messages[1:-1])


def test_a_stopped_fit_names_them_too():
    model, data = with_a_bad_subject()
    fit = model.fit(data, time_limit=0.0)
    assert fit.message == f"Stopped at the time limit of 0 s after 0 iterations. {LEFT_OUT}"


def test_with_no_usable_subject_there_is_one_sentence():
    model, data = with_a_bad_subject((1, 2, 3, 4))
    for ask in (model.fit, model.ofv):
        with pytest.raises(nw.DataError) as error:
            ask(data)
        assert str(error.value) == (
            "The prediction for subject 1 at TIME 0.5 is nan; change the initial values or check the dose and "
            "covariates of this subject."
        )


def test_data_without_observations_are_refused(theophylline, oral_model):
    table = theophylline.records[["ID", "TIME", "EVID", "AMT", "DV"]].copy()
    table.loc[table["ID"] == 2, "DV"] = np.nan
    silent = nw.Data.from_frame(table).subset([2])
    for ask in (oral_model().fit, oral_model().ofv):
        with pytest.raises(nw.DataError) as error:
            ask(silent)
        assert str(error.value) == ("The data have no observation to fit: every DV is missing; check DV, MDV and EVID.")


def test_an_objective_is_refused_for_the_first_unusable_subject():
    model, data = with_a_bad_subject()
    with pytest.raises(nw.DataError, match="^The prediction for subject 2 at TIME 0.5 is nan; "):
        model.ofv(data)


def test_a_prediction_of_0_under_proportional_error_is_named(oral_model, theophylline):
    # Concentrations before absorption are 0, and so would be the residual SD.
    with pytest.raises(nw.DataError) as error:
        oral_model(nw.Proportional(0.1)).ofv(theophylline)
    assert str(error.value) == (
        "The residual standard deviation is 0 for subject 1 (a prediction of 0 under proportional error?); add an "
        "additive part or leave these observations out."
    )


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_datum_without_a_logarithm_is_named(value, oral_model, theophylline):
    table = theophylline.records[theophylline.records["TIME"] > 0].copy()
    with_doses = pd.concat([theophylline.records[theophylline.dosed], table]).sort_values("ID", kind="stable")
    first = (with_doses["EVID"] == 0).to_numpy().argmax()
    with_doses.iloc[first, with_doses.columns.get_loc("DV")] = value
    fit = oral_model(nw.LogNormalError(0.1)).fit(nw.Data.from_frame(with_doses), "fo")
    assert f"Subject 1 is left out: DV is {value:g} for subject 1 at TIME 0.25, where the transform" in fit.message
    # The prediction before absorption is 0 and has none either, whatever was measured.
    with pytest.raises(nw.DataError, match="The prediction for subject 1 at TIME 0 is 0, where the transform"):
        oral_model(nw.LogNormalError(0.1)).ofv(theophylline)


# ------------------------------------------------------------------------------ async


def fit_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nlmewidgets-fit")]


@pytest.mark.parametrize("method", METHODS)
def test_fit_async_gives_the_same_fit(method, oral_model, theophylline):
    options = SHORT.get(method, {})
    fit = oral_model().fit(theophylline, method, seed=1, **options)
    other = asyncio.run(nw.fit_async(oral_model(), theophylline, method, seed=1, **options))
    assert other.values == fit.values
    assert (other.ofv, other.status, other.message) == (fit.ofv, fit.status, fit.message)
    pd.testing.assert_frame_equal(other.history, fit.history)
    assert not fit_threads()


def test_fit_async_leaves_the_loop_free_and_calls_back_within_it(oral_model, theophylline):
    ticks: list[float] = []
    threads: set[int] = set()

    async def main() -> nw.Fit:
        async def tick() -> None:
            while True:
                ticks.append(time.monotonic())
                await asyncio.sleep(0.005)

        ticker = asyncio.create_task(tick())
        fit = await nw.fit_async(
            oral_model(),
            theophylline,
            Waiting(count=3, seconds=0.3),
            callback=lambda it: threads.add(threading.get_ident()),
        )
        ticker.cancel()
        return fit

    began = time.monotonic()
    assert asyncio.run(main()).status == "converged"
    # Three steps and a finish of 0.3 s: no gap is as long as one of them.
    assert time.monotonic() - began > 1.2
    assert np.diff(ticks).max() < 0.25
    assert threads == {threading.get_ident()}


def test_cancelling_waits_for_the_step_in_flight_and_leaves_no_thread(oral_model, theophylline):
    seen: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(
            nw.fit_async(
                oral_model(),
                theophylline,
                Waiting(count=1000, seconds=0.1),
                callback=lambda it: seen.append(it.k),
            )
        )
        while not seen:
            await asyncio.sleep(0.01)
        assert fit_threads()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not fit_threads()
    assert len(seen) < 10


@pytest.mark.parametrize("end", ["stop", "time limit"])
def test_fit_async_stops_like_fit(end, oral_model, theophylline):
    stop = threading.Event()
    options: dict[str, Any] = {"stop": stop, "callback": stop_at(1, stop)} if end == "stop" else {"time_limit": 0.0}
    fit = asyncio.run(nw.fit_async(oral_model(), theophylline, Waiting(count=1000, seconds=0.05), **options))
    word = "Stopped by the user" if end == "stop" else "Stopped at the time limit of 0 s"
    assert fit.status == "stopped"
    assert fit.message.startswith(f"{word} after ")
    assert usable(fit)
    assert not fit_threads()


def test_errors_reach_who_awaits_and_leave_no_thread(oral_model, theophylline):
    def callback(it: Iteration) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(nw.fit_async(oral_model(), theophylline, callback=callback))
    with pytest.raises(RuntimeError, match="in a step"):
        asyncio.run(nw.fit_async(oral_model(), theophylline, Waiting(fails_at=2, seconds=0.0)))
    assert not fit_threads()


# --------------------------------------------------------------------------- progress


def test_the_progress_line_says_what_runs_and_is_removed_at_the_end(capsys, oral_model, theophylline):
    oral_model().fit(theophylline, Waiting(count=4, seconds=0.25), progress=True)
    written = capsys.readouterr().err
    lines = written.split("\r")
    assert "Waiting: iteration 1, wait, OFV -1.000, about 1 s left" in [line.strip() for line in lines]
    assert "\n" not in written
    assert lines[-1] == ""
    assert lines[-2].strip() == ""


def test_without_a_terminal_or_when_unwanted_there_is_no_progress_line(capsys, oral_model, theophylline):
    for progress in (None, False):
        oral_model().fit(theophylline, Waiting(count=2, seconds=0.3), progress=progress)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("elapsed", "progress", "words"),
    [
        (1.0, 0.0, "time left unknown"),
        (1.0, 0.5, "about 1 s left"),
        (0.01, 0.99, "about 1 s left"),
        (10.0, 0.25, "about 30 s left"),
        (60.0, 0.1, "about 9 min left"),
    ],
)
def test_time_left_in_words(elapsed, progress, words):
    assert time_left(elapsed, progress) == words


# ------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tolerance": "small"}, "tolerance='small' is not a number; the usual one is 1e-06."),
        ({"max_iterations": float("nan")}, "max_iterations=nan is not a number; the usual one is 500."),
        ({"time_limit": "a"}, "time_limit='a' is no number of seconds; give one from 0, or None."),
        ({"time_limit": float("nan")}, "time_limit=nan is no number of seconds; give one from 0, or None."),
    ],
)
def test_options_that_are_no_numbers_are_refused(options, sentence, oral_model, theophylline):
    with pytest.raises(nw.MethodError) as error:
        oral_model().fit(theophylline, "focei", **options)
    assert str(error.value) == sentence


def test_what_is_no_fit_is_not_compared():
    with pytest.raises(nw.NlmeError, match="takes fits, as model.fit"):
        nw.compare([1, 2])
