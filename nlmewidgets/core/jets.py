r"""Values with their first and second derivatives along the slots, and the chain rule for them.

A jet is (f, first, second): f (..., n), first (slots, ..., n) and second (random slots, slots, ..., n), the
later parts None where they were not asked for.
"""

from __future__ import annotations

from nlmewidgets.core.arrays import Array

__all__ = ["Jet"]

Jet = tuple[Array, Array | None, Array | None]
"""A value, its first derivatives along the slots, its second along (random slot, slot)."""
