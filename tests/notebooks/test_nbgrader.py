"""nbgrader grades a notebook of the course: full marks for its solutions, none for an empty copy."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "course" / "07-criteria.ipynb"

pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install nlmewidgets[class]")


@pytest.mark.slow  # three kernels and a database: `make grade` installs nbgrader and runs it
@pytest.mark.filterwarnings("ignore")
def test_autograding(tmp_path, monkeypatch):
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    # The kernel that grades imports this tree, and is this interpreter.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(NOTEBOOK.parents[2]), os.getenv("PYTHONPATH")])))
    # nbgrader calls alembic by its name.
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "source" / "criteria"
    source.mkdir(parents=True)
    shutil.copy(NOTEBOOK, source)
    config = Config()
    config.CourseDirectory.root = str(tmp_path)
    config.CourseDirectory.course_id = "nlme"
    config.CourseDirectory.db_url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    api = NbGraderAPI(config=config)
    made = api.generate_assignment("criteria")
    assert made["success"], made
    release = tmp_path / "release" / "criteria" / NOTEBOOK.name
    assert "BEGIN SOLUTION" not in release.read_text("utf-8")
    for student, file in (("solved", NOTEBOOK), ("empty", release)):
        folder = tmp_path / "submitted" / student / "criteria"
        folder.mkdir(parents=True)
        shutil.copy(file, folder / NOTEBOOK.name)
        graded = api.autograde("criteria", student)
        assert graded["success"], graded
    with Gradebook(config.CourseDirectory.db_url) as book:
        scores = {s: book.find_submission("criteria", s).score for s in ("solved", "empty")}
        full = book.find_assignment("criteria").max_score
    assert full == 3
    assert scores == {"solved": 3, "empty": 0}
