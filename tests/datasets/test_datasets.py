"""The shipped data: whole, with their units and sources, as published."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.core.code import data_code
from nlmewidgets.datasets import DATASETS


def test_names_are_the_registry():
    assert nw.datasets.names() == tuple(DATASETS)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(nw.DataError) as error:
        nw.datasets.load("warfarin")
    assert str(error.value) == f"There is no data set 'warfarin'; there are {', '.join(DATASETS)}."


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_loads_without_anything_to_note(name):
    data = nw.datasets.load(name)
    assert data.notes == ()
    assert data.n_obs > data.n_subjects > 1
    assert np.isfinite(data.dv).all()


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_says_what_it_is_and_where_it_was_published(name):
    entry = DATASETS[name]
    assert entry.description.endswith(".")
    assert any(year in entry.source for year in map(str, range(1970, 2030)))


@pytest.mark.parametrize("name", DATASETS)
def test_time_and_observations_have_units_and_so_has_every_covariate(name):
    data = nw.datasets.load(name)
    for column in ("TIME", "DV", *data.covariates, *(["AMT"] if data.dosed.any() else [])):
        assert data.unit(column), column


@pytest.mark.parametrize("name", DATASETS)
def test_every_unit_belongs_to_a_column(name):
    assert set(DATASETS[name].units) <= set(nw.datasets.load(name).records)


@pytest.mark.parametrize("name", DATASETS)
def test_two_loads_are_equal_and_apart(name):
    first, second = nw.datasets.load(name), nw.datasets.load(name)
    assert first.fingerprint == second.fingerprint
    assert first.records is not second.records


@pytest.mark.parametrize("name", DATASETS)
def test_the_code_of_a_data_set_loads_it(name):
    namespace: dict[str, Any] = {"nw": nw}
    exec(data_code(nw.datasets.load(name)), namespace)
    assert namespace["data"].fingerprint == nw.datasets.load(name).fingerprint


@pytest.mark.parametrize("name", DATASETS)
def test_the_file_of_a_data_set_says_where_it_comes_from(name):
    text = files("nlmewidgets.datasets").joinpath(DATASETS[name].file).read_text(encoding="utf-8")
    assert text.startswith("#")
    assert "Source" in text.splitlines()[0]


def test_theophylline_is_that_of_r(shared):
    # Boeckmann, Sheiner & Beal (1994), as R's datasets::Theoph has it.
    table = pd.read_csv(shared / "data" / "Theoph.csv")
    per_kg, total = nw.datasets.load("theophylline_per_kg"), nw.datasets.load("theophylline")
    for data in (per_kg, total):
        observed = data.records[data.observed].reset_index(drop=True)
        ordered = table.sort_values("Subject", kind="stable").reset_index(drop=True)
        np.testing.assert_array_equal(observed["ID"], ordered["Subject"])
        np.testing.assert_array_equal(observed["TIME"], ordered["Time"])
        np.testing.assert_array_equal(observed["DV"], ordered["conc"])
        np.testing.assert_array_equal(observed["WT"], ordered["Wt"])
        doses = data.records[data.dosed]
        assert doses["TIME"].eq(0).all()
        assert len(doses) == 12
    first = table.drop_duplicates("Subject").sort_values("Subject")
    np.testing.assert_array_equal(per_kg.records.loc[per_kg.dosed, "AMT"], first["Dose"])
    np.testing.assert_allclose(total.records.loc[total.dosed, "AMT"], first["Dose"] * first["Wt"], rtol=1e-9)


def test_theophylline_doses_are_those_of_the_reference(shared):
    # The total doses of nlmixr2's theo_sd, e.g. 319.992 mg for subject 1.
    table = pd.read_csv(shared / "reference" / "theophylline_onecmt_nlmixr2" / "data.csv")
    total = nw.datasets.load("theophylline")
    np.testing.assert_allclose(total.records.loc[total.dosed, "AMT"], table.loc[table["EVID"] == 101, "AMT"], atol=1e-3)


def test_orange_trees_are_those_of_r(shared):
    # Draper & Smith (1981), as R's datasets::Orange has them.
    table = pd.read_csv(shared / "data" / "Orange.csv")
    data = nw.datasets.load("orange")
    np.testing.assert_array_equal(data.records["ID"], table["Tree"])
    np.testing.assert_array_equal(data.time, table["age"])
    np.testing.assert_array_equal(data.dv, table["circumference"])
