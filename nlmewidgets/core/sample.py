"""Metropolis–Hastings kernels on the random effects, batched over chains and subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.modes import Modes
from nlmewidgets.core.problem import Problem

__all__ = ["ChainState", "Proposal", "Target", "refresh", "sweep"]


@dataclass(frozen=True, eq=False)
class Target:
    """The conditional density of the etas given the data, at fixed population values.

    Attributes
    ----------
    typical : (slots, blocks) float
    precision, chol : (etas, etas) float
        Ω⁻¹ and the Cholesky factor of Ω.
    sigma : (sigmas,) float
    """

    problem: Problem
    typical: Array
    precision: Array
    chol: Array
    sigma: Array

    def data_part(self, eta: Array) -> tuple[Array, Array]:
        """Return −2 log p(y | η) per chain and subject (+inf where not finite), and the prediction."""
        f = self.problem.predict(self.problem.slots(self.typical, eta))
        value = self.problem.minus2ll(f, self.sigma)
        # fmin takes the number where the other is NaN: a prediction that fails is never accepted.
        return np.fmin(value, np.inf), f

    def prior_part(self, eta: Array) -> Array:
        """Return η'Ω⁻¹η per chain and subject."""
        flat = eta.reshape(len(eta), -1)
        return np.add.reduce((self.precision @ flat) * flat, axis=0).reshape(eta.shape[1:])  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Proposal:
    """An independent normal proposal per subject.

    Attributes
    ----------
    centre : (etas, subjects) float
    precision : (subjects, etas, etas) float
        What the covariances were made of.
    factor, inverse : (etas, etas, 1, subjects) float
        C with covariance C·C', and C⁻¹.
    width : (etas, 1, subjects) float
        Standard deviations, the square roots of the diagonal of C·C'.
    """

    centre: Array
    precision: Array
    factor: Array
    inverse: Array
    width: Array

    widening: ClassVar[float] = 1.2
    """Of the standard deviations: an independent proposal must not be narrower than its target."""

    @classmethod
    def around(cls, centre: Array, precision: Array) -> Proposal:
        """Return the proposal with covariances near precision⁻¹, (subjects, etas, etas)."""
        inverse = np.linalg.cholesky(precision).transpose(0, 2, 1) / cls.widening
        factor = np.linalg.inv(inverse)
        # Contiguous along subjects, the axis everything is batched over.
        spread = np.ascontiguousarray(factor.transpose(1, 2, 0))[:, :, None]
        return cls(
            centre,
            precision,
            spread,
            np.ascontiguousarray(inverse.transpose(1, 2, 0))[:, :, None],
            np.sqrt((spread * spread).sum(axis=1)),
        )

    @classmethod
    def near(cls, modes: Modes, precision: Array) -> Proposal:
        """Return the proposal around modes; with the prior's precision where a mode is no minimum."""
        half = 0.5 * modes.hessian
        convex = np.asarray(np.isfinite(half).all(axis=(1, 2)))
        convex[convex] = np.linalg.eigvalsh(half[convex])[:, 0] > 0
        if not convex.all():
            half = np.where(convex[:, None, None], half, precision)
        return cls.around(np.where(np.isfinite(modes.eta), modes.eta, 0.0), half)

    def draw(self, rng: np.random.Generator, chains: int) -> tuple[Array, Array]:
        """Return etas (etas, chains, subjects) and their −2 log density up to a constant per subject."""
        q, n = self.centre.shape
        z = rng.standard_normal((q, chains, n))
        return self.centre[:, None] + np.add.reduce(self.factor * z, axis=1), np.add.reduce(z * z, axis=0)

    def minus2log(self, eta: Array) -> Array:
        """Return −2 log density up to a constant per subject, (chains, subjects)."""
        z = np.add.reduce(self.inverse * (eta - self.centre[:, None]), axis=1)
        return np.add.reduce(z * z, axis=0)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class ChainState:
    """Where the chains are.

    Attributes
    ----------
    eta : (etas, chains, subjects) float
    data, prior : (chains, subjects) float
        −2 log p(y | η) and η'Ω⁻¹η.
    scale : (etas,) float
        Length of the random-walk steps of each component, as a multiple of the subject's own width there,
        adapted to an acceptance of 0.4.
    block_scale : float
        The same for steps of all components together, in the shape of the subject's proposal.
    f : (chains, obs) float
        The predictions at η: those of accepted proposals are kept, not made again.
    accepted : float
        Share of random-walk proposals accepted in the last sweep that had any.
    met : float
        The same of proposals around the modes: how well these describe the target.
    """

    eta: Array
    data: Array
    prior: Array
    scale: Array
    block_scale: float
    f: Array
    accepted: float = 0.0
    met: float = 0.0

    @classmethod
    def at(cls, target: Target, eta: Array) -> ChainState:
        """Return chains that start at `eta`."""
        q = len(eta)
        data, f = target.data_part(eta)
        return cls(eta, data, target.prior_part(eta), np.full(q, 2.0), 2.0 / max(q, 1) ** 0.5, f)


