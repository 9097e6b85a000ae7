"""−2 log L with as many nodes for each subject as it needs is −2 log L with many nodes for all."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.methods import settled
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension, nodes_within
from nlmewidgets.methods.settled import settled_quadrature
from tests.models import make

CASES = {
    "two effects": ("decay", "combined", ()),
    "three effects": ("oral", "additive", ()),
    "occasions": ("decay", "additive", ("iov",)),
}


@pytest.mark.parametrize("name", CASES)
def test_subjects_settle_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make(*CASES[name], seed=3, subjects=40, most=4)
    values = case.model.values
    most = nodes_within(grid_dimension(case.problem), 5_000)
    finest = evaluate_quadrature(case.problem, values, most + 4)
    sizes = []

    def counted(problem, values, nodes, start=None):
        sizes.append((nodes, problem.n_subjects))
        return evaluate_quadrature(problem, values, nodes, start)

    monkeypatch.setattr(settled, "_CHEAP", 0)
    monkeypatch.setattr(settled, "evaluate_quadrature", counted)
    found, by = settled_quadrature(case.problem, values, tolerance=1e-3)
    # Within what was asked for, or what the finest grid allowed lacks: the estimate of what is to come errs upwards.
    coarse = abs(evaluate_quadrature(case.problem, values, most).ofv - finest.ofv)
    assert abs(found.ofv - finest.ofv) < max(40 * 1e-3, 1.5 * coarse)
    assert by == f"agq, {sizes[-1][0]} nodes"
    assert [nodes for nodes, _ in sizes] == list(range(1, sizes[-1][0] + 1, 2))
    assert sizes[-1][1] < 40  # not everyone went all the way
    np.testing.assert_allclose(found.eta, finest.eta, atol=1e-6)


def test_few_data_get_the_finest_grid_at_once(theophylline: nw.Data, oral_model) -> None:
    model = oral_model()
    found, by = settled_quadrature(model.problem(theophylline), model.values)
    assert by == "agq, 15 nodes"
    assert found.ofv == pytest.approx(model.ofv(theophylline, "agq", nodes=15), abs=1e-9)


def test_where_no_grid_is_affordable_it_is_laplace(theophylline: nw.Data, oral_model, monkeypatch) -> None:
    monkeypatch.setattr(settled, "_PREDICTIONS", 1_000)
    model = oral_model()
    found, by = settled_quadrature(model.problem(theophylline), model.values)
    assert by == "laplace"
    assert found.ofv == pytest.approx(model.ofv(theophylline, "laplace"), abs=1e-9)
