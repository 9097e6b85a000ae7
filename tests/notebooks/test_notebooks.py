"""Notebooks are tested documentation: they run, they are short, and they are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def test_there_is_a_notebook() -> None:
    assert (FOLDER / "01-theophylline.ipynb") in NOTEBOOKS


def test_outputs_are_stripped(notebook) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_it_is_short_and_defines_no_functions(notebook) -> None:
    assert len(notebook.cells) < 15
    assert not any("def " in cell.source for cell in notebook.cells if cell.cell_type == "code")


def test_it_runs(notebook, tmp_path) -> None:
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    texts = [out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not any(out.get("name") == "stderr" for cell in notebook.cells for out in cell.get("outputs", []))
    assert any("nw.Model(" in text for text in texts)
