r"""Laplace's approximation with the exact Hessian, and the gradient of every objective placed by it.

.. math:: -2\log L_i \approx l_i(\hat\eta_i) + \log|\Omega| + \log|H_i|,\quad
          H_i = \tfrac12\, \partial^2 l_i(\hat\eta_i) = \tfrac12 \sum_j (L_{ff} f_\eta f_\eta' + L_f f_{\eta\eta})
          + \Omega^{-1} .

Quadrature places its nodes by the same mode and matrix, so one function takes the derivatives of all:
with G the derivative of the objective along H (for Laplace :math:`H^{-1}`), along a slot s

.. math:: \partial_s \langle G, H\rangle = \tfrac12 \sum_j \bigl( (L_{fff}\, f_\eta' G f_\eta
          + L_{ff}\, \langle G, f_{\eta\eta}\rangle)\, f_s + 2 L_{ff}\, f_\eta' G f_{\eta s}
          + L_f\, \langle G, f_{\eta\eta s}\rangle \bigr) .

The third derivatives of f appear only as :math:`\langle G, f_{\eta\eta s}\rangle = \sum_r \lambda_r\,
\partial^2_{d_r} f_s` for :math:`G = \sum_r \lambda_r d_r d_r'`: second differences of the first
derivatives along q directions (docs/decisions/0016).  The mode is followed by the implicit function
theorem.

References
----------
Tierney & Kadane (1986), doi:10.1080/01621459.1986.10478240.
Skaug & Fournier (2006), doi:10.1016/j.csda.2006.03.005 (the gradient).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.modes import Modes, find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem, Typical
from nlmewidgets.methods.floor import LEAST, floored
from nlmewidgets.methods.information import Linear
from nlmewidgets.methods.marginal import (
    Approximation,
    Evaluation,
    assemble_scores,
    log_det,
    mode_shift,
    precision_of,
    through_mode,
)

__all__ = ["Averages", "Laplace", "evaluate_laplace", "inverse_factor", "score"]


CHUNK = 50_000
"""Predictions made at once: as many as stay in the processor's cache (four times faster than a million)."""


@dataclass(frozen=True, eq=False)
class Averages:
    """What an objective's derivatives need of the joint density: averages over its nodes, or its value at the mode.

    Attributes
    ----------
    slots : (slots, obs) float
        L_f f_s.
    sigma : (sigmas, obs) float or None
        L_σ.
    outer : (subjects, etas, etas) float
        ηη'.
    slope : (etas, subjects) float
        l_η.
    directions, weights : (subjects, etas, etas), (subjects, etas) float
        Columns d and numbers λ with G = Σ λ dd'.
    """

    slots: Array
    sigma: Array | None
    outer: Array
    slope: Array
    directions: Array
    weights: Array


def inverse_factor(matrices: Array) -> Array:
    """Return C with CC' = M⁻¹, upper triangular, of matrices (n, q, q); NaN where one is not positive definite."""
    try:
        chol = np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        # A mode that is not a minimum has no Gaussian around it.
        bad = ~(np.linalg.eigvalsh(np.nan_to_num(matrices))[:, :1].min(axis=1, initial=np.inf) > 0)
        chol = np.linalg.cholesky(np.where(bad[:, None, None], np.eye(matrices.shape[-1]), matrices))
        chol[bad] = np.nan
    return np.asarray(np.linalg.inv(chol).transpose(0, 2, 1))


def evaluate_laplace(
    problem: Problem,
    values: Values,
    start: Array | None = None,
    *,
    gradient: bool = False,
    tolerance: float = 1e-13,
    least: float = LEAST,
) -> Evaluation:
    """Return the Laplace objective of every subject, with scores if asked; `least` curvatures as in `methods.floor`."""
    typical = problem.typical(values.theta, jacobian=gradient)
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical.slots, precision, values.sigma, start, tolerance=tolerance)
        half = floored(0.5 * modes.hessian, precision, problem.occasions.expand(values.omega), least)
        per_subject = modes.value + log_omega + log_det(half.matrix)
        if not gradient or not np.isfinite(per_subject).all():
            return Evaluation(per_subject, modes.eta, joint=modes.value, bounded=half.rows)
        terms = problem.first_terms(modes.f, values.sigma)
        eta = modes.eta.T
        own = Averages(
            slots=terms.f * modes.first,
            sigma=None if terms.sigma is None else terms.sigma,
            outer=eta[:, :, None] * eta[:, None, :],
            slope=np.zeros_like(modes.eta),
            directions=inverse_factor(half.matrix),
            weights=np.ones_like(eta),
        )
        scored = score(problem, values, typical, precision, modes, per_subject, half.pulled_back(own))
        return replace(scored, bounded=half.rows)


