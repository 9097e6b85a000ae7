"""Compartments after one bolus: the closed form that is chosen equals the event-by-event solution."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.core.structure.closed_form import ClosedForm
from nlmewidgets.core.structure.linear import Linear

TIMES = (0.0, 0.5, 2.0, 6.0, 24.0, 30.0)


def study(extra: dict[str, float] | None = None, late: bool = False) -> nw.Data:
    """Return two subjects with one bolus; `late` adds a dose after the last observation."""
    rows = []
    for i, amount in ((1, 100.0), (2, 250.0)):
        rows += [(i, 0.5, 1, amount, np.nan), *((i, t, 0, 0.0, 1.0) for t in TIMES)]
        rows += [(i, 40.0, 1, 1.0, np.nan)] if late else []
    table = pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV"]).sort_values(
        ["ID", "TIME", "EVID"], ascending=[True, True, False], kind="stable"
    )
    for name, value in (extra or {}).items():
        table[name] = np.where(table["EVID"] == 1, value, 0.0)
    return nw.Data.from_frame(table)


CASES = {"oral": nw.library.oral_1cpt, "bolus": nw.library.iv_1cpt}


@pytest.mark.parametrize("name", ["oral", "bolus"])
@pytest.mark.parametrize("equal", [False, True])
def test_the_closed_form_is_the_solution_event_by_event_with_its_derivatives(name, equal):
    model = CASES[name]()
    if equal and name == "oral":
        model = model.with_values({"ka": 0.1, "CL": 3.2, "V": 32.0})
    one, two = model.problem(study()), model.problem(study(late=True))
    assert isinstance(one.structure, ClosedForm)
    assert isinstance(two.structure, Linear)
    slots = one.typical(model.values.theta).slots
    for a, b in zip(one.structure(slots, 2), two.structure(slots, 2), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("extra", [{"RATE": 50.0}, {"SS": 1.0, "II": 12.0}, {"ADDL": 2.0, "II": 1.0}])
def test_other_records_are_solved_event_by_event(extra):
    assert isinstance(nw.library.oral_1cpt().problem(study(extra)).structure, Linear)


def test_other_systems_are_solved_event_by_event():
    central, back = nw.states("central back")
    k = {"k": nw.LogNormal(0.3)}
    cycle = nw.Model(
        odes={central: "-k*central + k*back", back: "k*central - k*back"}, prediction=central, parameters=k,
        residual=nw.Additive(1.0),
    )  # fmt: skip
    squared = nw.Model(odes={central: "-k*central"}, prediction=central**2, parameters=k, residual=nw.Additive(1.0))
    timed = nw.Model(
        odes={central: "-k*central"}, prediction=central + nw.time, parameters=k, residual=nw.Additive(1.0)
    )
    lagged = nw.Model(
        odes={central: "-k*central"}, prediction=central, parameters=k, residual=nw.Additive(1.0),
        doses={central: nw.Route(lag=0.3)},
    )  # fmt: skip
    for model in (cycle, squared, timed, lagged):
        assert isinstance(model.problem(study()).structure, Linear)
