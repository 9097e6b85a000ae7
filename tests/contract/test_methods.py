"""What every estimation method must keep; a new entry of METHODS is tested without a new line here."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from functools import cache

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.methods import METHODS, Iteration
from nlmewidgets.methods.base import Method
from tests.models import Case, make

SHORT = {"explore": 12, "smooth": 6, "nodes": 3, "stages": 1, "error": 0.2}
"""Options that keep a method short, where it has them."""
OWN: dict[str, dict[str, object]] = {
    "imp": {"max_iterations": 8},
    "bayes": {"chains": 2, "warmup": 4, "draws": 6, "max_depth": 4},
}
"""Those of one method alone."""

Ran = Callable[[str], list[Iteration]]

SENTENCE = re.compile(r"^[A-Z'].*[.]$", re.DOTALL)


@pytest.fixture(scope="module")
def case() -> Case:
    """Return a model with a block of Omega, a fixed theta, a covariate and two sigmas."""
    made = make("oral", "combined", ("block", "covariate"), seed=15, subjects=10)
    return Case(made.model.fix("CL"), made.data, made.label)


def options(name: str) -> dict[str, object]:
    have = {f.name for f in fields(METHODS[name])}
    return {k: v for k, v in SHORT.items() if k in have} | OWN.get(name, {})


def iterations(case: Case, name: str, seed: int = 1) -> list[Iteration]:
    return list(nw.stream(case.model, case.data, name, seed=seed, **options(name)))


@pytest.fixture(scope="module")
def ran(case: Case) -> Callable[[str], list[Iteration]]:
    """Return the iterations of a method with seed 1, run once for all tests that only look at them."""
    return cache(lambda name: iterations(case, name))


def numbers(it: Iteration) -> np.ndarray:
    values = it.values
    return np.concatenate([values.theta, values.omega.ravel(), values.sigma, it.eta.ravel(), [it.ofv]])


# ------------------------------------------------------------------ declaration


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_is(name: str) -> None:
    cls = METHODS[name]
    assert issubclass(cls, Method)
    assert cls.name == name == name.lower()
    assert cls.title
    assert SENTENCE.match(cls.summary)
    assert all(f.default is not None for f in fields(cls))
    for field in fields(cls):
        assert f"{field.name} " in cls.__doc__ or any(f"{field.name} " in (b.__doc__ or "") for b in cls.__mro__)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_frozen_and_equal_to_its_like(name: str) -> None:
    method = METHODS[name]()
    assert method == METHODS[name]()
    assert hash(method) == hash(METHODS[name]())
    if fields(method):
        with pytest.raises(FrozenInstanceError):
            setattr(method, fields(method)[0].name, 1)


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_option_is_refused_with_those_it_has(name: str, case: Case) -> None:
    with pytest.raises(nw.MethodError, match=f"The method '{name}' has no option 'colour'") as caught:
        case.model.ofv(case.data, name, colour="red")
    assert SENTENCE.match(str(caught.value))
    for field in fields(METHODS[name]):
        assert field.name in str(caught.value)


def test_an_unknown_method_is_refused_with_those_there_are(case: Case) -> None:
    with pytest.raises(nw.MethodError, match="There is no method 'foo'") as caught:
        case.model.fit(case.data, "foo")
    assert all(name in str(caught.value) for name in METHODS)


# -------------------------------------------------------------------- objective


@pytest.mark.parametrize("name", METHODS)
def test_the_objective_is_a_finite_number_and_always_the_same(name: str, case: Case) -> None:
    once, twice = (case.model.ofv(case.data, name, **options(name)) for _ in range(2))
    assert isinstance(once, float)
    assert np.isfinite(once)
    assert once == twice


# -------------------------------------------------------------------- iterations


@pytest.mark.parametrize("name", METHODS)
def test_iterations_are_independent_snapshots(name: str, ran: Ran) -> None:
    found = ran(name)
    assert len(found) >= 5
    before = [numbers(it) for it in found]
    for one, two in zip(before, before[1:], strict=False):
        assert not np.array_equal(one, two) or found[-1].status == "limit"
    assert len({tuple(x) for x in before[:5]}) == 5
    for it in found:
        for array in (it.eta, it.values.theta, it.values.omega, it.values.sigma):
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0.0
        # Tables made from an iteration are copies.
        for table in (it.theta, it.omega, it.sigma):
            table.iloc[...] = -1.0
        it.to_dict().clear()
    for it, wanted in zip(found, before, strict=True):
        np.testing.assert_array_equal(numbers(it), wanted)
    with pytest.raises(FrozenInstanceError):
        found[0].k = 7


@pytest.mark.parametrize("name", METHODS)
def test_k_counts_from_zero_and_only_the_last_status_is_final(name: str, ran: Ran) -> None:
    found = ran(name)
    assert [it.k for it in found] == list(range(len(found)))
    assert all(it.status == "running" for it in found[:-1])
    assert found[-1].status in ("converged", "limit")
    assert SENTENCE.match(found[-1].message)
    assert all(0.0 <= it.progress <= 1.0 for it in found)
    assert found[-1].progress == 1.0
    assert all(it.phase and it.ofv_by for it in found)


@pytest.mark.parametrize("name", METHODS)
def test_the_first_iteration_is_the_start(name: str, case: Case) -> None:
    first = next(iter(nw.stream(case.model, case.data, name, seed=1, **options(name))))
    assert first.to_dict() == pytest.approx(case.model.space.to_dict(case.model.values), rel=1e-14)
    assert first.eta.shape == (case.problem.n_eta, case.data.n_subjects)


@pytest.mark.parametrize("name", METHODS)
def test_every_iteration_is_inside_the_space(name: str, case: Case, ran: Ran) -> None:
    space = case.model.space
    for it in ran(name):
        assert np.isfinite(it.ofv)
        assert np.isfinite(it.eta).all()
        for p, value in zip((*space.theta, *space.sigma), (*it.values.theta, *it.values.sigma), strict=True):
            assert p.lower is None or value > p.lower
            assert p.upper is None or value < p.upper
        np.testing.assert_array_equal(it.values.omega, it.values.omega.T)
        assert np.linalg.eigvalsh(it.values.omega)[0] > 0
        for i, block in enumerate(space.blocks):
            others = [k for j, b in enumerate(space.blocks) for k in b if j != i]
            assert not it.values.omega[np.ix_(block, others)].any()


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_iterations(name: str, case: Case, ran: Ran) -> None:
    one, two = ran(name), iterations(case, name)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(numbers(a), numbers(b))
        assert (a.k, a.phase, a.status, a.message) == (b.k, b.phase, b.status, b.message)
    fits = [case.model.fit(case.data, name, seed=1, **options(name)) for _ in range(2)]
    assert fits[0].ofv == fits[1].ofv
    assert fits[0].values == fits[1].values
    assert fits[0].seed == 1
    np.testing.assert_array_equal(fits[0].etas, fits[1].etas)


@pytest.mark.parametrize("name", METHODS)
def test_two_streams_at_once_do_not_disturb_each_other(name: str, case: Case, ran: Ran) -> None:
    alone = ran(name)
    pairs = zip(
        nw.stream(case.model, case.data, name, seed=1, **options(name)),
        nw.stream(case.model, case.data, name, seed=1, **options(name)),
        strict=True,
    )
    for k, (a, b) in enumerate(pairs):
        np.testing.assert_array_equal(numbers(a), numbers(alone[k]))
        np.testing.assert_array_equal(numbers(b), numbers(alone[k]))


@pytest.mark.parametrize("name", METHODS)
def test_a_stream_may_be_abandoned(name: str, case: Case) -> None:
    """Warnings are errors in these tests: an unclosed resource or a thread left behind would show."""
    threads = threading.enumerate()
    stream = nw.stream(case.model, case.data, name, seed=1, **options(name))
    next(stream)
    next(stream)
    del stream
    gc.collect()
    assert threading.enumerate() == threads


# ------------------------------------------------------------------------- fits


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("held", ["ka", "omega_ka", "additive", "beta"])
def test_fixed_parameters_do_not_move(name: str, held: str, case: Case) -> None:
    model = case.model.fix(held)
    start = model.space.to_dict(model.values)
    for it in nw.stream(model, case.data, name, seed=1, **options(name)):
        values = it.to_dict()
        for parameter in start:
            if model.space.is_fixed(parameter):
                assert values[parameter] == pytest.approx(start[parameter], rel=1e-12), parameter
    assert model.space.is_fixed("CL")
    assert values["V"] != start["V"]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("k", [0, 1, 4])
def test_any_iteration_can_be_finished(name: str, k: int, case: Case, ran: Ran) -> None:
    method = METHODS[name].with_options(options(name))
    found = ran(name)[k]
    last = method.finish(case.problem, found)
    assert np.isfinite(last.ofv)
    assert np.isfinite(last.eta).all()
    assert last.values == found.values
    assert last.ofv == pytest.approx(method.ofv(case.problem, found.values), abs=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_fit_lowers_its_own_objective(name: str, case: Case) -> None:
    space = case.model.space
    x = space.pack(space.initial)
    away = case.model.with_values(space.unpack(x + 0.4))
    fit = away.fit(case.data, name, seed=1, **options(name))
    assert fit.ofv < away.ofv(case.data, name, **options(name))
    assert fit.status in ("converged", "limit")
    assert len(fit.history) == fit.history["k"].iloc[-1] + 1


@pytest.mark.parametrize("name", METHODS)
def test_everything_fixed_is_a_fit_of_nothing(name: str, case: Case) -> None:
    model = case.model.fix(*case.model.names)
    fit = model.fit(case.data, name, seed=1, **options(name))
    assert fit.values == model.values
    assert np.isfinite(fit.ofv)
    assert fit.converged
