r"""Maximisation of the complete-data likelihood log p(y, η; θ, Ω, σ) from statistics of draws of η.

Mu-referenced thetas (slots s = m(θ) + η) are a generalised least-squares regression of the individual
parameters, exact in one step where m is linear; Omega has a closed form, and so has the scale of a
one-parameter error.  The rest moves by Newton's method on the complete-data likelihood with its averaged
Fisher information.  Stochastic approximation EM averages the statistics over its iterations, importance
sampling EM weighs the draws.

References
----------
Delyon, Lavielle & Moulines (1999), doi:10.1214/aos/1018031103.
Gu & Kong (1998), doi:10.1073/pnas.95.13.7270 (the Newton form).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem, Typical
from nlmewidgets.core.symbols import Sigma
from nlmewidgets.methods.covariance_step import best_omega

__all__ = ["Maximum", "Plan", "Statistics", "maximise"]

_LARGEST_MOVE = 0.7
"""Of an unconstrained coordinate in one Newton step: a factor of two for a positive parameter."""
_LEAST_WEIGHT = 1e-30
"""Of a draw: one with less, far out in a tail, counts for nothing, whatever its derivatives are."""
_LEAST_SIGMA = 1e-5
"""Of its initial value: a part of a residual error that the data do not show runs to zero, and no further."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How each parameter is maximised, decided once from where it enters.

    Attributes
    ----------
    referenced : (etas,) bool
        Slots s = m(θ) + η all of whose thetas act through such slots only.  Given the individual
        parameters, their thetas are a regression of s on m, and the data say nothing more.
    regressed : (m,) int
        The free thetas of these slots: places in the space.
    newton : (p,) int
        The other free thetas, which act on the prediction directly.
    scales : tuple of (int, (m,) int or None)
        Free sigmas of observations whose SD is sigma·v(f): these have a closed form.
    newton_sigma : (s,) int
        Free sigmas moved by Newton steps.
    first_block : (subjects,) int
        The first parameter block of each subject.
    """

    referenced: NDArray[np.bool_]
    regressed: Ints
    newton: Ints
    scales: tuple[tuple[int, Ints | None], ...]
    newton_sigma: Ints
    first_block: Ints

    @classmethod
    def of(cls, problem: Problem, start: Values) -> Plan:
        """Return the plan of a problem."""
        space, q = problem.space, problem.n_eta
        free = [k for k, p in enumerate(space.theta) if not p.fixed]
        label = problem.block_subjects.label
        first_block = np.searchsorted(label, np.arange(problem.n_subjects))
        identity = np.array_equal(problem.loadings, np.eye(q))
        jacobian = problem.typical(start.theta, jacobian=True).jacobian
        assert jacobian is not None
        enters = np.abs(jacobian).max(axis=2) > 0
        steady = np.all(jacobian == jacobian[..., first_block][..., label], axis=2)
        good = {k for k in free if identity and not enters[q:, k].any() and steady[:, k].all() and enters[:, k].any()}
        while True:
            referenced = np.array([identity and all(k in good for k in free if enters[s, k]) for s in range(q)])
            kept = {k for k in good if all(referenced[s] for s in range(q) if enters[s, k])}
            if kept == good:
                break
            good = kept
        sigmas = np.array([k for k, p in enumerate(space.sigma) if not p.fixed], dtype=np.intp)
        scales = tuple(
            (k, rows)
            for k in sigmas
            if space.sigma[k].name not in problem.model.priors
            for good, rows in (_scale_of(problem, start, k),)
            if good
        )
        held = [k for k, _ in scales]
        return cls(
            referenced=referenced.astype(bool),
            regressed=np.array(sorted(good), dtype=np.intp),
            newton=np.array([k for k in free if k not in good], dtype=np.intp),
            scales=scales,
            newton_sigma=np.array([k for k in sigmas if k not in held], dtype=np.intp),
            first_block=first_block.astype(np.intp),
        )

    @staticmethod
    def coordinates(space: ParameterSpace, thetas: list[int], sigmas: list[int]) -> list[int]:
        """Return the places of free thetas and sigmas among the unconstrained coordinates."""
        theta = [k for k, p in enumerate(space.theta) if not p.fixed]
        sigma = [k for k, p in enumerate(space.sigma) if not p.fixed]
        start = len(space.x_names) - len(sigma)
        return [*map(theta.index, thetas), *(start + sigma.index(k) for k in sigmas)]

    def mean(self, typical: Array) -> Array:
        """Return the prior mean of the statistic u: m for referenced slots, 0 for plain etas."""
        own = self.by_subject(typical[: len(self.referenced)])
        return own if self._all_referenced else np.where(self.referenced[:, None], own, 0.0)

    def by_subject(self, x: Array) -> Array:
        """Return what is the same in every block of a subject, (..., subjects) of (..., blocks)."""
        return x if x.shape[-1] == len(self.first_block) else x[..., self.first_block]

    @cached_property
    def _all_referenced(self) -> bool:
        return bool(self.referenced.all())


def _scale_of(problem: Problem, start: Values, k: int) -> tuple[bool, Ints | None]:
    """Return whether sigma k is the scale of all observations it enters, and which these are (None: all)."""
    name = problem.space.sigma[k].name
    doubled = start.sigma * np.where(np.arange(len(start.sigma)) == k, 2.0, 1.0)
    found = []
    for group in problem.groups:
        used, rows = {s.name for s in group.program.observation.atoms(Sigma)}, group.rows
        if name not in used:
            continue
        if used != {name} or not group.normal or problem.paired_rows[slice(None) if rows is None else rows].any():
            return False, None
        f = np.linspace(0.5, 2.0, len(group.y))
        once, twice = (group("score", f, sigma)[0][0] for sigma in (start.sigma, doubled))
        if not np.allclose(once, 2.0 * twice, rtol=1e-12, equal_nan=True):
            return False, None
        found.append(group.rows)
    if not found:
        return False, None
    whole = [rows for rows in found if rows is not None]
    return True, np.concatenate(whole) if whole else None


@dataclass(frozen=True, eq=False)
class Statistics:
    """Stochastic approximations of the complete-data statistics.

    Attributes
    ----------
    u : (etas, subjects) float
        E[u_i], with u = s for referenced slots and u = η for the others.
    uu : (etas, etas) float
        Σ_i E[u_i u_i'].
    squares : (scales,) float
        E of the mean of (y − f)²/v², for SD = sigma·v.
    slope, information : (p,), (p, p) float
        Score (of these chains) and averaged Fisher information of the Newton coordinates.
    """

    u: Array
    uu: Array
    squares: Array
    slope: Array
    information: Array

    @classmethod
    def empty(cls, problem: Problem, plan: Plan) -> Statistics:
        """Return zeros of the right shapes."""
        p, q = len(plan.newton) + len(plan.newton_sigma), problem.n_eta
        return cls(
            np.zeros((q, problem.n_subjects)),
            np.zeros((q, q)),
            np.zeros(len(plan.scales)),
            np.zeros(p),
            np.zeros((p, p)),
        )

    @classmethod
    def of(
        cls,
        problem: Problem,
        plan: Plan,
        values: Values,
        typical: Array,
        eta: Array,
        f: Array,
        weights: Array | None = None,
    ) -> Statistics:
        """Return the statistics of draws of the random effects.

        Parameters
        ----------
        problem : Problem
        plan : Plan
        values : Values
            The population values of the draws.
        typical : (slots, blocks) float
            The typical slots at these values.
        eta : (etas, draws, subjects) float
        f : (draws, obs) float
            The predictions of the draws.
        weights : (draws, subjects) float, optional
            Of the draws, summing to 1 over each subject's; alike where omitted.  Statistics are linear in
            the weights: those of parts of the draws add up to those of all.
        """
        draws = eta.shape[1]
        u = eta + plan.mean(typical)[:, None, :]
        if problem.occasions.within:  # an occasion that a subject does not have says nothing
            u = u * problem.occasions.present[:, None, :]
        flat = u.reshape(len(u), -1)
        if weights is None:
            first, second = np.add.reduce(u, axis=1) / draws, flat @ flat.T / draws
        else:
            weighted_u = u * weights
            first, second = weighted_u.sum(axis=1), weighted_u.reshape(len(u), -1) @ flat.T
        per_obs = None if weights is None else problem.subjects.spread(weights)
        squares = np.empty(len(plan.scales))
        if plan.scales:
            score = problem.score(f, values.sigma)
            for place, (k, rows) in enumerate(plan.scales):
                own = score if rows is None else score[..., rows]
                if per_obs is None:
                    total = float(own.ravel() @ own.ravel()) / own.size
                else:
                    of_own = per_obs if rows is None else per_obs[..., rows]
                    own = np.where(of_own > _LEAST_WEIGHT, own, 0.0)
                    total = float((own * of_own).ravel() @ own.ravel()) / own.shape[-1]
                squares[place] = total * values.sigma[k] ** 2
        if not len(plan.newton) and not len(plan.newton_sigma):
            return cls(first, second, squares, np.zeros(0), np.zeros((0, 0)))
        return cls(first, second, squares, *_newton_terms(problem, plan, values, typical, eta, per_obs))

    def __add__(self, other: Statistics) -> Statistics:
        """Return the statistics of both sets of draws, whose weights sum to 1 together."""
        return Statistics(
            self.u + other.u,
            self.uu + other.uu,
            self.squares + other.squares,
            self.slope + other.slope,
            self.information + other.information,
        )

    def towards(self, fresh: Statistics, gamma: float) -> Statistics:
        """Return these statistics moved by γ towards fresh ones, whose slope is taken as it is."""
        return Statistics(
            self.u + gamma * (fresh.u - self.u),
            self.uu + gamma * (fresh.uu - self.uu),
            self.squares + gamma * (fresh.squares - self.squares),
            fresh.slope,
            self.information + gamma * (fresh.information - self.information),
        )


def _newton_terms(
    problem: Problem, plan: Plan, values: Values, typical: Array, eta: Array, weights: Array | None
) -> tuple[Array, Array]:
    """Return gradient and Fisher information (of −2 log p(y | η), averaged over draws), unconstrained."""
    space = problem.space
    f, first, _ = problem.structure(problem.slots(typical, eta), 1 if len(plan.newton) else 0)
    terms = problem.newton_terms(f, values.sigma, gradient=True)
    r = problem.variance(f, values.sigma)
    draws = eta.shape[1]
    along_f = np.zeros((0, *f.shape))
    if len(plan.newton):
        jacobian = problem.typical(values.theta, jacobian=True).jacobian
        assert jacobian is not None
        assert first is not None
        slope = np.array([space.theta[k].slope(values.theta[k]) for k in plan.newton])
        per_obs = problem.blocks.spread(jacobian[:, plan.newton] * slope[None, :, None])
        along_f = np.einsum("sco,sto->tco", first, per_obs)
    sigma_slope = np.array([space.sigma[k].slope(values.sigma[k]) for k in plan.newton_sigma]).reshape(-1, 1, 1)

    def full(x: Array | None) -> Array:
        shape = (len(space.sigma), *f.shape)
        return np.zeros(shape) if x is None else np.broadcast_to(x, shape)

    gradient = np.concatenate([terms.f * along_f, full(terms.sigma)[plan.newton_sigma] * sigma_slope])
    on_variance = np.concatenate(
        [along_f * (0.0 if r.f is None else r.f), full(r.sigma)[plan.newton_sigma] * sigma_slope]
    )
    p = len(gradient)
    weight = 1.0 / np.broadcast_to(r.value, f.shape)
    if weights is not None:
        seen = weights > _LEAST_WEIGHT
        if not seen.all():  # out there derivatives may be anything, and 0·NaN is NaN
            gradient, along_f = np.where(seen, gradient, 0.0), np.where(seen, along_f, 0.0)
            on_variance, weight = np.where(seen, on_variance, 0.0), np.where(seen, weight, 0.0)
    squared = gradient if weights is None else gradient * np.sqrt(weights)
    if weights is not None:
        gradient, along_f, on_variance = gradient * weights, along_f * np.sqrt(weights), on_variance * np.sqrt(weights)
        draws = 1
    plain = problem.plain_rows & ~problem.paired_rows
    if not plain.all():
        weight, on_variance = np.where(plain, weight, 0.0), np.where(plain, on_variance, 0.0)
    relative = (on_variance * weight).reshape(p, -1)
    information = relative @ relative.T
    if len(plan.newton):
        a = along_f.reshape(len(along_f), -1)
        information[: len(a), : len(a)] += 2.0 * (a * weight.ravel()) @ a.T
    if not plain.all():  # the squared score of each observation estimates its information, whatever its density
        if problem.pairs:  # the score of a pair is that of both its members
            squared = np.array(squared)
        for pair in problem.pairs:
            one, two = pair.rows
            squared[..., one], squared[..., two] = squared[..., one] + squared[..., two], 0.0
        own = squared[..., ~plain].reshape(p, -1)
        information += 0.5 * own @ own.T
    return gradient.reshape(p, -1).sum(axis=1) / draws, information / draws


class Maximum(NamedTuple):
    """Where the complete-data likelihood is largest: the values, and m(θ) there with its Jacobian."""

    values: Values
    typical: Typical


def maximise(
    problem: Problem,
    plan: Plan,
    values: Values,
    statistics: Statistics,
    *,
    typical: Typical | None = None,
    precision: Array | None = None,
    step: float = 1.0,
    floor: float = 0.0,
) -> Maximum:
    """Return the values that maximise the complete-data likelihood, given its statistics.

    Parameters
    ----------
    problem : Problem
    plan : Plan
    values : Values
        Those the statistics were taken at.
    statistics : Statistics
    typical : Typical, optional
        m(θ) at these values with its Jacobian, where it is known.
    precision : (etas, etas) float, optional
        Ω⁻¹ there.
    step : float
        Share of the Newton step that coordinates without closed form go.
    floor : float
        A variance becomes no smaller than this share of its present value.
    """
    space = problem.space
    theta, sigma, omega = values.theta.copy(), values.sigma.copy(), values.omega
    move = np.zeros(len(plan.newton) + len(plan.newton_sigma))
    prior = None if problem.penalty is None else problem.penalty.on_scalars.along(values)
    if len(move):
        slope, information = statistics.slope, statistics.information
        if prior is not None:
            rows = plan.coordinates(space, [*plan.newton], [*plan.newton_sigma])
            slope, information = slope + prior.gradient[rows], information + prior.curvature[np.ix_(rows, rows)]
        low, high = np.full(len(move), -_LARGEST_MOVE), np.full(len(move), _LARGEST_MOVE)
        for place, k in enumerate(plan.newton_sigma, len(plan.newton)):
            least = max(math.sqrt(floor) * sigma[k], _LEAST_SIGMA * space.initial.sigma[k])
            low[place] = max(low[place], min(space.sigma[k].free(least) - space.sigma[k].free(sigma[k]), 0.0))
        move = _best_move(information / step, slope, low, high)
    if len(plan.regressed):
        if precision is None:
            precision = np.linalg.inv(problem.occasions.expand(omega))
        here = problem.typical(theta, jacobian=True) if typical is None else typical
        assert here.jacobian is not None
        slope = np.array([space.theta[k].slope(theta[k]) for k in plan.regressed])
        m = len(plan.regressed)
        along = plan.by_subject(here.jacobian[: problem.n_eta, plan.regressed])
        design = (along * slope[None, :, None]).transpose(1, 0, 2).reshape(m, problem.n_eta, -1)
        weighted = (precision @ design).reshape(m, -1)
        rest = statistics.u - plan.mean(here.slots)
        normal, right = weighted @ design.reshape(m, -1).T, weighted @ rest.ravel()
        if prior is not None:
            rows = plan.coordinates(space, [*plan.regressed], [])
            normal, right = normal + 0.5 * prior.curvature[np.ix_(rows, rows)], right - 0.5 * prior.gradient[rows]
        regressed = _solve(normal, right)
        for k, d in zip(plan.regressed, regressed, strict=True):
            theta[k] = space.theta[k].natural(space.theta[k].free(theta[k]) + d)
    for k, d in zip(plan.newton, move, strict=False):
        theta[k] = space.theta[k].natural(space.theta[k].free(theta[k]) + d)
    for k, d in zip(plan.newton_sigma, move[len(plan.newton) :], strict=True):
        sigma[k] = space.sigma[k].natural(space.sigma[k].free(sigma[k]) + d)
    new = problem.typical(theta, jacobian=True)
    if space.omega_map.rows:
        mean = plan.mean(new.slots)
        cross = statistics.u @ mean.T
        squares = problem.occasions.collapse(statistics.uu - cross - cross.T + mean @ mean.T)
        penalty = None
        if problem.penalty is not None and problem.penalty.on_omega is not None:
            penalty = partial(problem.penalty.on_omega.of_omega, Values(theta, omega, sigma))
        omega = best_omega(space, omega, squares, problem.occasions.draws, floor, penalty)
    for (k, _), square in zip(plan.scales, statistics.squares, strict=True):
        sigma[k] = math.sqrt(max(square, floor * sigma[k] ** 2))
    return Maximum(Values(theta, omega, sigma), new)


def _best_move(matrix: Array, slope: Array, low: Array, high: Array) -> Array:
    """Return the minimum of ½ m'Mm + g'm within bounds, by fixing the coordinates that run against theirs.

    The others do not make up for what a coordinate at its bound cannot do: were the whole step cut instead,
    a vanishing part of a residual error would bias the rest of it.
    """
    move, held = np.zeros(len(slope)), np.zeros(len(slope), dtype=bool)
    for _ in range(len(slope)):
        rest = ~held
        right = -slope[rest] - matrix[np.ix_(rest, held)] @ move[held]
        move[rest] = np.nan_to_num(_solve(matrix[np.ix_(rest, rest)], right))
        beyond = rest & ((move < low) | (move > high))
        if not beyond.any():
            break
        move, held = np.clip(move, low, high), held | beyond
    return np.clip(move, low, high)


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a normal equation in coordinates of unit information; the least-norm solution where it is singular."""
    scale = np.sqrt(matrix.diagonal())
    scale = np.where(scale > 0, scale, np.inf)  # a coordinate without information stays where it is
    scaled = matrix / scale[:, None] / scale
    scaled.flat[:: len(scaled) + 1] = 1.0
    try:
        return np.asarray(np.linalg.solve(scaled, right / scale) / scale)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(scaled, right / scale, rcond=1e-12)[0] / scale)
