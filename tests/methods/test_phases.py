"""Phases of SAEM: the rule that ends them, a word from outside, and going on after an interruption."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.methods import METHODS, Iteration
from nlmewidgets.methods.phases import PhaseControl, smoothing_length, trend_of
from nlmewidgets.methods.saem_state import restore_generator, stored_generator
from tests.models import make


def autoregression(persistence: float, length: int, n: int, seed: int = 1) -> np.ndarray:
    """Return independent stationary series, (length, n)."""
    rng = np.random.default_rng(seed)
    x = np.empty((length, n))
    x[0] = rng.standard_normal(n) / np.sqrt(1 - persistence**2)
    for k in range(1, length):
        x[k] = persistence * x[k - 1] + rng.standard_normal(n)
    return x


@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.8])
def test_a_trend_of_series_at_rest_is_measured(persistence: float) -> None:
    trend = trend_of(autoregression(persistence, 400, 4000))
    assert np.median(trend.persistence) == pytest.approx(persistence, abs=0.02)  # they are clipped at 0
    # The drift of a straight line has the standard deviation that is stated.
    assert trend.drift.std() / np.median(trend.noise) == pytest.approx(1.0, abs=0.1)
    assert trend.moving.mean() < 0.02


def test_a_drift_beyond_the_noise_is_seen() -> None:
    x = autoregression(0.5, 75, 300)
    drift = np.linspace(0.0, 6.0, 75)[:, None]  # ten standard deviations of the innovations' average
    assert trend_of(x + drift).moving.mean() > 0.95


def test_the_length_of_smoothing_is_that_of_the_error_wanted() -> None:
    """The average of K iterates of an autoregression has variance 1/(K(1-λ)²); SE² is C/(1-λ)."""
    persistence, chains, tolerance = 0.6, 4, 0.1
    length = smoothing_length(np.array([0.2, persistence]), chains, tolerance)
    error = autoregression(persistence, length, 4000).mean(axis=0).std()
    assert error / np.sqrt(chains / (1 - persistence)) == pytest.approx(tolerance, rel=0.05)


def test_an_automatic_fit_says_how_its_phases_ended(theophylline: nw.Data, oral_model) -> None:
    iterations = list(nw.stream(oral_model(), theophylline, "saem", seed=2))
    phases = [it.phase for it in iterations]
    assert 150 <= phases.count("explore") < 1000
    assert 50 <= phases.count("smooth") < 1000
    message = iterations[-1].message
    assert f"Completed {phases.count('explore')} exploring and {phases.count('smooth')} smoothing" in message
    assert "No parameter was drifting beyond its Monte Carlo noise" in message
    assert "Monte Carlo error of 0.1 standard errors" in message
    progress = [it.progress for it in iterations]
    assert progress[-1] == 1.0
    assert max(progress[:-1]) < 1.0


def test_phases_are_extended_and_ended_from_another_thread(theophylline: nw.Data, oral_model) -> None:
    control = PhaseControl()
    steps = nw.stream(oral_model(), theophylline, "saem", seed=1, explore=6, smooth=5, control=control)
    reached, asked = threading.Event(), threading.Event()

    def panel() -> None:
        reached.wait(10)
        control.extend(3)
        asked.set()

    thread = threading.Thread(target=panel)
    thread.start()
    seen = list(islice(steps, 4))
    reached.set()
    assert asked.wait(10)
    thread.join()
    seen += list(islice(steps, 8))  # up to k = 11: nine exploring, two smoothing
    assert [it.phase for it in seen[1:]] == ["explore"] * 9 + ["smooth"] * 2
    control.extend(2)
    seen += list(islice(steps, 2))
    control.end_phase()
    seen += list(steps)
    assert [it.phase for it in seen[1:]] == ["explore"] * 9 + ["smooth"] * 5
    assert seen[-1].status == "converged"
    assert "9 exploring and 5 smoothing" in seen[-1].message
    with pytest.raises(ValueError, match="cannot be extended by -1"):
        control.extend(-1)
    assert pickle.loads(pickle.dumps(control)).take() == (0, False)


def test_an_exploration_without_end_ends_when_it_is_told(theophylline: nw.Data, oral_model) -> None:
    control = PhaseControl()
    control.extend(500)  # before it began
    seen = []
    for it in nw.stream(oral_model(), theophylline, "saem", seed=1, smooth=3, chains=1, control=control):
        seen.append(it.phase)
        if it.k == 20:
            control.end_phase()
    assert seen.count("explore") == 21
    assert seen.count("smooth") == 3


CASES = {
    "closed forms": ("decay", "additive", ()),
    "newton": ("growth", "combined", ("no eta",)),
    "occasions": ("decay", "additive", ("iov",)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("at", [0, 7, 14])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, at: int) -> None:
    case = make(*CASES[name], seed=4, subjects=10)
    method = METHODS["saem"](explore=12, smooth=6, objective_every=5)
    whole = list(method.steps(case.problem, case.model.values, np.random.default_rng(3)))
    resumed = list(method.resume(case.problem, whole[at], np.random.default_rng(99)))
    assert [it.k for it in resumed] == [it.k for it in whole[at + 1 :]]
    for one, other in zip(resumed, whole[at + 1 :], strict=True):
        assert (one.phase, one.status, one.ofv, one.message) == (other.phase, other.status, other.ofv, other.message)
        np.testing.assert_array_equal(one.values.theta, other.values.theta)
        np.testing.assert_array_equal(one.values.omega, other.values.omega)
        np.testing.assert_array_equal(one.values.sigma, other.values.sigma)
        for key in one.arrays:
            np.testing.assert_array_equal(one.arrays[key], other.arrays[key])


def test_a_completed_fit_smooths_on(theophylline: nw.Data, oral_model) -> None:
    model = oral_model()
    problem = model.problem(theophylline)
    short, long = METHODS["saem"](explore=10, smooth=5), METHODS["saem"](explore=10, smooth=9)
    *_, last = short.steps(problem, model.values, np.random.default_rng(3))
    *_, whole = long.steps(problem, model.values, np.random.default_rng(3))
    *_, resumed = long.resume(problem, short.finish(problem, last), np.random.default_rng(4))
    assert resumed.k == whole.k == 19
    # The display evaluates the modes at the end of the short run, and proposals follow; otherwise the same.
    np.testing.assert_allclose(resumed.values.theta, whole.values.theta, rtol=0.05)
    *_, twice = short.resume(problem, last, np.random.default_rng(4))
    assert (twice.k, twice.status) == (20, "converged")


def test_arrays_of_another_problem_are_not_used(theophylline: nw.Data, oral_model) -> None:
    model = oral_model()
    method = METHODS["saem"](explore=3, smooth=2)
    *_, last = method.steps(model.problem(theophylline), model.values, np.random.default_rng(3))
    fewer = model.problem(theophylline.subset(theophylline.ids[:8]))
    again = list(method.resume(fewer, last, np.random.default_rng(4)))
    assert [it.k for it in again] == [0, 1, 2, 3, 4, 5]
    bare = replace(last, arrays={})
    assert isinstance(next(iter(method.resume(model.problem(theophylline), bare, np.random.default_rng(4)))), Iteration)


def test_a_generator_goes_on_where_it_was_stored() -> None:
    rng, other = np.random.default_rng(8), np.random.default_rng(9)
    rng.integers(0, 10, 3, dtype=np.int32)  # leaves half a word behind
    stored = stored_generator(rng.bit_generator.state)
    assert (stored == np.floor(stored)).all()
    restore_generator(other, stored)
    np.testing.assert_array_equal(rng.integers(0, 10, 9, dtype=np.int32), other.integers(0, 10, 9, dtype=np.int32))
    np.testing.assert_array_equal(rng.standard_normal(9), other.standard_normal(9))
    foreign = np.random.Generator(np.random.MT19937(1))
    assert not len(stored_generator(foreign.bit_generator.state))
    restore_generator(foreign, stored)  # stays as it is


def test_poor_options_are_refused_in_a_sentence(theophylline: nw.Data, oral_model) -> None:
    with pytest.raises(nw.MethodError, match="explore='long' is no number of iterations; give one, or 'auto'"):
        oral_model().fit(theophylline, "saem", explore="long")
    with pytest.raises(nw.MethodError, match="tolerance=0 is not positive"):
        oral_model().fit(theophylline, "saem", tolerance=0.0)


def test_only_the_newest_iteration_of_a_fit_holds_arrays(theophylline: nw.Data, oral_model) -> None:
    seen = list(nw.stream(oral_model(), theophylline, "saem", seed=1, explore=3, smooth=2))
    assert [bool(it.arrays) for it in seen] == [False] * 5 + [True]
    assert seen[-1].arrays["conditional_sd"].shape == (3, 12)
