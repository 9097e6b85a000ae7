"""What looks wrong in readable records is said in a note, with the row, and nothing is changed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw

UNITS = {"AMT": "mg", "DV": "mg/L"}

# Each case: a file, the arguments, the notes.  The header is row 1.
NOTES: dict[str, tuple[str, dict[str, object], tuple[str, ...]]] = {
    "a record twice": (
        "ID,TIME,DV\n1,0,5\n1,1,4\n1,1,4\n1,2,3\n",
        {},
        ("1 record repeats an earlier one in every column (first: row 4 of 'd.csv'): all are used.",),
    ),
    "doses twice": (
        "ID,TIME,AMT,DV\n1,0,100,.\n1,0,100,.\n1,0,100,.\n1,1,0,3\n",
        {},
        ("2 records repeat an earlier one in every column (first: row 3 of 'd.csv'): all are used.",),
    ),
    "two outputs at one time": ("ID,TIME,DV,DVID\n1,0,5,1\n1,0,5,2\n", {}, ()),
    "replicates": ("ID,TIME,DV\n1,0,5\n1,0,5.1\n", {}, ()),
    "an observation before any dose": (
        "ID,TIME,AMT,DV\n1,0,0,2\n1,1,100,.\n1,2,0,3\n2,0,0,1\n",
        {},
        ("2 observations before any dose of the subject (first: row 2 of 'd.csv'): predicted without one.",),
    ),
    "a study without doses": ("ID,TIME,DV\n1,0,2\n", {}, ()),
    "an amount in micrograms": (
        "ID,TIME,AMT,DV\n" + "".join(f"{i},0,{a},.\n{i},1,0,{3 + i}\n" for i, a in enumerate([100, 80, 120000, 100])),
        {},
        ("Suspicion: AMT=120000 at row 6 of 'd.csv' is about 1200 times the usual amount; check its unit.",),
    ),
    "an escalation of doses": (
        "ID,TIME,AMT,DV\n" + "".join(f"{i},0,{a},.\n{i},1,0,{a / 10}\n" for i, a in enumerate([1, 3, 10, 30, 100])),
        {},
        (),
    ),
    "a subject in another unit": (
        "ID,TIME,AMT,DV\n"
        + "".join(f"{i},0,100,.\n{i},1,0,{v}\n{i},2,0,{v / 2}\n" for i, v in enumerate([5, 7, 6100, 4])),
        {},
        (
            "Suspicion: the largest DV of subject 2 (6100 at row 9 of 'd.csv') is about 1000 times that of the others; "
            "check its unit.",
        ),
    ),
    "one value in another unit": (
        "ID,TIME,DV\n1,0,5.2\n1,1,4100\n1,2,3.3\n1,3,2.5\n",
        {},
        (
            "Suspicion: DV=4100 at row 3 of 'd.csv' is more than 300 times away from the values before and after it; "
            "check its unit.",
        ),
    ),
    "one value too small": (
        "ID,TIME,conc\n1,0,5.2\n1,1,0.0041\n1,2,3.3\n1,3,2.5\n",
        {"dv": "conc"},
        (
            "Suspicion: conc=0.0041 at row 3 of 'd.csv' is more than 300 times away from the values before and after "
            "it; check its unit.",
        ),
    ),
    "a steep decline": ("ID,TIME,DV\n1,0,1000\n1,1,100\n1,2,1\n1,3,0.001\n", {}, ()),
    "ng/mL with mg": (
        "ID,TIME,AMT,DV\n1,0,100,.\n1,1,0,4500\n1,2,0,4000\n",
        {},
        (
            "Suspicion: AMT over the largest DV is 0.022, little for a volume; check that the units agree (mg with "
            "mg/L, not ng/mL), or state them with units=.",
        ),
    ),
    "ng/mL with mg, as is known": ("ID,TIME,AMT,DV\n1,0,100,.\n1,1,0,4500\n", {"units": UNITS}, ()),
    "a dose per kg": ("ID,TIME,AMT,DV\n1,0,4,.\n1,1,0,11\n", {}, ()),
    "censored at 0": (
        "ID,TIME,DV,CENS\n1,0,5,0\n1,9,0,1\n2,0,4,0\n2,9,0,1\n",
        {},
        ("Suspicion: DV is 0 on every record with CENS=1; it should be the limit of quantification.",),
    ),
    "CENS on a dose": (
        "ID,TIME,AMT,DV,EVID,CENS\n1,0,100,0,1,1\n1,1,0,5,0,0\n",
        {},
        ("CENS is not read on 1 record without an observation (first: row 2 of 'd.csv').",),
    ),
}


@pytest.mark.parametrize("case", NOTES)
def test_a_suspicion_is_noted_with_its_row(case, tmp_path):
    text, columns, notes = NOTES[case]
    file = tmp_path / "d.csv"
    file.write_text(text, encoding="utf-8")
    assert nw.Data.read_csv(file, **columns).notes == notes


def test_a_suspicion_changes_nothing():
    table = pd.DataFrame({"ID": 1, "TIME": [0, 1, 1, 2], "DV": [5.2, 4100.0, 4100.0, 3.3]})
    data = nw.Data.from_frame(table)
    assert len(data.notes) >= 1
    np.testing.assert_array_equal(data.records[["ID", "TIME", "DV"]], table)


def test_shipped_data_raise_no_suspicion():
    for name in nw.datasets.names():
        assert not [n for n in nw.datasets.load(name).notes if n.startswith("Suspicion")], name


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_ordinary_variability_raises_no_suspicion(seed):
    # Subjects with 50 % variability of dose, volume and rate, sampled over six half-lives.
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(12):
        dose, v, k = 100 * rng.lognormal(0, 0.5), 20 * rng.lognormal(0, 0.5), 0.7 * rng.lognormal(0, 0.5)
        rows.append((i, 0.0, dose, np.nan))
        rows += [(i, t, 0.0, dose / v * np.exp(-k * t) * rng.lognormal(0, 0.3)) for t in (0.25, 0.5, 1, 2, 4, 6)]
    assert nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "DV"])).notes == ()
