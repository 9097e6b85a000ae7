"""Records that cannot be read are refused in one sentence: the row, the column, the value, the remedy."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw

# Each case is a file's text, the arguments, and the sentence.  The header is row 1.
FILES: dict[str, tuple[str, dict[str, Any], str]] = {
    # ------------------------------------------------------------- the file
    "empty": ("", {}, "'d.csv' is empty; it needs a header line and one line per record."),
    "only white space": (" \n\n", {}, "'d.csv' is empty; it needs a header line and one line per record."),
    "header only": ("ID,TIME,DV\n", {}, "The table has a header but no records; it needs one line per record."),
    "no header": (
        "1,0,2.5\n1,1,2.0\n",
        {},
        "Row 1 of 'd.csv' is not a header (1, 0, 2.5); the first line names the columns.",
    ),
    "semicolons": (
        "ID;TIME;DV\n1;0;2.5\n",
        {},
        "Row 1 of 'd.csv' has one column, 'ID;TIME;DV'; if its columns are separated by ';', pass sep=';'.",
    ),
    "tabs": (
        "ID\tTIME\tDV\n1\t0\t2.5\n",
        {},
        "Row 1 of 'd.csv' has one column, 'ID\tTIME\tDV'; if its columns are separated by '\\t', pass sep='\\t'.",
    ),
    "a separator that is none": (
        "ID,TIME,DV\n1,0,1\n",
        {"sep": "::"},
        r"sep='::' is not a separator; give one character, or r'\s+' for white space.",
    ),
    "decimal comma between commas": (
        "ID,TIME,DV\n1,0,2\n1,1,2,5\n",
        {},
        "Row 3 of 'd.csv' has 4 fields where the header has 3; check its separators (a decimal comma? write points).",
    ),
    "too few fields": (
        "ID,TIME,DV\n1,0,2\n1,1\n",
        {},
        "Row 3 of 'd.csv' has 2 fields where the header has 3; check its separators (write '.' for what is missing).",
    ),
    "an open quote": (
        'ID,TIME,DV\n1,0,2\n1,"1,2\n',
        {},
        "Row 3 of 'd.csv' cannot be split into fields (unexpected end of data); check its quotes.",
    ),
    "a column without a name": (
        "ID,,TIME,DV\n1,0,2,3\n",
        {},
        "Column 2 of 'd.csv' has no name; name it in the header.",
    ),
    "a column twice": ("ID,TIME,DV,DV\n1,0,2,3\n", {}, "The column 'DV' appears twice; rename one of the two."),
    # ---------------------------------------------------------- the columns
    "no ID": (
        "PATIENT,TIME,DV\n1,0,2\n",
        {},
        "There is no ID column (columns: PATIENT, TIME, DV); name it with id=.",
    ),
    "no DV": ("ID,TIME,CONC\n1,0,2\n", {}, "There is no DV column (columns: ID, TIME, CONC); name it with dv=."),
    "two candidates": ("ID,id,DV\n1,1,2\n", {}, "The columns ID and id are both 'ID'; say which with id=."),
    "a keyword for a column that is not there": (
        "ID,TIME,DV\n1,0,2\n",
        {"dv": "conc"},
        "dv='conc' names a column that the table does not have (columns: ID, TIME, DV).",
    ),
    "one column for two items": (
        "ID,TIME,DV\n1,0,2\n",
        {"time": "DV"},
        "The column 'DV' is named for TIME and for DV; it can be one of them.",
    ),
    "an unknown keyword": (
        "ID,TIME,DV\n1,0,2\n",
        {"subject": "ID"},
        "'subject=' is not an option; use id=, time=, dv=, amt=, evid=, mdv=, cmt=, rate=, addl=, ii=, ss=, dvid=, "
        "occ=, cens=, limit=, date=, covariates=, units=.",
    ),
    "a covariate that is not there": (
        "ID,TIME,DV\n1,0,2\n",
        {"covariates": ["WT"]},
        "covariates= names 'WT', which the table does not have (columns: ID, TIME, DV).",
    ),
    "an item as covariate": (
        "ID,TIME,DV\n1,0,2\n",
        {"covariates": ["TIME"]},
        "covariates= names 'TIME', which is a NONMEM item; copy it to a column of another name.",
    ),
    "covariates that are no list": (
        "ID,TIME,DV\n1,0,2\n",
        {"covariates": 3},
        "covariates=3 is not a list of column names.",
    ),
    "a unit of a column that is not there": (
        "ID,TIME,DV\n1,0,2\n",
        {"units": {"HOUR": "h"}},
        "units= names the column 'HOUR', which the table does not have (columns: ID, TIME, DV).",
    ),
    "units that are no mapping": (
        "ID,TIME,DV\n1,0,2\n",
        {"units": "h"},
        "units='h' is not a mapping of columns to units, e.g. {'TIME': 'h'}.",
    ),
    # ---------------------------------------------------------- the values
    "ID missing": (
        "ID,TIME,DV\n1,0,2\n.,1,2\n",
        {},
        "ID is missing at row 3 of 'd.csv'; every record needs a subject.",
    ),
    "TIME missing": (
        "ID,TIME,DV\n1,0,2\n1,.,2\n",
        {},
        "TIME is missing at row 3 of 'd.csv'; every record needs a time.",
    ),
    "text among clock times": (
        "ID,TIME,DV\n1,8:30,2\n1,noon,2\n",
        {},
        "TIME='noon' at row 3 of 'd.csv' is no clock time (write 8:30) or number, as others are.",
    ),
    "a clock time that is none": (
        "ID,TIME,DV\n1,8:30,2\n1,9:75,2\n",
        {},
        "TIME='9:75' at row 3 of 'd.csv' is no clock time (write 8:30) or number, as others are.",
    ),
    "clock times past midnight": (
        "ID,TIME,DV\n1,23:30,2\n1,0:30,2\n",
        {},
        "TIME goes back from 0 to -23 for subject 1 at row 3 of 'd.csv'; sort each subject's records by time, or mark "
        "a new start with EVID 3 (reset) or another OCC.",
    ),
    "a date that does not exist": (
        "ID,TIME,DV\n1,2023-02-28 08:30,2\n1,2023-02-29 08:30,2\n",
        {},
        "TIME='2023-02-29 08:30' at row 3 of 'd.csv' is no date (write 2020-01-31 08:30), as others are.",
    ),
    "a clock time among dates": (
        "ID,TIME,DV\n1,2023-02-28 08:30,2\n1,9:30,2\n",
        {},
        "TIME='9:30' at row 3 of 'd.csv' is no date (write 2020-01-31 08:30), as others are.",
    ),
    "days first in DATE": (
        "ID,DATE,TIME,DV\n1,31/01/2023,8:30,2\n",
        {},
        "DATE='31/01/2023' at row 2 of 'd.csv' is no date (month/day/year, or year-month-day as 2020-01-31); correct "
        "it, name the column DAT1 (day first), or pass date=None.",
    ),
    "a missing date": (
        "ID,DATE,TIME,DV\n1,2023-01-31,8:30,2\n1,.,9:30,2\n",
        {},
        "DATE is missing at row 3 of 'd.csv'; every record needs a time.",
    ),
    "a date beside hours since the first dose": (
        "ID,day,TIME,DV\n1,2023-01-31,0,2\n1,2023-02-01,30,2\n",
        {"date": "day"},
        "TIME=30 at row 3 of 'd.csv' is no time of day; with day write 0 to 24 hours.",
    ),
    "TIME goes back": (
        "ID,TIME,DV\n1,0,2\n1,5,2\n1,3,1\n",
        {},
        "TIME goes back from 5 to 3 for subject 1 at row 4 of 'd.csv'; sort each subject's records by time, or mark "
        "a new start with EVID 3 (reset) or another OCC.",
    ),
    "TIME goes back among scattered records": (
        "ID,hour,DV\n1,5,2\n2,0,2\n1,3,1\n",
        {"time": "hour"},
        "hour goes back from 5 to 3 for subject 1 at row 4 of 'd.csv'; sort each subject's records by time, or mark "
        "a new start with EVID 3 (reset) or another OCC.",
    ),
    "text for a number": (
        "ID,TIME,DV\n1,0,2\n1,1,high\n",
        {},
        "DV='high' at row 3 of 'd.csv' is not a number; write a number, or '.' where it is missing.",
    ),
    "a decimal comma": (
        "ID;TIME;DV\n1;0;2\n1;1;2,5\n",
        {"sep": ";"},
        "DV='2,5' at row 3 of 'd.csv' is not a number (a decimal comma? write a point); write a number, or '.' where "
        "it is missing.",
    ),
    "below a limit": (
        "ID,TIME,conc\n1,0,2\n1,1,<0.1\n",
        {"dv": "conc"},
        "conc='<0.1' at row 3 of 'd.csv' is not a number (beyond a limit of quantification? write the limit, and 1 or "
        "-1 in a CENS column); write a number, or '.' where it is missing.",
    ),
    "an infinite value": (
        "ID,TIME,DV\n1,0,2\n1,1,inf\n",
        {},
        "DV is infinite at row 3 of 'd.csv'; write a number, or '.' where it is missing.",
    ),
    "an infinite time": (
        "ID,TIME,DV\n1,inf,2\n",
        {},
        "TIME is infinite at row 2 of 'd.csv'; write hours, days or any other number, a clock time (8:30) or a date "
        "(2020-01-31 08:30).",
    ),
    # --------------------------------------------------------------- doses
    "a dose without AMT": (
        "ID,TIME,AMT,DV,EVID\n1,0,.,.,1\n1,1,0,2,0\n",
        {},
        "EVID=1 at row 2 of 'd.csv' is a dose, but AMT is missing or 0; give the amount, or set EVID to 0.",
    ),
    "a dose in a file without amounts": (
        "ID,TIME,DV,EVID\n1,0,.,1\n1,1,2,0\n",
        {},
        "EVID=1 at row 2 of 'd.csv' is a dose, but AMT is missing or 0; give the amount, or set EVID to 0.",
    ),
    "an amount that is no dose": (
        "ID,TIME,mg,DV,EVID\n1,0,100,.,1\n1,1,50,2,0\n",
        {"amt": "mg"},
        "mg=50 at row 3 of 'd.csv' is no dose because EVID=0; set EVID to 1 or mg to 0, or pass evid=None to have "
        "doses told by their amount.",
    ),
    "a negative amount": (
        "ID,TIME,AMT,DV\n1,0,-100,.\n1,1,0,2\n",
        {},
        "AMT=-100 at row 2 of 'd.csv' is negative; an amount is positive.",
    ),
    "text for an amount": (
        "ID,TIME,AMT,DV\n1,0,100mg,.\n1,1,0,2\n",
        {},
        "AMT='100mg' at row 2 of 'd.csv' is not a number; write a number, or '.' where it is missing.",
    ),
    "an amount on a reset": (
        "ID,TIME,AMT,DV,EVID\n1,0,100,.,1\n1,1,50,.,3\n1,2,0,2,0\n",
        {},
        "AMT=50 at row 3 of 'd.csv' is no dose because EVID=3; set EVID to 4 or AMT to 0, or pass evid=None to have "
        "doses told by their amount.",
    ),
    "a reset and dose without AMT": (
        "ID,TIME,AMT,DV,EVID\n1,0,100,.,1\n1,1,0,.,4\n1,2,0,2,0\n",
        {},
        "EVID=4 at row 3 of 'd.csv' is a dose, but AMT is missing or 0; give the amount, or set EVID to 0.",
    ),
    **{
        f"EVID {code}": (
            f"ID,TIME,AMT,DV,EVID\n1,0,100,.,{code}\n1,2,0,2,0\n",
            {},
            f"EVID={code} at row 2 of 'd.csv' is no kind of event (0 observation, 1 dose, 2 other, 3 reset, 4 reset "
            "and dose); correct it.",
        )
        for code in (0.5, 5, -1, 10101)  # the last is an infusion in RxODE's coding
    },
    "MDV that is no flag": (
        "ID,TIME,DV,MDV\n1,0,2,0\n1,1,2,7\n",
        {},
        "MDV=7 at row 3 of 'd.csv' is not 0 (measured) or 1 (missing DV); correct it.",
    ),
    **{
        f"{item} {value}": (f"ID,TIME,AMT,DV,{item}\n1,0,100,.,0\n1,1,50,.,{value}\n1,2,0,2,0\n", {}, sentence)
        for item, value, sentence in [
            (
                "RATE",
                -3,
                "RATE=-3 at row 3 of 'd.csv' is negative; write a rate, -1 (modelled rate), -2 (modelled duration) or "
                "0.",
            ),
            (
                "Rate",
                "fast",
                "Rate='fast' at row 3 of 'd.csv' is not a number; write a rate, -1 (modelled rate), -2 (modelled "
                "duration) or 0.",
            ),
            ("ADDL", -1, "ADDL=-1 at row 3 of 'd.csv' is not 0 or a number of additional doses; correct it."),
            ("ADDL", 1.5, "ADDL=1.5 at row 3 of 'd.csv' is not 0 or a number of additional doses; correct it."),
            (
                "ADDL",
                3,
                "ADDL=3 at row 3 of 'd.csv' needs the interval between the doses, but II is missing or 0.",
            ),
            ("II", -12, "II=-12 at row 3 of 'd.csv' is negative; write the interval between doses, or 0."),
            ("SS", 1, "SS=1 at row 3 of 'd.csv' needs the interval between the doses, but II is missing or 0."),
            (
                "SS",
                3,
                "SS=3 at row 3 of 'd.csv' is not 0 (no steady state), 1 (steady state) or 2 (added to what is there); "
                "correct it.",
            ),
            (
                "CMT",
                -1,
                "CMT=-1 at row 3 of 'd.csv' is no compartment; write its number from 1, its name, or 0 for the usual "
                "one.",
            ),
            (
                "CENS",
                -1,
                "CENS=-1 at row 3 of 'd.csv' is a censored observation, but DV is missing; write the limit of "
                "quantification there.",
            ),
        ]
    },
    "a steady infusion that goes on": (
        "ID,TIME,AMT,DV,RATE,SS,II,ADDL\n1,0,0,.,10,1,12,2\n1,2,0,2,0,0,0,0\n",
        {},
        "ADDL=2 at row 2 of 'd.csv' follows an infusion since ever (AMT=0); give AMT, or 0 doses more.",
    ),
    "a rate without an amount": (
        "ID,TIME,AMT,DV,RATE,EVID\n1,0,0,.,10,1\n1,2,0,2,0,0\n",
        {},
        "EVID=1 at row 2 of 'd.csv' is a dose, but AMT is missing or 0; give the amount, or set EVID to 0.",
    ),
    "a compartment turned off": (
        "ID,TIME,AMT,DV,EVID,CMT\n1,0,100,.,1,1\n1,1,0,.,2,-2\n1,2,0,2,0,2\n",
        {},
        "CMT=-2 at row 3 of 'd.csv' turns a compartment off, which is not possible here; leave the record out.",
    ),
    "an output without a name": (
        "ID,TIME,DV,DVID\n1,0,2,1\n1,1,2,.\n",
        {},
        "DVID is missing at row 3 of 'd.csv'; every observation needs the number or name of its output.",
    ),
    "a flag that is no censoring": (
        "ID,TIME,DV,CENS\n1,0,2,0\n1,1,0.1,2\n",
        {},
        "CENS=2 at row 3 of 'd.csv' is not 0 (measured), 1 (below the limit in DV) or -1 (above it); correct it.",
    ),
    "a limit on the wrong side": (
        "ID,TIME,DV,CENS,LIMIT\n1,0,2,0,.\n1,1,0.1,1,0.2\n",
        {},
        "LIMIT=0.2 at row 3 of 'd.csv' is not below DV=0.1, the limit of an observation with CENS=1; correct one of "
        "them, or leave LIMIT missing.",
    ),
    "a limit under a right-censored value": (
        "ID,TIME,DV,CENS,LIMIT\n1,0,2,0,.\n1,1,10,-1,5\n",
        {},
        "LIMIT=5 at row 3 of 'd.csv' is not above DV=10, the limit of an observation with CENS=-1; correct one of "
        "them, or leave LIMIT missing.",
    ),
    "only doses": (
        "ID,TIME,AMT,DV\n1,0,100,.\n1,1,100,0\n",
        {},
        "There is no observation: every record is a dose or has no DV; check EVID, MDV and DV.",
    ),
    "no measurement": (
        "ID,TIME,DV\n1,0,.\n1,1,.\n",
        {},
        "There is no observation: every record is a dose or has no DV; check EVID, MDV and DV.",
    ),
    # ---------------------------------------------------------- covariates
    "a named covariate missing for a subject": (
        "ID,TIME,DV,WT\n1,0,2,70\n2,0,2,.\n2,1,2,.\n",
        {"covariates": ["WT"]},
        "The covariate WT is missing on all records of subject 2 (first: row 3 of 'd.csv'); give numbers, or leave WT "
        "out of covariates=.",
    ),
    "a named covariate that is infinite": (
        "ID,TIME,DV,WT\n1,0,2,70\n2,0,2,inf\n",
        {"covariates": ["WT"]},
        "The covariate WT is infinite at row 3 of 'd.csv'; give numbers, or leave WT out of covariates=.",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_refused_in_one_sentence_that_says_where_and_what_to_do(case, tmp_path):
    text, columns, sentence = FILES[case]
    file = tmp_path / "d.csv"
    file.write_bytes(text.encode("utf-8"))
    with pytest.raises(nw.DataError) as error:
        nw.Data.read_csv(file, **columns)
    assert str(error.value) == sentence


def frame(**columns: Any) -> pd.DataFrame:
    """Return three records with some columns changed, labelled a, b, c."""
    return pd.DataFrame({"ID": [1, 1, 1], "TIME": [0.0, 1.0, 2.0], "DV": [1.0, 2.0, 3.0]} | columns, index=list("abc"))


FRAMES: dict[str, tuple[Any, str]] = {
    "text": (
        frame(DV=[1.0, "x", 3.0]),
        "DV='x' at the row with index 'b' is not a number; write a number, or '.' where it is missing.",
    ),
    "durations": (
        frame(TIME=pd.to_timedelta([0, 1, 2], unit="h")),
        "TIME holds durations; write hours, days or any other number, a clock time (8:30) or a date (2020-01-31 "
        "08:30).",
    ),
    "lists": (
        frame(DV=[[1.0], [2.0], [3.0]]),
        "The column DV holds values of type list; write numbers or text.",
    ),
    "complex numbers": (
        frame(DV=[1j, 2, 3]),
        "DV holds complex numbers; write a number, or '.' where it is missing.",
    ),
    "a nullable missing time": (
        frame(TIME=pd.array([0, None, 2], dtype="Int64")),
        "TIME is missing at the row with index 'b'; every record needs a time.",
    ),
    "an infinite ID": (
        frame(ID=[1.0, np.inf, np.inf]),
        "ID is infinite at the row with index 'b'; write a name or number.",
    ),
    "no DataFrame": ({"ID": [1]}, "from_frame() needs a DataFrame and was given a dict."),
    "no rows": (frame().iloc[:0], "The table has a header but no records; it needs one line per record."),
    "no columns": (pd.DataFrame(), "There is no ID column (columns: none); name it with id=."),
    "columns that are numbers": (pd.DataFrame([[1, 2]]), "There is no ID column (columns: 0, 1); name it with id=."),
}


@pytest.mark.parametrize("case", FRAMES)
def test_a_frame_is_refused_by_its_index_label(case):
    table, sentence = FRAMES[case]
    with pytest.raises(nw.DataError) as error:
        nw.Data.from_frame(table)
    assert str(error.value) == sentence


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    missing, folder, latin, utf16 = (tmp_path / n for n in ("missing.csv", "folder", "latin.csv", "utf16.csv"))
    folder.mkdir()
    latin.write_bytes("ID,TIME,DV,ÜBER\n1,0,1,1\n".encode("latin-1"))
    utf16.write_bytes("ID,TIME,DV\n1,0,1\n".encode("utf-16-le"))
    for file, sentence in {
        missing: f"There is no file '{missing}'; check the path (the working directory is searched).",
        folder: f"'{folder}' cannot be read (Is a directory); give the path of a CSV file.",
        latin: "'latin.csv' is not UTF-8 text; save it as CSV in UTF-8.",
        utf16: "'utf16.csv' is not UTF-8 text; save it as CSV in UTF-8.",
    }.items():
        with pytest.raises(nw.DataError) as error:
            nw.Data.read_csv(file)
        assert str(error.value) == sentence


def test_real_occasions_in_one_subject_are_refused_not_joined(shared):
    # Tetracycline in two formulations: times start again within a subject.
    with pytest.raises(nw.DataError, match=r"Time goes back from 6 to 1 for subject 1 at row 6 of 'Tetracycline1.csv'"):
        nw.Data.read_csv(shared / "data" / "Tetracycline1.csv", id="Subject", dv="conc")


# A file of anything is either read or refused in a sentence: never a stray exception.
FIELDS = st.sampled_from(
    ["ID", "TIME", "DV", "AMT", "EVID", "WT", "1", "0", "2.5", ".", "x", "-3", "inf", '"', "", " ", "é"]
)


@given(st.lists(st.lists(FIELDS, min_size=1, max_size=5).map(",".join), max_size=6).map("\n".join))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    file = Path(tmp_path_factory.getbasetemp()) / "any.csv"
    file.write_text("ID,TIME,DV\n" + text, encoding="utf-8")
    try:
        nw.Data.read_csv(file)
    except nw.DataError as error:
        sentence = str(error)
    else:
        return
    assert re.fullmatch(r"[^\n]+\.", sentence)


ITEMS = [
    "ID",
    "TIME",
    "DV",
    "AMT",
    "EVID",
    "MDV",
    "CMT",
    "RATE",
    "ADDL",
    "II",
    "SS",
    "DVID",
    "OCC",
    "CENS",
    "LIMIT",
    "DATE",
]
VALUES = st.sampled_from(
    ["0", "1", "2", "3", "4", "-1", "-2", "0.5", "100", ".", "x", "8:30", "2024-01-31", "1/2/24", "inf"]
)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_any_records_are_read_or_refused(data):
    columns = ["ID", "DV", *data.draw(st.lists(st.sampled_from(ITEMS[1:2] + ITEMS[3:]), unique=True, max_size=8))]
    rows = data.draw(st.lists(st.tuples(*[VALUES] * len(columns)), min_size=1, max_size=5))
    table = pd.DataFrame(rows, columns=columns)
    try:
        read = nw.Data.from_frame(table)
    except nw.DataError as error:
        sentence = str(error)
    else:
        _sound(read, table)
        return
    assert re.fullmatch(r"[^\n]+\.", sentence)


def _sound(read: nw.Data, table: pd.DataFrame) -> None:
    records = read.records
    assert len(records) >= len(table)
    numbers = records[["TIME", "AMT", "RATE", "II"]].to_numpy()
    assert np.isfinite(numbers).all()
    assert records["EVID"].isin(range(5)).all()
    assert (records.loc[read.observed, "DV"].notna()).all()
    assert (records.loc[~read.dosed, ["AMT", "RATE", "ADDL", "II", "SS"]] == 0).all(axis=None)
    back = (np.diff(records["TIME"]) < 0) & (np.diff(read.record_subject) == 0)
    assert read.reset[1:][back].all()
    read.on_grid(4)
