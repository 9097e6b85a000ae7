"""A link brings an exploration back, and a hostile one brings a sentence."""

from __future__ import annotations

import base64
import json
import re
import zlib

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.fit.link import data_from_source, decode, encode, source_of
from nlmewidgets.fit.store import model_to_dict


def pack(text: bytes) -> str:
    return "nlme1." + base64.urlsafe_b64encode(zlib.compress(text)).decode().rstrip("=")


@pytest.fixture
def model() -> nw.Model:
    return nw.library.oral_1cpt(residual=nw.Additive(0.7), name="Théophylline")


@pytest.fixture
def opened():
    made = []

    def open_link(*arguments, **options):
        made.append(nw.open(*arguments, **options))
        return made[-1]

    yield open_link
    for explorer in made:
        explorer.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=20, phases=(Phase.generate,), deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_link_holds_any_document(document) -> None:
    link = encode(document)
    assert re.fullmatch(r"nlme1\.[A-Za-z0-9_-]+", link)
    assert decode(link) == document
    assert decode(f"  {link[:9]}\n {link[9:]} ") == document


def test_an_exploration_comes_back(model, opened) -> None:
    data = nw.datasets.load("theophylline").filter("TIME < 20").exclude(ids=[4], reason="vomited")
    explorer = nw.explore(model, data, method="saem", explore=50, seed=7)
    explorer.params = {"ka": 1.234567890123456, "omega_V": 0.15}
    explorer.fixed = ("CL",)
    explorer.selected_ids = (2, 7)
    link = explorer.link()
    explorer.close()
    assert len(link) < 1500
    again = opened(link)
    for name in ("params", "fixed", "method", "method_options", "selected_ids", "seed", "ofv"):
        assert getattr(again, name) == getattr(explorer, name), name
    assert again.data.fingerprint == data.fingerprint
    assert again.model.name == "Théophylline"
    assert again.link() == link


def test_data_from_a_table_have_to_be_given(model, opened, tmp_path) -> None:
    data = nw.Data.from_frame(nw.datasets.load("theophylline").records)
    explorer = nw.explore(model, data)
    link = explorer.link()
    explorer.close()
    with pytest.raises(nw.DataError, match=r"nw\.open\(link, data\)"):
        nw.open(link)
    assert opened(link, data).ofv == explorer.ofv


def test_a_file_is_found_again_and_a_changed_one_is_noticed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    records = nw.datasets.load("theophylline").records
    records.to_csv("my.csv", index=False, na_rep=".")
    source = source_of(nw.Data.read_csv("my.csv", covariates=["WT"]))
    data, note = data_from_source(json.loads(json.dumps(source)))
    assert (data.covariates, note) == (("WT",), "")
    records.assign(DV=records["DV"] * 2).to_csv("my.csv", index=False, na_rep=".")
    assert "changed" in data_from_source(source)[1]
    (tmp_path / "my.csv").unlink()
    with pytest.raises(nw.DataError, match=r"'my.csv', are not here"):
        data_from_source(source)


@pytest.mark.parametrize("path", ["https://example.org/x.csv", "//host/share/x.csv", r"\\host\share\x.csv", ""])
def test_a_link_opens_nothing_on_another_computer(path) -> None:
    with pytest.raises(nw.DataError, match="are not here"):
        data_from_source({"csv": path})


BOMB = pack(b'{"a":"' + b"x" * 50_000_000 + b'"}')


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("", "not a link"),
        (None, "not a link"),
        ("https://example.org", "not a link"),
        ("nlme1.", "damaged|missing"),
        ("nlme1.!!!!", "damaged"),
        ("nlme1.AAAA", "damaged"),
        ("nlme1." + "A" * 300_000, "300000 characters"),
        (BOMB, "unpacks to more"),
        (pack(b"[1, 2]"), "damaged"),
        (pack(b"\xff\xfe"), "damaged"),
        (pack(b"[" * 100_000), "damaged"),
        (pack(b'{"a": ' * 50_000), "damaged"),
        (encode({"model": {}})[:-6], "damaged|missing"),
        (encode({}), "model in the link is damaged"),
        (encode({"model": 3}), "model in the link is damaged"),
    ],
)
def test_a_damaged_link_gets_one_sentence(link, words) -> None:
    with pytest.raises(nw.NlmeError, match=words) as refusal:
        nw.open(link)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "code", ["__import__('os').system('touch hit')", "().__class__", "9**9**9**9", "open('hit','w')", "x:=1", "f'{t}'"]
)
def test_expressions_of_a_link_are_parsed_never_run(model, code, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = {"model": model_to_dict(model), "state": {}, "data": {"dataset": "theophylline"}}
    document["model"]["outputs"][0]["prediction"] = code
    with pytest.raises(nw.NlmeError):
        nw.open(encode(document))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("params", {"ka": "1"}),
        ("params", {"nobody": 1.0}),
        ("params", {"ka": -1.0}),
        ("params", {"ka": True}),
        ("fixed", ["nobody"]),
        ("fixed", "ka"),
        ("method", "os.system"),
        ("method", ["focei"]),
        ("options", {"saem": {"nobody": 1}}),
        ("options", {"saem": {"explore": [1]}}),
        ("options", {"eval": {}}),
        ("seed", -1),
        ("selected_ids", 4),
        ("pinned", "0"),
        ("panel", 3),
        ("excluded", 9),
        ("excluded_records", [-1]),
    ],
)
def test_every_part_of_a_made_up_state_is_checked(model, part, value) -> None:
    document = {"model": model_to_dict(model), "state": {part: value}, "data": {"dataset": "theophylline"}}
    with pytest.raises(nw.NlmeError):
        nw.open(encode(document))
