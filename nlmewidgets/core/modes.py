r"""Empirical Bayes estimates: the mode of each subject's joint density, by damped Newton steps.

For subject i the function minimised over η is, in units of −2 log likelihood,

.. math:: l_i(\eta) = \sum_j L(y_{ij}, f_{ij}(\eta)) + \eta' \Omega^{-1} \eta .
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.observation import Second
from nlmewidgets.core.pairs import Cross
from nlmewidgets.core.problem import Problem

__all__ = ["Modes", "find_modes"]


class _Joint(NamedTuple):
    """l and its derivatives at some etas, with the derivatives of f they were made from."""

    value: Array  # (N,)
    size: Array  # (N,), the sum of its terms' absolute values, which bounds its rounding error
    gradient: Array  # (q, N)
    hessian: Array  # (N, q, q), exact
    information: Array  # (N, q, q), expected: positive definite
    f: Array
    first: Array  # ∂f/∂s (slots, obs)
    mixed: Array  # ∂²f/∂η∂s (etas, slots, obs)
    along: Array  # ∂f/∂η (etas, obs)
    terms: Second


@dataclass(frozen=True, eq=False)
class Modes:
    """The modes and everything evaluated there.

    Attributes
    ----------
    eta : (etas, subjects) float
    value : (subjects,) float
        l_i at the mode.
    hessian : (subjects, etas, etas) float
        ∂²l/∂η∂η, exact.
    information : (subjects, etas, etas) float
        The same with the curvature of f replaced by its expectation: 2·(Σ h f_η f_η' + Ω⁻¹).
    decrement : (subjects,) float
        Half the Newton decrement left: how far l is from its minimum.
    converged : (subjects,) bool
    f, first, mixed, along, terms
        The prediction at the modes and its derivatives, see `Problem`.
    iterations : int
    """

    eta: Array
    value: Array
    hessian: Array
    information: Array
    decrement: Array
    converged: NDArray[np.bool_]
    f: Array
    first: Array
    mixed: Array
    along: Array
    terms: Second
    iterations: int


def _joint(
    problem: Problem, typical: Array, precision: Array, sigma: Array, eta: Array, gradient: bool, order: int = 2
) -> _Joint:
    """Evaluate l; with order 1 the exact curvature is not made and the expected one stands for it."""
    f, first, second = problem.structure(problem.slots(typical, eta), order)
    assert first is not None
    along, mixed = problem.slope_along_eta(first), np.zeros((0, 0, 0))
    if second is not None:
        along, mixed = problem.along_eta(first, second)
    terms = problem.newton_terms(f, sigma, gradient=gradient)
    subjects = problem.subjects
    pulled = precision @ eta
    each = np.broadcast_to(terms.value, f.shape)
    value = subjects(each) + np.einsum("qn,qn->n", eta, pulled)
    size = subjects(np.abs(each)) + np.einsum("qn,qn->n", np.abs(eta), np.abs(precision) @ np.abs(eta))
    slope = subjects(terms.f * along) + 2.0 * pulled
    square = along[:, None] * along
    expected = subjects(2.0 * (terms.info * square + _crossed(terms.info_cross, along)))
    curved = expected
    if order == 2:
        bent = terms.f * problem.eta_columns(mixed)
        curved = subjects(terms.ff * square + bent + _crossed(terms.ff_cross, along))
    twice = 2.0 * precision[:, :, None]
    return _Joint(
        value,
        size,
        slope,
        (curved + twice).transpose(2, 0, 1),
        (expected + twice).transpose(2, 0, 1),
        f,
        first,
        mixed,
        along,
        terms,
    )


def _crossed(cross: tuple[Cross, ...], along: Array) -> Array | float:
    """Return what pairs of observations add to f_η·N·f_η' beside their own terms, (etas, etas, obs)."""
    return sum((along[:, None] * part.times(along) for part in cross), 0.0)


def _newton_step(state: _Joint) -> tuple[Array, Array]:
    """Return the step (etas, N) and half the decrement (N,); turned up where not convex, NaN where not finite."""
    matrix = state.hessian
    finite = np.asarray(np.isfinite(matrix).all(axis=(1, 2)) & np.isfinite(state.gradient).all(axis=0))
    if not finite.all():
        matrix = np.where(finite[:, None, None], matrix, np.eye(matrix.shape[-1]))
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        bent = np.flatnonzero(np.linalg.eigvalsh(matrix)[:, 0] <= 0)
        matrix = matrix.copy()
        matrix[bent] = _turned_up(matrix[bent], state.information[bent])
    slope = np.where(finite, state.gradient, 0.0)
    step = -np.linalg.solve(matrix, slope.T[..., None])[..., 0].T
    return step, np.where(finite, -0.5 * np.einsum("qn,qn->n", slope, step), np.nan)


_LEAST_CURVATURE = 0.01
"""Of the expected one, in the search for a mode: a longer step leaves what the model knows."""


def _turned_up(hessian: Array, information: Array) -> Array:
    """Return curvatures (k, q, q) with the absolute values of their eigenvalues relative to the expected information.

    Steps along a direction that bends down lead downhill as fast as the bend allows, where scoring would crawl.
    """
    finite = np.asarray(np.isfinite(information).all(axis=(1, 2)))
    information = np.where(finite[:, None, None], information, np.eye(hessian.shape[-1]))
    lower = np.linalg.cholesky(information)
    inverse = np.linalg.inv(lower)
    values, vectors = np.linalg.eigh(inverse @ hessian @ inverse.transpose(0, 2, 1))
    basis = lower @ vectors
    size = np.maximum(np.abs(values), _LEAST_CURVATURE)
    return np.asarray((basis * size[:, None, :]) @ basis.transpose(0, 2, 1))


class _Descent(NamedTuple):
    eta: Array
    state: _Joint
    decrement: Array
    whole: bool  # the state is one evaluation at eta, not patched together from several
    iterations: int


_REACH = 5.0
"""Prior standard deviations that one step may go: a longer one may pass over the mode into another's basin."""

_CLOSE, _SCOUT = 1e-2, 15
"""Half decrement that ends the search by expected information, and the steps it may take."""


_PATIENCE = 20
"""Steps after which a subject whose l fell by less than a hundredth of what one step promises is left where it is."""


def _reach(step: Array, precision: Array) -> Array:
    """Return the part of each step (etas, N) to try first."""
    length = np.sqrt(np.einsum("qn,qn->n", step, precision @ step))
    return _REACH / np.maximum(length, _REACH)


def _descend(
    evaluate: Callable[[Array], _Joint],
    precision: Array,
    eta: Array,
    state: _Joint,
    noise: float,
    tolerance: float,
    max_iterations: int,
) -> _Descent:
    """Take damped Newton steps until every half decrement is below `tolerance`."""
    step, decrement = _newton_step(state)
    scale = _reach(step, precision)
    iterations = 0
    whole = True
    before, stuck = state.value, np.zeros(len(scale), dtype=bool)
    while iterations < max_iterations:
        if iterations and iterations % _PATIENCE == 0:
            # Where a prediction has a kink (an infusion that ends at an observation) the slope never vanishes.
            stuck |= before - state.value < 1e-2 * decrement
            before = state.value
        # A subject whose value or derivatives are not finite stays where it is, not converged.
        active = (decrement > tolerance) & np.isfinite(state.value) & (scale > 1e-10) & ~stuck
        if not active.any():
            break
        iterations += 1
        trial = eta + np.where(active, scale, 0.0) * step
        new = evaluate(trial)
        target = state.value - 1e-4 * 2.0 * scale * decrement
        rounding = noise * state.size
        accept = ~active | ((new.value <= target + rounding) & np.isfinite(new.gradient).all(axis=0))
        if accept.all():
            eta, state, whole = trial, new, True
        else:
            eta = np.where(accept, trial, eta)
            state = _Joint(
                np.where(accept, new.value, state.value),
                np.where(accept, new.size, state.size),
                np.where(accept, new.gradient, state.gradient),
                np.where(accept[:, None, None], new.hessian, state.hessian),
                np.where(accept[:, None, None], new.information, state.information),
                *new[5:],
            )
            whole = False
        step, decrement = _newton_step(state)
        scale = np.where(~active, scale, np.where(accept, _reach(step, precision), 0.5 * scale))
    return _Descent(eta, state, decrement, whole, iterations)


def find_modes(
    problem: Problem,
    typical: Array,
    precision: Array,
    sigma: Array,
    start: Array | None = None,
    *,
    tolerance: float = 1e-13,
    max_iterations: int = 200,
    gradient: bool = False,
) -> Modes:
    """Return every subject's mode.

    Parameters
    ----------
    problem : Problem
    typical : (slots, blocks) float
    precision : (etas, etas) float
        Ω⁻¹.
    sigma : (sigmas,) float
    start : (etas, subjects) float, optional
        Warm start; zero without, and for a subject whose density is not finite there.
    tolerance : float
        Largest half decrement accepted, in units of −2 log likelihood.
    max_iterations : int
    gradient : bool
        Evaluate what the outer gradient needs too.

    Notes
    -----
    Exact second derivatives; where they are not positive definite, with the signs of negative eigenvalues turned,
    and a step that does not decrease l by 10⁻⁴ of what the model promises is halved.  The functions of
    all subjects are evaluated together.  Where the prediction is integrated, a search from afar comes near
    the modes by expected information, which needs first derivatives only.
    """
    q, n = problem.n_eta, problem.n_subjects

    def evaluate(eta: Array, order: int = 2) -> _Joint:
        return _joint(problem, typical, precision, sigma, eta, gradient, order)

    # A step is not refused for what the prediction itself is uncertain by.
    solved = getattr(problem.structure, "precision", 0.0)
    noise = max(1e-14, solved)
    eta = np.zeros((q, n)) if start is None else np.array(start)
    scouted = 0
    if start is None and solved:
        # Second derivatives of an integrated prediction are several times as dear as first ones.
        scout = _descend(lambda eta: evaluate(eta, 1), precision, eta, evaluate(eta, 1), noise, _CLOSE, _SCOUT)
        eta, scouted = scout.eta, scout.iterations
    state = evaluate(eta)
    if start is not None and not np.isfinite(state.value).all():
        eta = np.where(np.isfinite(state.value), eta, 0.0)
        state = evaluate(eta)
    if start is not None and solved and (_newton_step(state)[1] > _CLOSE).any():
        scout = _descend(lambda eta: evaluate(eta, 1), precision, eta, state, noise, _CLOSE, _SCOUT)
        if scout.iterations:
            eta, scouted = scout.eta, scout.iterations
            state = evaluate(eta)
    eta, state, decrement, whole, iterations = _descend(
        evaluate, precision, eta, state, noise, tolerance, max_iterations
    )
    if not whole:
        state = evaluate(eta)
    return Modes(
        eta,
        state.value,
        state.hessian,
        state.information,
        decrement,
        decrement <= np.maximum(tolerance, 1e-14 * state.size),
        *state[5:],
        scouted + iterations,
    )
