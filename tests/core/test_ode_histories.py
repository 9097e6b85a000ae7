"""Integrated equations over random dosing histories that mix every record type, against event-by-event oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from nlmewidgets.core.structure.linear import Linear
from nlmewidgets.core.structure.ode import Ode
from tests.core.test_linear import KINDS, NUMBERS, bound, expected, histories, model

QUICK: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}


@pytest.mark.parametrize("kind", KINDS)
def test_random_histories_agree_with_matrix_exponentials(
    kind: tuple[int, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    m = model(kind[0], routed=kind[1], inflow=kind[2])

    @settings(max_examples=4, derandomize=True, **QUICK)
    @given(histories(kind[1]))
    def holds(rows: list[dict[str, Any]]) -> None:
        exact = bound(m, [rows])
        with monkeypatch.context() as patch:
            patch.setattr(Linear, "bind", classmethod(lambda cls, binding: None))
            patch.setattr("tests.core.test_linear.Linear", Ode)
            solved = bound(m, [rows])
        slots = exact.typical(m.values.theta).slots
        truth = expected([rows], NUMBERS, *kind)
        got, linear = solved.structure(slots, 2), exact.structure(slots, 2)
        # The defaults ask 1e-8 of a step relative to its state, plus 1e-10 in amounts.  The states of these models
        # only decay, so a step's error does too and fewer than ten steps' add up; SS=1 sums periods, another ten.
        for order, (mine, theirs) in enumerate(zip(got, (truth, *linear[1:]), strict=True)):
            assert mine is not None
            scale = np.abs(truth).max() + 1e-3
            assert np.abs(mine - theirs).max(initial=0) <= 1e-7 * scale, order

    holds()
