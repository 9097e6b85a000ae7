"""The course: every notebook runs, every solution passes, every empty copy does not."""

from __future__ import annotations

import ast
import json
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter

import nlmewidgets as nw
from nlmewidgets.exercises import EXERCISES, student_copy

FOLDER = Path(__file__).parents[2] / "notebooks" / "course"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
LESSONS = [p for p in NOTEBOOKS if not p.stem.startswith("00")]
SLOWEST = 10.0
"""Seconds of one core for a cell."""


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def grading(cell: dict[str, Any]) -> dict[str, Any]:
    return cell["metadata"].get("nbgrader", {})


def run(cell: dict[str, Any], names: dict[str, Any]) -> None:
    """Run a cell as a notebook does, showing the value of its last line in every format there is."""
    tree = ast.parse(text(cell))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), names)
    if isinstance(last, ast.Expr):
        shown = eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)
        if shown is not None:
            DisplayFormatter().format(shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert "def " not in cell.source
            assert max(map(len, cell.source.splitlines())) <= 120


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_it_runs_and_its_solutions_pass(path, capsys):
    names: dict[str, Any] = {}
    for cell in read(path)["cells"]:
        if cell["cell_type"] == "code":
            began = time.process_time()
            run(cell, names)
            assert time.process_time() - began < SLOWEST, cell["id"]
    passed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if ": Right" in line]
    assert passed == [e.name for e in EXERCISES.values() if e.notebook == path.stem]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_its_empty_copy_fails_every_check(path, capsys):
    names: dict[str, Any] = {"nw": nw}
    checks = 0
    for cell in student_copy(read(path))["cells"]:
        if grading(cell).get("solution"):
            assert "SOLUTION" not in text(cell)
            run(cell, names)
        elif grading(cell).get("grade"):
            checks += 1
            with pytest.raises(AssertionError):
                run(cell, names)
            assert "Nothing handed in yet" in capsys.readouterr().out
    assert 2 <= checks <= 3


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_exercises_are_those_of_the_registry_and_can_be_graded(path):
    cells = read(path)["cells"]
    marked = [(k, grading(cell)) for k, cell in enumerate(cells) if grading(cell)]
    ids = [mark["grade_id"] for _, mark in marked]
    assert len(set(ids)) == len(ids)
    for k, mark in marked:
        assert mark["schema_version"] == 3
        assert mark["grade"] != mark["solution"]
        if mark["grade"]:
            assert mark["locked"]
            assert mark["points"] == EXERCISES[mark["grade_id"].removesuffix("-check")].points
            assert text(cells[k]) == f'assert nw.exercises.check("{mark["grade_id"].removesuffix("-check")}", answer)'
        else:
            exercise = EXERCISES[mark["grade_id"]]
            assert exercise.notebook == path.stem
            assert exercise.question in text(cells[k - 1])
            assert text(cells[k]).startswith("answer = None\n### BEGIN SOLUTION\n")
            assert text(cells[k]).endswith("\n### END SOLUTION")


def test_every_exercise_is_in_a_notebook():
    assert {e.notebook for e in EXERCISES.values()} == {p.stem for p in LESSONS}
