"""Exercises: every right answer passes, every known mistake is named, nothing at all does not pass."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.exercises import EXERCISES, Better, Choice, Mistake, Number


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_answer_passes_and_nothing_does_not(name, capsys):
    exercise = EXERCISES[name]
    assert nw.exercises.check(name, exercise.answer.solution())
    assert f"{name}: Right" in capsys.readouterr().out
    for nothing in (None, ..., "", "nonsense", object()):
        assert nw.exercises.check(name, nothing) is False
    assert len(exercise.hints) >= 1
    assert exercise.question.endswith((".", "?", "`"))


@pytest.mark.parametrize("name", EXERCISES)
def test_every_mistake_is_named_and_told_from_the_answer(name):
    answer = EXERCISES[name].answer
    if isinstance(answer, Number):
        for mistake in answer.mistakes:
            assert abs(mistake.value - answer.value) > answer.within
            right, sentence = answer.judge(mistake.value)
            assert not right
            assert mistake.sentence in sentence
    elif isinstance(answer, Choice):
        assert answer.right in answer.options
        for option, said in answer.options.items():
            right, sentence = answer.judge(f" {option.upper()} ")
            assert right == (option == answer.right)
            assert said in sentence
    else:
        assert isinstance(answer, Better)


def test_a_number_is_right_as_far_as_it_is_rounded_and_other_slips_have_words():
    answer = Number(0.2845, decimals=2, mistakes=(Mistake(0.5, "you did X."),), why="So it is.")
    for x in (0.28, 0.2845, np.float64(0.285), 0.2895):
        assert answer.judge(x) == (True, "Right: 0.28. So it is.")
    expected = {
        0.5: "Close, but you did X.",
        -0.28: "The size is right, the sign is not.",
        28.45: "Close, but this is in per cent",
        0.29: "Very close: give 2 decimals",
        0.1: "Not yet: it is larger.",
        0.9: "Not yet: it is smaller.",
        math.nan: "A number is asked for; this is nan.",
        "much": "A number is asked for; this is a str.",
    }
    for x, beginning in expected.items():
        right, sentence = answer.judge(x)
        assert not right
        assert sentence.startswith(beginning), x


def test_a_fit_is_measured_on_the_common_scale():
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(1),
    )
    best = Better(model.fit(data, "focei"), within=1.0)
    assert best.judge(best.best)[0]
    for answer, words in (
        (3.0, "A fit is asked for"),
        (model.fit(data.subset(data.ids[:6])), "66 observations of 6 subjects"),
        (model.fit(data, "focei", max_iterations=1), "did not end by itself"),
        (model.with_values({"omega_ka": 0.2}).fix("omega_ka").fit(data, "focei"), "Not yet: -2LL is"),
    ):
        right, sentence = best.judge(answer)
        assert not right
        assert words in sentence


def test_hints_come_one_at_a_time_and_begin_again(capsys):
    hints = EXERCISES["share-between"].hints
    for k in (*range(len(hints)), 0):
        nw.exercises.hint("share-between")
        assert capsys.readouterr().out == f"Hint {k + 1} of {len(hints)}: {hints[k]}\n"


def test_an_unknown_name_is_answered_with_those_there_are():
    for ask in (nw.exercises.hint, lambda n: nw.exercises.check(n, 1)):
        with pytest.raises(nw.NlmeError, match="There is no exercise 'x'; there are share-between"):
            ask("x")


def test_a_study_has_its_truth():
    """Means of logarithms of 400 subjects: log(dose/V) − CL t/V, with the standard error of their spread."""
    model = nw.library.iv_1cpt(CL=nw.LogNormal(4, sd=0.3), V=nw.LogNormal(40, sd=0.2), residual=nw.LogNormalError(0.1))
    weight = np.linspace(40, 100, 400)
    data = nw.exercises.study(model, times=(1, 5), dose=80, subjects=400, covariates={"WT": weight}, seed=2)
    assert data.n_subjects == 400
    assert data.subject_covariates()["WT"].tolist() == weight.tolist()
    y = np.log(data.dv).reshape(400, 2)
    # E[CL/V] of two independent log-normals is θ_CL/θ_V · exp((0.09 + 0.04)/2).
    expected = math.log(80 / 40) - np.array([1, 5]) * 0.1 * math.exp(0.065)
    error = y.std(axis=0, ddof=1) / math.sqrt(400)
    assert (np.abs(y.mean(axis=0) - expected) < 4 * error).all()


def test_student_copies_have_no_solutions_and_are_not_written_over(tmp_path):
    import json

    from nlmewidgets.exercises.student import STUB, write

    cells = [
        {"cell_type": "markdown", "source": ["### BEGIN SOLUTION is a mark"]},
        {
            "cell_type": "code",
            "source": ["answer = None\n", "### BEGIN SOLUTION\n", "answer = 42\n", "### END SOLUTION"],
            "outputs": [1],
            "execution_count": 3,
        },
    ]
    source, target = tmp_path / "course", tmp_path / "mine"
    source.mkdir()
    (source / "01.ipynb").write_text(json.dumps({"cells": cells}), "utf-8")
    assert [p.name for p in write(source, target)] == ["01.ipynb"]
    made = json.loads((target / "01.ipynb").read_text("utf-8"))["cells"]
    assert made[0] == cells[0]
    assert made[1] == {
        "cell_type": "code",
        "source": f"answer = None\n{STUB}",
        "outputs": [],
        "execution_count": None,
    }
    assert write(source, target) == []