def score(
    problem: Problem,
    values: Values,
    typical: Typical,
    precision: Array,
    modes: Modes,
    per_subject: Array,
    own: Averages,
) -> Evaluation:
    """Return an objective with its scores, through the curvature at the modes and the modes themselves."""
    spread, along, mixed = problem.subjects.spread, modes.along, modes.mixed
    terms = problem.third_terms(modes.f, values.sigma)
    g = np.einsum("nar,nr,nbr->nab", own.directions, own.weights, own.directions)
    g_obs = spread(g.transpose(1, 2, 0))
    turned = np.einsum("abo,bo->ao", g_obs, along)
    leverage = np.einsum("ao,ao->o", turned, along)
    columns = problem.eta_columns(mixed)
    bend = np.einsum("abo,abo->o", g_obs, columns)
    third = 0.5 * terms.f * _contracted(problem, typical.slots, modes, own)
    on_first = 0.5 * terms.curved(bend)
    if terms.fff is not None:
        on_first = on_first + 0.5 * terms.fff * leverage
    on_mixed = terms.curved(turned)
    crossed = []
    for cross in terms.ff_cross:
        on_first = on_first + 0.5 * cross.along_f(turned, along)
        on_sigma_of_pairs = cross.along_sigma(turned, along)
        crossed += [] if on_sigma_of_pairs is None else [0.5 * on_sigma_of_pairs]
    slope = on_first * along + np.einsum("bo,abo->ao", on_mixed, columns)
    slope = slope + np.tensordot(problem.loadings.T, third[: len(problem.loadings)], 1)
    moved = through_mode(problem, precision, modes, terms, own.slope + problem.subjects(slope))
    on_sigma = own.sigma
    for part in (
        moved.sigma,
        None if terms.f_sigma is None else 0.5 * terms.f_sigma * bend,
        None if terms.ff_sigma is None else 0.5 * terms.ff_sigma * leverage,
        *crossed,
    ):
        if part is not None:
            on_sigma = part if on_sigma is None else on_sigma + part
    scores = assemble_scores(
        problem,
        typical,
        modes.first,
        mixed,
        on_first + moved.first,
        on_mixed + moved.mixed,
        on_sigma,
        precision - precision @ (own.outer + g) @ precision + moved.omega,
        own.slots + third,
    )
    shift = mode_shift(problem, typical, precision, modes, terms)
    return Evaluation(per_subject, modes.eta, scores, shift, modes.value, linear=Linear(typical, modes.f, modes.first))


def _contracted(problem: Problem, typical: Array, modes: Modes, own: Averages) -> Array:
    """Return ⟨G, f_ηηs⟩ at every observation, (slots, obs), by differences of the first derivatives."""
    # Five points: the error is h⁴/90 of a sixth derivative and, by rounding, 5/h² of the precision.
    noise = max(np.finfo(float).eps, getattr(problem.structure, "precision", 0.0))
    h = (450.0 * noise) ** (1.0 / 6.0)
    out = np.zeros_like(modes.first)
    q = len(modes.eta)
    size = max(1, CHUNK // max(4 * problem.n_obs, 1))
    offsets = h * np.array([-2.0, -1.0, 1.0, 2.0])
    weights = np.array([-1.0, 16.0, 16.0, -1.0]) / (12.0 * h * h)
    for lo in range(0, q, size):
        d = own.directions[:, :, lo : lo + size].transpose(1, 2, 0)
        eta = modes.eta[:, None, None, :] + offsets[:, None] * d[:, :, None, :]
        _, first, _ = problem.structure(problem.slots(typical, eta), 1)
        assert first is not None
        second = np.einsum("p,srpo->sro", weights, first) - 2.5 / (h * h) * modes.first[:, None]
        out += np.einsum("ro,sro->so", problem.subjects.spread(own.weights[:, lo : lo + size].T), second)
    return out


@dataclass(frozen=True)
class Laplace(Approximation):
    """Laplace's approximation with the exact Hessian: quadrature with one node.

    Parameters
    ----------
    inner_tolerance : float
        Largest half Newton decrement left in a subject's mode.
    least_curvature : float
        Curvatures at a mode below this share of the prior's are bounded while the objective is minimised, and the fit
        says whose; 0 for the formula as it is, which has no minimum where a mode vanishes.
    """

    inner_tolerance: float = 1e-13
    least_curvature: float = LEAST

    informed: ClassVar[bool] = True
    name: ClassVar[str] = "laplace"
    title: ClassVar[str] = "Laplace"
    summary: ClassVar[str] = "A Gaussian with the exact curvature at each mode; for data of any kind."

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the Laplace objective of every subject, with scores if asked."""
        return evaluate_laplace(
            problem, values, start, gradient=gradient, tolerance=self.inner_tolerance, least=self.least_curvature
        )

    def ofv(self, problem: Problem, values: Values) -> float:
        """Return the objective at given values: the formula as it is, without a bound on curvatures."""
        return evaluate_laplace(problem, values, tolerance=self.inner_tolerance, least=0.0).ofv
