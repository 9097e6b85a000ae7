"""What leaves the environment besides code."""

from __future__ import annotations

import base64
import io
import math
import re
import threading

import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.fit.live import look


def test_the_link_opens_the_same_exploration(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.panel = "takeaway"
    explorer.params = {"CL": 3.1}
    explorer.excluded, explorer.excluded_records = (9,), (17,)
    explorer.panels["takeaway"].draw()
    again = nw.open(explorer.panels["takeaway"].link.value)
    assert again.params == explorer.params
    assert (again.excluded, again.excluded_records) == ((9,), (17,))
    assert again.panel == "takeaway"
    again.close()


def test_tables_of_the_last_fit_are_downloaded(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.panel = "takeaway"
    panel = explorer.panels["takeaway"]
    assert panel.make.disabled
    assert "No fit yet" in panel.text.value
    explorer.start().wait(60)
    explorer.panel = "takeaway"
    panel.make.click()
    panel.wait(60)
    found = dict(re.findall(r"download='([^']+)' href='data:text/plain;base64,([^']+)'", panel.text.value))
    assert list(found) == ["estimates.csv", "estimates.tex", "observations.csv"]
    rows = pd.read_csv(io.BytesIO(base64.b64decode(found["observations.csv"])))
    assert len(rows) == data.n_obs
    assert rows["IPRED"].to_numpy() == pytest.approx(explorer.result.table(n=0)["IPRED"].to_numpy(), rel=1e-12)
    assert base64.b64decode(found["estimates.csv"]).decode() == explorer.result.to_csv()


def test_the_code_follows_what_is_left_out(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.panel = "code"
    explorer.excluded, explorer.excluded_records = (9,), (17,)
    assert "data.exclude(records=[17]).exclude(ids=[9])" in explorer.panels["code"].text.value


def test_a_pin_outlives_a_first_look_that_takes_long(explore, model, data, monkeypatch) -> None:
    first = explore(model, data)
    first.pinned = 123.0
    link = first.link()

    late = threading.Event()

    def slow(*given: object) -> object:
        late.wait(20)
        return look(*given)

    monkeypatch.setattr("nlmewidgets.panels.state.look", slow)
    monkeypatch.setattr("nlmewidgets.panels.state._PATIENCE", 0.01)
    again = nw.open(link)
    assert math.isnan(again.ofv)
    late.set()
    again._latest.wait(20)
    assert again.pinned == 123.0
    assert again.ofv == first.ofv
    again.close()
