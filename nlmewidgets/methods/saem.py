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
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem, Typical
from nlmewidgets.core.sample import ChainState, Proposal, Target, refresh, sweep
from nlmewidgets.methods.arrival import not_arrived
from nlmewidgets.methods.base import Iteration, Lazy, Method
from nlmewidgets.methods.ending import ending
from nlmewidgets.methods.marginal import log_det, precision_of
from nlmewidgets.methods.mstep import Plan, Statistics, maximise
from nlmewidgets.methods.orient import well_begun
from nlmewidgets.methods.phases import PhaseControl, smoothing_length, trend_of
from nlmewidgets.methods.saem_state import Progress, State, restore_generator, stored_generator
from nlmewidgets.methods.settled import settled_quadrature

__all__ = ["SAEM"]


_CHAINS_IN_TOTAL = 200
_CHAINS_EACH = 20
_CHEAP_PREDICTIONS = 8_000
"""Made at once, they cost little more than a few hundred (docs/decisions/0017)."""
_GOOD_GUIDE = 0.7
"""Share of proposals around the modes accepted, from which on they need the other kernels less (0035)."""
_NEAR = 1e-4
"""Of −2 log likelihood, a subject: how exactly modes are found for proposals and display."""
_POWER = 0.7
_ANNEALED = 75
"""Iterations of an automatic exploration with annealing."""
_WINDOW = 75
"""Iterations the stopping rule looks back on."""
_EVERY = 10
_SHORTEST_SMOOTHING = 50
_SHORT = " It is not at a maximum: −2 log L falls along {} by more than a standard error. Start nearer, or resume."
_LONGEST = 1000
"""Iterations of an automatic phase."""


