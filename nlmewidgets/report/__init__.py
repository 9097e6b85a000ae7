"""Reports: self-contained pages made of tables and pictures.

Needs the extra ``pictures`` (matplotlib, latex2mathml).
"""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.report.report import report
from nlmewidgets.report.runs import runs

__all__ = ["report", "runs"]

VERBS["report"] = report
VERBS["runs"] = runs
