"""Filters and exclusions: what they keep, that they are recorded, and that each can be undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.core.code import data_code
from nlmewidgets.core.condition import matching


@pytest.fixture
def data() -> nw.Data:
    """Three subjects: a dose, three observations (one without a value) each; SEX is text, WT changes in subject 3."""
    rows = []
    for i, (sex, weight) in enumerate([("female", 60.0), ("male", 80.0), ("male", 90.0)], 1):
        rows.append((i, 0.0, 100.0 * i, 1, np.nan, sex, weight))
        for t, y in ((1.0, 5.0 * i), (2.0, np.nan if i == 1 else 3.0), (30.0, 0.5)):
            rows.append((i, t, 0.0, 0, y, sex, weight + (t if i == 3 else 0.0)))
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV", "SEX", "WT"]))


def kept(data: nw.Data) -> list[tuple[int, float, int]]:
    return [(i, t, e) for i, t, e in data.records[["ID", "TIME", "EVID"]].itertuples(index=False)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("TIME < 24", lambda r: r.TIME < 24),
        ("TIME < 24 & SEX == 'male'", lambda r: (r.TIME < 24) & (r.SEX == "male")),
        ("TIME < 24 and not SEX == 'male'", lambda r: (r.TIME < 24) & (r.SEX != "male")),
        ("~(TIME < 24) | SEX in ['female', 'other']", lambda r: (r.TIME >= 24) | (r.SEX == "female")),
        ("0 < TIME <= 2", lambda r: (r.TIME > 0) & (r.TIME <= 2)),
        ("log(wt)*2 > log(6400)", lambda r: r.WT > 80),
        ("ID not in (1, 3)", lambda r: r.ID == 2),
        ("SEX != 'female' && WT >= 80 + 5", lambda r: (r.SEX == "male") & (r.WT >= 85)),
        ("symbol('SEX') == 'female'", lambda r: r.SEX == "female"),
        ("missing(DV)", lambda r: r.DV.isna()),
        ("DV != 5", lambda r: r.DV.notna() & (r.DV != 5)),
        ("1 > 0", lambda r: r.TIME > -1),
        ("SEX == 'a & b | ~c'", lambda r: r.TIME < -1),
    ],
)
def test_a_condition_means_what_pandas_says(data, condition, expected):
    found, _ = matching(data.records, condition)
    np.testing.assert_array_equal(found, expected(data.records).to_numpy())


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_a_comparison_is_that_of_the_numbers(a, b, op):
    frame = pd.DataFrame({"A": [a, b], "B": [b, b]})
    np.testing.assert_array_equal(matching(frame, f"A {op} B")[0], frame.eval(f"A {op} B").to_numpy())


def test_a_condition_on_observations_leaves_the_doses_and_the_other_way_round(data):
    assert kept(data.filter("DV > 1")) == [(1, 0, 1), (1, 1, 0), (2, 0, 1), (2, 1, 0), (2, 2, 0), (3, 0, 1), (3, 1, 0),
                                          (3, 2, 0)]  # fmt: skip
    assert kept(data.filter("AMT > 150")) == [r for r in kept(data) if r != (1, 0.0, 1)]
    assert data.filter("AMT > 150").history["note"][1] == "1 dose before observations that stay"


def test_each_step_is_recorded_with_its_reason_and_counts(data):
    less = data.filter("TIME < 24", reason="washout").exclude(ids=[2], reason="vomited").exclude(records=[1])
    history = less.history
    assert history["what"].tolist() == ["all but TIME < 24", "ID 2", "records 1"]
    assert history["reason"].tolist() == ["washout", "vomited", ""]
    assert history["records"].tolist() == [3, 3, 1]
    assert history["observations"].tolist() == [3, 2, 1]
    assert history["doses"].tolist() == [0, 1, 0]
    assert history["subjects"].tolist() == [0, 1, 0]
    assert history["who"].tolist() == ["1, 2, 3", "2", "1"]
    assert repr(less).splitlines()[1:] == [
        "  note: 1 record without DV: predicted, not fitted.",
        "  left out: 1. all but TIME < 24: 3 records (3 observations) — washout",
        "  left out: 2. ID 2: 3 records (2 observations, 1 dose, 1 subject) — vomited",
        "  left out: 3. records 1: 1 record (1 observation)",
    ]
    assert less.describe().left_out[1].startswith("2. ID 2: 3 records")


def test_every_step_can_be_undone_alone_and_all_together(data):
    less = data.filter("TIME < 24").exclude(ids=[2]).filter("DV > 4 | missing(DV)")
    assert less.restored().fingerprint == data.fingerprint
    assert less.restored().history.empty
    assert less.without_exclusion(2).fingerprint == data.filter("TIME < 24").filter("DV > 4 | missing(DV)").fingerprint
    assert less.without_exclusion(1).fingerprint == data.exclude(ids=[2]).filter("DV > 4 | missing(DV)").fingerprint
    assert data.fingerprint == less.without_exclusion(3).without_exclusion(2).without_exclusion(1).fingerprint


def test_masks_and_functions_choose_among_the_records_that_are_there(data):
    text = data.filter("TIME < 24")
    by_mask = data.filter(data.records["TIME"].to_numpy() < 24)
    by_function = data.filter(lambda records: records["TIME"] < 24)
    assert text.fingerprint == by_mask.fingerprint == by_function.fingerprint
    twice = text.exclude(records=text.records["ID"] == 1)
    assert twice.ids == (2, 3)
    assert twice.without_exclusion(1).ids == (1, 2, 3)  # the record of subject 1 at 30 was not among the chosen


def test_a_subset_keeps_the_history_of_its_subjects(data):
    part = data.filter("TIME < 24").subset([1, 3])
    assert part.history["records"].tolist() == [2]
    assert part.restored().fingerprint == data.subset([1, 3]).fingerprint


def test_the_exported_code_leaves_the_same_records_out():
    data = nw.datasets.load("theophylline")
    less = data.exclude(records=[3, 5]).filter("TIME < 24 & WT > 60", reason="it's heavy").exclude(ids=[4])
    less = less.filter(lambda r: r["TIME"] != 1.0).without_exclusion(1)
    namespace: dict[str, Any] = {"nw": nw}
    exec(data_code(less), namespace)
    again = namespace["data"]
    assert again.fingerprint == less.fingerprint
    assert again.history["records"].tolist() == less.history["records"].tolist()
    inline = nw.Data.from_frame(data.records, units=data.units).filter("TIME < 4")
    exec(data_code(inline), namespace)
    assert namespace["data"].fingerprint == inline.fingerprint
    assert namespace["data"].restored().n_obs == 132


def test_a_fit_uses_what_is_left_and_a_saved_fit_says_what_was_left_out(oral_model, tmp_path):
    data = nw.datasets.load("theophylline").filter("TIME < 10", reason="early part")
    fit = oral_model().fit(data, method="fo")
    assert len(fit.table()) == data.n_obs
    saved = nw.load_fit(fit.save(tmp_path / "fit.json"))
    assert any("all but TIME < 10" in note and "early part" in note for note in saved.data.notes)


HOSTILE = {
    "": "'' is not a condition; write one, e.g. TIME < 24 & SEX == 'male'.",
    "TIME <": "'TIME <' is not a condition; write it as TIME < 24 & SEX == 'male'.",
    "TIME = 3": "'TIME = 3' is not a condition (compare with ==); write it as TIME < 24 & SEX == 'male'.",
    "'": "''' is not a condition; write it as TIME < 24 & SEX == 'male'.",
    "FOO > 2": "'FOO' cannot be used in a condition: there is no column 'FOO' (columns: {columns}).",
    "TIME": "'TIME' cannot be used in a condition: a comparison is needed here, e.g. TIME < 24 & SEX == 'male'.",
    "TIME < 'a'": "'TIME < 'a'' cannot be used in a condition: a number is compared with text; write the number "
    "without quotes.",
    "SEX == 1": "'SEX == 1' cannot be used in a condition: SEX holds text ('female', 'male'); compare it with text in "
    "quotes.",
    "SEX < 'm'": "'SEX < 'm'' cannot be used in a condition: text is compared with == or !=.",
    "ID in 3": "'ID in 3' cannot be used in a condition: write a list after in, e.g. ID in [3, 5].",
    "TIME is None": "'TIME is None' cannot be used in a condition: compare with == != < <= > >= or in.",
    "missing(TIME + 1)": "'TIME + 1' cannot be used in a condition: name a column here.",
    "WT > 9**9**9": "'9 ** 9 ** 9' cannot be used in a condition: exponents are limited to 1000.",
    "TIME > 1e9": "The filter 'TIME > 1e9' leaves no observation; nothing was left out.",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_bad_condition_is_refused_in_one_sentence(data, text):
    with pytest.raises(nw.DataError) as error:
        data.filter(text)
    assert str(error.value) == HOSTILE[text].format(columns=", ".join(data.records.columns))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') == 0", "TIME.__class__ == 1", "(lambda: 1)() > 0", "[x for x in (1,)] == 1",
        "open('/etc/passwd') == 1", "exec('1') == 0", "f'{TIME}' == '1'", "TIME[0] > 1", "(TIME := 3) > 1",
        "\x00", "(" * 5000, "not " * 5000 + "TIME > 1", "TIME > 1; import os", "@x", "TIME > \\", "9"*5000 + " > TIME",
    ],
)  # fmt: skip
def test_hostile_text_is_refused_and_never_run(data, text):
    with pytest.raises(nw.DataError):
        data.filter(text)


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda d: d.exclude(), "exclude() needs either ids= or records=; give one of them."),
        (lambda d: d.exclude(ids=[1], records=[1]), "exclude() needs either ids= or records=; give one of them."),
        (lambda d: d.exclude(ids=[9]), "ID 9 is not in the data; its IDs are 1 … 3."),
        (lambda d: d.exclude(ids=[]), "exclude() was given no ID; name at least one subject."),
        (lambda d: d.exclude(ids=[1, 2, 3]), "Leaving out ID 1, 2, 3 leaves no observation; nothing was left out."),
        (lambda d: d.exclude(records=[12]), "There is no record 12; the records are numbered 0 to 11, as in "
         "data.records."),
        (lambda d: d.exclude(records=["a"]), "records=['a'] is not a list of record numbers; number them as in "
         "data.records."),
        (lambda d: d.filter(3), "filter() needs a condition such as 'TIME < 24', or true or false for each of the 12 "
         "records; it was given 3."),
        (lambda d: d.filter([True]), "filter() needs a condition such as 'TIME < 24', or true or false for each of the "
         "12 records; it was given an array of bool of shape (1,)."),
        (lambda d: d.without_exclusion(1), "There is no exclusion 1; nothing was left out (see data.history)."),
        (lambda d: d.exclude(ids=[1]).without_exclusion(2), "There is no exclusion 2; its steps are 1 to 1 (see "
         "data.history)."),
    ],
)  # fmt: skip
def test_an_impossible_exclusion_is_refused_in_one_sentence(data, action, sentence):
    with pytest.raises(nw.DataError) as error:
        action(data)
    assert str(error.value) == sentence
