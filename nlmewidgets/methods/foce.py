r"""First-order conditional estimation without interaction, as NONMEM defines it.

The residual variance does not depend on the random effects: that of the typical prediction,
:math:`R^0_j = R(f_j(\eta = 0))`, stands in the joint density whose mode is sought and in the objective,

.. math:: l_i(\eta) = \sum_j \Bigl(\log R^0_j + \frac{(y_j - f_j(\eta))^2}{R^0_j}\Bigr) + \eta'\Omega^{-1}\eta, \qquad
          -2\log L_i \approx l_i(\hat\eta_i) + \log|\Omega|
          + \log\Bigl|\sum_j f_\eta f_\eta'/R^0_j + \Omega^{-1}\Bigr| .

The gradient is exact, through the mode and through :math:`R^0`.  With an additive error it is FOCEI.

References
----------
Wang (2007), doi:10.1007/s10928-007-9060-6; NONMEM's METHOD=1 without INTERACTION.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.focei import FOCEI, evaluate_focei
from nlmewidgets.methods.marginal import Evaluation

__all__ = ["FOCE", "evaluate_foce"]


def evaluate_foce(
    problem: Problem,
    values: Values,
    start: Array | None = None,
    *,
    gradient: bool = False,
    tolerance: float = 1e-13,
) -> Evaluation:
    """Return the FOCE objective of every subject, with scores if asked."""
    typical = problem.typical(values.theta).slots
    with np.errstate(all="ignore"):
        f, first, _ = problem.structure(
            problem.slots(typical, np.zeros((problem.n_eta, problem.n_subjects))), int(gradient)
        )
    return evaluate_focei(problem.frozen(f), values, start, gradient=gradient, tolerance=tolerance, frozen=first)


@dataclass(frozen=True)
class FOCE(FOCEI):
    """First-order conditional estimation without interaction.

    Parameters
    ----------
    tolerance : float
        Stop when the objective promises to fall by less than this.
    max_iterations : int
        Outer iterations at most.
    inner_tolerance : float
        Largest half Newton decrement left in a subject's mode.
    """

    # The residual variance moves with the typical values, which the linearised model's information leaves out.
    informed: ClassVar[bool] = False
    name: ClassVar[str] = "foce"
    title: ClassVar[str] = "FOCE"
    summary: ClassVar[str] = "FOCEI with the residual variance of the typical prediction; for additive errors the same."

    def refusal(self, problem: Problem) -> str | None:
        """FOCE treats what FOCEI does, with independent residuals."""
        if problem.pairs:
            return "FOCE does not treat correlated residuals; use method='focei'."
        return super().refusal(problem)

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the FOCE objective of every subject, with scores if asked."""
        return evaluate_foce(problem, values, start, gradient=gradient, tolerance=self.inner_tolerance)
