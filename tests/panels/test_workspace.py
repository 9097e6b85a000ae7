"""A workspace file: everything comes back after a restart, and whoever reads it finds a whole file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.panels import workspace as workspaces

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "study.json"


def test_everything_the_user_did_comes_back(explore, model, data, file) -> None:
    first = explore(model, data, workspace=file)
    first.params = {"ka": 1.1, "omega_CL": 0.27}
    first.fixed = ("V",)
    first.start().wait()
    first.method = "saem"
    first.method_options = {"explore": 30, "smooth": 10}
    first.selected_ids = (3, 5)
    first.panel = "individuals"
    first.params = {"CL": 3.3}
    first.pin()
    first.close()
    again = explore(model, data, workspace=file)
    for name in ("params", "fixed", "method", "method_options", "selected_ids", "pinned", "dvid", "seed", "ofv"):
        assert getattr(again, name) == getattr(first, name), name
    assert again.panel == "individuals"
    assert [f.ofv for f in again.fits] == [first.result.ofv]
    assert again.result.values == first.result.values
    assert [it.ofv for it in again.trace] == [it.ofv for it in first.trace]
    for old, new in zip(first.trace, again.trace, strict=True):
        assert new.to_dict() == pytest.approx(old.to_dict(), rel=1e-12)
    assert "1 fit" in again.message


def test_it_opens_without_the_code_that_made_it(explore, model, data, file) -> None:
    kept = data.filter("TIME < 20", reason="one day").exclude(ids=[2]).exclude(records=[4])
    first = explore(model, kept, workspace=file)
    first.params = {"V": 30.0}
    first.close()
    again = nw.explore(workspace=str(file))
    try:
        assert again.params == first.params
        assert again.ofv == pytest.approx(first.ofv, rel=1e-12)
        assert again.data.fingerprint == kept.fingerprint
        assert again.data.history.equals(kept.history)
        assert len(again.data.restored()) == len(data)
    finally:
        again.close()


def test_a_changed_declaration_is_followed_and_its_fits_are_kept(explore, model, data, file) -> None:
    first = explore(model, data, workspace=file)
    first.start().wait()
    first.params = {"CL": 3.3}
    first.close()
    other = model.with_values({"ka": 2.0})
    again = explore(other, data, workspace=file)
    assert again.params["ka"] == 2.0
    assert again.params["CL"] == 2.8
    assert [f.ofv for f in again.fits] == [first.result.ofv]
    assert "declaration has changed" in again.message


def test_nothing_is_lost_when_the_kernel_is_killed_during_a_fit(explore, model, data, file) -> None:
    program = f"""
import nlmewidgets as nw
from nlmewidgets.panels import workspace
workspace.EVERY = 0.3
data = nw.datasets.load("theophylline")
model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
                             residual=nw.Additive(0.7), name="Theophylline")
explorer = nw.explore(model, data, workspace={str(file)!r}, method="saem", explore=100_000)
explorer.params = {{"ka": 1.23}}
explorer.start()
explorer.wait()
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    kernel = subprocess.Popen([sys.executable, "-c", program], env=environment, cwd=file.parent)
    try:
        deadline, reached = time.monotonic() + 60, 0
        while reached < 20:
            assert time.monotonic() < deadline
            assert kernel.poll() is None
            time.sleep(0.05)
            # Whenever it is read, the file is whole.
            running = json.loads(file.read_text(encoding="utf-8"))["running"] if file.exists() else None
            reached = max(running["history"]["~k"]) if running else 0
    finally:
        kernel.send_signal(signal.SIGKILL)
        kernel.wait()
    again = explore(model, data, workspace=file)
    assert again.params["ka"] == 1.23
    assert again.method == "saem"
    assert again.method_options == {"explore": 100_000}
    assert again.result.status == again.status == "stopped"
    last = again.trace[-1]
    assert last.k >= reached
    assert last.ofv == again.result.ofv
    np.testing.assert_array_equal(last.values.theta, again.result.values.theta)
    assert "last iterate" in again.message
    assert again.result.arrays  # the state of its chains: it goes on, and does not begin anew
    onward = again.result.resume(explore=last.k + 5, smooth=5)
    assert onward.last_iteration.k > last.k
    assert onward.iterations["~k"].is_monotonic_increasing
    again.close()
    assert json.loads(file.read_text(encoding="utf-8"))["running"] is None


