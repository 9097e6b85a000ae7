"""Proposals for importance sampling: a multivariate t per subject, and points that fill space evenly.

References
----------
Owen (1995), doi:10.1007/978-1-4612-2552-2_19 (randomised nets).
Owen & Zhou (2000), doi:10.1080/01621459.2000.10473909 (mixtures that defend against light tails).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
from scipy.special import ndtri

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.sample import Target

__all__ = ["StudentT", "scattered", "weighted_draws"]

_BITS = 30
_PRIOR_SHARE = 8
"""One draw from the prior for so many from the t: no weight exceeds the likelihood of the data by a large factor."""
_CHUNK = 50_000
"""Predictions made at once: as many as stay in the processor's cache."""


def scattered(rng: np.random.Generator, dimensions: int, log2_points: int, subjects: int) -> Array:
    """Return uniform numbers (dimensions, points, subjects) that fill the cube evenly for each subject.

    One scrambled Sobol sequence, shifted digitally by random numbers of each subject's own: every point is
    uniform, so means over them are unbiased, and the errors of different subjects are independent.
    """
    from scipy.stats import qmc  # a second to import

    sobol = qmc.Sobol(dimensions, scramble=True, bits=_BITS, seed=rng).random_base2(log2_points)
    digits = (sobol.T * 2.0**_BITS).astype(np.uint32)
    shift = rng.integers(0, 2**_BITS, (dimensions, 1, subjects), dtype=np.uint32)
    return ((digits[:, :, None] ^ shift) + 0.5) * 2.0**-_BITS  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class StudentT:
    """A multivariate t distribution per subject.

    Attributes
    ----------
    centre : (etas, subjects) float
    factor : (etas, etas, subjects) float
        Lower triangular or not, C with scale matrix C·C'.
    inverse : (etas, etas, subjects) float
        C⁻¹.
    df : int
        Degrees of freedom; even, so that the mixing variable is a product of uniform numbers.
    """

    centre: Array
    factor: Array
    inverse: Array
    df: int

    @classmethod
    def around(cls, centre: Array, covariance: Array, df: int) -> StudentT:
        """Return the distribution with scale matrices `covariance` (subjects, etas, etas), positive definite."""
        factor = np.linalg.cholesky(covariance)
        inverse = np.linalg.inv(factor)
        return cls(centre, factor.transpose(1, 2, 0), inverse.transpose(1, 2, 0), df)

    @property
    def dimensions(self) -> int:
        """Uniform numbers that make one draw."""
        return len(self.centre) + self.df // 2

    def draw(self, uniform: Array) -> tuple[Array, Array]:
        """Return draws (etas, draws, subjects) from uniform numbers, and their log density (draws, subjects)."""
        q = len(self.centre)
        z = ndtri(uniform[:q])
        # A chi-square variable with an even df is −2 log of a product of df/2 uniform numbers.
        z *= np.sqrt(self.df / (-2.0 * np.log(uniform[q:]).sum(axis=0)))
        eta = self.centre[:, None] + np.einsum("abn,bkn->akn", self.factor, z)
        return eta, self._log_density((z * z).sum(axis=0))

    def log_density(self, eta: Array) -> Array:
        """Return the log density of etas (etas, draws, subjects), (draws, subjects)."""
        z = np.einsum("abn,bkn->akn", self.inverse, eta - self.centre[:, None])
        return self._log_density((z * z).sum(axis=0))

    def _log_density(self, square: Array) -> Array:
        q, df = len(self.centre), self.df
        constant = lgamma(0.5 * (df + q)) - lgamma(0.5 * df) - 0.5 * q * log(df * pi)
        log_det = np.log(np.abs(np.einsum("aan->an", self.inverse))).sum(axis=0)
        return constant + log_det - 0.5 * (df + q) * np.log1p(square / df)  # type: ignore[no-any-return]


def weighted_draws(
    target: Target, proposal: StudentT, log2_draws: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield etas (etas, draws, subjects), log weights, whose mean over all draws is the likelihood, and predictions.

    2^log2_draws points of the t and an eighth as many of the prior N(0, Ω) are weighted as draws of their
    mixture; a prediction that fails has no weight.  Likelihoods are without the 2π of normal observations.
    """
    q, n = proposal.centre.shape
    own = 2**log2_draws
    prior = max(1, own // _PRIOR_SHARE)
    share = np.log(np.array([own, prior]) / (own + prior))
    log_root = float(np.log(np.diag(target.chol)).sum()) + 0.5 * q * log(2.0 * pi)
    uniform = scattered(rng, proposal.dimensions, log2_draws, n)
    again = scattered(rng, q, prior.bit_length() - 1, n)
    size = max(1, _CHUNK // max(target.problem.n_obs, n))
    for points in (uniform, again):
        for lo in range(0, points.shape[1], size):
            part = points[:, lo : lo + size]
            if points is uniform:
                eta, log_t = proposal.draw(part)
            else:
                eta = np.tensordot(target.chol, ndtri(part), 1)
                log_t = proposal.log_density(eta)
            data, f = target.data_part(eta)
            log_prior = -0.5 * target.prior_part(eta) - log_root
            yield eta, log_prior - 0.5 * data - np.logaddexp(share[0] + log_t, share[1] + log_prior), f
