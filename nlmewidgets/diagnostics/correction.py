r"""Prediction correction: data of different doses and covariates brought to one curve per bin.

With PRED the population prediction of an observation and :math:`\widetilde{\mathrm{PRED}}` its median in the bin,

.. math:: y^{pc} = b + (y - b)\,\frac{\widetilde{\mathrm{PRED}} - b}{\mathrm{PRED} - b}, \qquad
          y^{pc} = y + \widetilde{\mathrm{PRED}} - \mathrm{PRED} \;\text{(additive: data on a log scale)},

with b a lower bound of the data (0).  The variability correction then scales the distance to the bin's prediction
by what the model says of its spread, s being the standard deviation of :math:`y^{pc}` over the replicates:

.. math:: y^{pvc} = \widetilde{\mathrm{PRED}} + (y^{pc} - \widetilde{\mathrm{PRED}})\,\tilde s / s .

References
----------
Bergstrand, Hooker, Wallin & Karlsson (2011), doi:10.1208/s12248-011-9255-z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nlmewidgets.core.arrays import Array, Ints

__all__ = ["Correction", "median_by"]


def median_by(x: Array, cells: tuple[Ints, ...]) -> Array:
    """Return at each observation the median of x over its cell, x itself outside all cells."""
    out = np.array(x)
    for rows in cells:
        out[rows] = np.nanmedian(x[rows])
    return out


@dataclass(frozen=True, eq=False)
class Correction:
    r"""A linear map of each observation.

    Attributes
    ----------
    reference : (obs,) float
        The bin's prediction, which stays where it is.
    shift, slope : (obs,) float
        :math:`y \to \mathrm{shift} + \mathrm{slope} \cdot y`.
    """

    reference: Array
    shift: Array
    slope: Array

    @classmethod
    def of(cls, pred: Array, reference: Array, *, additive: bool = False, lower: float = 0.0) -> Correction:
        """Return the prediction correction; where PRED is the lower bound itself nothing is corrected."""
        if additive:
            return cls(reference, reference - pred, np.ones_like(pred))
        with np.errstate(all="ignore"):
            slope = (reference - lower) / (pred - lower)
        slope = np.where(np.isfinite(slope) & (slope > 0), slope, 1.0)
        return cls(reference, lower * (1.0 - slope), slope)

    def __call__(self, y: Array) -> Array:
        """Return corrected data, (..., obs)."""
        return self.shift + self.slope * y

    def of_variability(self, sd: Array, cells: tuple[Ints, ...]) -> Correction:
        """Return the correction followed by that for variability, given the SD of corrected data."""
        with np.errstate(all="ignore"):
            ratio = median_by(sd, cells) / sd
        ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0)
        return replace(self, shift=self.reference + (self.shift - self.reference) * ratio, slope=self.slope * ratio)
