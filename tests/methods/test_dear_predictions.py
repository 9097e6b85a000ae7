"""Fits of differential equations: how many integrations they take, and that what is saved costs no digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.methods.focei import FOCEI
from nlmewidgets.methods.marginal import precision_of

Case = tuple[nw.Model, nw.Data]


@pytest.fixture(scope="module")
def saturable() -> Case:
    """Return oral absorption with Michaelis–Menten elimination, 8 subjects."""
    model = nw.library.oral_1cpt_mm(
        ka=nw.LogNormal(1.5, sd=0.3),
        Vmax=nw.LogNormal(10.0, sd=0.3),
        Km=nw.LogNormal(2.0),
        V=nw.LogNormal(30.0, sd=0.2),
        residual=nw.Proportional(0.1),
        tolerance=nw.Tolerance(1e-7, 1e-9),
    )
    times = [0.0, 0.5, 1.5, 4.0, 8.0, 16.0]
    table = pd.DataFrame({"ID": np.repeat(np.arange(8), 6), "TIME": np.tile(times, 8)})
    table["EVID"] = (table.TIME == 0).astype(int)
    table["AMT"], table["DV"] = 200.0 * table.EVID, 1.0
    drawn = model.simulate(nw.Data.from_frame(table), seed=4)["DV"].to_numpy()
    table.loc[table.EVID == 0, "DV"] = drawn
    away = model.with_values({"ka": 1.0, "Vmax": 14.0, "V": 24.0, "omega_ka": 0.5, "proportional": 0.2})
    return away, nw.Data.from_frame(table)


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[int]]:
    """Count integrations by the order of their derivatives."""
    count: Counter[int] = Counter()
    whole = Ode.__call__

    def counted(self: Ode, slots: np.ndarray, order: int = 0) -> Jet:
        count[order] += 1
        return whole(self, slots, order)

    monkeypatch.setattr(Ode, "__call__", counted)
    return iter([count])


def test_a_fit_takes_few_integrations_and_ends_where_it_did(
    saturable: Case, solves: Iterator[Counter[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modes near where they are expected: one or two for each evaluation, as many again for the last look around."""
    count = next(solves)
    model, data = saturable
    fit = model.fit(data, "focei", orient=False)
    assert fit.converged
    evaluations = int(fit.history["evaluations"].max())
    assert evaluations <= 20
    assert count[2] <= 2.5 * evaluations + 8
    monkeypatch.setattr(FOCEI, "_with_rough_modes", lambda self: self)
    exact = fit.model.fit(data, "focei", orient=False)
    assert fit.ofv == pytest.approx(exact.ofv, abs=2e-6)  # both promise less than 1e-6
    assert fit.ofv == pytest.approx(fit.model.ofv(data, "focei"), abs=1e-6)
    for name, value in exact.theta.items():
        assert fit.theta[name] == pytest.approx(value, rel=1e-3)


def test_a_fit_stopped_on_its_way_reports_the_objective_to_its_digits(saturable: Case) -> None:
    model, data = saturable
    fit = model.fit(data, "focei", orient=False, max_iterations=1)
    assert not fit.converged
    assert fit.ofv == pytest.approx(fit.model.ofv(data, "focei"), abs=1e-6)


def test_modes_sought_from_afar_come_near_by_first_derivatives(saturable: Case, solves: Iterator[Counter[int]]) -> None:
    count = next(solves)
    model, data = saturable
    problem, values = model.problem(data), model.values
    typical = problem.typical(values.theta).slots
    precision, _ = precision_of(problem.occasions.expand(values.omega))
    cold = find_modes(problem, typical, precision, values.sigma)
    far = cold.eta + 0.3
    count.clear()
    found = find_modes(problem, typical, precision, values.sigma, far)
    assert found.converged.all()
    np.testing.assert_allclose(found.eta, cold.eta, atol=1e-6)
    assert count[1] >= 1
    assert count[2] <= 5
