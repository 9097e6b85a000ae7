"""Write the contact sheet: ``python -m nlmewidgets.library docs/library.html``."""

import sys
from pathlib import Path

from nlmewidgets.library.sheet import sheet

target = Path(sys.argv[1] if len(sys.argv) > 1 else "library.html")
target.write_text(sheet(), encoding="utf-8")
print(f"-- {target}")
