r"""EM with importance sampling: exact maximum likelihood, with the objective and its error at every iteration.

The expectation weighs draws of each subject's random effects, :math:`w_{ik} \propto p(y_i, \eta_{ik}) /
q_i(\eta_{ik})`, from a t with their conditional moments; the maximisation is that of SAEM.  Within a
stage all iterations use the same random numbers, so the objective falls smoothly, convergence can be seen, and
pairs of steps can be extrapolated.  Later stages have new and more draws: what they move is Monte Carlo error.

References
----------
Wei & Tanner (1990), doi:10.1080/01621459.1990.10474930 (Monte Carlo EM).
Bauer & Guzy (2004), doi:10.1007/1-4020-7887-9_7 (importance sampling EM for mixed effects).
Varadhan & Roland (2008), doi:10.1111/j.1467-9469.2007.00585.x (the extrapolation).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.pieces import finish
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.proposals import StudentT, weighted_draws
from nlmewidgets.core.sample import Target
from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.ending import ending
from nlmewidgets.methods.importance import (
    ImportanceEvaluation,
    evaluate_importance,
    first_proposal,
    one_pass,
    refined,
    target_of,
)
from nlmewidgets.methods.mstep import Plan, Statistics, maximise
from nlmewidgets.methods.orient import well_begun

__all__ = ["IMP"]

_REPLICATES = 4
_GROWTH = 2
"""Of log2 of the draws from stage to stage."""
_LONGEST = 50.0
"""Of an extrapolation, in steps."""
_LOOSER = 10.0
"""Stages before the last are content with so many times the tolerance."""
_SLOWEST = 0.98
"""Largest ratio of successive gains that is believed."""
_REMEMBERED = 4
_NO_WEIGHT = 30.0
"""Of a draw, as a difference of log weights."""
_MOST_HALVINGS = 6
_AT_A_STOP = 1_000_000
"""Predictions behind the objective of a fit that was stopped: a fraction of a second."""

_MOST_STORED = 25_000_000
"""Predictions kept for the maximisation."""
_STALE = 0.9
"""Of the effective sample size they had when new: below it proposals are made anew."""
_POOR = 0.03
"""Share of effective draws below which a subject's proposal is made anew from its mode."""


