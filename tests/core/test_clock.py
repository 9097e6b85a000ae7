"""Dates and clock times: hours from each subject's first record, whatever way they are written."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw

START = dt.datetime(2023, 12, 31, 8, 30)
STAMPS = [START, START + dt.timedelta(hours=1, minutes=45), START + dt.timedelta(days=60, seconds=36)]
HOURS = [0.0, 1.75, 1440.01]


def times(**columns: object) -> nw.Data:
    return nw.Data.from_frame(pd.DataFrame({"ID": 1, "DV": 1.0} | columns))


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        ({"TIME": [f"{s:%Y-%m-%d %H:%M:%S}" for s in STAMPS]}, "TIME"),
        ({"TIME": [f"{s:%Y-%m-%dT%H:%M:%S}" for s in STAMPS]}, "TIME"),
        ({"TIME": pd.to_datetime(STAMPS)}, "TIME"),
        ({"TIME": pd.to_datetime(STAMPS).tz_localize("Europe/Vienna")}, "TIME"),
        ({"TIME": STAMPS}, "TIME"),
        *(
            (
                {name: [f"{s:{form}}" for s in STAMPS], "TIME": [f"{s:%H:%M:%S}" for s in STAMPS]},
                f"{name} and TIME",
            )
            for name, form in {
                "DATE": "%m/%d/%Y",
                "Date": "%m-%d-%y",
                "DAT1": "%d/%m/%Y",
                "DAT2": "%y/%m/%d",
                "DAT3": "%Y/%d/%m",
                "date": "%Y-%m-%d",
            }.items()
        ),
        ({"DATE": [365, 365, 425], "TIME": [8.5, 10.25, 8.51]}, "DATE and TIME"),
        ({"DATE": [s.date() for s in STAMPS], "TIME": [s.time() for s in STAMPS]}, "DATE and TIME"),
    ],
)
def test_a_date_may_be_written_in_any_of_these_ways(columns, note):
    data = times(**columns)
    np.testing.assert_allclose(data.time, HOURS, rtol=1e-12)
    assert data.notes[-1] == f"{note}: read as hours from each subject's first record."
    assert data.units == {"TIME": "h"}


def test_the_order_of_day_and_month_is_noted():
    assert times(DATE=["01/02/23"] * 2, TIME=["8:00", "9:00"]).notes[0] == "DATE is read as month/day/year."


def test_clock_times_start_with_each_subject():
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2, 1, 2], "TIME": ["8:30", "23:00", "10:00", 23.5], "DV": 1.0}))
    assert data.records[["ID", "TIME"]].to_numpy().tolist() == [[1, 0], [1, 1.5], [2, 0], [2, 0.5]]


def test_a_date_column_of_any_name():
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "DV": 1.0, "day": ["2024-02-28", "2024-03-01"]}), date="day")
    assert data.time.tolist() == [0, 48]  # 2024 has a 29 February


def test_dates_beside_times_already_counted_are_not_used():
    data = times(DATE=["2023-01-01", "2023-01-03"], TIME=[0, 50])
    assert data.time.tolist() == [0, 50]
    assert data.notes == ("The column DATE is not used: TIME=50 at the row with index 1 is no time of day.",)
    assert data.units == {}


@given(st.lists(st.datetimes(dt.datetime(1960, 1, 1), dt.datetime(2049, 1, 1)), min_size=2, max_size=5))
@settings(max_examples=25, deadline=None)
def test_hours_are_those_between_the_dates(stamps):
    stamps = [s.replace(microsecond=0) for s in sorted(stamps)]
    data = times(DAT1=[f"{s:%d/%m/%y}" for s in stamps], TIME=[f"{s:%H:%M:%S}" for s in stamps])
    want = [(s - stamps[0]).total_seconds() / 3600 for s in stamps]
    np.testing.assert_allclose(data.time, want, rtol=1e-13, atol=1e-12)
