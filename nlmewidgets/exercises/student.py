"""The notebooks of the course without their solutions, with or without nbgrader."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

__all__ = ["STUB", "student_copy", "write"]

STUB = "# your code here"
_SOLUTION = re.compile(r"^[ \t]*### BEGIN SOLUTION.*?### END SOLUTION[ \t]*$", re.S | re.M)


def student_copy(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook (its JSON) with every solution replaced by a line to write at.

    A solution is what stands between ``### BEGIN SOLUTION`` and ``### END SOLUTION``, nbgrader's marks.
    """
    out = copy.deepcopy(notebook)
    for cell in out["cells"]:
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            cell["source"] = _SOLUTION.sub(STUB, text)
            cell["outputs"], cell["execution_count"] = [], None
    return out


def write(source: Path, target: Path) -> list[Path]:
    """Write student copies of all notebooks of a folder, never over a file that exists; return what was written."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(source.glob("*.ipynb")):
        new = target / path.name
        if not new.exists():
            notebook = student_copy(json.loads(path.read_text(encoding="utf-8")))
            new.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            written.append(new)
    return written
