"""Write the gallery of diagnostics: ``python -m nlmewidgets.report docs/gallery.html``."""

import sys
from pathlib import Path

from nlmewidgets.report.gallery import gallery

target = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery.html")
target.write_text(gallery(), encoding="utf-8")
print(f"-- {target}")
