r"""What the approximations of the marginal likelihood share.

Each replaces a subject's integral by something with the same ingredients: the prediction and its
derivatives at a point η*, observation weights, and :math:`H = \sum_j w_j f_\eta f_\eta' + \Omega^{-1}`.
Values are −2 log likelihoods without n·log 2π, per subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import Modes
from nlmewidgets.core.observation import Second, Third
from nlmewidgets.core.optimise import Point, Step, quasi_newton
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem, Typical
from nlmewidgets.methods.base import Iteration, Method
from nlmewidgets.methods.ending import ending
from nlmewidgets.methods.information import Linear, linearisable
from nlmewidgets.methods.leaps import Leap, Leaps
from nlmewidgets.methods.orient import well_begun

__all__ = [
    "Approximation",
    "Evaluation",
    "Moved",
    "Scores",
    "assemble_scores",
    "log_det",
    "mode_shift",
    "precision_of",
    "through_mode",
]


@dataclass(frozen=True, eq=False)
class Scores:
    """Derivatives of each subject's objective along the natural parameters.

    Attributes
    ----------
    theta : (subjects, thetas) float
    omega : (subjects, etas, etas) float
        Symmetric G with dF = Σ G_ij dΩ_ij.
    sigma : (subjects, sigmas) float
    """

    theta: Array
    omega: Array
    sigma: Array

    def along(self, space: ParameterSpace, values: Values) -> Array:
        """Return the derivatives along the unconstrained free parameters, (..., subjects, free)."""
        return space.pull_back(values, self.theta, self.omega, self.sigma)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """An objective at given population values.

    Attributes
    ----------
    per_subject : (subjects,) float
    eta : (etas, subjects) float
        The etas the approximation is centred at (modes, or the linear estimates for FO).
    scores : Scores or None
    shift : Scores or None
        How the etas move with the natural parameters, with a leading axis of etas: a warm start.
    joint : (subjects,) float or None
        −2 log of the joint density at the modes, where the approximation is centred at modes.
    bounded : (k,) int
        Subjects whose curvature was nearly singular and has been bounded (`methods.floor`).
    linear : Linear or None
        What the model is linearised by, with scores.
    """

    per_subject: Array
    eta: Array
    scores: Scores | None = None
    shift: Scores | None = None
    joint: Array | None = None
    bounded: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    linear: Linear | None = None

    @property
    def ofv(self) -> float:
        """The objective, summed over subjects."""
        return float(self.per_subject.sum())


def precision_of(omega: Array) -> tuple[Array, float]:
    """Return Ω⁻¹ and log|Ω|."""
    if not len(omega):
        return omega, 0.0
    with np.errstate(invalid="ignore"):  # of a step that went too far
        return np.linalg.inv(omega), float(np.linalg.slogdet(omega)[1])


def log_det(matrices: Array) -> Array:
    """Return log|M| of positive definite matrices (n, q, q); +inf where one is not."""
    if not matrices.shape[-1]:
        return np.zeros(len(matrices))
    with np.errstate(invalid="ignore"):
        sign, value = np.linalg.slogdet(matrices)
    return np.where(sign > 0, value, np.inf)


def assemble_scores(
    problem: Problem,
    typical: Typical,
    first: Array,
    mixed: Array,
    on_first: Array,
    on_mixed: Array,
    on_sigma: Array | None,
    omega: Array,
    more: Array | None = None,
) -> Scores:
    r"""Collect per-observation coefficients into per-subject scores.

    The derivative of every objective of this family along a slot s is
    :math:`\sum_j c_j f_{j,s} + \sum_{j,a} c_{aj} f_{j,as}`; along theta it follows by the Jacobian of
    the typical slots.

    Parameters
    ----------
    first, mixed : (slots, obs), (etas, slots, obs) float
        Derivatives of f.
    on_first, on_mixed : (obs,), (etas, obs) float
        Their coefficients c.
    on_sigma : (sigmas, obs) float or None
        Derivatives along sigma at each observation.
    omega : (subjects, etas, etas) float
        Along the covariance of a subject's random effects; the copies of each element are added up.
    more : (slots, obs) float, optional
        Derivatives along the slots that are no multiples of these.
    """
    along_slots = first * on_first
    if more is not None:
        along_slots = along_slots + more
    if len(mixed):
        along_slots = along_slots + np.einsum("ao,aso->so", on_mixed, mixed)
    per_block = problem.blocks(along_slots)
    assert typical.jacobian is not None
    per_theta = problem.block_subjects(np.einsum("sb,stb->tb", per_block, typical.jacobian))
    n = problem.n_subjects
    sigma = np.zeros((len(problem.space.sigma), n)) if on_sigma is None else problem.subjects(on_sigma)
    return Scores(per_theta.T, problem.occasions.collapse(omega), sigma.T)


class Moved(NamedTuple):
    """What a change of the modes adds to the coefficients of `assemble_scores`."""

    first: Array
    mixed: Array
    sigma: Array | None
    omega: Array


def through_mode(problem: Problem, precision: Array, modes: Modes, terms: Second | Third, slope: Array) -> Moved:
    r"""Return the derivative of an objective whose own along :math:`\hat\eta` is `slope`, through the mode.

    By the implicit function theorem it is :math:`-v' l_{\eta\zeta}` along any parameter ζ, with
    :math:`v = l_{\eta\eta}^{-1}` · slope.

    Parameters
    ----------
    terms : Second or Third
        Derivatives of L at the mode, those along sigma among them.
    slope : (etas, subjects) float
    """
    v = np.linalg.solve(modes.hessian, slope.T[..., None])[..., 0].T
    v_obs = problem.subjects.spread(v)
    along = np.einsum("ao,ao->o", v_obs, modes.along)
    cross = (precision @ v).T[:, :, None] * (precision @ modes.eta).T[:, None, :]
    return Moved(
        -terms.curved(along),
        -terms.f * v_obs,
        None if terms.f_sigma is None else -terms.f_sigma * along,
        cross + cross.transpose(0, 2, 1),
    )


def mode_shift(
    problem: Problem,
    typical: Typical,
    precision: Array,
    modes: Modes,
    terms: Second | Third,
    frozen: Array | None = None,
) -> Scores:
    r"""Return :math:`\partial\hat\eta/\partial\zeta = -l_{\eta\eta}^{-1} l_{\eta\zeta}`, etas first.

    `frozen` are the derivatives along the slots of what residual variances are frozen at: the last of the sigmas.
    """
    along = modes.along
    slots = terms.curved(along)[:, None] * modes.first + terms.f * modes.mixed
    f_sigma = terms.f_sigma
    if frozen is not None and f_sigma is not None:
        slots, f_sigma = slots + along[:, None] * (f_sigma[-1] * frozen), f_sigma[:-1]
    assert typical.jacobian is not None
    theta = problem.block_subjects(np.einsum("asb,stb->atb", problem.blocks(slots), typical.jacobian))
    q, n = along.shape[0], problem.n_subjects
    sigma = np.zeros((q, len(problem.space.sigma), n))
    if f_sigma is not None:
        sigma = problem.subjects(along[:, None] * f_sigma)
    pulled = precision @ modes.eta
    outer = precision[:, None, :, None] * pulled.T[None, :, None, :]
    omega = -(outer + outer.transpose(0, 1, 3, 2))
    right = np.concatenate([theta, sigma, omega.reshape(q, n, q * q).transpose(0, 2, 1)], axis=1)
    moved = -np.linalg.solve(modes.hessian, right.transpose(2, 0, 1)).transpose(1, 0, 2)
    t, s = theta.shape[1], sigma.shape[1]
    omega = problem.occasions.collapse(moved[..., t + s :].reshape(q, n, q, q))
    return Scores(moved[..., :t], omega, moved[..., t : t + s])


_RESTARTS = 6
"""How often at most a converged fit goes on because a subject has a lower mode than the one followed."""

_SMALL, _FALL = 0.1, 5.0
"""Of a standard deviation to its initial value, on its way to zero; and how far its logarithm is sent down."""

CORRELATIONS_LEFT_OUT = 0.5
"""Of the score cross-product that starts BFGS, where subjects are few (docs/decisions/0007)."""

_NEAR, _ROUGH = 0.01, 1e-9
"""Decrease that is promised, below which modes of integrated predictions are found to their last digit; before, to
this half decrement."""

SUBJECTS_PER_PARAMETER = 2.5
"""From here on Gauss–Newton on the scores beats BFGS started from them (docs/decisions/0007)."""


@dataclass(frozen=True)
class Approximation(Method):
    """A deterministic approximation of the marginal likelihood, minimised by quasi-Newton steps.

    Parameters
    ----------
    tolerance : float
        Stop when the objective promises to fall by less than this.
    max_iterations : int
        Outer iterations at most.
    orient : bool
        Look around for a better start where the data contradict the initial values, or a search ends in doubt.
    """

    tolerance: float = 1e-6
    max_iterations: int = 500
    orient: bool = True

    informed: ClassVar[bool] = False
    """Whether the curvature of the model linearised at the modes is that of this objective, where there is one."""

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the objective of every subject, with scores if asked; `start` warm-starts the etas."""
        raise NotImplementedError

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return the objective at given values."""
        return self.evaluate(problem, values).ofv

    def steps(self, problem: Problem, start: Values, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield every accepted quasi-Newton step, of two searches where one ends in doubt (`methods.orient`)."""
        if self.orient and self.max_iterations:
            return well_begun(
                problem, start, partial(self._search, problem), lambda first: (first.eta, None), repeat=True
            )
        return self._search(problem, start)

    def resume(self, problem: Problem, last: Iteration, rng: np.random.Generator) -> Iterator[Iteration]:
        """Yield the steps of a search that goes on where the last one was."""
        return replace(self, orient=False).steps(problem, last.values, rng)

    def point(self, problem: Problem, start: Values, x: Array, extra: Any = None, begin: Array | None = None) -> Point:
        """Return objective, gradient and expected Hessian at coordinates x, for `quasi_newton`.

        Parameters
        ----------
        problem : Problem
        start : Values
            Of what is fixed.
        x : (free,) float
        extra : tuple, optional
            That of an earlier point: the search for modes begins where its slope expects them.
        begin : (etas, subjects) float, optional
            Where it begins otherwise; zero by default.
        """
        space = problem.space
        values = space.unpack(x, start)
        warm = begin
        if extra is not None:
            eta, shift, origin, _ = extra
            warm = eta if shift is None else eta + shift @ (x - origin)
        try:
            result = self.evaluate(problem, values, warm, gradient=True)
        except np.linalg.LinAlgError:  # a singular Omega: a step too far
            return Point(np.inf, np.zeros(len(x)))
        if result.scores is None or not np.isfinite(result.ofv):
            return Point(np.inf, np.zeros(len(x)))
        scores = result.scores.along(space, values)
        if self.informed and result.linear is not None and linearisable(problem, values):
            hessian = 2.0 * result.linear.information(problem, values)
        else:
            # Each score is that of −2 log L: its cross-product estimates twice the Hessian of −2 log L.
            hessian = 0.5 * scores.T @ scores
        shift = None if result.shift is None else result.shift.along(space, values)
        if problem.penalty is None:
            return Point(result.ofv, scores.sum(axis=0), hessian, (result.eta, shift, x, result.bounded))
        prior = problem.penalty.along(values)
        slope = scores.sum(axis=0) + prior.gradient
        return Point(result.ofv + prior.value, slope, hessian + prior.curvature, (result.eta, shift, x, result.bounded))

    def _search(self, problem: Problem, start: Values) -> Iterator[Iteration]:
        """Yield the steps of one search."""
        space, k = problem.space, 0
        # Modes of integrated predictions are dear; they need all their digits where the search ends.
        rough = self._with_rough_modes() if getattr(problem.structure, "precision", 0.0) else self
        leaps = Leaps(space)
        near = False

        def function(x: Array, extra: Any) -> Point:
            return (self if near else rough).point(problem, start, x, extra, begin)

        x, begin, hessian = space.pack(start), None, None
        reach = space.reach(x)
        first: float | None = None
        known = self.informed and linearisable(problem, start)
        many = known or problem.n_subjects >= SUBJECTS_PER_PARAMETER * len(space.x_names)
        attempt, ended = 0, False
        while not ended:
            path = quasi_newton(
                function,
                x,
                tolerance=self.tolerance,
                max_iterations=max(self.max_iterations - k, 0),
                max_step=reach,
                refresh=many,
                shrink=0.0 if many else CORRELATIONS_LEFT_OUT,
                hessian=hessian,
            )
            for step in path:
                if not np.isfinite(step.point.value):
                    raise MethodError(
                        f"The {self.title} objective is not finite at the initial values; explore() shows where."
                    )
                first = step.decrement if first is None else max(first, step.decrement)
                exact, near = near or rough is self, near or step.decrement < _NEAR
                begin, hessian, jump, leap = None, None, None, None
                if step.reason and not exact:
                    near = True
                    step = step._replace(point=self.point(problem, start, step.x, step.point.extra))
                    leap = Leap(step.x, step.point.extra[0], step.hessian) if step.reason == "converged" else None
                elif step.reason == "converged" and attempt < _RESTARTS:
                    attempt += 1
                    begin = rough._lower_modes(problem, space.unpack(step.x, start), step.point.extra[0])
                    jump = self._to_zero(space, start, function, step)
                    if begin is None and jump is None:
                        leap = leaps.back(partial(rough.point, problem, start), step)
                elif not step.reason:
                    leap = leaps.of(function, step)
                ended = bool(step.reason) and begin is None and jump is None and leap is None
                yield self._iteration(problem, start, k, step if ended else step._replace(reason=""), first)
                x, k = step.x if jump is None else jump, k + 1
                if leap is not None:
                    x, begin, hessian = leap
                    break

    def _with_rough_modes(self) -> Approximation:
        """Return the method with modes good enough to see where the objective falls."""
        inner: float | None = getattr(self, "inner_tolerance", None)
        if inner is None:
            return self
        options: dict[str, Any] = {"inner_tolerance": max(inner, _ROUGH)}
        return replace(self, **options)

    def _to_zero(
        self, space: ParameterSpace, start: Values, function: Callable[[Array, Any], Point], step: Step
    ) -> Array | None:
        """Return the coordinates with variances that are on their way to zero put there; None if there are none.

        Near zero the objective is linear in the variance, so half the slope along log SD is what is left to gain;
        steps along the logarithm would take ever longer to get it.
        """
        small = np.sqrt(np.diag(space.unpack(step.x, start).omega)) < _SMALL * np.sqrt(np.diag(start.omega))
        own = {f"log chol {eta}" for eta, low in zip(space.eta, small, strict=True) if low}
        moving = np.array([name in own for name in space.x_names], dtype=bool)
        moving &= 0.5 * step.point.gradient > self.tolerance
        if not moving.any():
            return None
        x = step.x - _FALL * moving
        return x if function(x, step.point.extra).value < step.point.value else None

    def _lower_modes(self, problem: Problem, values: Values, eta: Array) -> Array | None:
        """Return the etas with those of subjects whose mode sought from zero is lower; None if there is none.

        A mode followed from step to step may end in the lesser of two.
        """
        with np.errstate(all="ignore"):
            here, cold = (self.evaluate(problem, values, at) for at in (eta, None))
        if here.joint is None or cold.joint is None:
            return None
        lower = cold.joint < here.joint - 1e-6 * (1.0 + np.abs(here.joint))
        return np.where(lower, cold.eta, here.eta) if lower.any() else None

    @staticmethod
    def _bounded(problem: Problem, subjects: Ints) -> str:
        """Return the sentence on subjects without a curvature to approximate by, or ''."""
        if not len(subjects):
            return ""
        names = ", ".join(str(problem.data.ids[i]) for i in subjects[:3])
        who, them = ("subject", "it") if len(subjects) == 1 else ("subjects", "them")
        return (
            f" The density of {who} {names}{'' if len(subjects) <= 3 else ' and others'} is nearly flat, or has two "
            f"modes, in some direction of the random effects: the curvature was bounded there, and Gaussians describe "
            f"{them} poorly; compare with importance sampling."
        )

    def _iteration(self, problem: Problem, start: Values, k: int, step: Step, first: float) -> Iteration:
        space = problem.space
        slope = np.abs(step.point.gradient)
        values = space.unpack(step.x, start)
        prior = {} if problem.penalty is None else {"prior": problem.penalty.value(values)}
        status, message = {
            "": ("running", ""),
            "converged": ("converged", f"Converged: the objective promises to fall by less than {self.tolerance:g}."),
            "rounding": ("limit", "Stopped: no step lowers the objective by more than rounding."),
            "iterations": ("limit", f"Stopped after {k} iterations, the largest number allowed, before convergence."),
        }[step.reason]
        if status == "limit" and len(slope):
            worst = int(slope.argmax())
            message += f" The largest gradient is {slope[worst]:.2g}, along {space.x_names[worst]}."
        if status == "converged":
            # At a minimum the scores add up to nothing: of hardly more subjects than parameters they span too little.
            enough = problem.n_subjects >= 2 * len(slope)
            status, more = ending(space, values, step.point.hessian if enough else None)
            if status != "converged":
                message = "Stopped where the objective changes no more."
            message += more
        if step.reason:
            message += self._bounded(problem, step.point.extra[3])
        span = np.log(max(first, 1e-300) / self.tolerance)
        left = np.log(max(step.decrement, 1e-300) / self.tolerance)
        progress = 1.0 if step.reason else float(np.clip(1.0 - left / span, 0.0, 0.99)) if span > 0 else 0.0
        return Iteration(
            k=k,
            phase="minimise",
            values=values,
            ofv=step.point.value - sum(prior.values()),
            eta=step.point.extra[0],
            space=space,
            ofv_by=self.name,
            status=status,
            message=message,
            progress=progress,
            details={
                "gradient": float(slope.max()) if len(slope) else 0.0,
                "step": step.length,
                "evaluations": step.evaluations,
                "decrement": step.decrement,
            }
            | prior,
        )
