r"""Values with their first and second derivatives along the slots, and the chain rule for them.

A jet is (f, first, second): f (..., n), first (slots, ..., n) and second (random slots, slots, ..., n).  A
part is None where it was not asked for or is zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["Jet", "compose", "cross"]

Jet = tuple[Array, Array | None, Array | None]
"""A value, its first derivatives along the slots, its second along (random slot, slot)."""


def cross(a: Array, b: Array, n_random: int) -> Array:
    """Return ∂a∂b of a product of two jets: a_i·b_j + a_j·b_i, from firsts (slots, ...)."""
    out: Array = a[:n_random, None] * b[None]
    out += a[None] * b[:n_random, None]
    return out


def compose(own: Jet, inner: Sequence[Jet | None], n_slots: int, n_random: int, order: int) -> Jet:
    r"""Return the jet of g(s, x(s)).

    .. math:: f_{ab} = g_{ab} + \sum_i (g_{ai} x_{i,b} + g_{ib} x_{i,a}) + \sum_{ij} g_{ij} x_{i,a} x_{j,b}
              + \sum_i g_i x_{i,ab} .

    Parameters
    ----------
    own : Jet
        Of g along (slots, then x), its second derivatives complete: (slots + x, slots + x, ..., n).
    inner : sequence of Jet or None
        x along the slots; None where x does not depend on them.
    n_slots, n_random, order : int
    """
    value, slope, curve = own
    shape = value.shape
    if order == 0:
        return value, None, None
    first = np.zeros((n_slots, *shape)) if slope is None else slope[:n_slots].copy()
    moving = [(n_slots + i, x) for i, x in enumerate(inner) if x is not None and x[1] is not None]
    if slope is not None:
        for i, x in moving:
            first += slope[i] * x[1]
    if order == 1:
        return value, first, None
    second = np.zeros((n_random, n_slots, *shape)) if curve is None else curve[:n_random, :n_slots].copy()
    for i, x in moving:
        assert x[1] is not None
        if slope is not None and x[2] is not None:
            second += slope[i] * x[2]
        if curve is not None:
            second += cross(curve[:n_slots, i], x[1], n_random)
            for j, other in moving:
                assert other[1] is not None
                second += curve[i, j] * (x[1][:n_random, None] * other[1][None])
    return value, first, second
