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
from nlmewidgets.methods.information import Linear
from nlmewidgets.methods.marginal import (
    Approximation,
    Evaluation,
    Scores,
    assemble_scores,
    log_det,
    mode_shift,
    precision_of,
    through_mode,
)

__all__ = ["FOCEI", "evaluate_focei"]


def evaluate_focei(
    problem: Problem,
    values: Values,
    start: Array | None = None,
    *,
    gradient: bool = False,
    tolerance: float = 1e-13,
    frozen: Array | None = None,
) -> Evaluation:
    """Return the FOCEI objective of every subject, with scores if asked.

    `frozen` are the derivatives along the slots, (slots, obs), of what the problem's residual variances are frozen at.
    """
    typical = problem.typical(values.theta, jacobian=gradient)
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(
            problem, typical.slots, precision, values.sigma, start, tolerance=tolerance, gradient=gradient
        )
        h_matrix = 0.5 * modes.information
        per_subject = modes.value + log_omega + log_det(h_matrix)
        if not gradient:
            return Evaluation(per_subject, modes.eta, joint=modes.value)
        if not np.isfinite(per_subject).all():
            return Evaluation(per_subject, modes.eta, joint=modes.value)
        terms, along, mixed = modes.terms, modes.along, modes.mixed
        linear = Linear(typical, modes.f, modes.first)
        spread = problem.subjects.spread
        q = problem.n_eta
        if not q:
            omega = np.zeros((problem.n_subjects, 0, 0))
            scores = _assembled(problem, typical, modes, terms.f, along, terms.sigma, omega, frozen)
            return Evaluation(per_subject, modes.eta, scores, joint=modes.value, linear=linear)
        k = np.linalg.inv(h_matrix)
        weighted = np.einsum("abo,bo->ao", spread(k.transpose(1, 2, 0)), along)
        leverage = np.einsum("ao,ao->o", weighted, along)
        # ∂ log|H| / ∂η
        turned = 2.0 * terms.expected(weighted)
        slope = np.einsum("bo,abo->ao", turned, problem.eta_columns(mixed))
        on_info = None if terms.info_f is None else terms.info_f * leverage
        for cross in terms.info_cross:
            on_info = (0.0 if on_info is None else on_info) + cross.along_f(weighted, along)
        if on_info is not None:
            slope = slope + on_info * along
        moved = through_mode(problem, precision, modes, terms, problem.subjects(slope))
        on_first = terms.f + moved.first
        if on_info is not None:
            on_first = on_first + on_info
        on_mixed = turned + moved.mixed
        on_sigma = terms.sigma
        for part in (
            moved.sigma,
            None if terms.info_sigma is None else terms.info_sigma * leverage,
            *(cross.along_sigma(weighted, along) for cross in terms.info_cross),
        ):
            if part is not None:
                on_sigma = part if on_sigma is None else on_sigma + part
        pulled = (precision @ modes.eta).T
        omega = precision - precision @ k @ precision - pulled[:, :, None] * pulled[:, None, :] + moved.omega
        scores = _assembled(problem, typical, modes, on_first, on_mixed, on_sigma, omega, frozen)
        shift = mode_shift(problem, typical, precision, modes, terms, frozen)
    return Evaluation(per_subject, modes.eta, scores, shift, modes.value, linear=linear)


def _assembled(
    problem: Problem,
    typical: Typical,
    modes: Modes,
    on_first: Array,
    on_mixed: Array,
    on_sigma: Array | None,
    omega: Array,
    frozen: Array | None,
) -> Scores:
    more = None
    if frozen is not None and on_sigma is not None:
        more, on_sigma = on_sigma[-1] * frozen, on_sigma[:-1]
    return assemble_scores(problem, typical, modes.first, modes.mixed, on_first, on_mixed, on_sigma, omega, more)


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

    informed: ClassVar[bool] = True
    name: ClassVar[str] = "focei"
    title: ClassVar[str] = "FOCEI"
    summary: ClassVar[str] = "Linearised at each subject's mode, with eta–epsilon interaction; fast, exact gradient."

    def refusal(self, problem: Problem) -> str | None:
        """FOCE treats data that are normal around their prediction, perhaps after a transform."""
        if (why := problem.not_normal()) is not None:
            return f"{self.title} does not treat {why}; use method='laplace', 'agq' or 'saem'."
        return None

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the FOCEI objective of every subject, with scores if asked."""
        return evaluate_focei(problem, values, start, gradient=gradient, tolerance=self.inner_tolerance)
