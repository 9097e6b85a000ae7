"""The tables behind the pictures of a study, against values counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics import distribution, spaghetti
from nlmewidgets.diagnostics.look import look_groups


@pytest.fixture
def data() -> nw.Data:
    rows = {
        "ID": [1, 1, 1, 1, 1, 2, 2, 2],
        "TIME": [0, 0, 2, 10, 12, 1, 5, 7],
        "AMT": [0, 100, 0, 200, 0, 0, 50, 0],
        "EVID": [0, 1, 0, 1, 0, 0, 1, 0],
        "DV": [1.0, np.nan, 8.0, np.nan, 6.0, 2.0, np.nan, 4.0],
        "SEX": ["f"] * 5 + ["m"] * 3,
    }
    return nw.Data.from_frame(pd.DataFrame(rows))


def test_an_observation_is_divided_by_the_last_dose_before_it(data):
    table = spaghetti(data, per_dose=True)
    np.testing.assert_array_equal(table["DV"], [np.nan, 0.08, 0.03, np.nan, 0.08])


def test_time_after_dose_begins_a_curve_at_each_dose(data):
    table = spaghetti(data, after_dose=True)
    assert table["TIME"].tolist() == [0, 2, 2, 1, 2]
    assert table["curve"].tolist() == [0, 1, 2, 3, 4]
    assert spaghetti(data)["curve"].tolist() == [0, 0, 0, 1, 1]


def test_groups_are_levels_doses_or_thirds(data):
    assert spaghetti(data, by="SEX")["group"].tolist() == ["f", "f", "f", "m", "m"]
    label, order = look_groups(data, "dose")
    assert (label.tolist(), order) == (["100", "50"], ["50", "100"])
    theoph = nw.datasets.load("theophylline")
    label, order = look_groups(theoph, "WT")
    assert len(order) == 3
    assert pd.Series(label).value_counts().tolist() == [4, 4, 4]


def test_rare_levels_beyond_four_are_others():
    levels = list("aaaabbbccdef")
    frame = pd.DataFrame({"ID": range(12), "DV": 1.0, "G": levels})
    label, order = look_groups(nw.Data.from_frame(frame), "G")
    assert order == ["a", "b", "c", "other"]
    assert (label == "other").sum() == 3


def test_a_distribution_counts_every_subject_once():
    data = nw.datasets.load("quinidine")
    assert distribution(data, "HEART")["subjects"].to_dict() == {"Moderate": 40, "No/Mild": 56, "Severe": 40}
    ages = distribution(data, "AGE")
    assert ages["subjects"].sum() == 136
    first = data.subject_covariates()["AGE"]
    assert ages["subjects"].iloc[0] == ((first >= ages["low"].iloc[0]) & (first < ages["high"].iloc[0])).sum()
