r"""Stochastic approximation of the EM algorithm.

Iteration k: *simulation* moves the chains of η towards p(η | y; current values); *stochastic
approximation* updates sufficient statistics, :math:`s_k = s_{k-1} + \gamma_k (S(\eta^{(k)}) - s_{k-1})`;
*maximisation* sets the population values from them.

Mu-referenced thetas (slots s = m(θ) + η) are a generalised least-squares regression of the
individual parameters, exact in one step where m is linear; Omega has a closed form, and so has the
scale of a one-parameter error.  The rest moves by a stochastic approximation of Newton's method on
the complete-data likelihood with its averaged Fisher information.

References
----------
Delyon, Lavielle & Moulines (1999), doi:10.1214/aos/1018031103.
Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001.
Gu & Kong (1998), doi:10.1073/pnas.95.13.7270 (the Newton form).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.sample import ChainState, Proposal, Target, refresh, sweep
from nlmewidgets.core.symbols import Sigma
from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.covariance_step import best_omega
from nlmewidgets.methods.marginal import at_the_edge, log_det, precision_of
from nlmewidgets.methods.quadrature import affordable_nodes, evaluate_quadrature

__all__ = ["SAEM"]


_CHAINS_IN_TOTAL = 200
_LARGEST_MOVE = 0.7
"""Of an unconstrained coordinate in one Newton step: a factor of two for a positive parameter."""


@dataclass(frozen=True)
class SAEM(Method):
    """Stochastic approximation EM: exact maximum likelihood by simulation.

    Parameters
    ----------
    burn_in : int
        Sweeps of the chains before the first update.
    explore : int
        Iterations with step size γ = 1, which find the neighbourhood of the maximum.
    smooth : int
        Iterations with γ_k = 1/k, which average the noise away.
    chains : int
        Chains per subject; 0: as many as make 200 in total, which on so few numbers cost little more than one.
    annealing : float
        During the first half of `explore` a variance may shrink by this factor an iteration at most.
    objective_every : int
        Iterations between evaluations of the Laplace objective for display.
    """

    burn_in: int = 5
    explore: int = 300
    smooth: int = 100
    chains: int = 0
    annealing: float = 0.95
    objective_every: int = 20

    name: ClassVar[str] = "saem"
    title: ClassVar[str] = "SAEM"
    summary: ClassVar[str] = (
        "Exact maximum likelihood by simulating the random effects; robust to poor starting values."
    )

    def refusal(self, problem: Problem) -> str | None:
        """SAEM needs random effects."""
        if not problem.n_eta:
            return "SAEM simulates random effects and this model has none; use method='focei'."
        return None

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return −2 log L by quadrature: SAEM maximises the likelihood itself."""
        return evaluate_quadrature(problem, values, affordable_nodes(problem)).ofv

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield every iteration, from 0 (the start) to `explore` + `smooth`."""
        if min(self.burn_in, self.explore, self.smooth, self.chains) < 0 or self.explore + self.smooth < 1:
            raise MethodError("SAEM needs non-negative phase lengths and at least one iteration.")
        space, n, q = problem.space, problem.n_subjects, problem.n_eta
        chains = self.chains or max(1, math.ceil(_CHAINS_IN_TOTAL / n))
        plan = _Plan.of(problem, start)
        values = start
        with np.errstate(all="ignore"):
            ofv, centre = _look(problem, values, None)
            target = _target(problem, values)
            eta = np.tensordot(target.chol, 0.5 * rng.standard_normal((q, chains, n)), 1)
            state = ChainState(
                eta, *_empty(chains, n), 0.5 * np.sqrt(np.diag(problem.occasions.expand(values.omega))), 1.0
            )
            state = refresh(target, state, eta)
            for _ in range(self.burn_in):
                state = sweep(target, state, rng, centre)
        mean = state.eta.mean(axis=1)
        statistics = _Statistics.empty(problem, plan)
        total = self.explore + self.smooth
        yield self._iteration(0, "burn-in", values, ofv, mean, space, total, 1.0, state)
        for k in range(1, total + 1):
            exploring = k <= self.explore
            gamma = 1.0 if exploring else 1.0 / (k - self.explore)
            floor = self.annealing if k <= self.explore // 2 else 0.0
            with np.errstate(all="ignore"):
                # The proposals around the modes do most of the work; the others take turns to reach what they miss.
                turn = k % 3
                state = sweep(target, state, rng, centre, prior=turn == 0, single=turn == 1, block=turn == 2)
                f = problem.predict(problem.slots(target.typical, state.eta))
                statistics = statistics.updated(problem, plan, values, target, state, f, gamma)
                new = _maximise(problem, plan, values, target, statistics, gamma, floor)
                moved = _target(problem, new)
                # Individual parameters stay where they are: a mu-referenced theta moves its etas.
                eta = state.eta + (plan.mean(target.typical) - plan.mean(moved.typical))[:, None, :]
                mean = mean + (1.0 / max(1, k - self.explore)) * (eta.mean(axis=1) - mean)
                values, target = new, moved
                state = refresh(target, state, eta, None if len(plan.newton) else f)
                if k % self.objective_every == 0 or k in (1, 2, 5, 10) or k == total:
                    ofv, centre = _look(problem, values, centre)
            phase = "explore" if exploring else "smooth"
            last = self._iteration(k, phase, values, ofv, mean, space, total, gamma, state)
            if problem.penalty is not None:
                last = replace(last, details={**last.details, "prior": problem.penalty.value(values)})
            yield last

    def _iteration(
        self,
        k: int,
        phase: str,
        values: Values,
        ofv: float,
        eta: Array,
        space: ParameterSpace,
        total: int,
        gamma: float,
        state: ChainState,
    ) -> Iteration:
        done = k == total
        message = ""
        if done:
            message = f"Completed {self.explore} exploring and {self.smooth} smoothing iterations."
            message += at_the_edge(space, values)
        return Iteration(
            k=k,
            phase=phase,
            values=values,
            ofv=ofv,
            eta=eta,
            space=space,
            ofv_by="laplace",
            status="converged" if done else "running",
            message=message,
            progress=k / total,
            details={"gamma": gamma, "acceptance": state.accepted},
        )

    def finish(self, problem: Problem, last: Iteration) -> Iteration:
        """Return the iteration with −2 log L by quadrature and the modes as etas."""
        nodes = affordable_nodes(problem)
        result = evaluate_quadrature(problem, last.values, nodes)
        by = "laplace" if nodes == 1 else f"agq, {nodes} nodes"
        return replace(last, ofv=result.ofv, ofv_by=by, eta=result.eta)


def _empty(chains: int, n: int) -> tuple[Array, Array]:
    return np.zeros((chains, n)), np.zeros((chains, n))


def _look(problem: Problem, values: Values, last: Proposal | None) -> tuple[float, Proposal]:
    """Return the Laplace objective and proposals around the modes, both for the price of the modes."""
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    start = None if last is None else last.centre
    typical = problem.typical(values.theta).slots
    modes = find_modes(problem, typical, precision, values.sigma, start, tolerance=1e-6)
    half = 0.5 * modes.hessian
    ofv = float((modes.value + log_omega + log_det(half)).sum())
    convex = np.asarray(np.isfinite(half).all(axis=(1, 2)))
    convex[convex] = np.linalg.eigvalsh(half[convex])[:, 0] > 0
    if not convex.all():
        # Where the mode is no minimum, propose from the prior's scale instead.
        half = np.where(convex[:, None, None], half, precision)
    return ofv, Proposal.around(np.where(np.isfinite(modes.eta), modes.eta, 0.0), half)


def _target(problem: Problem, values: Values) -> Target:
    omega = problem.occasions.expand(values.omega)
    return Target(
        problem,
        problem.typical(values.theta).slots,
        np.linalg.inv(omega),
        np.linalg.cholesky(omega),
        values.sigma,
    )


# ------------------------------------------------------------------- what moves how


@dataclass(frozen=True, eq=False)
class _Plan:
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
    def of(cls, problem: Problem, start: Values) -> _Plan:
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
        own = typical[: len(self.referenced), self.first_block]
        return np.where(self.referenced[:, None], own, 0.0)


def _scale_of(problem: Problem, start: Values, k: int) -> tuple[bool, Ints | None]:
    """Return whether sigma k is the scale of all observations it enters, and which these are (None: all)."""
    name = problem.space.sigma[k].name
    doubled = start.sigma * np.where(np.arange(len(start.sigma)) == k, 2.0, 1.0)
    found = []
    for group in problem.groups:
        used = {s.name for s in group.program.observation.atoms(Sigma)}
        if name not in used:
            continue
        if used != {name} or not group.normal:
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
class _Statistics:
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
    def empty(cls, problem: Problem, plan: _Plan) -> _Statistics:
        p, q = len(plan.newton) + len(plan.newton_sigma), problem.n_eta
        return cls(
            np.zeros((q, problem.n_subjects)),
            np.zeros((q, q)),
            np.zeros(len(plan.scales)),
            np.zeros(p),
            np.zeros((p, p)),
        )

    def updated(
        self,
        problem: Problem,
        plan: _Plan,
        values: Values,
        target: Target,
        state: ChainState,
        f: Array,
        gamma: float,
    ) -> _Statistics:
        """Return the statistics moved by γ towards those of the current chains."""
        chains = state.eta.shape[1]
        u = state.eta + plan.mean(target.typical)[:, None, :]
        if problem.occasions.within:  # an occasion that a subject does not have says nothing
            u = u * problem.occasions.present[:, None, :]
        flat = u.reshape(len(u), -1)
        squares, slope, information = self.squares, self.slope, self.information
        if plan.scales:
            score = problem.score(f, values.sigma)
            fresh_squares = np.empty(len(plan.scales))
            for place, (k, rows) in enumerate(plan.scales):
                weighted = (score if rows is None else score[..., rows]).ravel()
                fresh_squares[place] = float(weighted @ weighted) / len(weighted) * values.sigma[k] ** 2
            squares = squares + gamma * (fresh_squares - squares)
        if len(slope):
            slope, fresh = _newton_terms(problem, plan, values, target, state)
            information = information + gamma * (fresh - information)
        return _Statistics(
            self.u + gamma * (u.mean(axis=1) - self.u),
            self.uu + gamma * (flat @ flat.T / chains - self.uu),
            squares,
            slope,
            information,
        )


def _newton_terms(
    problem: Problem, plan: _Plan, values: Values, target: Target, state: ChainState
) -> tuple[Array, Array]:
    """Return gradient and Fisher information (of −2 log p(y | η), averaged over chains), unconstrained."""
    space = problem.space
    f, first, _ = problem.structure(problem.slots(target.typical, state.eta), 1 if len(plan.newton) else 0)
    terms = problem.newton_terms(f, values.sigma, gradient=True)
    r = problem.variance(f, values.sigma)
    chains = state.eta.shape[1]
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
    plain = problem.plain_rows
    if not plain.all():
        weight, on_variance = np.where(plain, weight, 0.0), np.where(plain, on_variance, 0.0)
    relative = (on_variance * weight).reshape(p, -1)
    information = relative @ relative.T
    if len(plan.newton):
        a = along_f.reshape(len(along_f), -1)
        information[: len(a), : len(a)] += 2.0 * (a * weight.ravel()) @ a.T
    if not plain.all():  # the squared score of each observation estimates its information, whatever its density
        own = gradient[..., ~plain].reshape(p, -1)
        information += 0.5 * own @ own.T
    return gradient.reshape(p, -1).sum(axis=1) / chains, information / chains


def _maximise(
    problem: Problem,
    plan: _Plan,
    values: Values,
    target: Target,
    statistics: _Statistics,
    gamma: float,
    floor: float,
) -> Values:
    """Return the values that maximise the approximated complete-data likelihood."""
    space = problem.space
    theta, sigma, omega = values.theta.copy(), values.sigma.copy(), values.omega
    move = np.zeros(len(plan.newton) + len(plan.newton_sigma))
    prior = None if problem.penalty is None else problem.penalty.on_scalars.along(values)
    if len(move):
        slope, information = statistics.slope, statistics.information
        if prior is not None:
            rows = plan.coordinates(space, [*plan.newton], [*plan.newton_sigma])
            slope, information = slope + prior.gradient[rows], information + prior.curvature[np.ix_(rows, rows)]
        move = -gamma * _solve(information, slope)
        move = np.clip(np.nan_to_num(move), -_LARGEST_MOVE, _LARGEST_MOVE)
    if len(plan.regressed):
        precision = target.precision
        typical = problem.typical(theta, jacobian=True)
        assert typical.jacobian is not None
        slope = np.array([space.theta[k].slope(theta[k]) for k in plan.regressed])
        design = typical.jacobian[: problem.n_eta, plan.regressed][..., plan.first_block] * slope[None, :, None]
        m = len(plan.regressed)
        weighted = (precision @ design.reshape(len(design), -1)).reshape(design.shape).transpose(1, 0, 2).reshape(m, -1)
        rest = statistics.u - plan.mean(typical.slots)
        normal, right = weighted @ design.transpose(1, 0, 2).reshape(m, -1).T, weighted @ rest.ravel()
        if prior is not None:
            rows = plan.coordinates(space, [*plan.regressed], [])
            normal, right = normal + 0.5 * prior.curvature[np.ix_(rows, rows)], right - 0.5 * prior.gradient[rows]
        step = _solve(normal, right)
        for k, d in zip(plan.regressed, step, strict=True):
            theta[k] = space.theta[k].natural(space.theta[k].free(theta[k]) + d)
    for k, d in zip(plan.newton, move, strict=False):
        theta[k] = space.theta[k].natural(space.theta[k].free(theta[k]) + d)
    for k, d in zip(plan.newton_sigma, move[len(plan.newton) :], strict=True):
        sigma[k] = space.sigma[k].natural(space.sigma[k].free(sigma[k]) + d)
    if space.omega_map.rows:
        mean = plan.mean(problem.typical(theta).slots)
        cross = statistics.u @ mean.T
        squares = problem.occasions.collapse(statistics.uu - cross - cross.T + mean @ mean.T)
        penalty = None
        if problem.penalty is not None and problem.penalty.on_omega is not None:
            penalty = partial(problem.penalty.on_omega.of_omega, Values(theta, omega, sigma))
        omega = best_omega(space, omega, squares, problem.occasions.draws, floor, penalty)
    for (k, _), square in zip(plan.scales, statistics.squares, strict=True):
        sigma[k] = math.sqrt(max(square, floor * sigma[k] ** 2))
    return Values(theta, omega, sigma)


def _solve(matrix: Array, right: Array) -> Array:
    """Solve a normal equation; the least-norm solution where it is singular."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, right, rcond=1e-12)[0]
