r"""Observed information from draws of the random effects (Louis).

With :math:`S_i` and :math:`H_i` gradient and Hessian of :math:`-\log p(y_i, \varphi_i)` at draws of the conditional
distribution of subject i,

.. math:: I = \sum_i \mathrm E[H_i \mid y_i] - \operatorname{Var}[S_i \mid y_i] .

Individual parameters of mu-referenced effects are held where they are drawn, not their etas: the data then say
nothing more about these thetas, and the two terms, each with Monte Carlo error, are as small as they can be.

References
----------
Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x.
Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.sample import ChainState, Proposal, Target, sweep
from nlmewidgets.methods.mstep import Plan

__all__ = ["LouisInformation", "louis_information"]

_DRAWS = 100_000
"""Draws of all subjects together; the error of a standard error is then one or two per cent for ten subjects."""

_CHAINS, _BURN_IN, _THIN = 40, 40, 4
_STEP = 1e-3


@dataclass(frozen=True, eq=False)
class LouisInformation:
    """Observed information with its Monte Carlo error.

    Attributes
    ----------
    matrix, noise : (free, free) float
        Along the unconstrained coordinates; the standard error of each element, from the spread over batches of draws.
    by : str
        How many draws.
    """

    matrix: Array
    noise: Array
    by: str


def louis_information(
    problem: Problem, values: Values, start: Array, rng: np.random.Generator, draws: Array | None = None
) -> LouisInformation:
    """Return the observed information by Louis' formula.

    Parameters
    ----------
    problem : Problem
    values : Values
        The estimates.
    start : (etas, subjects) float
        The modes, or near them.
    rng : Generator
    draws : (draws, etas, subjects) float, optional
        Of the conditional distributions at `values`; made here if not given.

    Raises
    ------
    MethodError
        If the model has no random effects.
    """
    if not problem.n_eta:
        raise MethodError("Louis' formula needs random effects and this model has none; take the kind 'R'.")
    eta = np.moveaxis(draws, 0, 1) if draws is not None else conditional_draws(problem, values, start, rng)
    space = problem.space
    x = space.pack(values)
    plan = Plan.of(problem, values)
    origin = _centre(plan, problem.typical(values.theta).slots, problem)
    n = len(x)
    batches = np.array_split(np.arange(eta.shape[1]), min(8, eta.shape[1]))
    hessians, variances = [], []
    for batch in batches:
        part = eta[:, batch]
        own = _scores(problem, plan, values, part, origin)
        hessian = np.empty((n, n))
        for k in range(n):
            step = np.zeros(n)
            step[k] = _STEP * max(1.0, abs(x[k])) if not space.x_names[k].startswith("log") else _STEP
            ends = [_scores(problem, plan, space.unpack(x + s * step, values), part, origin) for s in (1, -1)]
            hessian[k] = (ends[0] - ends[1]).mean(axis=0).sum(axis=0) / (2 * step[k])
        hessians.append(0.25 * (hessian + hessian.T))
        variances.append(own)
    scores = np.concatenate(variances)
    centred = scores - scores.mean(axis=0)
    weight = len(scores) / max(len(scores) - 1, 1)
    each = [0.25 * weight * np.einsum("dia,dib->ab", c, c) / len(c) for c in np.split(centred, _ends(batches))]
    information = np.array(hessians) - np.array(each)
    shares = np.array([len(b) for b in batches]) / eta.shape[1]
    matrix = np.einsum("b,bkl->kl", shares, information)
    noise = information.std(axis=0, ddof=1) / np.sqrt(len(batches)) if len(batches) > 1 else np.abs(matrix)
    if problem.penalty is not None:
        matrix = matrix + 0.5 * problem.penalty.along(values).curvature
    return LouisInformation(matrix, noise, f"{eta.shape[1]} draws a subject")


def _ends(batches: list[Array]) -> Array:
    return np.cumsum([len(b) for b in batches])[:-1]


def conditional_draws(problem: Problem, values: Values, start: Array, rng: np.random.Generator) -> Array:
    """Return draws of each subject's random effects given its data, (etas, draws, subjects)."""
    n, q = problem.n_subjects, problem.n_eta
    rounds = max(5, _DRAWS // (n * _CHAINS * 10))
    omega = problem.occasions.expand(values.omega)
    precision = np.linalg.inv(omega)
    typical = problem.typical(values.theta).slots
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical, precision, values.sigma, start)
        half = 0.5 * modes.hessian
        convex = np.asarray(np.isfinite(half).all(axis=(1, 2)))
        convex[convex] = np.linalg.eigvalsh(half[convex])[:, 0] > 0
        half = np.where(convex[:, None, None], half, precision)
        centre = Proposal.around(np.where(np.isfinite(modes.eta), modes.eta, 0.0), half)
        target = Target(problem, typical, precision, np.linalg.cholesky(omega), values.sigma)
        eta, _ = centre.draw(rng, _CHAINS)
        state = ChainState.at(target, eta)
        for _ in range(_BURN_IN):
            state = sweep(target, state, rng, centre)
        kept = []
        for _ in range(rounds):
            for _ in range(_THIN):
                state = sweep(target, state, rng, centre, prior=0)
            kept.append(state.eta)
    return np.stack(kept, axis=1).reshape(q, -1, n)


