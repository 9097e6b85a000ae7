r"""First-order estimation: the model linearised at η = 0.

.. math:: y_i \approx N\bigl(f_i(0),\; G_i \Omega G_i' + R_i(0)\bigr),\quad G = \partial f/\partial\eta .

With the matrix determinant lemma and the linear estimate
:math:`\mu_i = H_i^{-1} G_i' R_i^{-1} (y_i - f_i)`, :math:`H_i = G_i' R_i^{-1} G_i + \Omega^{-1}`,

.. math:: -2\log L_i = \sum_j \Bigl(\log R + \frac{(y - f - G\mu)^2}{R}\Bigr)
          + \mu'\Omega^{-1}\mu + \log|\Omega| + \log|H_i| ,

which is minimal in μ, so its gradient is taken at fixed μ.  Where both sides are transformed the data are t(y), the
prediction is t(f) with the slopes t'(f)·G, and the objective has the Jacobian −2 Σ log t'(y).

References
----------
Beal & Sheiner (1982), Crit Rev Biomed Eng 8:195–222. Wang (2007), doi:10.1007/s10928-007-9060-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.observation import Variance
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.information import Linear
from nlmewidgets.methods.marginal import Approximation, Evaluation, assemble_scores, log_det, precision_of

__all__ = ["FO", "evaluate_fo"]


def evaluate_fo(problem: Problem, values: Values, *, gradient: bool = False, interaction: bool = False) -> Evaluation:
    """Return the FO objective of every subject, with scores if asked; with interaction that of FOI."""
    q, n = problem.n_eta, problem.n_subjects
    typical = problem.typical(values.theta, jacobian=gradient)
    full = problem.occasions.expand(values.omega)
    precision, log_omega = precision_of(full)
    subjects, spread = problem.subjects, problem.subjects.spread
    with np.errstate(all="ignore"):
        f, first, second = problem.structure(problem.slots(typical.slots, np.zeros((q, n))), 2 if gradient else 1)
        assert first is not None
        if second is None:
            second = np.zeros((len(problem.loadings), *first.shape))
        along, mixed = problem.along_eta(first, second)
        r = problem.variance(f, values.sigma)
        rho = problem.interaction(f, values.sigma) if interaction else None
        pulled_along = full @ along
        prior = np.einsum("ao,ao->o", along, pulled_along)
        if rho is not None:
            r = _with_interaction(r, rho, prior)
        weight = np.broadcast_to(1.0 / r.value, f.shape)
        error, jacobian, flat = problem.y - f, 0.0, along
        own = there = None
        if problem.transforms:
            own, there = problem.transform(problem.y, values.sigma), problem.transform(f, values.sigma)
            error, along = own.value - there.value, there.slope * flat
            jacobian = -2.0 * np.log(np.broadcast_to(own.slope, f.shape))
        h_matrix = subjects(weight * along[:, None] * along).transpose(2, 0, 1) + precision
        k = np.linalg.inv(h_matrix)
        mu = np.einsum("nab,bn->an", k, subjects(along * (weight * error)))
        mu_obs = spread(mu)
        rest = error - np.einsum("ao,ao->o", along, mu_obs)
        pulled = precision @ mu
        per_subject = (
            subjects(np.log(np.broadcast_to(r.value, f.shape)) + rest**2 * weight + jacobian)
            + np.einsum("an,an->n", mu, pulled)
            + log_omega
            + log_det(h_matrix)
        )
        if not gradient or not np.isfinite(per_subject).all():
            return Evaluation(per_subject, mu)
        weighted = np.einsum("abo,bo->ao", spread(k.transpose(1, 2, 0)), along)
        leverage = np.einsum("ao,ao->o", weighted, along)
        on_variance = weight - weight**2 * (rest**2 + leverage)
        on_error = 2.0 * rest * weight
        on_mixed = 2.0 * weight * (weighted - rest * mu_obs)
        on_sigma = None if r.sigma is None else on_variance * r.sigma
        on_first = -on_error
        if own is not None and there is not None:
            on_slope = np.einsum("ao,ao->o", on_mixed, flat)
            if there.sigma is not None:
                moved = on_error * (own.sigma - there.sigma) + on_slope * there.slope_sigma
                moved = moved - 2.0 * own.slope_sigma / own.slope
                on_sigma = moved if on_sigma is None else on_sigma + moved
            on_first, on_mixed = on_first * there.slope, on_mixed * there.slope
            if there.bend is not None:
                on_first = on_first + on_slope * there.bend
        if r.f is not None:
            on_first = on_first + on_variance * r.f
        outer = pulled.T[:, :, None] * pulled.T[:, None, :]
        omega = precision - precision @ k @ precision - outer
        if rho is not None:
            on_mixed = on_mixed + 2.0 * on_variance * rho.value * pulled_along
            omega = omega + subjects(on_variance * rho.value * along[:, None] * along).transpose(2, 0, 1)
        scores = assemble_scores(problem, typical, first, mixed, on_first, on_mixed, on_sigma, omega)
    return Evaluation(per_subject, mu, scores, linear=Linear(typical, f, first))


def _with_interaction(r: Variance, rho: Variance, prior: Array) -> Variance:
    """Return R + ρ·f_η'Ωf_η and its derivatives where f_η'Ωf_η (obs,) is held."""

    def plus(a: Array | None, b: Array | None) -> Array | None:
        return a if b is None else b * prior if a is None else a + b * prior

    return Variance(plus(r.value, rho.value), plus(r.f, rho.f), plus(r.sigma, rho.sigma))


@dataclass(frozen=True)
class FO(Approximation):
    """First-order estimation: the whole population linearised at eta = 0."""

    informed: ClassVar[bool] = True
    name: ClassVar[str] = "fo"
    title: ClassVar[str] = "FO"
    summary: ClassVar[str] = "Linearised at eta = 0; fastest and crudest, biased where variability is large."

    def refusal(self, problem: Problem) -> str | None:
        """FO treats data that are normal around their prediction."""
        if (why := problem.not_normal(correlated=False)) is not None:
            return f"{self.title} does not treat {why}; use method='laplace', 'agq' or 'saem'."
        return None

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the FO objective of every subject, with scores if asked."""
        return evaluate_fo(problem, values, gradient=gradient)
