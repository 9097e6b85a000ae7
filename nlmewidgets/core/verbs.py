"""Actions of a model or a fit that live in rooms above the one that defines it.

`Model.fit` belongs to the user's vocabulary of a model, but `core` must not import `fit`.  The upper
rooms put their functions here when they are imported; the package's ``__init__`` imports them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VERBS: dict[str, Callable[..., Any]] = {}
"""Name → function."""
