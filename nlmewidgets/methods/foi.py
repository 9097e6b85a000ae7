r"""First-order estimation with interaction: the residual error linearised in the random effects too.

.. math:: y_j \approx f_j + f_\eta\eta + \sum_k (h_k + h_k' f_\eta\eta)\,\varepsilon_k
          \quad\text{at } \eta = 0, \qquad
          V_i = G_i \Omega G_i' + \operatorname{diag}_j\Bigl(R_j + \rho_j\, f_\eta\Omega f_\eta'\Bigr),
          \quad \rho = \sum_k h_k'^2 ,

for errors :math:`h_k(f)\,\varepsilon_k` whose variances add up to R; the data are taken as normal with mean
f(0) and this variance.  Where R does not depend on f it is FO.  The definition is that of the optimal-design
literature (docs/decisions/0016 has what other programs do under this name).

References
----------
Nyberg et al. (2012), doi:10.1016/j.cmpb.2012.05.005, and PopED's approximation "FOI".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.fo import FO, evaluate_fo
from nlmewidgets.methods.marginal import Evaluation

__all__ = ["FOI"]


@dataclass(frozen=True)
class FOI(FO):
    """First-order estimation with interaction."""

    name: ClassVar[str] = "foi"
    title: ClassVar[str] = "FOI"
    summary: ClassVar[str] = "FO with the residual error linearised in the etas too; for additive errors the same."

    def refusal(self, problem: Problem) -> str | None:
        """FOI's expansion is that of errors around f itself."""
        if problem.transforms and problem.not_normal(correlated=False) is None:
            return f"{self.title} does not treat a transform of both sides; use method='fo', 'foce' or 'focei'."
        return super().refusal(problem)

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the FOI objective of every subject, with scores if asked."""
        return evaluate_fo(problem, values, gradient=gradient, interaction=True)
