"""One subject's integral as a panel: without a browser."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics import integrand
from nlmewidgets.panels.integral import IntegralPanel
from tests.kinds import KINDS


@pytest.fixture
def panel(alone):
    return alone(IntegralPanel)


def test_it_follows_the_sliders_and_the_selection(panel, model, data) -> None:
    expected = integrand(model.problem(data), model.values, 1, reach=3.5)
    assert panel.answer.found.contributions.equals(expected.contributions)
    assert "ID 1 at the slider values" in panel.text.value
    assert f"{expected.contributions['minus2ll'].iloc[-1]:.3f} by quadrature" in panel.text.value
    assert f"Laplace {expected.contributions.loc['laplace', 'difference']:+.3f}" in panel.text.value
    panel.state.selected_ids = (5, 7)
    panel.state.params = {"ka": 2.0}
    panel.wait(30)
    values = model.space.from_dict({"ka": 2.0})
    expected = integrand(model.problem(data), values, 7, reach=3.5)
    assert panel.answer.found.contributions.equals(expected.contributions)
    assert "ID 7" in panel.text.value


def test_approximations_are_shown_as_chosen(panel) -> None:
    shown = [name for name, line in panel.lines.items() if line.visible]
    assert shown == ["focei", "laplace"]
    panel.boxes["fo"].value = True
    assert panel.lines["fo"].visible
    assert "FO</span>" in panel.key.value
    panel.boxes["laplace"].value = False
    assert not panel.lines["laplace"].visible


def test_the_ellipses_of_a_gaussian_are_at_one_two_and_three_deviations(model, data) -> None:
    found = integrand(model.problem(data), model.values, 3, ["eta_CL", "eta_V"], points=81)
    x, y = found.lines("laplace")
    grid = np.array(np.meshgrid(*found.axes, indexing="ij"))
    height = found.approximations["laplace"]
    # A quadratic through the grid's values, by least squares, is the Gaussian itself.
    a, b = grid[0].ravel(), grid[1].ravel()
    design = np.column_stack([np.ones_like(a), a, b, a * a, a * b, b * b])
    c = np.linalg.lstsq(design, height.ravel(), rcond=None)[0]
    kept = np.isfinite(x)
    drawn = np.column_stack([np.ones(kept.sum()), x[kept], y[kept], x[kept] ** 2, x[kept] * y[kept], y[kept] ** 2]) @ c
    rise = drawn - height.min()
    nearest = np.array([1.0, 4.0, 9.0])[np.abs(rise[:, None] - [1.0, 4.0, 9.0]).argmin(axis=1)]
    # Linear interpolation within a square of side h errs by h²/8 of the curvature at most, along each eta.
    sides = [axis[1] - axis[0] for axis in found.axes]
    sag = (2 * c[3] * sides[0] ** 2 + 2 * c[5] * sides[1] ** 2) / 8
    assert np.abs(rise - nearest).max() < sag
    assert set(nearest) == {1.0, 4.0, 9.0}


def test_one_random_effect_is_a_curve_and_draws_are_shown(panel) -> None:
    panel.second.value = ""
    panel.points.value = "draws"
    panel.wait(60)
    found = panel.answer.found
    assert found.names == ("eta_ka",)
    assert max(panel.exact.y) == pytest.approx(1.0)
    assert found.draws.shape == (200, 1)
    assert panel.dots.visible
    # Draws scatter about the mode by about what Laplace's curvature says.
    spread = found.draws[:, 0].std()
    away = found.draws[:, 0].mean() - found.centres["laplace"][0]
    assert abs(away) < spread
    assert "draws given the data" in panel.key.value


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model(kind, alone) -> None:
    model, data = KINDS[kind]()
    panel = alone(IntegralPanel, model, data, "fo" if kind == "equations" else "laplace")
    assert "by quadrature" in panel.text.value
    if kind == "counts":
        assert panel.boxes["focei"].disabled
        assert "Not for these data: FOCEI, FOCE, FO" in panel.text.value


def test_a_model_without_random_effects_says_so(data, alone) -> None:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5), CL=nw.LogNormal(2.8), V=nw.LogNormal(32.0), residual=nw.Additive(0.7)
    )
    panel = alone(IntegralPanel, model, data)
    assert "no integral to approximate" in panel.root.children[0].value
    panel.state.params = {"ka": 2.0}
