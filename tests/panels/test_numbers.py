"""The table behind each figure holds what the figure shows."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest

from nlmewidgets.diagnostics import individual_curves
from nlmewidgets.panels.numbers import figures_of, has_figures, tables_of

TIME, DV = "Time (h)", "Observation (mg/L)"


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


def test_the_numbers_of_the_population_figure_are_the_data_and_the_curves(explorer, data) -> None:
    explorer.panel = "population"
    explorer.selected_ids = (5,)
    (figure,) = figures_of(explorer.panels["population"].root)
    tables = tables_of(figure)
    observed = tables["observed"]
    assert list(observed.columns) == ["subject", TIME, DV]
    assert np.array_equal(observed[DV], data.dv)
    assert observed["subject"].iloc[-1] == f"ID {data.ids[-1]}"
    own = tables["selected subject"]
    point, grid = explorer.point, explorer.panels["population"].grid
    assert np.allclose(own[DV], individual_curves(grid, point.values, point.eta)[data.ids.index(5)])
    band = tables["5 % of simulated observations"]
    assert (band.iloc[:, 1] <= band.iloc[:, 2]).all()


def test_the_button_shows_a_table_and_offers_it_whole_as_a_file(explorer, data) -> None:
    explorer.panel = "population"
    numbers = explorer.panels["population"].numbers
    numbers.open.value = True
    assert "<caption>observed</caption>" in numbers.body.children[-1].value
    assert f"the first 100 of {data.n_obs} rows" in numbers.text.value
    code = re.findall(r"base64,([^']*)'", numbers.text.value)[-1]
    file = pd.read_csv(io.StringIO(base64.b64decode(code).decode()))
    assert np.allclose(file[DV], data.dv)
    before = numbers.body.children[0].value
    explorer.params = {"CL": 4.0}  # follows the figure while it is open
    assert numbers.body.children[0].value != before
    numbers.open.value = False
    assert numbers.body.children == ()


def test_where_there_are_several_figures_one_is_chosen(explorer, data) -> None:
    explorer.panel = "individuals"
    numbers = explorer.panels["individuals"].numbers
    numbers.open.value = True
    assert len(numbers.figure.options) == data.n_subjects
    numbers.figure.value = 3
    rows = data.subject == 2
    assert numbers.figure.label == f"3. ID {data.ids[2]}"
    (figure,) = [f for f in figures_of(explorer.panels["individuals"].root) if f.title == f"ID {data.ids[2]}"]
    assert np.array_equal(tables_of(figure)["observed"].iloc[:, 1], data.dv[rows])


def test_every_panel_with_figures_has_their_numbers_and_says_so_while_there_is_none(explorer) -> None:
    for name, panel in explorer.panels.items():
        explorer.panel = name
        assert (panel.numbers is not None) == has_figures(panel.root)
    numbers = explorer.panels["converge"].numbers
    numbers.open.value = True
    assert "No figure is shown yet" in numbers.text.value
    explorer.panel = "converge"
    explorer.start().wait(60)
    (table,) = tables_of(figures_of(explorer.panels["converge"].root)[0]).values()
    assert np.allclose(table["y"], [it.ofv for it in explorer.trace])
    assert "<table>" in numbers.body.children[0].value
