r"""Information criteria and likelihood-ratio tests, as functions of numbers.

References
----------
Akaike (1974), doi:10.1109/TAC.1974.1100705.  Schwarz (1978), doi:10.1214/aos/1176344136.
Delattre, Lavielle & Poursat (2014), doi:10.1214/14-EJS890 (BICc).
Self & Liang (1987), doi:10.1080/01621459.1987.10478472; Stram & Lee (1994), doi:10.2307/2533455 (tests of variances).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import comb, gammaincc

from nlmewidgets.core.errors import MethodError

__all__ = ["LikelihoodRatio", "aic", "akaike_weights", "bic", "bicc", "lrt"]


def aic(loglik: float, k: int) -> float:
    """Return Akaike's criterion, −2 log L + 2k.

    Examples
    --------
    >>> round(aic(-1450.3, 8), 1), round(aic(-1438.7, 10), 1)
    (2916.6, 2897.4)
    """
    return -2.0 * loglik + 2.0 * k


def bic(loglik: float, k: int, n: int) -> float:
    """Return Schwarz's criterion, −2 log L + k·ln(n); of mixed models here, n counts subjects.

    Examples
    --------
    >>> round(bic(-1450.3, 8, 120), 1), round(bic(-1438.7, 10, 120), 1)
    (2938.9, 2925.3)
    """
    return -2.0 * loglik + k * math.log(n)


def bicc(loglik: float, k_random: int, k_fixed: int, subjects: int, observations: int) -> float:
    r"""Return :math:`-2\log L + k_R \ln N + k_F \ln n_{tot}`, the corrected BIC of mixed models.

    Parameters
    ----------
    loglik : float
    k_random : int
        Variances and covariances of random effects, and covariate effects on parameters that have one.
    k_fixed : int
        The rest: typical values, covariate effects on parameters without random effect, residual parameters.
    subjects, observations : int

    Notes
    -----
    The division is Monolix's, which prints 370.874 for theophylline:

    >>> round(bicc(-339.482 / 2, 3, 5, 12, 120), 3)
    370.874
    """
    return -2.0 * loglik + k_random * math.log(subjects) + k_fixed * math.log(observations)


def akaike_weights(criteria: np.ndarray) -> np.ndarray:
    """Return exp(−Δ/2) of each, summing to 1.

    Examples
    --------
    >>> akaike_weights(np.array([10.0, 10.0, 100.0])).round(3).tolist()
    [0.5, 0.5, 0.0]
    """
    weight = np.exp(-0.5 * (np.asarray(criteria, dtype=float) - np.nanmin(criteria)))
    return np.asarray(weight / np.nansum(weight))


@dataclass(frozen=True)
class LikelihoodRatio:
    """A test of a smaller model within a larger.

    Attributes
    ----------
    statistic : float
        2·(log L of the larger − log L of the smaller).
    df : int
        Difference in the number of parameters.
    boundary : int
        How many of them lie at the end of their range in the smaller model.
    p : float
    """

    statistic: float
    df: int
    boundary: int
    p: float

    @property
    def reference(self) -> str:
        """The distribution the statistic is referred to."""
        if not self.boundary:
            return f"χ²({self.df})"
        inner = self.df - self.boundary
        weights = [comb(self.boundary, j) * 0.5**self.boundary for j in range(self.boundary + 1)]
        return " + ".join(f"{w:.3g}·χ²({inner + j})" for j, w in enumerate(weights))


def lrt(loglik_smaller: float, loglik_larger: float, df: int, boundary: int = 0) -> LikelihoodRatio:
    r"""Return the likelihood-ratio test of nested models.

    Parameters
    ----------
    loglik_smaller, loglik_larger : float
        Maximised log likelihoods.
    df : int
        Parameters the larger model has more.
    boundary : int
        How many of these are variances, zero in the smaller model: the statistic then follows
        :math:`\sum_j \binom{b}{j} 2^{-b} \chi^2_{df-b+j}`, for one variance ½χ²₀ + ½χ²₁, for a random effect with q
        covariances ½χ²_q + ½χ²_{q+1}.  For several correlated effects at once the weights are an approximation.

    Raises
    ------
    MethodError
        If there is nothing to test.

    Examples
    --------
    >>> test = lrt(-1450.3, -1438.7, 2)
    >>> round(test.statistic, 1), test.df, f"{test.p:.2g}"
    (23.2, 2, '9.2e-06')
    >>> lrt(-10.0, -10.0 + 2.7055 / 2, 1, boundary=1).reference
    '0.5·χ²(0) + 0.5·χ²(1)'
    """
    if df < 1 or not 0 <= boundary <= df:
        raise MethodError(
            f"df={df} and boundary={boundary} leave nothing to test; the larger model needs more of both."
        )
    statistic = 2.0 * (loglik_larger - loglik_smaller)
    p = sum(comb(boundary, j) * 0.5**boundary * _upper_tail(statistic, df - boundary + j) for j in range(boundary + 1))
    return LikelihoodRatio(float(statistic), df, boundary, float(p))


def _upper_tail(statistic: float, df: int) -> float:
    """Return P(χ²_df ≥ statistic); χ²₀ is zero for certain."""
    if statistic <= 0:
        return 1.0
    return float(gammaincc(0.5 * df, 0.5 * statistic)) if df else 0.0
