"""What takes many fits or many looks at a model: starting values."""

from __future__ import annotations

from nlmewidgets.core.verbs import VERBS
from nlmewidgets.studies.guess import Guess, guess

__all__ = ["Guess", "guess"]

VERBS["guess"] = guess
