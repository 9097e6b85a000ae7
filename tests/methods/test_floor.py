"""The bound on the curvature at modes that are hardly any: smooth, where it should be, with exact gradients."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.floor import LEAST, floored, nearly_singular
from nlmewidgets.methods.laplace import evaluate_laplace
from nlmewidgets.methods.quadrature import evaluate_quadrature


def bent() -> tuple[nw.Model, nw.Data]:
    """Return a model whose density has one mode or two, as the data of a subject push a parabola apart."""
    a, b = sp.symbols("a b")
    model = nw.Model(
        (a**2 + a * b / 100) * sp.exp(-b * nw.time / 5),
        {a: nw.Normal(0.006, sd=0.8), b: nw.Normal(0.6, sd=0.5)},
        residual=nw.Additive(0.9),
        correlation={("a", "b"): 0.2},
    )
    level = np.linspace(0.25, 0.45, 24)
    table = pd.DataFrame(
        {"ID": np.repeat(np.arange(24), 2), "TIME": np.tile([0.0, 1.0], 24), "DV": np.repeat(level, 2)}
    )
    return model, nw.Data.from_frame(table)


def curvature(model: nw.Model, data: nw.Data) -> np.ndarray:
    problem, values = model.problem(data), model.space.initial
    precision = np.linalg.inv(values.omega)
    modes = find_modes(problem, problem.typical(values.theta).slots, precision, values.sigma, tolerance=1e-24)
    assert modes.converged.all()
    chol = np.linalg.cholesky(values.omega)
    return np.linalg.eigvalsh(chol.T @ (0.5 * modes.hessian) @ chol)


@pytest.mark.parametrize("nodes", [1, 3])
def test_gradients_are_exact_where_the_curvature_is_bounded(nodes: int) -> None:
    model, data = bent()
    smallest = curvature(model, data)[:, 0]
    assert 2 <= (smallest < LEAST).sum() <= 20
    problem, space = model.problem(data), model.space
    x = space.pack(space.initial)

    def at(x: np.ndarray, start: np.ndarray | None, gradient: bool = False):  # noqa: ANN202
        values = space.unpack(x)
        if nodes == 1:
            return evaluate_laplace(problem, values, start, gradient=gradient, tolerance=1e-24)
        return evaluate_quadrature(problem, values, nodes, start, gradient=gradient, tolerance=1e-24)

    here = at(x, None, gradient=True)
    np.testing.assert_array_equal(here.bounded, np.flatnonzero(smallest < LEAST))
    assert here.scores is not None
    found = here.scores.along(space, space.initial)
    for k, step in enumerate(np.eye(len(x))):
        rough, fine = (
            (at(x + h * step, here.eta).per_subject - at(x - h * step, here.eta).per_subject) / (2 * h)
            for h in (2e-4, 1e-4)
        )
        # What differences of O(h²) and O(4h²) show of their error, and the rounding of values at 1e-14.
        allowed = 1e-6 * np.abs(found).max() + np.abs(fine - rough) + 1e-9
        assert (np.abs(found[:, k] - (4 * fine - rough) / 3) <= allowed).all(), space.x_names[k]


def test_subjects_with_curvature_enough_are_left_alone_and_others_bounded() -> None:
    rng = np.random.default_rng(0)
    omega = np.array([[0.5, 0.1], [0.1, 0.3]])
    chol, precision = np.linalg.cholesky(omega), np.linalg.inv(omega)
    turned = np.linalg.qr(rng.standard_normal((2, 2)))[0]
    inverse = np.linalg.inv(chol)

    def with_eigenvalue(x: float) -> np.ndarray:
        return inverse.T @ turned @ np.diag([x, 2.0]) @ turned.T @ inverse

    sizes = np.array([1.0, 0.3, 0.2501, 0.2499, 0.2, 0.1, 1e-3, 0.0])
    half = np.array([with_eigenvalue(x) for x in sizes])
    found = floored(half, precision, omega)
    np.testing.assert_array_equal(found.rows, np.flatnonzero(sizes < LEAST))
    np.testing.assert_array_equal(found.matrix[:3], half[:3])
    eigen = np.linalg.eigvalsh(chol.T @ found.matrix @ chol)
    np.testing.assert_allclose(eigen[:, 1], 2.0, rtol=1e-12)  # the other direction stays
    # It meets λ at τ with the same slope, is 2τ and level at 0, and never falls below 0.94 τ.
    np.testing.assert_allclose(eigen[3, 0], 0.2499, rtol=1e-6)
    np.testing.assert_allclose(eigen[-2:, 0], 2 * LEAST, rtol=1e-4)
    assert eigen[:, 0].min() > 0.94 * LEAST
    # No minimum, no Gaussian.
    assert np.isnan(floored(np.array([with_eigenvalue(-0.1)]), precision, omega).matrix).all()
    assert nearly_singular(np.full((1, 2, 2), np.nan), precision).all()


def test_a_fit_with_bounded_curvature_says_whose() -> None:
    model, data = bent()
    problem = model.problem(data)
    laplace = METHODS["laplace"](max_iterations=0)
    last = list(laplace.steps(problem, model.space.initial, np.random.default_rng(0)))[-1]
    assert "nearly flat, or has two modes" in last.message
    assert "importance sampling" in last.message
