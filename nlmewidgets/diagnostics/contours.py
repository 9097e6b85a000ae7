"""Contour lines of a grid, for pictures that are not matplotlib's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError

__all__ = ["contour_lines"]


def contour_lines(x: Array, y: Array, z: Array, levels: Sequence[float]) -> list[tuple[Array, Array]]:
    """Return the lines where z (x, y) has each level: coordinates with NaN between lines, empty where there is none.

    Values that are not finite are holes.

    Raises
    ------
    ModelError
        If contourpy is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> x = y = np.linspace(-2, 2, 41)
    >>> [(a, b)] = contour_lines(x, y, x[:, None] ** 2 + y**2, [1.0])
    >>> bool(np.allclose(np.hypot(a, b), 1, atol=0.002))
    True
    """
    try:
        from contourpy import contour_generator
    except ModuleNotFoundError:
        raise ModelError("Contours need contourpy: pip install 'nlmewidgets[pictures]'.") from None
    if min(z.shape) < 2:
        return [(np.zeros(0), np.zeros(0)) for _ in levels]
    generator = contour_generator(y, x, np.ma.masked_invalid(z))
    out = []
    for level in levels:
        parts = [np.vstack([line, np.full((1, 2), np.nan)]) for line in generator.lines(level)]
        drawn = np.vstack(parts)[:-1] if parts else np.zeros((0, 2))
        out.append((drawn[:, 1], drawn[:, 0]))
    return out
