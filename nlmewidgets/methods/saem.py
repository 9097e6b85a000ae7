r"""Stochastic approximation of the EM algorithm.

Iteration k: *simulation* moves the chains of η towards p(η | y; current values); *stochastic
approximation* updates sufficient statistics, :math:`s_k = s_{k-1} + \gamma_k (S(\eta^{(k)}) - s_{k-1})`;
*maximisation* sets the population values from them (mstep.py).

References
----------
Delyon, Lavielle & Moulines (1999), doi:10.1214/aos/1018031103.
Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.sample import ChainState, Proposal, Target, refresh, sweep
from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.marginal import at_the_edge, log_det, precision_of
from nlmewidgets.methods.mstep import Plan, Statistics, maximise
from nlmewidgets.methods.quadrature import affordable_nodes, evaluate_quadrature

__all__ = ["SAEM"]


_CHAINS_IN_TOTAL = 200


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
        plan = Plan.of(problem, start)
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
        statistics = Statistics.empty(problem, plan)
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
                fresh = Statistics.of(problem, plan, values, target.typical, state.eta, f)
                statistics = statistics.towards(fresh, gamma)
                new = maximise(problem, plan, values, statistics, step=gamma, floor=floor)
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