@dataclass(frozen=True)
class SAEM(Method):
    """Stochastic approximation EM: exact maximum likelihood by simulation.

    Parameters
    ----------
    burn_in : int
        Sweeps of the chains before the first update.
    explore : int or 'auto'
        Iterations with step size γ = 1, which find the neighbourhood of the maximum.  'auto': until no parameter
        drifts beyond its Monte Carlo noise (150 to 1000).
    smooth : int or 'auto'
        Iterations with γ_k = k^(-0.7), whose average is the estimate.  'auto': as many as bring the Monte Carlo
        error to `tolerance` (50 to 1000).
    chains : int
        Chains per subject; 0: as many as make 200 in total, and up to 20 per subject as long as they cost
        little more than one.
    tolerance : float
        Monte Carlo error of an estimate, as a share of its standard error, that an automatic smoothing aims at.
    annealing : float
        At first (half of `explore`, or 75 iterations) no variance, residual ones among them, shrinks by more than
        this factor an iteration.
    objective_every : int
        Iterations between evaluations of the Laplace objective for display.
    orient : bool
        Look around for a better start where the data contradict the initial values.
    control : PhaseControl
        Extends or ends a phase while it runs: each method object has its own.

    Notes
    -----
    Each iteration leaves the conditional means and standard deviations of the etas in `arrays`
    ("conditional_mean", "conditional_sd"; averages over the smoothing), and its whole state beside them: a
    resumed fit goes on as if it had never been interrupted, to the last digit.  Resuming a completed fit
    smooths on.  Censored observations enter by their probability (docs/decisions/0017).
    """

    burn_in: int = 5
    explore: int | Literal["auto"] = "auto"
    smooth: int | Literal["auto"] = "auto"
    chains: int = 0
    tolerance: float = 0.1
    annealing: float = 0.95
    objective_every: int = 20
    orient: bool = True
    control: PhaseControl = field(default_factory=PhaseControl, repr=False, compare=False)

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
        return settled_quadrature(problem, values)[0].ofv

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield every iteration, from 0 (the start)."""
        self._check()

        def search(begin: Values) -> Iterator[Iteration]:
            state = self._begin(problem, begin, rng)
            yield self._iteration(problem, state, 1.0, rng)
            yield from self._run(problem, Plan.of(problem, begin), state, rng)

        def modes(first: Iteration) -> tuple[Array, Array]:
            covariance = np.linalg.inv(first.arrays["saem_precision"])
            return first.arrays["saem_centre"], np.sqrt(np.einsum("naa->an", covariance))

        return well_begun(problem, start, search, modes) if self.orient else search(start)

    def resume(self, problem: Problem, last: Iteration, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield the iterations after `last`, whose arrays hold chains, statistics and generator.

        A completed fit goes on smoothing: up to `smooth` iterations if these are more now, else as many again.
        """
        self._check()
        plan = Plan.of(problem, problem.space.initial)
        state = State.restore(problem, plan, last.arrays)
        if state is None:
            return self.steps(problem, last.values, rng)
        restore_generator(rng, last.arrays["saem_generator"])
        p = state.progress
        if p.done:
            length = 100 if self.smooth == "auto" else self.smooth
            more = length if length > p.smoothed else p.smoothed + max(length, 1)
            state = replace(state, progress=replace(p, done=False, smoothing=True, planned=more))
        elif p.smoothing and self.smooth != "auto":
            state = replace(state, progress=replace(p, planned=max(p.planned, self.smooth)))
        return self._run(problem, plan, state, rng)

    def finish(self, problem: Problem, last: Iteration) -> Iteration:
        """Return the iteration with −2 log L by quadrature and the modes as etas."""
        result, by = settled_quadrature(problem, last.values, last.arrays.get("saem_centre"))
        return replace(last, ofv=result.ofv, ofv_by=by, eta=result.eta)

    # ------------------------------------------------------------------ algorithm

    def _check(self) -> None:
        for name in ("explore", "smooth"):
            length = getattr(self, name)
            if isinstance(length, str) and length != "auto":
                raise MethodError(f"{name}={length!r} is no number of iterations; give one, or 'auto'.")
        given = [n for n in (self.explore, self.smooth) if n != "auto"]
        if min([self.burn_in, self.chains, *given]) < 0 or (self.explore == 0 and self.smooth == 0):
            raise MethodError("SAEM needs non-negative phase lengths and at least one iteration.")
        if not self.tolerance > 0:
            raise MethodError(f"tolerance={self.tolerance:g} is not positive; 0.1 is a tenth of a standard error.")

    def _begin(self, problem: Problem, start: Values, rng: np.random.Generator) -> State:
        q, n = problem.n_eta, problem.n_subjects
        chains = self.chains or chains_for(n, problem.n_obs)
        with np.errstate(all="ignore"):
            ofv, proposal = _look(problem, start, None)
            target = _target(problem, start, problem.typical(start.theta))
            chain = ChainState.at(target, np.tensordot(target.chol, 0.5 * rng.standard_normal((q, chains, n)), 1))
            for _ in range(self.burn_in):
                chain = sweep(target, chain, rng, proposal)
        average = problem.space.pack(start)
        return State(
            values=start,
            average=average,
            chains=chain,
            statistics=Statistics.empty(problem, Plan.of(problem, start)),
            proposal=proposal,
            first=chain.eta.mean(axis=1),
            second=(chain.eta * chain.eta).mean(axis=1),
            trace=np.zeros((0, len(average))),
            ofv=ofv,
            progress=Progress(smoothing=self.explore == 0, planned=(100 if self.smooth == "auto" else self.smooth)),
        )

    def _run(self, problem: Problem, plan: Plan, state: State, rng: np.random.Generator) -> Iterator[Iteration]:
        typical = problem.typical(state.values.theta, jacobian=True)
        target = _target(problem, state.values, typical)
        while not state.progress.done:
            gamma = (state.progress.smoothed + 1.0) ** -_POWER if state.progress.smoothing else 1.0
            with np.errstate(all="ignore"):
                state, target, typical = self._advance(problem, plan, state, target, typical, gamma, rng)
                k = state.progress.k
                if k % self.objective_every == 0 or k in (1, 2, 5, 10) or state.progress.done:
                    ofv, proposal = _look(problem, state.values, state.proposal)
                    state = replace(state, ofv=ofv, proposal=proposal)
            yield self._iteration(problem, state, gamma, rng)

    def _advance(
        self,
        problem: Problem,
        plan: Plan,
        state: State,
        target: Target,
        typical: Typical,
        gamma: float,
        rng: np.random.Generator,
    ) -> tuple[State, Target, Typical]:
        """Return the state after simulation, approximation and maximisation, and the chains' next target."""
        p = state.progress
        annealed = _ANNEALED if self.explore == "auto" else self.explore // 2
        floor = self.annealing if not p.smoothing and p.explored < annealed else 0.0
        # The proposals around the modes do most of the work; the others take turns to reach what they miss,
        # every other iteration where the modes are a good guide.
        turn, off = divmod(p.k, 2) if state.chains.met > _GOOD_GUIDE else (p.k, 0)
        which = -1 if off else turn % 3
        chains = sweep(target, state.chains, rng, state.proposal, prior=which == 0, single=which == 1, block=which == 2)
        f = chains.f
        fresh = Statistics.of(problem, plan, state.values, target.typical, chains.eta, f)
        statistics = state.statistics.towards(fresh, gamma)
        values, new = maximise(
            problem,
            plan,
            state.values,
            statistics,
            typical=typical,
            precision=target.precision,
            step=gamma,
            floor=floor,
        )
        moved = _target(problem, values, new)
        # Individual parameters stay where they are: a mu-referenced theta moves its etas.
        eta = chains.eta + (plan.mean(target.typical) - plan.mean(moved.typical))[:, None, :]
        chains = refresh(moved, chains, eta, None if len(plan.newton) else f)
        x = problem.space.pack(values)
        trace = state.trace if p.smoothing else np.concatenate([state.trace[-_WINDOW + 1 :], x[None]])
        m = p.smoothed + 1 if p.smoothing else 1
        state = replace(
            state,
            progress=self._counted(p, trace, eta.shape[1]),
            values=values,
            # Weights that grow with k forget how the smoothing began.
            average=x if m == 1 else state.average + 2.0 / (m + 1.0) * (x - state.average),
            chains=chains,
            statistics=statistics,
            first=state.first + (_mean(eta) - state.first) / m,
            second=state.second + (_mean(eta * eta) - state.second) / m,
            trace=trace,
        )
        return state, moved, new

    def _counted(self, p: Progress, trace: Array, chains: int) -> Progress:
        """Return the progress after one more iteration: which phase is next, or that this was the last."""
        extra, end = self.control.take()
        if p.smoothing:
            p = replace(p, smoothed=p.smoothed + 1, planned=p.planned + extra)
            return replace(p, done=end or p.smoothed >= p.planned)
        p = replace(p, explored=p.explored + 1)
        if extra:
            p = replace(p, hold=max(p.hold, p.explored if self.explore == "auto" else self.explore) + extra)
        over, settled = p.explored >= (_LONGEST if self.explore == "auto" else self.explore), False
        if self.explore == "auto" and p.explored >= _ANNEALED + _WINDOW and p.explored % _EVERY == 0:
            settled = not trend_of(trace).moving.any()
            over = over or settled
        if not end and (not over or p.explored < p.hold):
            return p
        if self.smooth != "auto":
            planned = self.smooth
        else:
            wanted = smoothing_length(trend_of(trace).persistence, chains, self.tolerance)
            planned = min(max(wanted, _SHORTEST_SMOOTHING), _LONGEST)
        return replace(p, smoothing=True, planned=planned, settled=settled, done=planned == 0)

    def _iteration(self, problem: Problem, state: State, gamma: float, rng: np.random.Generator) -> Iteration:
        p, space = state.progress, problem.space
        values = space.unpack(state.average, state.values) if p.smoothed else state.values
        phase = "burn-in" if not p.k else "smooth" if p.smoothed else "explore"
        details = {"gamma": gamma, "acceptance": state.chains.accepted, "met": state.chains.met}
        if problem.penalty is not None:
            details["prior"] = problem.penalty.value(values)
        words = rng.bit_generator.state
        status, text = ending(space, values) if p.done else ("running", "")
        if status == "converged" and (off := not_arrived(problem, values, state.proposal.centre)):
            status, text = "limit", _SHORT.format(" and ".join(off[:2])) + text
        return Iteration(
            k=p.k,
            phase=phase,
            values=values,
            ofv=state.ofv,
            eta=state.first,
            space=space,
            ofv_by="laplace",
            status=status,
            message=self._message(p) + text if p.done else "",
            progress=self._share(p),
            details=details,
            arrays=Lazy(lambda: state.arrays() | {"saem_generator": stored_generator(words)}),
        )

    def _message(self, p: Progress) -> str:
        text = f"Completed {p.explored} exploring and {p.smoothed} smoothing iterations."
        if self.explore == "auto":
            text += (
                " No parameter was drifting beyond its Monte Carlo noise when exploring ended."
                if p.settled
                else " Exploring ended with a parameter still drifting; resume the fit, or start nearer."
            )
        if self.smooth == "auto":
            text += (
                f" Smoothing was as long as a Monte Carlo error of {self.tolerance:g} standard errors needs."
                if p.planned < _LONGEST
                else f" A Monte Carlo error of {self.tolerance:g} standard errors needs more; resume the fit."
            )
        return text

    def _share(self, p: Progress) -> float:
        if p.done:
            return 1.0
        explore = max(p.explored + 1, p.hold, 200 if self.explore == "auto" else self.explore)
        smooth = p.planned or (100 if self.smooth == "auto" else self.smooth)
        explore = p.explored if p.smoothing else explore
        return min(p.k / max(explore + smooth, 1), 0.99)


def chains_for(subjects: int, observations: int) -> int:
    """Return the chains per subject: enough draws for the variances, as far as they are nearly free."""
    cheap = min(_CHAINS_EACH, _CHEAP_PREDICTIONS // max(observations, 1))
    return max(1, math.ceil(_CHAINS_IN_TOTAL / subjects), cheap)


def _look(problem: Problem, values: Values, last: Proposal | None) -> tuple[float, Proposal]:
    """Return the Laplace objective and proposals around the modes, both for the price of the modes."""
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    start = None if last is None else last.centre
    typical = problem.typical(values.theta).slots
    modes = find_modes(problem, typical, precision, values.sigma, start, tolerance=_NEAR)
    ofv = float((modes.value + log_omega + log_det(0.5 * modes.hessian)).sum())
    return ofv, Proposal.near(modes, precision)


def _mean(draws: Array) -> Array:
    """Return the mean over the second axis, without the overhead of `mean`."""
    return np.asarray(np.add.reduce(draws, axis=1) / draws.shape[1])


def _target(problem: Problem, values: Values, typical: Typical) -> Target:
    omega = problem.occasions.expand(values.omega)
    return Target(problem, typical.slots, np.linalg.inv(omega), np.linalg.cholesky(omega), values.sigma)