_TARGET_ACCEPTANCE = 0.4
_ADAPTATION = 0.4


def refresh(target: Target, state: ChainState, eta: Array, f: Array | None = None) -> ChainState:
    """Return the state at `eta` with its densities recomputed, after the population values changed.

    The prediction `f` may be given where it is known.
    """
    if f is None:
        data, f = target.data_part(eta)
    else:
        data = target.problem.minus2ll(f, target.sigma)
    return ChainState(eta, data, target.prior_part(eta), state.scale, state.block_scale, f, state.accepted, state.met)


def sweep(
    target: Target,
    state: ChainState,
    rng: np.random.Generator,
    independent: Proposal | None = None,
    *,
    prior: int = 1,
    mode: int = 1,
    single: int = 1,
    block: int = 1,
    adapt: bool = True,
) -> ChainState:
    """Return the chains after one sweep of four kernels.

    Parameters
    ----------
    target : Target
    state : ChainState
    rng : Generator
    independent : Proposal, optional
        Proposals around each subject's mode.
    prior, mode : int
        Independent proposals from N(0, Ω), and from `independent`.
    single : int
        Random walks in one component, drawn anew for each.
    block : int
        Random walks in all components at once.
    adapt : bool
        Whether the lengths of the random walks follow their acceptance.

    Notes
    -----
    Random walks are measured by the width of each subject's proposal, so that subjects who know much and
    little about an eta accept alike; without proposals by the standard deviations of Ω.

    References
    ----------
    Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001, §3.2.
    Karimi, Lavielle & Moulines (2020), doi:10.1016/j.csda.2019.07.001 (proposals around the mode).
    """
    q, chains, n = state.eta.shape
    eta, data, prior_value, f = state.eta, state.data, state.prior, state.f
    spread = target.problem.subjects.spread
    scale, block_scale, met = state.scale, state.block_scale, state.met
    walked, moves = 0.0, 0
    adaptation = _ADAPTATION if adapt else 0.0

    def moved(proposal: Array, new_prior: Array, given: Array | float = 0.0) -> Array:
        """Accept or not, `given` being −2 log of how likely the present state is proposed from there, and back."""
        nonlocal eta, data, prior_value, f
        new, new_f = target.data_part(proposal)
        uniform = 2.0 * rng.standard_exponential((chains, n))  # −2 log of a uniform number
        accept = new + new_prior + given < data + prior_value + uniform
        eta, data, prior_value = (
            np.where(accept, proposal, eta),
            np.where(accept, new, data),
            np.where(accept, new_prior, prior_value),
        )
        f = np.where(spread(accept), new_f, f)
        return accept

    for _ in range(prior):
        z = rng.standard_normal((q, chains * n))
        new_prior = np.add.reduce(z * z, axis=0).reshape(chains, n)
        moved((target.chol @ z).reshape(eta.shape), new_prior, prior_value - new_prior)

    if independent is not None and mode:
        density = independent.minus2log(eta)
        for _ in range(mode):
            proposal, new_density = independent.draw(rng, chains)
            accept = moved(proposal, target.prior_part(proposal), density - new_density)
            density = np.where(accept, new_density, density)
            met = np.count_nonzero(accept) / (chains * n)

    for _ in range(single):
        k = int(rng.integers(q))
        wide = np.sqrt((target.chol[k] ** 2).sum()) if independent is None else independent.width[k]
        proposal = eta.copy()
        proposal[k] += (scale[k] * wide) * rng.standard_normal((chains, n))
        rate = np.count_nonzero(moved(proposal, target.prior_part(proposal))) / (chains * n)
        scale = scale.copy()
        scale[k] *= 1.0 + adaptation * (rate - _TARGET_ACCEPTANCE)
        walked, moves = walked + rate, moves + 1

    for _ in range(block):
        z = rng.standard_normal(eta.shape)
        shaped = np.tensordot(target.chol, z, 1) if independent is None else (independent.factor * z).sum(axis=1)
        proposal = eta + block_scale * shaped
        rate = np.count_nonzero(moved(proposal, target.prior_part(proposal))) / (chains * n)
        block_scale = block_scale * (1.0 + adaptation * (rate - _TARGET_ACCEPTANCE))
        walked, moves = walked + rate, moves + 1
    accepted = walked / moves if moves else state.accepted
    return ChainState(eta, data, prior_value, scale, block_scale, f, accepted, met)
