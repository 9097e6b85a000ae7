"""Going on from a fit: to the same end, from a file too, with history and time carried on."""

from __future__ import annotations

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.marginal import Approximation
from tests.models import Case, make

SHORT = {"explore": 30, "smooth": 20, "nodes": 3, "iterations": 12, "draws": 20, "warmup": 10, "chains": 2}
BAYES: dict[str, object] = {"draws": 6, "warmup": 4, "max_depth": 5}
DETERMINISTIC = [name for name, cls in METHODS.items() if issubclass(cls, Approximation)]


@pytest.fixture(scope="module")
def case() -> Case:
    return make("emax", "additive", (), seed=4, subjects=12)


def options(name: str) -> dict[str, object]:
    have = {f.name for f in fields(METHODS[name])}
    return {k: v for k, v in SHORT.items() if k in have} | (BAYES if name == "bayes" else {})


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_fit_goes_on_to_the_end(name: str, case: Case, tmp_path: Path) -> None:
    stop = threading.Event()
    early = case.model.fit(
        case.data, name, seed=3, stop=stop, callback=lambda it: it.k == 2 and stop.set(), **options(name)
    )
    assert early.status == "stopped"
    for first in (early, nw.load_fit(early.save(tmp_path / "fit.json"))):
        seen: list[int] = []
        fit = first.resume(callback=lambda it, seen=seen: seen.append(it.k))
        assert fit.status in ("converged", "limit")
        assert (fit.seed, fit.method, dict(fit.options)) == (3, early.method, dict(early.options))
        assert fit.history["k"].tolist() == list(range(len(fit.history)))
        assert seen == fit.history["k"].tolist()[3:]
        assert fit.elapsed >= early.elapsed
        # The start of the whole history is that of the first fit.
        assert fit.history["ofv"].iloc[:3].tolist() == pytest.approx(early.history["ofv"].tolist(), nan_ok=True)
        assert fit.start.values == case.model.values


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_resumed_fit_ends_at_the_same_optimum(name: str, case: Case) -> None:
    whole = case.model.fit(case.data, name, **options(name))
    parts = case.model.fit(case.data, name, max_iterations=2, **options(name))
    assert parts.status == "limit"
    resumed = parts.resume(max_iterations=500)
    assert resumed.converged
    assert resumed.ofv == pytest.approx(whole.ofv, abs=2e-6)  # both promise to fall by less than 1e-6
    assert resumed.options["max_iterations"] == 500


@pytest.mark.parametrize("name", METHODS)
def test_an_ended_fit_may_be_resumed(name: str, case: Case) -> None:
    whole = case.model.fit(case.data, name, seed=1, **options(name))
    more = whole.resume()
    assert more.status in ("converged", "limit")
    assert np.isfinite(more.ofv)
    assert more.history["k"].is_unique
    if name in DETERMINISTIC:
        assert more.ofv <= whole.ofv + 1e-6


def test_resuming_takes_the_methods_options_only(case: Case) -> None:
    fit = case.model.fit(case.data, "fo", max_iterations=1)
    with pytest.raises(nw.MethodError, match="The method 'fo' has no option 'explore'"):
        fit.resume(explore=3)


def test_subjects_left_out_stay_out() -> None:
    case = make("decay", "proportional", (), seed=2, subjects=8)
    records = case.data.records[["ID", "TIME", "DV"]].copy()
    effect = nw.covariate("Z")
    records["Z"] = np.where(records["ID"] == 3, -1.0, 1.0)
    a, k = case.model.parameters
    model = nw.Model(
        a * sp.exp(-k * nw.time),
        {a: nw.LogNormal(8.0, sd=0.3, effect=nw.theta("b", 0.1) * sp.sqrt(effect)), k: nw.LogNormal(0.25, sd=0.3)},
        residual=nw.Proportional(0.12),
    ).fix("b")
    early = model.fit(nw.Data.from_frame(records), "focei", max_iterations=1)
    assert list(early.excluded) == [3]
    later = early.resume(max_iterations=100)
    assert list(later.excluded) == [3]
    assert "Subject 3 is left out" in later.message
    assert later.eta.loc[3].isna().all()
