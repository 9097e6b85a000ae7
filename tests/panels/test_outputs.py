"""Several outputs in the environment: one is shown, and the other can be chosen."""

from __future__ import annotations

import numpy as np

import nlmewidgets as nw
from nlmewidgets.panels.population import PopulationPanel
from tests.core.test_outputs import BOTH, DATA, A, B, H, K, parameters


def population(explorer) -> PopulationPanel:
    return next(p for p in explorer.panels.values() if isinstance(p, PopulationPanel))


def test_the_output_shown_can_be_chosen_where_there_are_several():
    explorer = nw.explore(BOTH, DATA)
    panel = population(explorer)
    panel.show()
    assert panel.output.options == (("cp", 1), ("pca", 2))
    for dvid in (1, 2):
        panel.output.value = dvid
        rows = DATA.dvid == dvid
        np.testing.assert_array_equal(panel.points[0].y, DATA.dv[rows])
        curve = panel.grid.predict(panel.grid.typical(BOTH.values.theta).slots)[: len(panel.times)]
        assert panel.typical.y.shape == curve.shape
        assert panel.typical.visible
    # At eta = 0 the second output begins at 1 and rises; the first falls.
    assert panel.typical.y[-1] > panel.typical.y[0]


def test_there_is_no_choice_of_one(theophylline, oral_model):
    panel = population(nw.explore(oral_model(), theophylline))
    panel.show()
    assert panel.output not in panel.root.children[2].children
    assert panel.view.log in panel.root.children[2].children


def test_the_correlation_of_residuals_has_a_slider():
    own = nw.Model(
        dict(BOTH.outputs),
        parameters(A, K, B, H),
        residual=dict(BOTH.residuals),
        residual_correlation={("cp", "pca"): 0.3},
    )
    explorer = nw.explore(own, DATA)
    row = explorer.initial.rows["rho_cp_pca"]
    before = explorer.ofv
    row.slider.value = 900
    explorer.wait(60)
    assert explorer.params["rho_cp_pca"] == row.value_at(900)
    assert np.isfinite(explorer.ofv)
    assert explorer.ofv != before
