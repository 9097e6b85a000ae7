"""Large files are read fast, and just as the exact reader reads them."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.core import table

NUMBERS = ["0", "1", "-2", "+3", "2.5", "-.5", "1e3", "1E-300", ".", "NA", "", "nan", "12345678901234567890", "0.1"]
WORDS = ["a", "b c", "True", "FALSE", "None", "null", "1_000", "0x10", "é", "inf", "007", '"q"', "1.5 ", "#N/A", "1|2"]


def _exact(text: str, sep: str, path):
    """Return what the exact reader makes of a text: it is forced to by a fast way that gives up."""
    path.write_bytes(text.encode("utf-8"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_read_regular", lambda *_: None)
        return table.read_table(path, sep)


@given(
    st.lists(
        st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS + WORDS), st.sampled_from(WORDS), st.just("7")),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", " "]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_fast_way_reads_what_the_exact_one_does(tmp_path_factory, rows, sep, end, space, last):
    lines = ["A,B,C,D".replace(",", sep), *((sep + space).join(row) for row in rows)]
    text = end.join(lines) + (end if last else "")
    path = tmp_path_factory.getbasetemp() / "table.csv"
    want, want_rows, _ = _exact(text, sep, path)
    got, got_rows, _ = table.read_table(path, sep)
    pd.testing.assert_frame_equal(got, want)
    assert list(got_rows) == list(want_rows)


@pytest.mark.parametrize("text", ["A  B\n1 2\n3  4\n", " A B \n 1 . \n", "A\tB\n1\tx\n"])
def test_white_space_is_read_alike(tmp_path, text):
    want, _, _ = _exact(text, r"\s+", tmp_path / "t")
    got, _, _ = table.read_table(tmp_path / "t", r"\s+")
    pd.testing.assert_frame_equal(got, want)


@pytest.mark.parametrize(
    "text",
    [
        'A,B\n"1,2",3\n',  # a separator inside quotes
        'A,B\n"1\n2",3\n',  # a line's end inside quotes
        'A,B\n"a""b",3\n',  # a quote inside quotes
        "A,B\n1,2\n\n3,4\n",  # an empty line
        "A,B\n1,2\n,\n3,4\n",  # a row of separators
        "A,B,\n1,2,\n",  # a separator at the end of every line
        "A,B\n1,2\r3,4\n",  # line ends of old
        "\n\nA,B\n1,2\n",
    ],
)
def test_what_is_unusual_is_read_alike(tmp_path, text):
    want, want_rows, want_notes = _exact(text, ",", tmp_path / "t")
    got, rows, notes = table.read_table(tmp_path / "t", ",")
    pd.testing.assert_frame_equal(got, want)
    assert (list(rows), notes) == (list(want_rows), want_notes)


def test_the_usual_file_takes_the_fast_way(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "_lines", lambda text, *_: [(1, text.splitlines()[0].split(","))])
    buffer = io.StringIO()
    frame = pd.DataFrame(
        {"ID": np.repeat([1, 2], 3), "TIME": [0, 1, 2.5] * 2, "DV": 1 / 3, "SEX": ["F"] * 3 + ["M"] * 3}
    )
    frame.to_csv(buffer, index=False)
    (tmp_path / "d.csv").write_text(buffer.getvalue())
    data = nw.Data.read_csv(tmp_path / "d.csv")
    pd.testing.assert_frame_equal(data.records[list(frame)], frame, check_dtype=False)


def test_the_row_of_an_error_in_a_large_file_is_its_line(tmp_path):
    lines = ["ID,TIME,DV", *(f"{i // 10},{i % 10},{i}" for i in range(50_000))]
    lines[31_234] = "3123,3,high"
    (tmp_path / "d.csv").write_text("\n".join(lines))
    with pytest.raises(nw.DataError, match=r"^DV='high' at row 31235 of 'd.csv' is not a number"):
        nw.Data.read_csv(tmp_path / "d.csv")


@pytest.mark.slow
def test_a_million_records_take_less_than_five_seconds_and_two_gigabytes():
    script = Path(__file__).parents[2] / "benchmarks" / "records.py"
    done = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True, cwd=script.parents[1])
    seconds, peak = re.search(r"1000000 records: .* \(([\d.]+) s of .*peak (\d+) MB", done.stdout).groups()
    assert float(seconds) < 5
    assert int(peak) < 2000
