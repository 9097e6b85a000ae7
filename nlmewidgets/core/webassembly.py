"""Linear algebra that refuses, where NumPy cannot.

NumPy learns from the processor's floating-point flags that a matrix has no inverse or factor.  WebAssembly has no such
flags: under Pyodide there is NaN and no LinAlgError, and code that waits for the error goes on with the NaN.  Here the
answers are looked at instead, and what NumPy documents holds again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

__all__ = ["looked_at", "restore_refusals"]


def looked_at(function: Callable[..., Any], why: str) -> Callable[..., Any]:
    """Return a function of stacked matrices that raises LinAlgError where its answer for one of them is all NaN.

    A matrix that is itself not finite is answered by NaN, as NumPy does.

    Parameters
    ----------
    function : callable
        ``inv``, ``solve`` or ``cholesky``.
    why : str
        The words of the error.
    """

    @wraps(function)
    def refusing(*arguments: Any, **options: Any) -> Any:
        answer = function(*arguments, **options)
        lost = np.isnan(answer)
        if lost.any():
            lost = lost.all(axis=(-2, -1)) if answer.ndim > 1 else lost.all()
            known = [np.isfinite(a).all(axis=(-2, -1)) if np.ndim(a) > 1 else np.isfinite(a).all() for a in arguments]
            if np.any(lost & np.logical_and.reduce(known)):
                raise np.linalg.LinAlgError(why)
        return answer

    return refusing


def restore_refusals() -> None:
    """Make NumPy's inverse, solution and Cholesky factor raise LinAlgError as documented."""
    np.linalg.inv = looked_at(np.linalg.inv, "Singular matrix")
    np.linalg.solve = looked_at(np.linalg.solve, "Singular matrix")
    np.linalg.cholesky = looked_at(np.linalg.cholesky, "Matrix is not positive definite")
