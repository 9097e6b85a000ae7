"""What a first look waits for: the packages that are dear to import come when they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEAR = (
    "scipy.stats",
    "scipy.optimize",
    "scipy.integrate",
    "scipy.interpolate",
    "scipy.ndimage",
    "matplotlib",
    "nutpie",
)


def test_the_environment_opens_without_what_is_dear_to_import() -> None:
    code = "import sys, nlmewidgets.panels.explore, nlmewidgets.panels.startpage; print(*sys.modules)"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, check=True)
    loaded = set(ran.stdout.decode().split())
    assert "nlmewidgets.panels.explore" in loaded
    assert loaded.isdisjoint(DEAR)
