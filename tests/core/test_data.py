"""How records are read: what each layout means, and that nothing is changed without a note."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.core.records import RECORD_COLUMNS


def frame(text: str) -> pd.DataFrame:
    """Return the frame of a little table; '.' is missing."""
    return pd.read_csv(io.StringIO(text), sep=r"\s+", na_values=["."])


def read(text: str, **columns: object) -> nw.Data:
    return nw.Data.from_frame(frame(text), **columns)


def events(data: nw.Data) -> list[tuple[object, ...]]:
    """Return (ID, TIME, EVID, AMT, DV) of every record, None for a missing DV."""
    rows = data.records[["ID", "TIME", "EVID", "AMT", "DV"]].itertuples(index=False)
    return [(i, t, e, a, None if np.isnan(y) else y) for i, t, e, a, y in rows]


NONMEM = """
ID TIME AMT DV  EVID MDV WT
1  0    100 .   1    1   70
1  1    0   5.0 0    0   70
1  2    0   3.0 0    0   70
2  0    200 .   1    1   80
2  1    0   9.0 0    0   80
"""
NONMEM_EVENTS = [
    (1, 0.0, 1, 100.0, None),
    (1, 1.0, 0, 0.0, 5.0),
    (1, 2.0, 0, 0.0, 3.0),
    (2, 0.0, 1, 200.0, None),
    (2, 1.0, 0, 0.0, 9.0),
]


# --------------------------------------------------------------------------- names


def test_nonmem_records_are_read_as_they_stand():
    data = read(NONMEM)
    assert events(data) == NONMEM_EVENTS
    assert (data.n_subjects, data.n_obs, data.ids, data.covariates) == (2, 3, (1, 2), ("WT",))
    assert data.notes == ()


@pytest.mark.parametrize("change", [str.lower, str.title, lambda c: f" {c} "], ids=["lower", "title", "spaces"])
def test_nonmem_names_are_recognised_in_any_case(change):
    table = frame(NONMEM).rename(columns=change)
    assert events(nw.Data.from_frame(table)) == NONMEM_EVENTS


def test_keywords_name_the_columns():
    names = {"ID": "patient", "TIME": "hour", "DV": "conc", "AMT": "mg", "EVID": "what", "MDV": "lost"}
    table = frame(NONMEM).rename(columns=names)
    data = nw.Data.from_frame(table, **{item.lower(): column for item, column in names.items()})
    assert events(data) == NONMEM_EVENTS


def test_a_keyword_wins_over_the_nonmem_name():
    data = read("ID TIME DV conc\n1 0 9 1.5\n1 1 9 2.5", dv="conc")
    assert data.dv.tolist() == [1.5, 2.5]
    assert data.notes == ("The column DV is not used: conc is read as DV.",)


def test_amt_none_says_that_there_are_no_doses():
    data = read("ID TIME AMT DV\n1 0 100 2\n1 1 0 1", amt=None)
    assert not data.dosed.any()
    assert data.dv.tolist() == [2, 1]
    assert data.notes == ("The column AMT is not used.",)


def test_without_time_every_record_is_at_time_0():
    data = read("ID DV\n1 3\n1 4")
    assert data.time.tolist() == [0, 0]
    assert data.notes == ("There is no TIME column: TIME is 0 for every record.",)


def test_ids_may_be_text_numbers_or_categories():
    assert nw.Data.from_frame(pd.DataFrame({"ID": ["b", "a"], "DV": [1.0, 2.0]}), time=None).ids == ("b", "a")
    assert nw.Data.from_frame(pd.DataFrame({"ID": [2.0, 1.0], "DV": [1.0, 2.0]})).ids == (2, 1)
    assert nw.Data.from_frame(pd.DataFrame({"ID": pd.Categorical([7, 5]), "DV": [1.0, 2.0]})).ids == (7, 5)
    # Labels of several types become text, so that a saved fit reads them back.
    assert nw.Data.from_frame(pd.DataFrame({"ID": [1, "x"], "DV": [1.0, 2.0]})).ids == ("1", "x")


# -------------------------------------------------------------------------- events


def test_without_evid_a_record_with_an_amount_is_a_dose():
    data = read("ID TIME AMT DV\n1 0 100 .\n1 1 . 5\n1 2 0 3")
    assert events(data) == [(1, 0.0, 1, 100.0, None), (1, 1.0, 0, 0.0, 5.0), (1, 2.0, 0, 0.0, 3.0)]
    assert data.notes == ()


def test_dv_0_on_every_dose_record_is_no_measurement():
    data = read("ID TIME AMT DV\n1 0 100 0\n1 1 0 5\n2 0 100 0\n2 1 0 4")
    assert data.n_obs == 2
    assert data.notes == ("DV is 0 on every dose record: read as no measurement.",)


@pytest.mark.parametrize("mdv", ["", " MDV"], ids=["without MDV", "with MDV=0"])
def test_amount_and_measurement_on_one_record_are_a_dose_and_then_an_observation(mdv):
    zero = " 0" if mdv else ""
    data = read(f"ID TIME AMT DV WT{mdv}\n1 0 100 0.7 70{zero}\n1 1 0 5 71{zero}")
    assert events(data) == [(1, 0.0, 1, 100.0, None), (1, 0.0, 0, 0.0, 0.7), (1, 1.0, 0, 0.0, 5.0)]
    assert data.records["WT"].tolist() == [70, 70, 71]
    assert data.notes == (
        "1 record with AMT and DV, and there is no EVID column (first: the row with index 0): read as a dose and, "
        "right after it, an observation.",
    )


def test_a_censored_measurement_on_a_dose_record_stays_censored():
    data = read("ID TIME AMT DV CENS\n1 0 100 0.1 1\n1 1 0 5 0")
    assert data.records["EVID"].tolist() == [1, 0, 0]
    assert data.records["CENS"].tolist() == [0, 1, 0]


def test_mdv_1_is_not_fitted_and_keeps_its_dose():
    data = read("ID TIME AMT DV MDV\n1 0 100 9 1\n1 1 0 5 0\n1 2 0 4 1")
    assert events(data) == [(1, 0.0, 1, 100.0, None), (1, 1.0, 0, 0.0, 5.0), (1, 2.0, 0, 0.0, None)]
    assert data.n_obs == 1


def test_evid_2_is_neither_dose_nor_observation():
    data = read("ID TIME AMT DV EVID\n1 0 100 . 1\n1 1 0 . 2\n1 2 0 4 0")
    assert (data.n_obs, int(data.dosed.sum()), len(data)) == (1, 1, 3)


def test_a_measurement_on_a_dose_record_with_evid_is_noted_not_read():
    data = read("ID TIME AMT DV EVID\n1 0 100 7 1\n1 1 0 5 0")
    assert data.dv.tolist() == [5]
    assert data.notes == (
        "DV is not read on 1 record with EVID other than 0 (first: the row with index 0): an observation needs a "
        "record of its own.",
    )


def test_evid_101_is_a_dose_as_rxode_codes_it():
    data = read("ID TIME AMT DV EVID\n1 0 100 0 101\n1 1 0 5 0")
    assert data.dosed.tolist() == [True, False]
    assert data.notes == ("EVID=101 is read as a dose (RxODE's coding).",)


def test_a_missing_dv_is_noted():
    data = read("ID TIME DV\n1 0 .\n1 1 5\n1 2 .")
    assert (data.n_obs, len(data)) == (1, 3)
    assert data.notes == ("2 records without DV: predicted, not fitted.",)


def test_an_amount_repeated_on_every_record_is_one_dose_at_the_start():
    data = read("ID TIME AMT DV\n1 0.0 4 0.7\n1 1 4 2.8\n2 -1 5 0.1\n2 1 5 2.0")
    # Before the observations: at time 0, or at the first one if that is earlier.
    assert events(data) == [
        (1, 0.0, 1, 4.0, None),
        (1, 0.0, 0, 0.0, 0.7),
        (1, 1.0, 0, 0.0, 2.8),
        (2, -1.0, 1, 5.0, None),
        (2, -1.0, 0, 0.0, 0.1),
        (2, 1.0, 0, 0.0, 2.0),
    ]
    assert data.notes == (
        "AMT is repeated on every record: read as one dose per subject at time 0, before its observations.",
    )


def test_one_record_per_subject_with_amount_and_dv_is_no_repeated_amount():
    data = read("ID TIME AMT DV\n1 0 4 7\n2 0 5 8")
    assert [e[2] for e in events(data)] == [1, 0, 1, 0]


def test_records_of_a_subject_are_brought_together():
    data = read("ID TIME DV\n1 0 1\n2 0 2\n1 1 3\n2 1 4")
    assert events(data) == [(1, 0.0, 0, 0.0, 1.0), (1, 1.0, 0, 0.0, 3.0), (2, 0.0, 0, 0.0, 2.0), (2, 1.0, 0, 0.0, 4.0)]
    assert data.notes == (
        "The records of some subjects are not contiguous: they were brought together by ID (NONMEM would take them for "
        "new subjects).",
    )


def test_items_without_effect_are_not_covariates():
    data = read("ID TIME DV CMT II RATE SS ADDL CENS LIMIT DVID WT\n1 0 1 2 24 0 0 0 0 0.1 1 70")
    assert data.covariates == ("WT",)


def test_an_occasion_or_output_may_be_a_covariate_too():
    data = read("ID TIME DV DVID OCC\n1 0 1 1 1\n1 0 2 2 2", covariates=["DVID", "OCC"])
    assert data.covariates == ("DVID", "OCC")
    assert data.numeric_covariate("OCC").tolist() == [1, 2]
    assert data.dvid.tolist() == [1, 2]


# ---------------------------------------------------------------- how doses are given

WHOLE = """
ID TIME DV  AMT EVID MDV CMT RATE ADDL II SS DVID OCC CENS LIMIT
1  0    .   100 1    1   1   0    3    12 1  1    1   0    .
1  2    5   0   0    0   2   0    0    0  0  1    1   0    .
1  40   .   50  1    1   2   25   0    0  0  1    2   0    .
1  41   .   60  1    1   2   -1   0    0  0  1    2   0    .
1  42   .   70  4    1   1   -2   0    6  2  1    2   0    .
1  43   0.1 0   0    0   2   0    0    0  0  2    2   1    0.01
1  44   .   0   3    1   0   0    0    0  0  1    2   0    .
1  44   9   0   0    0   2   0    0    0  0  2    2   -1   .
1  45   .   0   2    1   2   0    0    0  0  1    2   0    .
1  46   .   0   1    1   2   10   0    0  1  1    2   0    .
"""


def test_every_item_of_nonmem_is_read():
    data = read(WHOLE)
    table = frame(WHOLE)
    assert list(data.records) == list(RECORD_COLUMNS)
    for column in ("TIME", "EVID", "CMT", "RATE", "ADDL", "II", "SS", "MDV", "DVID", "OCC", "CENS", "LIMIT", "DV"):
        np.testing.assert_array_equal(data.records[column].to_numpy(), table[column].to_numpy(), err_msg=column)
    assert data.dosed.nonzero()[0].tolist() == [0, 2, 3, 4, 9]
    assert data.reset.nonzero()[0].tolist() == [4, 6]
    assert (data.dvid.tolist(), data.occ.tolist(), data.cens.tolist()) == ([1, 2, 2], [1, 2, 2], [0, 1, -1])
    np.testing.assert_array_equal(data.limit, [np.nan, 0.01, np.nan])
    assert data.notes == ()


def test_every_item_may_have_another_name():
    table = frame(WHOLE).rename(columns=lambda c: f"my {c}")
    data = nw.Data.from_frame(table, **{c.lower(): f"my {c}" for c in frame(WHOLE)})
    pd.testing.assert_frame_equal(data.records, read(WHOLE).records)


def test_items_that_are_not_there_have_their_neutral_value():
    (row,) = read("ID DV\n1 3").records.itertuples(index=False)
    assert row._asdict() | {"LIMIT": None} == {
        **{"ID": 1, "TIME": 0, "EVID": 0, "AMT": 0, "CMT": 0, "RATE": 0, "ADDL": 0, "II": 0, "SS": 0, "MDV": 0},
        **{"DV": 3, "CENS": 0, "LIMIT": None, "DVID": 1, "OCC": 1},
    }


def test_a_steady_infusion_is_a_dose_without_an_amount_with_or_without_evid():
    for evid in ("", " EVID"):
        one, zero = (f" {k}" if evid else "" for k in (1, 0))
        data = read(f"ID TIME AMT RATE SS DV{evid}\n1 0 0 10 1 .{one}\n1 1 0 0 0 5{zero}")
        assert data.dosed.tolist() == [True, False]
        assert data.notes == ()


def test_names_of_compartments_and_outputs_are_kept():
    data = read("ID TIME AMT DV CMT DVID\n1 0 100 . depot .\n1 1 0 5 . cp\n1 1 0 50 . pca")
    assert data.records["CMT"].tolist() == ["depot", "", ""]
    assert data.records["DVID"].tolist() == ["", "cp", "pca"]
    assert data.dvid.tolist() == ["cp", "pca"]


def test_what_is_said_of_doses_on_other_records_is_noted_not_read():
    data = read("ID TIME AMT DV RATE ADDL II SS\n1 0 100 . 50 2 12 1\n1 1 0 5 50 2 12 1")
    assert (data.records.loc[1, ["RATE", "ADDL", "II", "SS"]] == 0).all()
    assert data.notes == tuple(
        f"{item} is not read on 1 record without a dose (first: the row with index 1)."
        for item in ("RATE", "ADDL", "II", "SS")
    )


def test_an_interval_without_further_doses_is_noted_not_read():
    data = read("ID TIME AMT DV II\n1 0 100 . 12\n1 1 0 5 0")
    assert data.records["II"].tolist() == [0, 0]
    assert data.notes == (
        "II is not read on 1 record with a dose without ADDL and SS: it has no effect (first: the row with index 0).",
    )


def test_rxodes_coding_says_the_compartment():
    data = read("ID TIME AMT DV EVID\n1 0 100 . 101\n1 1 100 . 201\n1 2 0 2 0")
    assert data.records["CMT"].tolist() == [1, 2, 0]
    assert data.notes == ("EVID=101 and EVID=201 are read as a dose (RxODE's coding).",)


def test_time_may_start_again_after_a_reset_or_with_an_occasion():
    data = read("ID TIME AMT DV EVID\n1 0 100 . 1\n1 5 0 5 0\n1 0 100 . 4\n1 2 0 6 0")
    assert data.records["TIME"].tolist() == [0, 5, 0, 2]
    assert data.notes == ()
    data = read("ID TIME AMT DV OCC\n1 0 100 . 1\n1 5 0 5 1\n1 0 100 . 2\n1 2 0 6 2")
    assert data.records["EVID"].tolist() == [1, 0, 3, 1, 0]
    assert data.records["OCC"].tolist() == [1, 1, 2, 2, 2]
    assert data.notes == (
        "TIME starts again with another OCC in 1 place (first: the row with index 2): read as a reset (EVID 3) there.",
    )


def test_data_without_measurements_or_subjects_are_for_predictions():
    data = read("TIME AMT\n0 100\n1 0\n2 0", id=None, dv=None)
    assert (data.n_subjects, data.n_obs, int(data.dosed.sum())) == (1, 2, 1)
    assert data.notes == (
        "There is no ID: all records are of one subject.",
        "There is no DV: the records that are no doses are predicted, not fitted.",
    )


def test_a_missing_occasion_is_carried_forward():
    data = read("ID TIME DV OCC\n1 0 1 1\n1 1 2 .\n1 2 3 2\n1 3 4 .")
    assert data.records["OCC"].tolist() == [1, 1, 2, 2]
    assert data.notes == ("Missing values of OCC are the subject's previous (else next) value.",)


# ---------------------------------------------------------------------- covariates


def test_every_other_column_is_a_covariate_unless_they_are_named():
    text = "ID TIME DV WT AGE\n1 0 1 70 40\n1 1 2 70 40"
    assert read(text).covariates == ("WT", "AGE")
    assert read(text, covariates=["AGE"]).covariates == ("AGE",)
    assert read(text, covariates="AGE").covariates == ("AGE",)
    assert read(text, covariates=[]).covariates == ()


def test_an_item_may_serve_as_covariate_too():
    data = read("ID TIME conc Dose\n1 0 1 4\n1 1 2 4", dv="conc", amt="Dose", covariates=["Dose"])
    assert data.records["Dose"].tolist() == [4, 4, 4]
    assert data.records["AMT"].tolist() == [4, 0, 0]


def test_missing_covariates_are_carried_forward_then_back_within_the_subject():
    data = read("ID TIME DV WT\n1 0 1 .\n1 1 2 70\n1 2 3 .\n2 0 1 80\n2 1 1 .\n2 2 1 82")
    assert data.records["WT"].tolist() == [70, 70, 70, 80, 80, 82]
    assert data.notes == ("Missing values of WT are the subject's previous (else next) value.",)


def test_an_unnamed_covariate_missing_for_a_subject_is_left_out_with_a_note():
    data = read("ID TIME DV WT AGE\n1 0 1 70 40\n2 0 1 . 41")
    assert data.covariates == ("AGE",)
    assert data.notes == (
        "The column WT is not used as a covariate: it is missing on all records of subject 2 (first: the row with "
        "index 1).",
    )


def test_a_covariate_that_was_not_used_says_why_when_a_model_wants_it():
    table = pd.DataFrame({"ID": [1, 2], "TIME": [0.0, 0.0], "DV": [1.0, 2.0], "WT": [70.0, np.nan]})
    with pytest.raises(nw.DataError, match="uses the covariate 'WT', which is missing on all records of subject 2"):
        nw.Data.from_frame(table).numeric_covariate("WT")


def test_text_covariates_stay_text_and_a_mixed_column_is_noted():
    data = read("ID TIME DV SEX GRADE\n1 0 1 M 1\n2 0 1 F high")
    assert data.records["SEX"].tolist() == ["M", "F"]
    assert data.records["GRADE"].tolist() == ["1", "high"]
    assert data.notes == ("GRADE is read as text: 'high' at the row with index 1 is not a number.",)
    with pytest.raises(nw.DataError, match=r"'SEX', which holds text \(M, F\); code it as numbers"):
        data.numeric_covariate("sex")


def test_logical_categorical_and_nullable_columns_are_covariates():
    table = pd.DataFrame({"ID": [1, 2], "DV": [1.0, 2.0], "A": [True, False], "B": pd.Categorical(["x", "y"])})
    table["C"] = pd.array([1, 2], dtype="Int64")
    table["DAY"] = pd.to_datetime(["2020-01-01", "2020-01-02"])
    data = nw.Data.from_frame(table)
    assert data.records["A"].tolist() == [1.0, 0.0]
    assert data.records["B"].tolist() == ["x", "y"]
    assert data.records["C"].tolist() == [1.0, 2.0]
    assert data.records["DAY"].tolist() == ["2020-01-01", "2020-01-02"]


def test_covariate_names_are_found_up_to_case():
    data = read("ID TIME DV Wt\n1 0 1 70")
    assert data.covariate_name("WT") == "Wt"
    with pytest.raises(nw.DataError, match=r"uses the covariate 'AGE', which is not in the data \(covariates: Wt\)"):
        data.covariate_name("AGE")


def test_subject_covariates_are_those_of_the_first_record():
    table = read("ID TIME DV WT\na 0 1 70\na 1 1 75\nb 0 1 80").subject_covariates()
    assert table["WT"].to_dict() == {"a": 70, "b": 80}


@pytest.mark.parametrize(
    ("values", "categorical"),
    [
        (["M", "F"] * 6, True),
        ([0, 1] * 6, True),
        ([0.5, 1.5] * 6, False),  # not whole numbers
        (list(range(12)), False),  # too many
        ([1, 2, 3, 4, 5, 5] * 2, True),
        ([1, 2, 3, 4, 5, 6] * 2, False),
    ],
)
def test_a_covariate_is_categorical_if_text_or_few_whole_numbers(values, categorical):
    data = nw.Data.from_frame(pd.DataFrame({"ID": range(12), "DV": 1.0, "Z": values}))
    assert data.is_categorical("Z") is categorical


# --------------------------------------------------------------------------- units


def test_units_belong_to_items_and_covariates():
    data = read(
        "Subject Time conc Wt\n1 0 1 70", id="Subject", dv="conc", units={"Time": "h", "conc": "mg/L", "Wt": "kg"}
    )
    assert (data.unit("TIME"), data.unit("DV"), data.unit("Wt"), data.unit("AMT")) == ("h", "mg/L", "kg", "")
    assert data.axis_label("TIME") == "TIME (h)"
    assert data.axis_label("DV", "concentration") == "concentration (mg/L)"
    assert data.axis_label("ID") == "ID"


# ------------------------------------------------------------------------- display


def test_repr_counts_and_shows_every_note():
    data = read("ID TIME AMT DV WT\n1 0 100 0 70\n1 1 0 5 .")
    assert repr(data) == (
        "Data: 1 subject, 1 observation, 1 dose; covariates WT\n"
        "  note: DV is 0 on every dose record: read as no measurement.\n"
        "  note: Missing values of WT are the subject's previous (else next) value."
    )
    assert repr(nw.datasets.load("orange")) == "Data: 5 subjects, 35 observations, 0 doses"


# ------------------------------------------------------------------ CSV files


def csv(tmp_path: Path, text: str, **options: object) -> nw.Data:
    file = tmp_path / "d.csv"
    file.write_bytes(text.encode("utf-8"))
    return nw.Data.read_csv(file, **options)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("ID,TIME,DV\n1,0,1.5\n1,1,.\n", {}),
        ("\ufeffID,TIME,DV\r\n1,0,1.5\r\n1,1,NA\r\n", {}),  # as a spreadsheet saves it
        ('"ID", "TIME", "DV"\n"1", 0, 1.5\n1, 1, \n', {}),
        ("ID;TIME;DV\n1;0;1.5\n1;1;\n", {"sep": ";"}),
        ("ID\tTIME\tDV\n1\t0\t1.5\n1\t1\t.\n", {"sep": "\t"}),
        ("  ID TIME  DV\n 1 0 1.5\n  1   1  .\n", {"sep": r"\s+"}),
        ("ID,TIME,DV,\n1,0,1.5,\n1,1,.,\n", {}),  # a comma at every line's end
        ("\nID,TIME,DV\n\n1,0,1.5\n1,1,.\n\n", {}),  # empty lines
    ],
)
def test_dialects_of_csv_mean_the_same(tmp_path, text, options):
    assert events(csv(tmp_path, text, **options)) == [(1, 0.0, 0, 0.0, 1.5), (1, 1.0, 0, 0.0, None)]


def test_numbers_are_read_to_the_last_digit(tmp_path):
    # pandas' own default parser is off by one unit in the last place for some of these.
    numbers = [0.1 + 0.2, 1 / 3, 2.2250738585072014e-308, 1.7976931348623157e308, 123456789.123456789]
    text = "ID,TIME,DV\n" + "".join(f"1,{k},{v!r}\n" for k, v in enumerate(numbers))
    assert csv(tmp_path, text).dv.tolist() == numbers


def test_words_that_look_missing_to_pandas_stay_text(tmp_path):
    data = csv(tmp_path, "ID,TIME,DV,SMOKING\n1,0,1,None\n2,0,1,null\n")
    assert data.records["SMOKING"].tolist() == ["None", "null"]


def test_rows_of_separators_only_are_skipped_with_a_note_and_rows_keep_their_number(tmp_path):
    text = "ID,TIME,DV\n1,0,1\n,,\n\n1,1,x\n"
    with pytest.raises(nw.DataError, match=r"^DV='x' at row 5 of 'd.csv' is not a number"):
        csv(tmp_path, text)
    assert csv(tmp_path, text.replace("x", "2")).notes == ("1 empty row was skipped (first: row 3).",)


def test_csv_and_frame_give_the_same_data(tmp_path):
    table = frame(NONMEM)
    table.to_csv(tmp_path / "a.csv", index=False)
    assert nw.Data.read_csv(tmp_path / "a.csv").fingerprint == nw.Data.from_frame(table).fingerprint


def test_reading_does_not_change_the_frame():
    table = frame(NONMEM)
    before = table.copy()
    nw.Data.from_frame(table)
    pd.testing.assert_frame_equal(table, before)


# ---------------------------------------------------------------------- variations


def test_subset_keeps_the_order_of_the_data():
    data = read("ID TIME DV\n1 0 1\n2 0 2\n3 0 3")
    assert data.subset([3, 1]).ids == (1, 3)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([9], "ID 9 is not in the data; its IDs are 1 … 2."),
        ([], "subset() was given no ID; name at least one subject."),
    ],
)
def test_subset_refuses_what_is_not_there(ids, sentence):
    with pytest.raises(nw.DataError) as error:
        read(NONMEM).subset(ids)
    assert str(error.value) == sentence


def test_fingerprint_depends_on_what_an_objective_depends_on():
    base = read(NONMEM)
    assert read(NONMEM, units={"TIME": "h"}).fingerprint == base.fingerprint
    for change in ({"DV": 5.5}, {"AMT": 101}, {"WT": 71}, {"TIME": 0.5}):
        table = frame(NONMEM)
        row = 0 if "AMT" in change else 1
        for column, value in change.items():
            table[column] = table[column].astype(float)
            table.loc[row, column] = value
        assert nw.Data.from_frame(table).fingerprint != base.fingerprint, change


def test_on_grid_keeps_every_dose_and_puts_it_before_its_time():
    data = read("ID TIME AMT DV\n1 0 100 .\n1 2 50 .\n1 4 0 5\n2 0 200 .\n2 3 0 7")
    grid = data.on_grid(times=np.array([0.0, 2.0, 4.0]))
    assert [(i, t, a) for i, t, _, a, _ in events(grid)] == [
        (1, 0.0, 100.0),
        (1, 0.0, 0.0),
        (1, 2.0, 50.0),
        (1, 2.0, 0.0),
        (1, 4.0, 0.0),
        (2, 0.0, 200.0),
        (2, 0.0, 0.0),
        (2, 2.0, 0.0),
        (2, 4.0, 0.0),
    ]
    assert np.isnan(grid.dv).all()


def test_on_grid_spans_all_subjects_times_from_0():
    grid = read("ID TIME DV\n1 1 1\n2 8 1").on_grid(5)
    assert grid.time.tolist() == [0, 2, 4, 6, 8] * 2
    assert read("ID TIME DV\n1 -2 1\n1 2 1").on_grid(3).time.tolist() == [-2, 0, 2]


def test_on_grid_follows_the_records_with_half_of_its_points():
    # A second subject's samples, a little apart, are no times of their own.
    records = "\n".join(f"{i} {max(t - 0.3 * i, 0)} 1" for i in (0, 1) for t in [*range(0, 19, 2), 100])
    times = read(f"ID TIME DV\n{records}").on_grid(101, follow=True).time[:101]
    assert (times[0], times[-1]) == (0, 100)
    # Up to 18: nine tenths of the crowded half of the points, eighteen hundredths of the even one.
    assert np.sum(times <= 18) == pytest.approx(0.5 * (90 + 18), abs=1)
    assert np.diff(times).max() <= 2.0
    assert read("ID TIME DV\n1 3 1").on_grid(3, follow=True).time.tolist() == [0, 1.5, 3]
    assert read("ID TIME DV\n1 0 1\n2 0 2").on_grid(2, follow=True).time.tolist() == [0, 0, 0, 0]


def test_on_grid_gives_an_interval_the_covariates_of_the_record_that_ends_it():
    # As NONMEM does: a curve through the grid then passes through the predictions at the records.
    data = read("ID TIME DV WT SEX\n1 0 1 10 F\n1 2 1 20 F\n1 4 1 30 F\n2 0 1 50 M\n2 2 1 50 M")
    grid = data.on_grid(times=[0, 1, 2, 3, 4, 5])
    assert grid.records["WT"].tolist() == [10, 20, 20, 30, 30, 30] + [50] * 6
    assert grid.records["SEX"].tolist() == ["F"] * 6 + ["M"] * 6


def test_on_grid_keeps_every_event_and_carries_the_occasion():
    data = read(WHOLE)
    grid = data.on_grid(times=[1.0, 41.5, 44.0, 50.0], dvid=2)
    events, kept = data.records[data.records["EVID"] != 0], grid.records[grid.records["EVID"] != 0]
    pd.testing.assert_frame_equal(kept.reset_index(drop=True), events.reset_index(drop=True))
    assert grid.time.tolist() == [1, 41.5, 44, 50]
    assert grid.occ.tolist() == [1, 2, 2, 2]
    assert grid.dvid.tolist() == [2, 2, 2, 2]
    assert not grid.cens.any()
    after = grid.records["TIME"].to_numpy()[np.flatnonzero(grid.reset)[-1]]
    assert after == 44  # the reset at a time of the grid comes before it
    assert np.flatnonzero(grid.reset)[-1] < np.flatnonzero(grid.observed)[2]


def test_on_grid_observes_each_output_at_each_time():
    data = read("ID TIME DV DVID\n1 0 1 cp\n1 1 2 pca\n2 0 1 pca")
    grid = data.on_grid(times=[0, 1])
    assert list(zip(grid.subject, grid.time, grid.dvid, strict=True)) == [
        (s, t, o) for s in (0, 1) for t in (0, 1) for o in ("cp", "pca")
    ]
    assert data.on_grid(times=[0, 1], dvid="pca").dvid.tolist() == ["pca"] * 4
    with pytest.raises(nw.DataError) as error:
        data.on_grid(dvid=2)
    assert str(error.value) == "dvid=2 names no output that was observed (DVID: cp, pca)."


def test_on_grid_is_on_the_first_stretch_where_time_starts_again():
    data = read("ID TIME AMT DV EVID WT\n1 0 9 . 1 1\n1 5 0 5 0 2\n1 0 8 . 4 3\n1 2 0 6 0 4\n2 0 7 . 1 5\n2 1 0 1 0 5")
    grid = data.on_grid(times=[0, 3, 9])
    assert list(zip(grid.records["TIME"], grid.records["EVID"], grid.records["WT"], strict=True)) == [
        *((0, 1, 1), (0, 0, 1), (3, 0, 2), (9, 0, 2), (0, 4, 3)),
        *((0, 1, 5), (0, 0, 5), (3, 0, 5), (9, 0, 5)),
    ]


def test_a_curve_over_the_grid_passes_through_the_predictions(oral_model):
    data = nw.datasets.load("theophylline")
    model = oral_model(CL=nw.LogNormal(2.8, sd=0.3, effect=nw.theta("b", 0.75) * nw.covariate("WT") / 100))
    times = np.unique(data.time)
    curve = model.predict(data.on_grid(times=times)).set_index(["ID", "TIME"])["PRED"]
    pred = model.predict(data).set_index(["ID", "TIME"])["PRED"]
    np.testing.assert_allclose(curve.loc[pred.index], pred, rtol=1e-13)


# ----------------------------------------------------------------------- properties


@st.composite
def studies(draw: st.DrawFn) -> pd.DataFrame:
    rows = []
    for label in draw(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)):
        times = sorted(draw(st.lists(st.floats(0, 100), min_size=1, max_size=5)))
        rows.append((label, times[0], draw(st.floats(1, 1000)), np.nan, 1))
        rows += [(label, t, 0.0, draw(st.floats(-1e6, 1e6)), 0) for t in times]
    return pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV", "EVID"])


@given(studies())
@settings(max_examples=15, deadline=None)
def test_no_record_is_lost_or_invented(table):
    data = nw.Data.from_frame(table)
    assert len(data) == len(table)
    assert sorted(data.dv.tolist()) == sorted(table["DV"].dropna().tolist())
    assert data.ids == tuple(table["ID"].unique())
    assert data.record_subject.max() + 1 == data.n_subjects


@given(studies(), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_interleaving_subjects_changes_nothing_but_their_order(table, random):
    # Any order of the rows that keeps each subject's own.
    order = list(table["ID"])
    random.shuffle(order)
    queues = {label: iter(group.index.tolist()) for label, group in table.groupby("ID")}
    mixed = nw.Data.from_frame(table.loc[[next(queues[label]) for label in order]])
    plain = nw.Data.from_frame(table)
    for label in plain.ids:
        assert events(mixed.subset([label])) == events(plain.subset([label]))


# ------------------------------------------------------------------ data of others

COLUMNS = {
    "bauer_2cpt_iv_FOCEI": {},
    "monolix_phenobarbital": {"dv": "CONC", "amt": "DOSE"},
    "monolix_theophylline": {"dv": "CONC"},
    "phenobarbital_simple_FOCEI": {},
    "theophylline_onecmt_nlmixr2": {},
    "theophylline_pred_FOCEI": {},
    "wang2007_error_models": {},
    "wang2007_prop_focei_nonmem_table": {},
    "bauer_blq_M3_laplace_imp": {"dv": "CONC"},
    "warfarin_pkpd_turnover_ode": {},
}


@pytest.mark.parametrize("case", COLUMNS)
def test_reference_data_have_the_subjects_and_observations_their_source_states(shared, case):
    folder = shared / "reference" / case
    stated = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["data"]
    data = nw.Data.read_csv(folder / "data.csv", **COLUMNS[case])
    assert (data.n_subjects, data.n_obs) == (stated["n_subjects"], stated["n_obs"])


@pytest.mark.parametrize(
    ("case", "columns"),
    [
        ("nmtest_dosing_events", {"dv": "cp"}),
        ("nmtest_timevarying_covariate", {"dv": "CP_nm"}),
        ("warfarin_fisher_information_FO", {"id": None, "dv": None}),
    ],
)
def test_reference_data_keep_every_record_and_every_item(shared, case, columns):
    table = pd.read_csv(shared / "reference" / case / "data.csv")
    data = nw.Data.read_csv(shared / "reference" / case / "data.csv", **columns)
    assert len(data) == len(table)
    for column in table:
        if column.upper() in ("ID", "TIME", "AMT", "EVID", "CMT", "RATE", "ADDL", "II", "SS"):
            np.testing.assert_array_equal(data.records[column.upper()], table[column], err_msg=column)


REAL = {
    # Subjects and observations as data/README.md states them.
    "Theoph.csv": ({"id": "Subject", "time": "Time", "dv": "conc", "amt": "Dose", "covariates": ["Wt"]}, 12, 132),
    "Indometh.csv": ({"id": "Subject", "dv": "conc"}, 6, 66),
    "Phenobarb.csv": ({"id": "Subject", "dv": "conc", "amt": "dose"}, 59, 155),
    "Quinidine.csv": ({"id": "Subject", "dv": "conc", "amt": "dose"}, 136, 361),
    "Cefamandole.csv": ({"id": "Subject", "dv": "conc"}, 6, 84),
    "Orange.csv": ({"id": "Tree", "time": "age", "dv": "circumference"}, 5, 35),
    "Loblolly.csv": ({"id": "Seed", "time": "age", "dv": "height"}, 14, 84),
    "Soybean.csv": ({"id": "Plot", "dv": "weight"}, 48, 412),
    "ChickWeight.csv": ({"id": "Chick", "dv": "weight"}, 50, 578),
    "CO2.csv": ({"id": "Plant", "time": "conc", "dv": "uptake"}, 12, 84),
    "Dialyzer.csv": ({"id": "Subject", "time": "pressure", "dv": "rate"}, 20, 140),
    "Remifentanil.csv": ({"dv": "conc"}, 65, 1992),
    "Tetracycline1.csv": ({"id": "Subject", "dv": "conc", "occ": "Formulation"}, 5, 40),
    "check-only/emax_pd1.csv": ({"id": "subject", "dv": "response", "time": None}, 100, 300),
    "check-only/mavoglurant.csv": ({}, 120, 2427),
    "check-only/warfarin.csv": ({}, 32, 483),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_are_read_whole(shared, name):
    columns, subjects, observations = REAL[name]
    data = nw.Data.read_csv(shared / "data" / name, **columns)
    assert (data.n_subjects, data.n_obs) == (subjects, observations)


def test_the_layout_of_rs_nlme_is_one_dose_per_subject(shared):
    data = nw.Data.read_csv(shared / "data" / "Theoph.csv", **REAL["Theoph.csv"][0])
    shipped = nw.datasets.load("theophylline_per_kg")
    assert data.records["AMT"].sum() == pytest.approx(shipped.records["AMT"].sum())
    assert data.covariates == ("Wt",)
    assert data.notes == (
        "Dose is repeated on every record: read as one dose per subject at time 0, before its observations.",
    )