def _centre(plan: Plan, typical: Array, problem: Problem) -> Array:
    """Return the typical values of the referenced effects, 0 for the others, (etas, subjects)."""
    if not plan.referenced.any():
        return np.zeros((problem.n_eta, problem.n_subjects))
    return plan.mean(typical)


def _scores(problem: Problem, plan: Plan, values: Values, eta: Array, origin: Array) -> Array:
    """Return the derivatives of −2 log p(y, φ) along the unconstrained coordinates, (draws, subjects, free).

    Parameters
    ----------
    eta : (etas, draws, subjects) float
        Draws at the estimates; those of referenced effects shift with their typical value, φ stays.
    origin : (etas, subjects) float
        Typical values of the referenced effects at the estimates.
    """
    space, n = problem.space, problem.n_subjects
    typical = problem.typical(values.theta, jacobian=True)
    assert typical.jacobian is not None
    moved = eta - (_centre(plan, typical.slots, problem) - origin)[:, None]
    omega = problem.occasions.expand(values.omega)
    precision = np.linalg.inv(omega)
    with np.errstate(all="ignore"):
        f, first, _ = problem.structure(problem.slots(typical.slots, moved), 1)
        assert first is not None
        terms = problem.newton_terms(f, values.sigma, gradient=True)
        through = typical.jacobian.copy()
        if plan.referenced.any():  # these slots stay where they were drawn
            through[: problem.n_eta][plan.referenced] = 0.0
        per_block = problem.blocks(first * terms.f)
        theta = problem.block_subjects(np.einsum("sdb,stb->tdb", per_block, through))
        pulled = np.tensordot(precision, moved, 1)
        if plan.referenced.any():
            own = typical.jacobian[: problem.n_eta][..., plan.first_block] * plan.referenced[:, None, None]
            theta = theta - 2.0 * np.einsum("adi,ati->tdi", pulled, own)
        shape = (len(space.sigma), *f.shape)
        sigma = np.zeros(shape) if terms.sigma is None else np.broadcast_to(terms.sigma, shape)
        sigma = problem.subjects(sigma)
    outer = np.einsum("adi,bdi->diab", pulled, pulled)
    along_omega = problem.occasions.collapse((precision - outer).reshape(-1, *omega.shape))
    q = len(space.eta)
    return space.pull_back(
        values,
        np.moveaxis(theta, 0, -1),
        along_omega.reshape(eta.shape[1], n, q, q),
        np.moveaxis(sigma, 0, -1),
    )
