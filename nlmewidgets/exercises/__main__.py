"""``python -m nlmewidgets.exercises FOLDER [COURSE]``: the course to work in, without its solutions."""

from __future__ import annotations

import sys
from pathlib import Path

from nlmewidgets.exercises.student import write

if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "course")
    source = Path(sys.argv[2] if len(sys.argv) > 2 else "notebooks/course")
    if not list(source.glob("*.ipynb")):
        sys.exit(f"There are no notebooks in {source}: name the folder of the course as the second argument.")
    written = write(source, target)
    print(f"{len(written)} notebooks written to {target}; those that were there already are untouched.")
