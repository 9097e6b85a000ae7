"""Estimates beside what they are compared with, the change in standard errors."""

from __future__ import annotations

import numpy as np
import pytest

from nlmewidgets.fit.changes import changes, changes_in_words


def test_the_change_is_counted_in_standard_errors(explore, model, data) -> None:
    explorer = explore(model.fix("V"), data, method="fo")
    explorer.panel = "estimates"
    panel = explorer.panels["estimates"]
    assert panel.empty.layout.display is None
    first = explorer.start().wait().result
    explorer.panel = "estimates"
    explorer.wait()
    table = changes(first, {"ka": 1.5, "CL": 2.8})
    assert table.loc["CL", "change_se"] == pytest.approx((first.theta["CL"] - 2.8) / first.se["CL"])
    assert np.isnan(table.loc["V", "change_se"])  # fixed
    assert np.isnan(table.loc["omega_ka", "change"])  # nothing to compare with
    assert "Change in SE" in panel.view.root.value
    initial = explorer.model.space.to_dict(explorer.model.space.initial)
    assert changes_in_words(changes(first, initial)) in panel.text.value
    assert f"{changes(first, initial).loc['CL', 'change_se']:.4g}" in panel.view.root.value
    explorer.take_estimates()
    panel.other.value = "the sliders"
    assert "No estimate is two standard errors or more away." in panel.text.value
    explorer.params = {"CL": float(first.theta["CL"] + 3.0 * first.se["CL"])}
    assert "Two standard errors or more away: CL by -3.0." in panel.text.value
    explorer.start().wait()
    explorer.panel = "estimates"
    panel.other.value = 1
    explorer.wait()
    assert "Other fit" in panel.view.root.value
