"""The demonstrations of the library, made once for all tests."""

from __future__ import annotations

from functools import cache

import nlmewidgets as nw

__all__ = ["demonstration"]


@cache
def demonstration(name: str) -> tuple[nw.Model, nw.Data]:
    """Return what `nw.library.demo` returns."""
    return nw.library.demo(name)
