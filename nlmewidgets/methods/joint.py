r"""The joint posterior density of population parameters and random effects, and its gradient.

Along unconstrained coordinates x (theta, the Cholesky factor L of Omega, sigma) and u (random effects),

.. math:: \log p = -\tfrac12 \sum_{ij} L(y_{ij}, f_{ij}(\eta_i)) + \sum_i \log N(\eta_i; 0, \Omega)
          + \log p(\theta, \Omega, \sigma) + \log |\partial(\theta, \Omega, \sigma)/\partial x| .

A prior is a density of the parameter as it is named, so the Jacobian makes it one of x; the mode of a
penalised fit contains none.

The coordinates u of the random effects are those in which a linear model's are independent of everything:
with the information :math:`A_i` that subject i's data have on its effects, and the weighted data :math:`b_i`,
both taken once at a reference point, their conditional distribution is about Gaussian with

.. math:: P_i = A_i + \Omega^{-1} = K_i K_i', \qquad
          \eta_i = P_i^{-1} \{b_i - A_i (m_i(\theta) - m_i^0)\} + K_i^{-T} u_i ,

m being the typical value that η is added to.  Without information this is the non-centred η = Lu, with much of
it the centred one, each subject and effect between them as its data say, also while Ω moves: no funnel remains.
The map is exact whatever A and b are; they only decide how quickly the chains move.  Everything is batched over
points.

References
----------
Papaspiliopoulos, Roberts & Sköld (2007), doi:10.1214/088342307000000014 (centred, non-centred and between).
Kleppe (2018), doi:10.48550/arXiv.1806.02068 (coordinates rescaled by the conditional precision).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.default_priors import Priors
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.log_prior import LogPrior
from nlmewidgets.methods.unconstrained import Population, Unconstrained

__all__ = ["Joint"]


class _Effects(NamedTuple):
    """Random effects at a batch of points, and what they were made from; matrices (points, subjects, etas, etas)."""

    eta: Array  # (points, subjects, etas)
    chol: Array  # L of a subject's effects, (points, etas, etas)
    inverse: Array  # L⁻¹
    precision: Array  # Ω⁻¹
    root: Array  # K
    back: Array  # K⁻¹
    half: Array  # K⁻¹ times the weighted data


def _times(matrix: Array, vector: Array) -> Array:
    """Return Mv, of vectors (..., etas)."""
    return np.asarray((matrix @ vector[..., None])[..., 0])


def _times_transposed(matrix: Array, vector: Array) -> Array:
    """Return M'v."""
    return np.asarray((vector[..., None, :] @ matrix)[..., 0, :])


