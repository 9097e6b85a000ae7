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
    assert data.notes == ("The records of some subjects are not contiguous: they were brought together by ID.",)


def test_items_without_effect_are_not_covariates():
    data = read("ID TIME DV CMT II RATE SS ADDL CENS LIMIT DVID WT\n1 0 1 2 24 0 0 0 0 0.1 1 70")
    assert data.covariates == ("WT",)


def test_an_occasion_or_output_may_be_a_covariate_too():
    data = read("ID TIME DV DVID OCC\n1 0 1 1 1\n1 0 2 2 2", covariates=["DVID", "OCC"])
    assert data.covariates == ("DVID", "OCC")
    assert data.numeric_covariate("OCC").tolist() == [1, 2]
    assert data.dvid.tolist() == [1, 2]


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


def test_on_grid_gives_an_interval_the_covariates_of_the_record_that_ends_it():
    # As NONMEM does: a curve through the grid then passes through the predictions at the records.
    data = read("ID TIME DV WT SEX\n1 0 1 10 F\n1 2 1 20 F\n1 4 1 30 F\n2 0 1 50 M\n2 2 1 50 M")
    grid = data.on_grid(times=[0, 1, 2, 3, 4, 5])
    assert grid.records["WT"].tolist() == [10, 20, 20, 30, 30, 30] + [50] * 6
    assert grid.records["SEX"].tolist() == ["F"] * 6 + ["M"] * 6


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
@settings(max_examples=30, deadline=None)
def test_no_record_is_lost_or_invented(table):
    data = nw.Data.from_frame(table)
    assert len(data) == len(table)
    assert sorted(data.dv.tolist()) == sorted(table["DV"].dropna().tolist())
    assert data.ids == tuple(table["ID"].unique())
    assert data.record_subject.max() + 1 == data.n_subjects


@given(studies(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
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
}


@pytest.mark.parametrize("case", COLUMNS)
def test_reference_data_have_the_subjects_and_observations_their_source_states(shared, case):
    folder = shared / "reference" / case
    stated = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["data"]
    data = nw.Data.read_csv(folder / "data.csv", **COLUMNS[case])
    assert (data.n_subjects, data.n_obs) == (stated["n_subjects"], stated["n_obs"])


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
