"""Many starts: which optima there are is counted, failures are named, and it can be stopped."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.studies.multistart import optima_of
from nlmewidgets.studies.runner import completed
from nlmewidgets.studies.starts import random_starts
from tests.models import Case, make


@pytest.fixture(scope="module")
def case() -> Case:
    return make("emax", "additive", ("block",), seed=4, subjects=12)


def half(x: float) -> float:
    return x / 2


# ------------------------------------------------------------------------------ starts


def test_starts_are_spread_evenly_around_the_initial_values(case: Case) -> None:
    space = case.model.fix("T50").space
    initial = space.to_dict(space.initial)
    found = [space.to_dict(v) for v in random_starts(space, 100, np.random.default_rng(1), spread=0.5)]
    for name, value in initial.items():
        drawn = np.array([d[name] for d in found])
        if name == "T50":
            np.testing.assert_allclose(drawn, value)
        elif name.startswith("corr"):
            assert np.abs(drawn - value).max() <= 0.25
        else:
            assert (0.5 * value <= drawn).all()
            assert (drawn <= 1.5 * value).all()
            # A Latin hypercube has one start in every hundredth.
            counts = np.bincount(np.floor((drawn / value - 0.5) * 100).astype(int).clip(0, 99), minlength=100)
            assert counts.max() <= 2


def test_ranges_and_bounds_are_kept() -> None:
    a = sp.Symbol("a", positive=True)
    share = nw.theta("share", 0.5, lower=0.0, upper=0.9)
    model = nw.Model(a * share * nw.time, {a: nw.LogNormal(3.0, sd=0.3)}, residual=nw.Additive(1))
    starts = random_starts(model.space, 50, np.random.default_rng(2), spread=3.0, ranges={"a": (1e-2, 1e2)})
    values = np.array([list(model.space.to_dict(v).values()) for v in starts])
    names = list(model.space.names)
    assert values[:, names.index("share")].min() > 0
    assert values[:, names.index("share")].max() < 0.9
    logs = np.log10(values[:, names.index("a")])
    assert logs.min() < -1.8
    assert logs.max() > 1.8
    assert abs(np.median(logs)) < 0.2
    for wrong, sentence in (
        ({"b": (1, 2)}, "ranges= names 'b', which is no parameter"),
        ({"a": (2, 1)}, "ranges= gives 'a'"),
    ):
        with pytest.raises(nw.MethodError, match=sentence):
            random_starts(model.space, 2, np.random.default_rng(1), ranges=wrong)
    with pytest.raises(nw.MethodError, match="spread=0 is not positive"):
        random_starts(model.space, 2, np.random.default_rng(1), spread=0)


# -------------------------------------------------------------------------------- fits


def test_all_starts_of_an_easy_problem_reach_its_optimum() -> None:
    case = make("emax", "additive", (), seed=4, subjects=20)
    found = nw.multistart(case.model, case.data, n=5, seed=2)
    alone = case.model.fit(case.data, "focei")
    assert found.share == 1.0
    assert found.best.ofv == pytest.approx(alone.ofv, abs=1e-5)
    assert found.starts["optimum"].tolist() == [1] * 5
    assert found.starts.loc[1, "Emax"] == case.model.space.to_dict(case.model.values)["Emax"]
    assert found.message.startswith("5 of 5 starts reached the best optimum")
    again = nw.multistart(case.model, case.data, n=5, seed=2)
    assert again.starts["OFV"].tolist() == found.starts["OFV"].tolist()


def test_two_optima_are_told_apart() -> None:
    """A flip-flop: the same curve with absorption and elimination exchanged, but for the volume."""
    oral = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.3), CL=nw.LogNormal(3.0, sd=0.3), V=nw.LogNormal(30.0), residual=nw.Proportional(0.1)
    )
    design = make("oral", "proportional", (), seed=1, subjects=8, most=6).data
    records = design.records.assign(DV=np.where(design.observed, 1.0, np.nan))
    columns = ["ID", "TIME", "DV", "AMT", "EVID"]
    data = nw.Data.from_frame(records[columns])
    records.loc[data.observed, "DV"] = oral.simulate(data, seed=3)["DV"].to_numpy()
    data = nw.Data.from_frame(records[columns])
    ranges = {"ka": (0.05, 3.0), "V": (1.0, 60.0), "CL": (2.0, 5.0)}
    found = nw.multistart(oral, data, n=8, method="fo", ranges=ranges, spread=0.3, seed=5)
    assert len(found.optima) >= 2
    best, second = found.optima.iloc[0], found.optima.iloc[1]
    # The rates change places: ka of the second is the elimination rate of the best.
    assert second["ka"] == pytest.approx(best["CL"] / best["V"], rel=0.3)
    assert found.optima["starts"].sum() == 8
    assert found.best.ofv == found.starts["OFV"].min()
    assert "<table" in found._repr_html_()
    assert "optima" in repr(found)


def test_failures_are_counted_by_cause(case: Case) -> None:
    a = sp.Symbol("a", real=True)
    model = nw.Model(sp.log(a) + 0 * nw.time, {a: nw.Normal(5.0, sd=0.1)}, residual=nw.Additive(1))
    found = nw.multistart(model, case.data, n=6, ranges={"a": (-5.0, 5.0)}, seed=1, method="fo")
    failed = found.starts["status"] == "failed"
    assert 0 < failed.sum() < 6
    assert found.failures.sum() >= failed.sum()
    assert found.failures.index.str.contains("The prediction for subject").any()
    assert found.starts.loc[failed, "OFV"].isna().all()
    nothing = nw.multistart(model, case.data, n=1, max_iterations=0)
    assert nothing.failures.index[0].startswith("limit: Stopped")


def test_it_can_be_stopped(case: Case) -> None:
    stop = threading.Event()
    stop.set()
    found = nw.multistart(case.model, case.data, n=5, stop=stop)
    assert found.best is None
    assert len(found.starts) == 0
    timed = nw.multistart(case.model, case.data, n=500, method="fo", time_limit=0.3)
    assert 1 <= len(timed.starts) < 500
    assert "Stopped before" in timed.message


@pytest.mark.parametrize("wrong", [{"n": 0}, {"workers": 0}])
def test_wrong_numbers_are_refused(case: Case, wrong: dict[str, int]) -> None:
    with pytest.raises(nw.MethodError, match="is not a whole number"):
        nw.multistart(case.model, case.data, **{"n": 2} | wrong)


def test_optima_are_runs_without_a_gap() -> None:
    assert optima_of(np.array([3.0, 1.0, 1.04, 1.08, np.inf]), 0.05).tolist() == [2, 1, 1, 1, 0]


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_executor_finds_the_same(case: Case, processes: bool) -> None:
    options = {"n": 3, "seed": 4, "method": "fo"}
    one = nw.multistart(case.model, case.data, **options)
    with ThreadPoolExecutor(2) as pool:
        other = {"workers": 2} if processes else {"executor": pool}
        two = nw.multistart(case.model, case.data, **options, **other)
    np.testing.assert_allclose(one.starts["OFV"], two.starts["OFV"], rtol=1e-9)
    assert two.best.table().shape == one.best.table().shape


# ------------------------------------------------------------------------------ runner


def test_tasks_are_completed_with_the_time_left(capsys: pytest.CaptureFixture) -> None:
    assert sorted(completed(half, [2.0, 4.0], progress=True)) == [(0, 1.0), (1, 2.0)]
    written = capsys.readouterr().err
    assert "1 of 2 fits, about 1 s left" in written
    assert written.endswith("\r")


def test_an_interrupt_keeps_what_is_done() -> None:
    def work(x: int) -> int:
        if x == 2:
            raise KeyboardInterrupt
        time.sleep(0.001)
        return x

    assert list(completed(work, range(5))) == [(0, 0), (1, 1)]
