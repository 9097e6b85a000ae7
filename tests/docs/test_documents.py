"""What the documents say is true today: code runs, figures are printed, links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import nlmewidgets as nw

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_first_model_of_the_readme_runs_and_prints_the_figures_it_quotes() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)
    assert code is not None
    assert len(code.group(1).strip().splitlines()) <= 12
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code.group(1), {})
    objective, clearance = re.search(r"objective of ([\d.]+) with a clearance of ([\d.]+)", text).groups()  # type: ignore[union-attr]
    assert re.search(rf"OFV \(focei\)\s+{re.escape(objective)}\n", printed.getvalue())
    assert re.search(rf"CL\s+theta\s+2.8\s+{re.escape(clearance)}\s", printed.getvalue())


def test_the_objectives_quoted_as_not_comparable_are_those_computed() -> None:
    text = (ROOT / "docs" / "limitations.md").read_text(encoding="utf-8")
    focei, quadrature = re.search(r"FOCEI says ([\d.]+) and quadrature says\s+([\d.]+)\.\s", text).groups()  # type: ignore[union-attr]
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    data = nw.datasets.load("theophylline")
    fit = model.fit(data, method="focei")
    assert f"{fit.ofv:.3f}" == focei
    assert f"{fit.model.ofv(data, method='agq', nodes=15):.3f}" == quadrature


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(d.relative_to(ROOT)) for d in DOCUMENTS])
def test_relative_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("note", sorted((ROOT / "docs" / "decisions").glob("*.md")), ids=lambda p: p.stem)
def test_decisions_are_short_and_say_what_would_change_them(note: Path) -> None:
    text = note.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    for part in ("**Context.**", "**Choice.**", "**Alternatives.**", "**What would change our mind.**"):
        assert part in text
