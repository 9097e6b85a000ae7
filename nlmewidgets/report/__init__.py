"""Reports: self-contained pages made of tables and pictures.

Needs the extra ``pictures`` (matplotlib, latex2mathml).
"""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.report.report import report

__all__ = ["report"]

VERBS["report"] = report
