"""The start page: from a file to a fit by what clicks do."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets import __main__ as cli
from nlmewidgets.panels import startpage, upload

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page():
    made = nw.explore()
    yield made
    if made.explorer is not None:
        made.explorer.stop()
        made.explorer.wait(10)
    made.close()


@pytest.fixture(scope="module")
def csv() -> bytes:
    """A file with a person's own headings, not NONMEM's."""
    records = nw.datasets.load("theophylline").records[["ID", "TIME", "DV", "AMT", "WT"]]
    own = records.rename(columns={"ID": "Subject", "TIME": "Hours", "DV": "Conc", "AMT": "Dose"})
    return own.to_csv(index=False, na_rep=".").encode()


def upload_by_browser(page, name: str, content: bytes) -> None:
    received = {"name": name, "type": "text/csv", "size": len(content), "content": memoryview(content)}
    page.upload.value = (received | {"last_modified": datetime.now(tz=UTC)},)


def test_from_a_file_to_a_fit_without_a_line_of_code(page, csv) -> None:
    assert page.go.disabled
    upload_by_browser(page, "study.csv", csv)
    assert page.data.n_subjects == 12
    assert "study.csv" in page.data_text.value
    assert not page.go.disabled
    page.chooser.words.value = "oral 1 compartment"
    assert page.structure == "oral_1cpt"
    assert "<svg" in page.chooser.picture.value
    page.chooser.error.value = "Combined"
    page.go.click()
    explorer = page.explorer
    explorer.wait(30)
    assert explorer.message.startswith("Starting values")
    explorer.fitting.start.click()
    explorer.wait(60)
    assert explorer.status == "converged"
    model = nw.library.oral_1cpt(residual=nw.Combined(0.3, 0.1))
    expected = model.fit(nw.datasets.load("theophylline"), "focei")
    assert explorer.result.ofv == pytest.approx(expected.ofv, abs=1e-3)


def test_the_code_it_exports_reads_the_file_as_it_was_read(page, csv, tmp_path, monkeypatch) -> None:
    page.read("study.csv", csv)
    page.structure = "oral_1cpt"
    page.start().explorer.wait(30)
    monkeypatch.chdir(tmp_path)
    Path("study.csv").write_bytes(csv)
    code = page.explorer.to_code()
    assert "id='Subject'" in code
    names: dict = {}
    exec(code.split("\nprint(")[0], names)
    assert names["data"].fingerprint == page.data.fingerprint


def test_columns_can_be_named_and_a_bad_file_says_what_is_wrong(page) -> None:
    page.read("odd.csv", b"who;when;what;mg\n1;0;.;100\n1;1;5.5;.\n1;2;x;.\n")
    assert page.data is None
    assert "alert" in page.data_text.value
    assert list(page.columns["id"].options) == ["none", "who", "when", "what", "mg"]
    for item, column in {"id": "who", "time": "when", "dv": "what", "amt": "mg"}.items():
        page.columns[item].value = column
    assert page.data is None
    assert "row 4" in page.data_text.value
    assert "what" in page.data_text.value
    page.read("odd.csv", b"who;when;what;mg\n1;0;.;100\n1;1;5.5;.\n1;2;4.5;.\n")
    for item, column in {"id": "who", "time": "when", "dv": "what", "amt": "mg"}.items():
        page.columns[item].value = column
    np.testing.assert_array_equal(page.data.dv, [5.5, 4.5])
    assert not page.go.disabled
    page.columns["amt"].value = "what"  # one column twice
    assert "can be one of them" in page.data_text.value
    assert page.go.disabled


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b"ID,TIME,DV\n", b"<html>", b'"', b"ID,ID,DV\n1,2,3\n"])
def test_whatever_is_uploaded_gets_a_sentence(page, content) -> None:
    upload_by_browser(page, "x.csv", content)
    assert page.data is None
    assert "role='alert'" in page.data_text.value
    assert page.go.disabled
    page.start()
    assert page.explorer is None


@pytest.mark.parametrize(("sep", "text"), [(",", ","), (";", ";"), ("\t", "\t"), (r"\s+", "  ")])
def test_the_separator_is_found(sep, text, page) -> None:
    content = text.join(["ID", "TIME", "DV"]).encode() + b"\n" + text.join(["1", "0", "2"]).encode() + b"\n"
    assert upload.separator_of(content) == sep
    page.read("x.txt", content)
    assert page.data.n_obs == 1


def test_search_by_words_says_when_nothing_is_found(page) -> None:
    page.chooser.words.value = "zzzz qqqq"
    assert "No structure matches" in page.chooser.search_text.value.replace("&#x27;", "'")
    page.chooser.words.value = "emax"
    assert "emax" in page.structure
    page.structure = "oral_2cpt"
    assert page.chooser.found.value == "oral_2cpt"


def test_an_example_opens_and_leads_back(page) -> None:
    page.example.value = "theophylline"
    page.structure = "oral_1cpt"
    page.look.selected_index = 0
    assert page.look.children[0].children
    page.start().explorer.wait(30)
    page.back()
    assert page.explorer is None
    assert page.data.n_subjects == 12
    assert not page.go.disabled


def test_each_output_gets_the_residual_error_chosen(page) -> None:
    page.structure = "metabolite_iv"
    page.chooser.error.value = "Proportional"
    model = page.model()
    assert list(model.outputs) == ["cp", "cm"]
    assert model.residuals == {"cp": nw.Proportional(0.2), "cm": nw.Proportional(0.2)}


def test_data_that_do_not_suit_the_structure_are_refused_on_the_page(page) -> None:
    page.read("x.csv", b"ID,TIME,DV,DVID\n1,0,2,liver\n1,1,2,kidney\n1,2,3,bone\n")
    page.structure = "oral_1cpt"
    page.start()
    assert page.explorer is None
    assert "role='alert'" in page.start_text.value
    assert not page.go.disabled


def test_explore_with_data_alone_asks_for_the_structure(data) -> None:
    made = nw.explore(data=data)
    assert made.data is data
    assert not made.go.disabled
    made.close()


# ---------------------------------------------------------------------------- command


def test_the_page_of_the_app_takes_the_file_of_the_command_line(csv, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(startpage.DATA_VARIABLE, str(tmp_path / "study.csv"))
    assert "cannot be read" in startpage.page().data_text.value
    (tmp_path / "study.csv").write_bytes(csv)
    assert startpage.page().data.n_subjects == 12
    assert cli.DATA_VARIABLE == startpage.DATA_VARIABLE


def test_the_command_says_what_is_missing(tmp_path, capsys, monkeypatch) -> None:
    assert cli.main(["app", str(tmp_path / "no.csv")]) == 2
    assert "There is no file" in capsys.readouterr().err
    monkeypatch.setattr(cli, "find_spec", lambda name: None if name == "voila" else object())
    assert cli.main(["app"]) == 2
    assert "pip install 'nlmewidgets[app]'" in capsys.readouterr().err


def test_the_packaged_notebook_is_plain_and_has_no_outputs() -> None:
    notebook = json.loads(cli.NOTEBOOK.read_text(encoding="utf-8"))
    assert [cell["outputs"] for cell in notebook["cells"]] == [[]]
    assert "startpage import page" in "".join(notebook["cells"][0]["source"])
