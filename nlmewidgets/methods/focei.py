r"""First-order conditional estimation with interaction.

.. math:: -2\log L_i \approx l_i(\hat\eta_i) + \log|\Omega| + \log|H_i|,\quad
          H_i = \sum_j h_j\, f_\eta f_\eta' + \Omega^{-1},\quad h = 1/R + \tfrac12 (R_f/R)^2,

at the mode :math:`\hat\eta_i` of the exact joint density.  The gradient is exact: it follows the mode
through the implicit function theorem.

References
----------
Almquist, Leander & Jirstrand (2015), doi:10.1007/s10928-015-9409-1, eqs 15–25.
Wang (2007), doi:10.1007/s10928-007-9060-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.modes import Modes, find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem, Typical
from nlmewidgets.methods.marginal import (
    Approximation,
    Evaluation,
    Scores,
    assemble_scores,
    log_det,
    precision_of,
)

__all__ = ["FOCEI", "evaluate_focei"]


def evaluate_focei(
    problem: Problem,
    values: Values,
    start: Array | None = None,
    *,
    gradient: bool = False,
    tolerance: float = 1e-13,
) -> Evaluation:
    """Return the FOCEI objective of every subject, with scores if asked."""
    typical = problem.typical(values.theta, jacobian=gradient)
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(
            problem, typical.slots, precision, values.sigma, start, tolerance=tolerance, gradient=gradient
        )
        h_matrix = 0.5 * modes.information
        per_subject = modes.value + log_omega + log_det(h_matrix)
        if not gradient:
            return Evaluation(per_subject, modes.eta)
        if not np.isfinite(per_subject).all():
            return Evaluation(per_subject, modes.eta)
        terms, along, first, mixed = modes.terms, modes.along, modes.first, modes.mixed
        spread = problem.subjects.spread
        q = problem.n_eta
        if not q:
            omega = np.zeros((problem.n_subjects, 0, 0))
            scores = assemble_scores(problem, typical, first, mixed, terms.f, along, terms.sigma, omega)
            return Evaluation(per_subject, modes.eta, scores)
        k = np.linalg.inv(h_matrix)
        weighted = np.einsum("abo,bo->ao", spread(k.transpose(1, 2, 0)), along)
        leverage = np.einsum("ao,ao->o", weighted, along)
        # ∂ log|H| / ∂η, then v = A⁻¹ of it: d log|H| along a parameter ζ through the mode is −v'·l_ηζ.
        turned = 2.0 * terms.info * weighted
        slope = np.einsum("bo,abo->ao", turned, problem.eta_columns(mixed))
        if terms.info_f is not None:
            slope = slope + terms.info_f * leverage * along
        v = np.linalg.solve(modes.hessian, problem.subjects(slope).T[..., None])[..., 0].T
        v_obs = spread(v)
        v_along = np.einsum("ao,ao->o", v_obs, along)
        on_first = terms.f - terms.ff * v_along
        if terms.info_f is not None:
            on_first = on_first + terms.info_f * leverage
        on_mixed = turned - terms.f * v_obs
        on_sigma = None
        if terms.sigma is not None:
            on_sigma = terms.sigma
            if terms.f_sigma is not None:
                on_sigma = on_sigma - terms.f_sigma * v_along
            if terms.info_sigma is not None:
                on_sigma = on_sigma + terms.info_sigma * leverage
        pulled = (precision @ modes.eta).T
        pulled_v = (precision @ v).T
        cross = pulled_v[:, :, None] * pulled[:, None, :]
        omega = (
            precision
            - precision @ k @ precision
            - pulled[:, :, None] * pulled[:, None, :]
            + cross
            + cross.transpose(0, 2, 1)
        )
        scores = assemble_scores(problem, typical, first, mixed, on_first, on_mixed, on_sigma, omega)
        shift = mode_shift(problem, typical, precision, modes)
    return Evaluation(per_subject, modes.eta, scores, shift)


def mode_shift(problem: Problem, typical: Typical, precision: Array, modes: Modes) -> Scores:
    r"""Return :math:`\partial\hat\eta/\partial\zeta = -l_{\eta\eta}^{-1} l_{\eta\zeta}`, etas first."""
    terms, along = modes.terms, modes.along
    slots = terms.ff * along[:, None] * modes.first + terms.f * modes.mixed
    assert typical.jacobian is not None
    theta = problem.block_subjects(np.einsum("asb,stb->atb", problem.blocks(slots), typical.jacobian))
    q, n = along.shape[0], problem.n_subjects
    sigma = np.zeros((q, len(problem.space.sigma), n))
    if terms.f_sigma is not None:
        sigma = problem.subjects(along[:, None] * terms.f_sigma)
    pulled = precision @ modes.eta
    outer = precision[:, None, :, None] * pulled.T[None, :, None, :]
    omega = -(outer + outer.transpose(0, 1, 3, 2))
    right = np.concatenate([theta, sigma, omega.reshape(q, n, q * q).transpose(0, 2, 1)], axis=1)
    moved = -np.linalg.solve(modes.hessian, right.transpose(2, 0, 1)).transpose(1, 0, 2)
    t, s = theta.shape[1], sigma.shape[1]
    omega = problem.occasions.collapse(moved[..., t + s :].reshape(q, n, q, q))
    return Scores(moved[..., :t], omega, moved[..., t : t + s])


@dataclass(frozen=True)
class FOCEI(Approximation):
    """First-order conditional estimation with interaction.

    Parameters
    ----------
    tolerance : float
        Stop when the objective promises to fall by less than this.
    max_iterations : int
        Outer iterations at most.
    inner_tolerance : float
        Largest half Newton decrement left in a subject's mode.
    """

    inner_tolerance: float = 1e-13

    name: ClassVar[str] = "focei"
    title: ClassVar[str] = "FOCEI"
    summary: ClassVar[str] = "Linearised at each subject's mode, with eta–epsilon interaction; fast, exact gradient."

    def refusal(self, problem: Problem) -> str | None:
        """FOCEI treats data that are normal around their prediction, perhaps after a transform."""
        if (why := problem.not_normal()) is not None:
            return f"FOCEI does not treat {why}; fit with method='saem', and evaluate with 'laplace' or 'agq'."
        return None

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the FOCEI objective of every subject, with scores if asked."""
        return evaluate_focei(problem, values, start, gradient=gradient, tolerance=self.inner_tolerance)