@dataclass(frozen=True)
class IMP(Method):
    """Importance sampling EM: exact maximum likelihood by weighted draws of the random effects.

    Parameters
    ----------
    draws : int
        Draws of each subject in the first stage; every further stage has four times as many.
    stages : int
        Times that draws are made anew; within a stage the random numbers stay the same.
    tolerance : float
        The last stage ends when the objective promises to fall by less than this (those before: by less than ten
        times this).
    max_iterations : int
        Iterations in all stages together at most.
    error : float
        Monte Carlo standard error aimed at when the final objective is computed.
    df : int
        Degrees of freedom of the proposals, an even number.
    orient : bool
        Look around for a better start where the data contradict the initial values.
    """

    draws: int = 250
    stages: int = 2
    tolerance: float = 0.01
    max_iterations: int = 300
    error: float = 0.05
    df: int = 4
    orient: bool = True

    name: ClassVar[str] = "imp"
    title: ClassVar[str] = "importance sampling EM"
    summary: ClassVar[str] = (
        "Exact maximum likelihood by weighted draws around each mode, with the objective and its error at every step."
    )

    def refusal(self, problem: Problem) -> str | None:
        """Refuse a model without random effects."""
        if not problem.n_eta:
            return "Importance sampling draws random effects and this model has none; use method='focei'."
        return None

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return −2 log L by importance sampling, always with the same random numbers."""
        return self._final(problem, values).ofv

    def _final(self, problem: Problem, values: Values) -> ImportanceEvaluation:
        return evaluate_importance(problem, values, error=self.error, df=self.df)

    def finish(self, problem: Problem, last: Iteration) -> Iteration:
        """Return the iteration with −2 log L to the error asked for, conditional moments, and the modes as etas."""
        if last.status == "stopped":  # who stops does not want to wait: one pass, whatever its error
            draws = int(np.clip(_AT_A_STOP // max(problem.n_obs, 1), 64, 2000))
            found = evaluate_importance(problem, last.values, draws=draws, error=0.0, df=self.df)
        else:
            found = self._final(problem, last.values)
        arrays = {
            "conditional_mean": found.mean,
            "conditional_sd": _sd(found.covariance),
            "ess": found.ess,
            "minus2ll_error": np.array([found.ofv_error]),
        }
        message = f"{last.message} {found.message}".strip()
        by = f"imp, {found.draws} draws"
        return replace(last, ofv=found.ofv, ofv_by=by, eta=found.eta, message=message, arrays={**last.arrays, **arrays})

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield the start and every iteration."""

        def search(begin: Values) -> Iterator[Iteration]:
            return self._from(problem, begin, rng, 0)

        def moments(first: Iteration) -> tuple[Array, Array]:
            return first.arrays["conditional_mean"], first.arrays["conditional_sd"]

        return well_begun(problem, start, search, moments) if self.orient else search(start)

    def resume(self, problem: Problem, last: Iteration, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield iterations that go on in the stage where the last one was."""
        stage = int(last.arrays["stage"][0]) if "stage" in last.arrays else 0
        return self._from(problem, last.values, rng, min(stage, self.stages - 1))

    def _from(self, problem: Problem, start: Values, rng: np.random.Generator, stage: int) -> Iterator[Iteration]:
        if min(self.draws, self.stages, self.max_iterations) < 1 or self.df < 2 or self.df % 2:
            raise MethodError(
                "Importance sampling EM needs draws, stages and max_iterations of at least 1 and an even df (4 or 6)."
            )
        plan = Plan.of(problem, start)
        state: _Expectation | None = None
        values, k = start, 0
        rates: list[float] = []
        for s in range(stage, self.stages):
            look = _Look(problem, plan, self._size(problem, s), self.df, int(rng.integers(2**63)))
            with np.errstate(all="ignore"):
                state = look(values, state)
            if state is None or not np.isfinite(state.ofv):
                raise MethodError(
                    "The importance sampling objective is not finite at the initial values; explore() shows where."
                )
            if not k:
                yield self._iteration(problem, k, s, state)
            tolerance = self.tolerance * (1.0 if s == self.stages - 1 else _LOOSER)
            began = state.penalised
            for state, left in _climb(look, state, rates, tolerance):  # noqa: B020
                k += 1
                stuck, values = state.values is values, state.values
                settled = left < tolerance
                if stuck:
                    message = "Stopped: no step lowers the objective."
                    yield self._iteration(problem, k, s, state, "limit", message)
                    return
                if not state.usable:
                    message = "Stopped: the prediction has no derivatives where the random effects are likely."
                    yield self._iteration(problem, k, s, state, "failed", message)
                    return
                if settled and s == self.stages - 1:
                    message = (
                        f"Converged: with {state.draws:,} draws a subject the objective promises to fall by less than "
                        f"{tolerance:g}."
                    )
                    if s > stage:
                        message += f" Its last gain from new draws was {max(began - state.penalised, 0.0):.2g}."
                    status, more = ending(problem.space, values)
                    yield self._iteration(problem, k, s, state, status, message + more)
                    return
                if k == self.max_iterations:
                    message = f"Stopped after {k} iterations, the largest number allowed, before convergence."
                    yield self._iteration(problem, k, s, state, "limit", message)
                    return
                yield self._iteration(problem, k, s, state)
                if settled:
                    break

    def _size(self, problem: Problem, stage: int) -> int:
        """Return log2 of the draws of each replicate in a stage."""
        wanted = math.ceil(math.log2(max(self.draws / _REPLICATES, 1.0))) + _GROWTH * stage
        kept = _MOST_STORED // (_REPLICATES * max(problem.n_obs, problem.n_eta * problem.n_subjects))
        return min(wanted, max(kept, 1).bit_length() - 1)

    def _iteration(
        self, problem: Problem, k: int, stage: int, state: _Expectation, status: str = "running", message: str = ""
    ) -> Iteration:
        prior = {} if problem.penalty is None else {"prior": state.penalised - state.ofv}
        return Iteration(
            k=k,
            phase=f"{state.draws} draws",
            values=state.values,
            ofv=state.ofv,
            eta=state.mean,
            space=problem.space,
            ofv_by=f"imp, {state.draws} draws",
            status=status,
            message=message,
            progress=1.0 if message else (stage + 0.5) / self.stages,
            details={"error": state.error, "ess": float(state.ess.min() / state.draws)} | prior,
            arrays={
                "conditional_mean": state.mean,
                "conditional_sd": _sd(state.covariance),
                "ess": state.ess,
                "minus2ll_error": np.array([state.error]),
                "stage": np.array([float(stage)]),
            },
        )


def _sd(covariance: Array) -> Array:
    return np.sqrt(np.maximum(np.einsum("naa->an", covariance), 0.0))  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class _Expectation:
    """What weighted draws say at given values.

    Attributes
    ----------
    ofv, penalised, error : float
        −2 log L, the same with −2 log of the priors' density, and the Monte Carlo standard error.
    mean, covariance, ess
        Conditional moments and effective sample sizes, as in `ImportanceEvaluation`.
    look : _Look
        The stage it belongs to.
    fresh : float
        Mean effective sample size when the proposals were made.
    """

    values: Values
    typical: Array
    proposal: StudentT
    statistics: Statistics
    ofv: float
    penalised: float
    error: float
    mean: Array
    covariance: Array
    ess: Array
    draws: int
    look: _Look
    fresh: float

    @property
    def usable(self) -> bool:
        """Whether a maximisation can be made of it."""
        found = self.statistics
        return all(np.isfinite(x).all() for x in (found.u, found.uu, found.squares, found.slope, found.information))


@dataclass(frozen=True, eq=False)
class _Look:
    """The expectation step of a stage: always the same random numbers."""

    problem: Problem
    plan: Plan
    log2_draws: int
    df: int
    seed: int

    def __call__(self, values: Values, last: _Expectation | None) -> _Expectation:
        """Return the expectation at `values`, with proposals from the moments of the last one."""
        problem, plan, rng = self.problem, self.plan, np.random.default_rng(self.seed)
        target = target_of(problem, values)
        proposal, new = self._proposal(target, last)
        chunks, place = [], []
        for r in range(_REPLICATES):
            for chunk in weighted_draws(target, proposal, self.log2_draws, rng):
                chunks.append(chunk)
                place.append(r)
        logs = np.concatenate([c[1] for c in chunks])
        top = logs.max(axis=0)
        base = np.where(np.isfinite(top), top, 0.0)
        draws = len(logs)
        w = np.exp(logs - base)
        total = w.sum(axis=0)
        of_replicate = np.repeat(place, [len(c[1]) for c in chunks])
        each = np.stack([w[of_replicate == r].sum(axis=0) for r in range(_REPLICATES)]) * (_REPLICATES / total)
        relative = ((each - 1.0) ** 2).sum(axis=0) / (_REPLICATES * (_REPLICATES - 1))
        w /= total
        ess = 1.0 / (w * w).sum(axis=0)
        eta = np.concatenate([c[0] for c in chunks], axis=1)
        # Draws without weight, where the prediction or its derivatives may fail: the best draw stands in for them.
        dead = ~(logs > top - _NO_WEIGHT)
        if dead.any():
            w = np.where(dead, 0.0, w)
            best = np.take_along_axis(eta, logs.argmax(axis=0)[None, None], axis=1)
            eta = np.where(dead, best, eta)
        away = eta - proposal.centre[:, None]
        mean = (away * w).sum(axis=1)
        covariance = np.einsum("akn,bkn->nab", away * w, away) - np.einsum("an,bn->nab", mean, mean)
        statistics, lo = Statistics.empty(problem, plan), 0
        for _, own, f in chunks:
            rows = slice(lo, lo + len(own))
            lo += len(own)
            part = eta[:, rows]
            if dead[rows].any():
                f = problem.predict(problem.slots(target.typical, part))
            f = np.broadcast_to(f, (len(own), problem.n_obs))
            statistics = statistics + Statistics.of(problem, plan, values, target.typical, part, f, w[rows])
        ofv = float((-2.0 * (np.log(total / draws) + top)).sum())
        prior = 0.0 if problem.penalty is None else problem.penalty.value(values)
        return _Expectation(
            values,
            target.typical,
            proposal,
            statistics,
            ofv,
            ofv + prior,
            2.0 * math.sqrt(relative.sum()),
            mean + proposal.centre,
            covariance,
            ess,
            draws,
            self,
            float(ess.mean()) if new or last is None else last.fresh,
        )

    def _proposal(self, target: Target, last: _Expectation | None) -> tuple[StudentT, bool]:
        """Return the proposals and whether they are new.

        Within a stage they stay what they are, moved with the typical values, while they fit.  Moments of the
        same random numbers would make proposals that flatter themselves, so new ones come from other draws.
        """
        rng = np.random.default_rng(self.seed + 1)
        if last is None:
            around, _ = first_proposal(target, self.df)
        else:
            # Individual parameters stay where they are when a typical value moves.
            shift = self.plan.mean(last.typical) - self.plan.mean(target.typical)
            around = replace(last.proposal, centre=last.proposal.centre + shift)
            if last.look is self and last.ess.mean() > _STALE * last.fresh:
                return around, False
            poor = last.ess < max(_POOR * last.draws, 10.0)
            around = refined(around, last.mean + shift, last.covariance, last.ess)
            if poor.any():
                again, _ = first_proposal(target, self.df, around.centre)
                around = StudentT(
                    np.where(poor, again.centre, around.centre),
                    np.where(poor, again.factor, around.factor),
                    np.where(poor, again.inverse, around.inverse),
                    self.df,
                )
        found = finish(one_pass(target, around, self.log2_draws, _REPLICATES, rng))
        return refined(around, found.mean, found.covariance, found.ess), True

    def step(self, state: _Expectation) -> _Expectation:
        """Return the expectation after one maximisation, shortened where a Newton step went much too far."""
        space = self.problem.space
        values = _symmetric(maximise(self.problem, self.plan, state.values, state.statistics).values)
        goal, here = space.pack(values), space.pack(state.values)
        for _ in range(_MOST_HALVINGS):
            try:
                new = self(values, state)
                if new.penalised <= state.penalised + max(1.0, 3.0 * state.error):
                    return new
            except np.linalg.LinAlgError:
                pass
            goal = 0.5 * (goal + here)
            values = _symmetric(space.unpack(goal, state.values))
        return state


def _symmetric(values: Values) -> Values:
    """Return the values with an Omega that is symmetric to the last bit."""
    return replace(values, omega=0.5 * (values.omega + values.omega.T))


def _climb(
    look: _Look, state: _Expectation, rates: list[float], tolerance: float
) -> Iterator[tuple[_Expectation, float]]:
    """Yield expectations after steps of EM and extrapolations of every pair of them, without end.

    With each comes by how much the objective promises to fall yet: two steps in turn that gain g₁ and g₂ are
    followed by g₂ρ/(1 − ρ) in all, ρ being the largest of the last ratios g₂/g₁, because what is easily gained
    hides what comes slowly.  Infinity where that is not known.  The ratios are kept in `rates`.
    """
    space = look.problem.space
    while True:
        path = [state]
        for _ in range(2):
            with np.errstate(all="ignore"):
                state = look.step(state)
            path.append(state)
            if len(path) == 2:
                yield state, np.inf
        one, two = (a.penalised - b.penalised for a, b in zip(path, path[1:], strict=False))
        if one > 0.1 * tolerance:
            rates.append(min(max(two / one, 0.0), _SLOWEST))
        rate = max(rates[-_REMEMBERED:], default=0.5)
        left = (abs(two) + max(-one, 0.0)) * max(rate, 0.1) / (1.0 - rate)
        yield state, left
        x = [space.pack(s.values) for s in path]
        step, bend = x[1] - x[0], x[2] - 2.0 * x[1] + x[0]
        size = float(np.linalg.norm(bend))
        if not size > 0:
            continue
        length = min(max(float(np.linalg.norm(step)) / size, 1.0), _LONGEST)
        if length == 1.0:
            continue
        values = _symmetric(space.unpack(x[0] + 2.0 * length * step + length**2 * bend, state.values))
        try:
            with np.errstate(all="ignore"):
                far = look(values, state)
        except np.linalg.LinAlgError:
            continue
        if far.penalised < state.penalised:
            state = far
            yield state, np.inf
