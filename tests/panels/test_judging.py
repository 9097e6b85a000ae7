"""The fit box, the pictures of a fit, and the runs of a session: without a browser."""

from __future__ import annotations

import base64
import re

import pytest

import nlmewidgets as nw
from nlmewidgets.fit.choices import choices
from nlmewidgets.methods import METHODS
from nlmewidgets.pictures import PICTURES
from tests.kinds import KINDS


@pytest.fixture
def explorer(explore, model, data):
    return explore(model, data)


# ---------------------------------------------------------------------------- options


def test_every_method_can_be_chosen_and_explains_its_options(explorer) -> None:
    assert [value for _, value in explorer.fitting.method.options] == list(METHODS)
    for choice in choices().values():
        explorer.method = choice.name
        entries = [w for w in explorer.fitting.options.children if hasattr(w, "description")]
        assert [w.description for w in entries if w.description] == [o.name for o in choice.options]
        assert all(re.match(r"^[A-Z]", o.text) for o in choice.options), choice.name
        assert choice.summary in explorer.fitting.summary.value.replace("&#x27;", "'")


def test_an_option_typed_is_used_and_a_wrong_one_is_explained(explorer) -> None:
    explorer.method = "focei"
    entry = {w.description: w for w in explorer.fitting.options.children}["max_iterations"]
    note = explorer.fitting.options.children[explorer.fitting.options.children.index(entry) + 1]
    entry.value = "2"
    assert explorer.method_options == {"max_iterations": 2}
    entry.value = "many"
    assert "max_iterations is a whole number, not &#x27;many&#x27;." in note.value
    assert explorer.method_options == {"max_iterations": 2}
    explorer.start().wait(30)
    assert explorer.status == "limit"
    assert "max_iterations=2" in explorer.to_code()
    entry.value = "500"  # the default is no option
    assert explorer.method_options == {}
    explorer.method = "saem"
    assert explorer.method_options == {}


def test_words_and_numbers_are_told_apart() -> None:
    explore = next(o for o in choices()["saem"].options if o.name == "explore")
    assert explore.default == "auto"
    assert explore.read("auto") == "auto"
    assert explore.read(" 50 ") == 50
    with pytest.raises(ValueError, match="explore is a whole number or 'auto', not '1.5'"):
        explore.read("1.5")


def test_a_running_saem_can_be_extended_and_moved_on(explorer) -> None:
    explorer.method = "saem"
    explorer.method_options = {"explore": 100_000, "smooth": 20}
    assert explorer.fitting.phase.layout.display == "none"
    explorer.start()
    while len(explorer.trace) < 3:
        pass
    assert explorer.fitting.phase.layout.display is None
    explorer.end_phase()
    explorer.wait(60)
    assert explorer.status == "converged"
    assert explorer.trace[-1].k < 100_000
    assert explorer.fitting.phase.layout.display == "none"


# --------------------------------------------------------------------------- pictures


def test_pictures_wait_for_a_fit_and_then_are_drawn(explorer) -> None:
    judge = explorer.panels["judge"]
    judge.show()
    assert judge.empty.layout.display is None
    assert judge.body.layout.display == "none"
    explorer.start().wait(30)  # shows the convergence
    judge.show()
    judge.wait(60)
    assert judge.empty.layout.display == "none"
    assert judge.image.value.startswith("<svg")
    assert list(PICTURES.values())[0].read.split("'")[0][:30] in judge.text.value
    judge.picture.value = "influence"
    judge.wait(60)
    assert "Cook distance" in judge.image.value


@pytest.mark.slow
def test_the_report_is_offered_for_download(explorer) -> None:
    judge = explorer.panels["judge"]
    explorer.start().wait(30)
    judge.show()
    judge.hide()
    judge.save.click()
    judge.wait(240)
    code = re.search(r"base64,([^']+)'", judge.link.value)
    assert code is not None
    assert base64.b64decode(code.group(1)).startswith(b"<!doctype html>")


def test_what_cannot_be_drawn_says_why(explore) -> None:
    model = nw.Model("a", {"a": nw.Normal(5.0, sd=0.0)}, residual=nw.Additive(3.0))
    explorer = explore(model, nw.datasets.load("theophylline"))
    explorer.start().wait(30)
    judge = explorer.panels["judge"]
    judge.show()
    judge.picture.value = "eta-pairs"
    judge.wait(60)
    assert "The model has no random effects between subjects." in judge.image.value


# ------------------------------------------------------------------------------- runs


def test_runs_are_listed_and_put_on_one_scale(explorer) -> None:
    runs = explorer.panels["runs"]
    runs.show()
    assert runs.body.layout.display == "none"
    for method in ("fo", "focei"):
        explorer.method = method
        explorer.start().wait(30)
    assert [fit.method for fit in explorer.fits] == ["fo", "focei"]
    runs.show()
    assert "1 fo" in runs.table.root.value
    assert "not comparable" in runs.text.value
    runs.place.click()
    runs.wait(60)
    assert "-2LL" in runs.scale.root.value
    assert not runs.place.disabled


def test_runs_tell_where_they_began_and_are_set_side_by_side(explorer) -> None:
    runs = explorer.panels["runs"]
    explorer.start().wait(30)
    runs.show()
    assert runs.pair.layout.display == "none"
    explorer.take_estimates()
    explorer.excluded = (9,)
    explorer.start().wait(30)
    runs.wait(60)
    for words in ("own values", "estimates of 1", "without ID 9"):
        assert words in runs.table.root.value
    assert (runs.first.value, runs.second.value) == ("1 focei", "2 focei")
    assert "likelihoods of different data cannot be compared" in runs.verdict.value
    assert "standard errors of run 1 focei" in runs.verdict.value
    assert "SEs" in runs.estimates.root.value
    assert "The declarations are the same" in runs.code.value
    runs.second.value = "1 focei"
    assert "two different runs" in runs.verdict.value


def test_a_run_is_taken_as_a_start(explorer) -> None:
    runs = explorer.panels["runs"]
    explorer.start().wait(30)
    runs.show()
    button = runs.starts.children[1]
    assert button.description == "1 focei"
    button.click()
    assert explorer.params == pytest.approx(explorer.fits[0].estimates.to_dict())
    assert "at the estimates of run 1 focei" in runs.text.value
    explorer.undo()
    assert explorer.params["ka"] == 1.5
    other = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Combined(0.7, 0.1),
    )
    explorer.use(other)
    runs = explorer.panels["runs"]
    runs.show()
    runs.starts.children[1].click()
    assert explorer.params["CL"] == pytest.approx(explorer.fits[0].estimates["CL"])
    assert "It has no proportional" in runs.text.value


def test_a_shrinkage_that_is_not_defined_is_said_so(explore) -> None:
    explorer = explore(*KINDS["counts"]())
    explorer.panel = "shrinkage"
    assert "Epsilon n/a." in explorer.panels["shrinkage"].text.value


def test_a_report_that_takes_long_says_how_far_it_is(explorer, monkeypatch) -> None:
    judge = explorer.panels["judge"]
    explorer.start().wait(30)
    judge.show()
    judge.wait(30)
    said = []

    def report(fit, path, progress):
        progress(0.5)
        said.append(judge.link.value)
        path.write_text("<!doctype html>")
        return path

    monkeypatch.setattr(nw.Fit, "report", report)
    judge.save.click()
    judge.wait(30)
    assert re.search(r"Writing the report: 50 %, about \d+ s left", said[0])
    assert "download report.html" in judge.link.value
