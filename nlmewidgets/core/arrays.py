"""Names for array types; the shapes are in the docstrings."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""Floating point numbers."""

Ints: TypeAlias = NDArray[np.intp]
"""Indices."""
