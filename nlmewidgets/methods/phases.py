r"""When the phases of a stochastic approximation end: by rule, or by a word from outside.

Exploring with step size 1, a coordinate of the population values is, once it has arrived, close to an
autoregression :math:`x_{k+1} = \lambda x_k + e_k`, whose λ is the share of information missing on it
(the rate of EM).  Its spread s and λ over a window of K iterations tell

- whether it still moves: the change of a straight line across the window has the Monte Carlo standard
  deviation :math:`s\sqrt{12/K}\sqrt{(1+\lambda)/(1-\lambda)}`;
- how long to average: with C chains a subject the Monte Carlo error of the average of K iterations is
  :math:`1/\sqrt{C K (1-\lambda)}` standard errors of the estimate.

The second follows from :math:`\mathrm{Var}(e) = \mathrm{SE}_c^2/C`, where SE_c is the standard error that complete data
would give, and :math:`\mathrm{SE}^2 = \mathrm{SE}_c^2/(1-\lambda)`.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array

__all__ = ["PhaseControl", "Trend", "smoothing_length", "trend_of"]


class PhaseControl:
    """Extend or end the phase of a running SAEM fit, from any thread.

    A SAEM object has one as its field `control`; what is asked takes effect after the iteration in flight.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> from nlmewidgets.methods.phases import PhaseControl
    >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
    ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
    >>> control = PhaseControl()
    >>> steps = nw.stream(model, nw.datasets.load("theophylline"), "saem", seed=1, explore=5, smooth=5, control=control)
    >>> for it in steps:
    ...     if it.k == 3:
    ...         control.extend(4)  # a button of a panel, say
    >>> it.k, it.phase
    (14, 'smooth')
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._extra, self._end = 0, False

    def __reduce__(self) -> tuple[type[PhaseControl], tuple[()]]:
        return PhaseControl, ()  # a copy, in another process perhaps, has been asked nothing

    def extend(self, iterations: int) -> None:
        """Let the phase in progress go on for so many iterations beyond its end.

        Raises
        ------
        ValueError
            If the number is negative.
        """
        if iterations < 0:
            raise ValueError(f"A phase cannot be extended by {iterations} iterations; end_phase() ends it.")
        with self._lock:
            self._extra, self._end = self._extra + int(iterations), False

    def end_phase(self) -> None:
        """End the phase in progress after the iteration in flight."""
        with self._lock:
            self._extra, self._end = 0, True

    def take(self) -> tuple[int, bool]:
        """Return what was asked since the last time: iterations more, and whether to end."""
        with self._lock:
            asked = self._extra, self._end
            self._extra, self._end = 0, False
        return asked


class Trend(NamedTuple):
    """How the coordinates moved over a window: (coordinates,) each.

    Attributes
    ----------
    drift : Array
        Change of the straight line across the window.
    noise : Array
        Its Monte Carlo standard deviation, were there no drift.
    persistence : Array
        λ, the autocorrelation of the residuals from one iteration to the next, corrected for its bias in a
        window of this length.
    """

    drift: Array
    noise: Array
    persistence: Array

    @property
    def moving(self) -> Array:
        """Which coordinates drift beyond their noise, (coordinates,) bool."""
        return np.abs(self.drift) > _SIGNIFICANT * self.noise


_SIGNIFICANT = 3.0
"""Standard deviations: of a dozen coordinates at rest, all are inside the first 95 times of 100."""
_MOST_PERSISTENT = 0.98


def trend_of(trace: Array) -> Trend:
    """Return the trend of iterates, (iterations, coordinates)."""
    length = len(trace)
    t = np.arange(length) - 0.5 * (length - 1)
    centred = trace - trace.mean(axis=0)
    slope = t @ centred / (t @ t)
    rest = centred - t[:, None] * slope
    square = (rest * rest).sum(axis=0)
    raw = (rest[1:] * rest[:-1]).sum(axis=0) / np.where(square > 0, square, 1.0)
    # Kendall's bias of an autocorrelation; twice, for the line takes as much away as the mean.
    persistence = np.clip(raw + (2.0 + 4.0 * raw) / length, 0.0, _MOST_PERSISTENT)
    sd = np.sqrt(square / max(length - 2, 1))
    noise = sd * np.sqrt(12.0 / length * (1.0 + persistence) / (1.0 - persistence))
    return Trend(slope * length, noise, persistence)


def smoothing_length(persistence: Array, chains: int, tolerance: float) -> int:
    """Return the iterations after which the Monte Carlo error is `tolerance` standard errors in every coordinate."""
    slowest = float(persistence.max(initial=0.0))
    return int(np.ceil(1.0 / (chains * (1.0 - slowest) * tolerance**2)))
