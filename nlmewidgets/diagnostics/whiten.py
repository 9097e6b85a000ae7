r"""Inverse square roots of the subjects' covariance matrices: what turns errors into residuals of unit variance.

With M the covariance of a subject's errors e, the residuals are :math:`W e` with :math:`W M W' = I`:

==============  ========================================================================================
``symmetric``   :math:`W = U \Lambda^{-1/2} U'` of :math:`M = U \Lambda U'`: NONMEM's default
``cholesky``    :math:`W = L^{-1}` of :math:`M = L L'`: each residual is an error less what those before it
                say of it (NONMEM's WRESCHOL; the default of the npde package)
==============  ========================================================================================

Subjects with the same number of observations are treated together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.problem import Segments

__all__ = ["ROOTS", "inverse_roots", "of_equal_size", "root_named"]

ROOTS = ("symmetric", "cholesky")
"""How a covariance is taken apart."""


def root_named(name: str) -> str:
    """Return the name of a root, refusing others in a sentence.

    Raises
    ------
    DataError
    """
    if name not in ROOTS:
        raise DataError(f"decorrelation={name!r} is not known; there are {', '.join(map(repr, ROOTS))}.")
    return name


def of_equal_size(subjects: Segments) -> Iterator[Ints]:
    """Yield the observations of all subjects that have equally many, (n, size) int."""
    for size in np.unique(subjects.counts[subjects.counts > 0]):
        yield np.flatnonzero(subjects.counts[subjects.label] == size).reshape(-1, size)


def inverse_roots(matrices: Array, root: str = "symmetric") -> Array:
    """Return W of each covariance, (n, k, k); NaN where one is not finite or not positive definite."""
    out = np.full(matrices.shape, np.nan)
    finite = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    if not finite.any():
        return out
    if root == "symmetric":
        eigenvalues, vectors = np.linalg.eigh(matrices[finite])
        with np.errstate(all="ignore"):
            scaled = vectors / np.sqrt(eigenvalues)[:, None, :]
            out[finite] = scaled @ vectors.transpose(0, 2, 1)
        return out
    # One matrix that is not definite would fail the whole stack.
    scale = np.abs(matrices).max(axis=(1, 2), where=finite[:, None, None], initial=0.0)
    finite[finite] = np.linalg.eigvalsh(matrices[finite])[:, 0] > 1e-14 * scale[finite]
    if finite.any():
        out[finite] = np.linalg.inv(np.linalg.cholesky(matrices[finite]))
    return out