def test_it_is_written_seldom_and_as_a_whole(explore, model, data, file, monkeypatch) -> None:
    monkeypatch.setattr(workspaces, "EVERY", 0.4)
    written: list[float] = []
    real = workspaces.replace_file
    monkeypatch.setattr(
        workspaces, "replace_file", lambda path, text: (written.append(time.monotonic()), real(path, text))[1]
    )
    explorer = explore(model, data, workspace=file)
    end = time.monotonic() + 1.4
    while time.monotonic() < end:
        explorer.params = {"ka": float(explorer.params["ka"] * 1.001)}
        time.sleep(0.01)
    explorer.close()
    assert np.diff(written[:-1]).min() >= 0.4  # the last one is close()
    assert 2 <= len(written) <= 5
    assert json.loads(file.read_text(encoding="utf-8"))["state"]["params"]["ka"] == explorer.params["ka"]
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_says_so(explore, model, data, file, monkeypatch) -> None:
    explorer = explore(model, data, workspace=file)
    explorer.workspace.write()
    before = file.read_text(encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    explorer.workspace.write()
    assert file.read_text(encoding="utf-8") == before
    assert "No space left" in explorer.notice
    with explorer.workspace._writing:  # the thread that writes by itself may be at it
        assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not a workspace"),
        ("[" * 100_000, "is not a workspace"),
        ('{"format": 3}', "is JSON but not a workspace"),
        ('{"workspace": 99}', "later version"),
        ('{"workspace": 1, "fits": [{}]}', "is damaged"),
    ],
)
def test_what_is_no_workspace_is_refused_and_left_alone(model, data, file, text, words) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(nw.NlmeError, match=words) as refusal:
        nw.explore(model, data, workspace=file)
    assert "\n" not in str(refusal.value)
    assert file.read_text(encoding="utf-8") == text


def test_a_folder_that_is_not_there_is_named(model, data, tmp_path) -> None:
    with pytest.raises(nw.NlmeError, match="There is no folder"):
        nw.explore(model, data, workspace=tmp_path / "nowhere" / "w.json")
    with pytest.raises(nw.NlmeError, match="There is no workspace"):
        nw.explore(workspace=str(tmp_path / "w.json"))


def test_its_name_is_that_of_the_notebook(monkeypatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/me/study one.ipynb")
    assert workspaces.default_path() == Path("study one.workspace.json")
    monkeypatch.delenv("JPY_SESSION_NAME")
    assert workspaces.default_path() == Path("nlmewidgets.workspace.json")


def test_of_two_explorers_of_one_file_the_newer_one_writes(explore, model, data, file) -> None:
    first = explore(model, data, workspace=file)
    second = explore(model, data, workspace=file)
    second.params = {"ka": 1.9}
    second.workspace.write()
    first.params = {"ka": 0.9}
    first.close()
    assert json.loads(file.read_text(encoding="utf-8"))["state"]["params"]["ka"] == 1.9


def test_a_workspace_that_could_not_be_written_once_is_written_again(
    explore, model, data, tmp_path, monkeypatch
) -> None:
    explorer = explore(model, data, workspace=tmp_path / "w.json")
    with monkeypatch.context() as patch:
        patch.setattr(explorer.workspace, "document", lambda: 1 / 0)
        explorer.workspace.write()
        assert "not saved (ZeroDivisionError" in explorer.notice
    explorer.params = {"CL": 3.3}
    explorer.workspace.write()
    assert '"CL": 3.3' in (tmp_path / "w.json").read_text()