@dataclass(frozen=True, eq=False)
class Joint:
    """The log posterior density of a problem.

    Attributes
    ----------
    problem : Problem
    base : Values
        Where fixed parameters are.
    priors : Priors
        Complete: every free parameter has one.
    information : (subjects, etas, etas) float
        A, positive semi-definite.
    weighted : (subjects, etas) float
        b.
    reference : (etas, subjects) float
        m at the reference point.
    """

    problem: Problem
    base: Values
    priors: Priors
    information: Array
    weighted: Array
    reference: Array

    @classmethod
    def around(cls, problem: Problem, base: Values, priors: Priors, values: Values) -> tuple[Joint, Array]:
        """Return the density with coordinates of the effects by the modes at some values, and these modes."""
        q, n = problem.n_eta, problem.n_subjects
        omega = problem.occasions.expand(values.omega)
        precision = np.linalg.inv(omega) if q else omega
        typical = problem.typical(values.theta).slots
        with np.errstate(all="ignore"):
            modes = find_modes(problem, typical, precision, values.sigma, None, tolerance=1e-6)
        eta = np.where(np.isfinite(modes.eta), modes.eta, 0.0)
        information = 0.5 * modes.information - precision
        good = np.asarray(np.isfinite(information).all(axis=(1, 2)) & np.isfinite(modes.eta).all(axis=0))
        information = np.where(good[:, None, None], information, 0.0)
        weighted = np.einsum("nab,bn->na", information + precision, eta)
        empty = cls(problem, base, priors, information, weighted, np.zeros((q, n)))
        return replace(empty, reference=empty._shift(typical)), eta

    # -------------------------------------------------------------------- layout

    @cached_property
    def coordinates(self) -> Unconstrained:
        """Those of the population parameters; they come first."""
        return Unconstrained(self.problem.space, self.base)

    @cached_property
    def _prior(self) -> LogPrior:
        return LogPrior(self.coordinates, self.priors)

    @property
    def n_population(self) -> int:
        """Number of population coordinates."""
        return self.coordinates.size

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.n_population + self.problem.n_eta * self.problem.n_subjects

    @cached_property
    def _gather(self) -> tuple[Ints, Array, Array]:
        """For the random effects of a subject: the owner of each, which pairs are in one block, one-hot owners."""
        occasions, blocks = self.problem.occasions, self.problem.space.blocks
        label = np.empty(len(self.coordinates.owner), dtype=np.intp)
        for number, block in enumerate(blocks):
            label[list(block)] = number
        own, copy = label[occasions.source], occasions.copy
        together = (own[:, None] == own) & (copy[:, None] == copy)
        place = self.coordinates.owner[occasions.source]
        return place, together.astype(float), np.eye(len(self.coordinates.owner))[place]

    # ------------------------------------------------------------ random effects

    @cached_property
    def _pull(self) -> Array | None:
        """B⁺, which says what of the typical slots an effect is added to; None for the identity."""
        loadings = self.problem.loadings
        if loadings.shape[0] == loadings.shape[1] and np.array_equal(loadings, np.eye(len(loadings))):
            return None
        return np.linalg.pinv(loadings)

    @cached_property
    def _first_block(self) -> Ints:
        return np.searchsorted(self.problem.block_subjects.label, np.arange(self.problem.n_subjects)).astype(np.intp)

    def _shift(self, typical: Array) -> Array:
        """Return c(θ), (etas, ..., subjects), from typical slots or their Jacobian."""
        part = typical[: len(self.problem.loadings)][..., self._first_block]
        return part if self._pull is None else np.tensordot(self._pull, part, 1)

    def _effects(self, at: Population, typical: Array, u: Array) -> _Effects:
        """Return η at coordinates u (points, etas, subjects), with what their derivatives need."""
        place, together, _ = self._gather
        chol = at.chol[:, place[:, None], place] * together
        inverse = np.linalg.inv(chol)
        precision = inverse.transpose(0, 2, 1) @ inverse
        root = np.linalg.cholesky(self.information + precision[:, None])
        back = np.linalg.inv(root)  # K⁻¹, (points, subjects, etas, etas)
        moved = (self._shift(typical) - self.reference[:, None]).transpose(1, 2, 0)  # (points, subjects, etas)
        data = self.weighted - _times(self.information, moved)
        half = _times(back, data)
        eta = _times_transposed(back, half + u.transpose(0, 2, 1))
        return _Effects(eta, chol, inverse, precision, root, back, half)

    def _split(self, points: Array) -> tuple[Array, Array]:
        q, n = self.problem.n_eta, self.problem.n_subjects
        return points[:, : self.n_population], points[:, self.n_population :].reshape(len(points), q, n)

    # ------------------------------------------------------------------- density

    def __call__(self, points: Array) -> tuple[Array, Array, Array]:
        """Return log p, its gradient, and −2 log p(y | η), at points (points, size); −inf where there is no number."""
        with np.errstate(all="ignore"):
            value, gradient, deviance = self._evaluate(points)
            bad = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1))
        if bad.any():
            value[bad], gradient[bad] = -np.inf, 0.0
        return value, gradient, deviance

    def _evaluate(self, points: Array) -> tuple[Array, Array, Array]:
        problem = self.problem
        x, u = self._split(points)
        at = self.coordinates(x)
        typical = problem.typical(at.theta, jacobian=True)
        assert typical.jacobian is not None
        effects = self._effects(at, typical.slots, u)
        eta = effects.eta.transpose(2, 0, 1)  # (etas, points, subjects)

        f, first, _ = problem.structure(problem.slots(typical.slots, np.ascontiguousarray(eta)), 1)
        assert first is not None
        shape = (len(points), problem.n_obs)
        own, slope, along = problem.first_terms(np.broadcast_to(f, shape), at.sigma[:, :, None])
        deviance = np.broadcast_to(own, shape).sum(axis=-1)
        value = -0.5 * deviance
        per_block = problem.blocks(-0.5 * slope * first)  # (slots, points, blocks)
        on_theta = np.einsum("scb,stcb->tc", per_block, typical.jacobian)
        on_sigma = np.zeros_like(at.sigma) if along is None else -0.5 * along.sum(axis=-1)
        on_eta = problem.block_subjects(per_block[: len(problem.loadings)])
        if self._pull is not None:
            on_eta = np.tensordot(problem.loadings.T, on_eta, 1)
        own_value, on_u, on_shift, on_chol = self._pull_effects(effects, on_eta.transpose(1, 2, 0))
        value = value + own_value
        if u.size:
            on_theta = on_theta + np.einsum("cna,atcn->tc", on_shift, self._shift(typical.jacobian))

        _, together, hot = self._gather
        on_omega = np.tril(hot.T @ (on_chol * together) @ hot) if len(hot) else np.zeros_like(at.chol)
        theta, sigma = self.coordinates.free
        on_scalar = np.concatenate([on_theta[theta], on_sigma[sigma]]) * at.slope
        # The copies of a block have been added to their owners: what priors add below is along the model's Omega.
        prior = np.zeros_like(on_omega)
        value = value + self._prior.add(x, at, on_scalar, prior)
        gradient = np.empty_like(points)
        n_theta = len(theta)
        gradient[:, :n_theta] = on_scalar[:n_theta].T
        gradient[:, n_theta : self.n_population - len(sigma)] = self.coordinates.along_omega(at.chol, on_omega + prior)
        gradient[:, self.n_population - len(sigma) : self.n_population] = on_scalar[n_theta:].T
        gradient[:, self.n_population :] = on_u.transpose(0, 2, 1).reshape(len(points), -1)
        return value, gradient, deviance

    def _pull_effects(self, at: _Effects, on_eta: Array) -> tuple[Array, Array, Array, Array]:
        r"""Return the log prior of η with its Jacobian, and derivatives along u, m(θ) and L.

        Those of all that depends on η come by :math:`K'\eta = K^{-1}b + u`; those along K are carried to P by the
        derivative of a Cholesky factor, :math:`\bar P = K^{-T}\,\mathrm{sym}\,\Phi(K'\bar K)\,K^{-1}` with Φ the
        lower triangle, its diagonal halved.

        References
        ----------
        Murray (2016), doi:10.48550/arXiv.1602.07527 (differentiation of the Cholesky decomposition).
        """
        points, n, q = at.eta.shape
        if not at.eta.size:
            return np.zeros(points), on_eta, on_eta, np.zeros_like(at.chol)
        white = at.eta @ at.inverse.transpose(0, 2, 1)  # (points, subjects, etas): L⁻¹η
        diagonal = np.arange(q)
        own = at.root[..., diagonal, diagonal]
        logs = np.log(at.chol[:, diagonal, diagonal]).sum(axis=1)
        value = -0.5 * (white * white).sum(axis=(1, 2)) - n * logs - np.log(own).sum(axis=(1, 2))
        on_eta = on_eta - white @ at.inverse
        on_u = _times(at.back, on_eta)
        on_data = _times_transposed(at.back, on_u)
        on_root = -at.eta[..., :, None] * on_u[..., None, :] - on_data[..., :, None] * at.half[..., None, :]
        on_root[..., diagonal, diagonal] -= 1.0 / own
        lower = np.tril(at.root.swapaxes(-1, -2) @ np.tril(on_root))
        lower[..., diagonal, diagonal] *= 0.5
        symmetric = 0.5 * (lower + lower.swapaxes(-1, -2))
        on_precision = (at.back.swapaxes(-1, -2) @ symmetric @ at.back).sum(axis=1)
        back = at.inverse.transpose(0, 2, 1)
        on_chol = back @ (white.transpose(0, 2, 1) @ white) - 2.0 * (at.precision @ on_precision @ back)
        on_chol[:, diagonal, diagonal] -= n / at.chol[:, diagonal, diagonal]
        return value, on_u, -_times(self.information, on_data), on_chol

    # ------------------------------------------------------------- to and fro

    def natural(self, points: Array) -> Array:
        """Return the population parameters at points, (points, parameters) in the order of `space.names`."""
        space = self.problem.space
        at = self.coordinates(points[:, : self.n_population])
        sd = np.sqrt((at.chol**2).sum(axis=2)).T
        omega = at.chol @ at.chol.transpose(0, 2, 1)
        first = [space.omega_names.index(name) for name in dict.fromkeys(space.omega_names)]
        pairs = [omega[:, i, j] / (sd[i] * sd[j]) for _, i, j in space.correlations]
        return np.concatenate([at.theta, sd[first], np.array(pairs).reshape(-1, len(points)), at.sigma]).T

    def etas(self, points: Array) -> Array:
        """Return η at points, (points, etas, subjects)."""
        x, u = self._split(points)
        at = self.coordinates(x)
        return self._effects(at, self.problem.typical(at.theta).slots, u).eta.transpose(0, 2, 1)

    def point(self, values: Values, eta: Array) -> Array:
        """Return the coordinates of population values and etas (etas, subjects), (size,)."""
        x = self.problem.space.pack(values)
        at = self.coordinates(x[None])
        effects = self._effects(at, self.problem.typical(at.theta).slots, np.zeros((1, *eta.shape)))
        u = _times_transposed(effects.root, eta.T) - effects.half
        return np.concatenate([x, u[0].T.ravel()])
