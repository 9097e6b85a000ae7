"""Property: the gradients of the approximations are those of their objectives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.methods.fo import evaluate_fo
from nlmewidgets.methods.foce import evaluate_foce
from nlmewidgets.methods.focei import evaluate_focei
from nlmewidgets.methods.laplace import evaluate_laplace
from nlmewidgets.methods.marginal import Evaluation, mode_shift
from nlmewidgets.methods.quadrature import evaluate_quadrature
from tests.models import EXTRAS, RESIDUALS, STRUCTURES, TRANSFORMS, Case, every_case, make

METHODS = ("fo", "foi", "foce", "focei", "laplace", "agq")

TIGHT = 1e-24
"""Inner tolerance at which the modes are exact to rounding, so that differences see none of it."""


def objective(case: Case, method: str, values: Values, eta: np.ndarray | None, *, gradient: bool = False) -> Evaluation:
    if method in ("fo", "foi"):
        return evaluate_fo(case.problem, values, gradient=gradient, interaction=method == "foi")
    if method == "agq":
        return evaluate_quadrature(case.problem, values, 3, eta, gradient=gradient, tolerance=TIGHT)
    evaluate = {"foce": evaluate_foce, "focei": evaluate_focei, "laplace": evaluate_laplace}[method]
    return evaluate(case.problem, values, eta, gradient=gradient, tolerance=TIGHT)


def check_gradient(case: Case, method: str) -> None:
    """Compare each subject's scores with central differences, extrapolated from two step sizes to O(h⁴)."""
    space = case.model.space
    # Away from the truth, where nothing vanishes by accident.
    x = space.pack(space.initial) + np.random.default_rng(1).uniform(-0.15, 0.15, len(space.x_names))
    values = space.unpack(x)
    here = objective(case, method, values, None, gradient=True)
    assert np.isfinite(here.ofv)
    assert here.scores is not None
    found = here.scores.along(space, values)
    assert found.shape == (case.data.n_subjects, len(x))

    def quotient(k: int, h: float) -> np.ndarray:
        step = np.zeros(len(x))
        step[k] = h
        ends = [objective(case, method, space.unpack(x + s * step), here.eta).per_subject for s in (1, -1)]
        return (ends[0] - ends[1]) / (2 * h)

    for k in range(len(x)):
        rough, fine = quotient(k, 2e-3), quotient(k, 1e-3)
        wanted = (4 * fine - rough) / 3
        # The step from 2h to h shows the O(h²) error; after extrapolation h² of it, at most, remains.
        left = np.abs(fine - rough) * 1e-3
        # Rounding: a dozen terms of size |F_i| at 1e-16, divided by h.
        rounding = 1e-12 * (1 + np.abs(here.per_subject))
        scale = np.abs(found).max()
        error = np.abs(found[:, k] - wanted)
        assert (error <= 1e-6 * scale + left + rounding).all(), (case.label, space.x_names[k], error.max(), scale)
        total = abs(found[:, k].sum() - wanted.sum())
        assert total <= 1e-6 * np.abs(found[:, k]).sum() + left.sum() + rounding.sum(), (case.label, space.x_names[k])


FEW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "phases": [Phase.generate]}


@pytest.mark.parametrize("method", [m for m in METHODS if m != "agq"])
@settings(max_examples=8, **FEW)
@given(case=every_case)
def test_gradients_of_random_models_equal_differences(method: str, case: Case) -> None:
    check_gradient(case, method)


@settings(max_examples=5, **FEW)
@given(case=every_case)
def test_gradients_of_quadrature_of_random_models_equal_differences(case: Case) -> None:
    check_gradient(case, "agq")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", RESIDUALS)
@pytest.mark.parametrize("structure", STRUCTURES)
def test_gradients_of_every_structure_with_every_error(structure: str, error: str, method: str) -> None:
    check_gradient(make(structure, error, ("block",), seed=11), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_gradients_with_every_kind_of_parameter(extra: str, method: str) -> None:
    check_gradient(make("oral", "combined", (extra,), seed=12), method)


@pytest.mark.parametrize("method", [m for m in METHODS if m != "foi"])
@pytest.mark.parametrize("error", TRANSFORMS)
def test_gradients_where_both_sides_are_transformed(error: str, method: str) -> None:
    check_gradient(make("growth", error, ("block",), seed=13), method)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=every_case)
def test_the_modes_move_as_the_implicit_function_theorem_says(case: Case) -> None:
    problem, space = case.problem, case.model.space
    x = space.pack(space.initial)

    def modes(at: np.ndarray, start: np.ndarray | None):
        values = space.unpack(at)
        typical = problem.typical(values.theta, jacobian=True)
        precision = np.linalg.inv(problem.occasions.expand(values.omega))
        with np.errstate(all="ignore"):
            found = find_modes(problem, typical.slots, precision, values.sigma, start, tolerance=TIGHT, gradient=True)
        return typical, precision, found

    typical, precision, here = modes(x, None)
    assert here.converged.all()
    shift = mode_shift(problem, typical, precision, here, here.terms).along(space, space.initial)
    assert shift.shape == (problem.n_eta, problem.n_subjects, len(x))
    for k in range(len(x)):

        def quotient(h: float, k: int = k) -> np.ndarray:
            step = np.zeros(len(x))
            step[k] = h
            return (modes(x + step, here.eta)[2].eta - modes(x - step, here.eta)[2].eta) / (2 * h)

        rough, fine = quotient(2e-3), quotient(1e-3)
        wanted = (4 * fine - rough) / 3
        # A mode is known to about 1e-12 (TIGHT): 1e-9 after division by h.
        allowed = 1e-6 * np.abs(shift).max() + np.abs(fine - rough) * 1e-3 + 1e-8
        assert (np.abs(shift[..., k] - wanted) <= allowed).all(), (case.label, space.x_names[k])
