"""Long computations in pieces: whoever runs one may stop between two of them."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias, TypeVar

import numpy as np

__all__ = ["Pieces", "finish", "quietly"]

R = TypeVar("R")
Pieces: TypeAlias = Generator[None, None, R]
"""A generator that yields nothing, after every piece of its work, and returns the result."""


def finish(pieces: Pieces[R]) -> R:
    """Run all pieces and return the result.

    Examples
    --------
    >>> def total(numbers):
    ...     out = 0
    ...     for number in numbers:
    ...         out += number
    ...         yield
    ...     return out
    >>> finish(total([1, 2, 3]))
    6
    """
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def quietly(pieces: Pieces[R]) -> Pieces[R]:
    """Run every piece without floating-point warnings, which are as they were between two pieces."""
    while True:
        with np.errstate(all="ignore"):
            try:
                next(pieces)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
        yield
