"""Tables about a study, against counts made by hand and by pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw


@pytest.fixture
def data() -> nw.Data:
    rows = {
        "ID": [1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4],
        "TIME": [0, 1, 2, 3, 0, 1, 2, 0, 1, 0, 5],
        "AMT": [100, 0, 0, 0, 50, 0, 0, 100, 0, 100, 0],
        "EVID": [1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        "DV": [np.nan, 4, 2, 0, np.nan, 9, np.nan, np.nan, 7, np.nan, 1],
        "WT": [60, 60, 61, 61, 80, 80, 80, 70, 70, 90, 90],
        "AGE": [20, 20, 20, 20, 40, 40, 40, 30, 30, 55, 55],
        "SEX": ["f", "f", "f", "f", "m", "m", "m", "f", "f", "m", "m"],
    }
    return nw.Data.from_frame(pd.DataFrame(rows), units={"TIME": "h", "DV": "mg/L", "AMT": "mg", "WT": "kg"})


def test_the_study_is_counted(data):
    study = data.describe().study
    assert study.to_dict() == {
        "subjects": "4",
        "records": "11",
        "observations": "6",
        "observations per subject": "1 [1, 3]",
        "time": "0 to 5 h",
        "doses": "4",
        "doses per subject": "1 [1, 1]",
        "amounts": "50, 100 mg",
    }


def test_an_output_has_its_range_and_what_is_missing(data):
    row = data.describe().outputs.iloc[0]
    assert (row["observations"], row["subjects"], row["missing"], row["not positive"]) == (6, 4, 1, 1)
    assert (row["min"], row["median"], row["max"]) == (0.0, 3.0, 9.0)


def test_covariates_are_summarised_over_subjects(data):
    table = data.describe().covariates
    assert table.loc["WT"].tolist() == ["kg", "number", "75 [60, 90]", "yes"]
    assert table.loc["SEX"].tolist() == ["", "category", "f: 2, m: 2", "no"]


def test_correlations_are_those_of_pandas(data):
    found = data.correlations()
    first = pd.DataFrame({"WT": [60, 80, 70, 90], "AGE": [20, 40, 30, 55], "SEX": [0, 1, 0, 1]}, dtype=float)
    pd.testing.assert_frame_equal(found, first.corr())


def test_a_summary_by_a_category_and_by_groups_of_a_number(data):
    by_sex = data.summary_by("SEX")
    assert by_sex.index.tolist() == ["f", "m"]
    assert by_sex["observations"].tolist() == [4, 2]
    assert by_sex["median DV"].tolist() == [3.0, 5.0]
    assert by_sex["median dose"].tolist() == [100.0, 75.0]
    by_weight = data.summary_by("WT", bins=2)
    assert by_weight.index.tolist() == ["60 to 75", "75 to 90"]
    assert by_weight["subjects"].tolist() == [2, 2]
    with pytest.raises(nw.DataError, match="bins=0 is not a number of groups"):
        data.summary_by("WT", bins=0)


@pytest.mark.parametrize("name", nw.datasets.names())
def test_every_data_set_is_described_in_text_and_html(name):
    description = nw.datasets.load(name).describe()
    text, page = repr(description), description._repr_html_()
    for part in ("Study", "Outputs"):
        assert part in text
        assert f"<h4>{part}</h4>" in page


def test_html_is_escaped():
    frame = pd.DataFrame({"ID": [1, 1, 2], "DV": [1.0, 0.0, 2.0], "G": ["<b>x</b>", "<b>x</b>", "y"]})
    page = nw.Data.from_frame(frame).filter("DV > 0", reason="<script>").describe()._repr_html_()
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
