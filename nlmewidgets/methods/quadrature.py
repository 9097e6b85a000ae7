r"""Adaptive Gauss–Hermite quadrature; its one-node case is the Laplace approximation.

Each subject's integral is taken on a product grid placed by the mode and the exact curvature there,
:math:`\eta = \hat\eta + \sqrt2\, C z` with :math:`CC' = (\tfrac12\, \partial^2 l)^{-1}`:

.. math:: -2\log L_i = \log|\Omega| + \log\bigl|\tfrac12\partial^2 l\bigr|
          - 2\log \sum_k w_k \exp\bigl(-\tfrac12 l(\eta_k) + \tfrac12 |x_k|^2\bigr)

with probabilists' nodes x and normalised weights w.

References
----------
Pinheiro & Bates (1995), doi:10.1080/10618600.1995.10474663.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import logsumexp

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.laplace import CHUNK, evaluate_laplace
from nlmewidgets.methods.marginal import Approximation, Evaluation, log_det, precision_of

__all__ = ["AGQ", "affordable_nodes", "evaluate_quadrature", "nodes_within"]


_MOST_POINTS = 2_000_000


@lru_cache(maxsize=32)
def product_grid(nodes: int, q: int) -> tuple[Array, Array]:
    """Return the product grid (q, nodes^q) and log weights + |x|²/2 for N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    grids = np.meshgrid(*[x] * q, indexing="ij")
    points = np.stack([g.ravel() for g in grids]) if q else np.zeros((0, 1))
    logs = np.meshgrid(*[np.log(w / np.sqrt(2.0 * np.pi))] * q, indexing="ij")
    log_weight = sum((g.ravel() for g in logs), np.zeros(points.shape[1]))
    return points, log_weight + 0.5 * (points**2).sum(axis=0)


def nodes_within(q: int, points: int = 5_000, most: int = 15) -> int:
    """Return the odd number of nodes per dimension whose grid stays within `points`."""
    nodes = 1
    while nodes + 2 <= most and (nodes + 2) ** q <= points:
        nodes += 2
    return nodes


def affordable_nodes(problem: Problem) -> int:
    """Return the nodes per dimension of a quadrature that takes a second or two at most."""
    return nodes_within(grid_dimension(problem), min(5_000, 50_000_000 // max(problem.n_obs, 1)))


def by_occasion(problem: Problem) -> bool:
    """Whether a subject's integral is one over its etas of a product of integrals over each occasion's kappas."""
    return problem.occasions.within > 0 and getattr(problem.structure, "memoryless", False)


def grid_dimension(problem: Problem) -> int:
    """Return the dimension of the product grid."""
    occasions = problem.occasions
    return occasions.between + occasions.within if by_occasion(problem) else problem.n_eta


def evaluate_quadrature(problem: Problem, values: Values, nodes: int, start: Array | None = None) -> Evaluation:
    """Return −2 log L of every subject by quadrature with `nodes` per random effect.

    Raises
    ------
    MethodError
        If the grid would be larger than two million points.
    """
    q, n = grid_dimension(problem), problem.n_subjects
    if nodes < 1 or nodes**q > _MOST_POINTS:
        raise MethodError(
            f"{nodes} nodes in {q} dimensions make {nodes**q:.3g} points a subject; use at most "
            f"{nodes_within(q, _MOST_POINTS, 99)}."
        )
    if nodes == 1:
        return evaluate_laplace(problem, values, start)
    typical = problem.typical(values.theta).slots
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical, precision, values.sigma, start)
        half = 0.5 * modes.hessian
        base = modes.value + log_omega + log_det(half)
        if q == 0:
            return Evaluation(base, modes.eta)
        if by_occasion(problem):
            logs = _factorised(problem, values, nodes, typical, precision, modes.eta, half)
            return Evaluation(base - modes.value - 2.0 * logs, modes.eta)
        x, log_weight = product_grid(nodes, q)
        # half = A A'  ⇒  C = A^{-T}:  C C' = half^{-1}
        factor = np.linalg.inv(_cholesky(half)).transpose(0, 2, 1)
        logs = np.empty((x.shape[1], n))
        size = max(1, CHUNK // max(problem.n_obs, 1))
        for lo in range(0, x.shape[1], size):
            part = x[:, lo : lo + size]
            eta = modes.eta[:, None, :] + np.einsum("nab,bk->akn", factor, part)
            f = problem.predict(problem.slots(typical, eta))
            pulled = np.tensordot(precision, eta, 1)
            joint = problem.minus2ll(np.broadcast_to(f, (part.shape[1], problem.n_obs)), values.sigma)
            joint = joint + np.einsum("akn,akn->kn", eta, pulled)
            # Points so far out that the prediction overflows carry no probability.
            joint = np.where(np.isnan(joint), np.inf, joint)
            logs[lo : lo + size] = -0.5 * (joint - modes.value) + log_weight[lo : lo + size, None]
        return Evaluation(base - 2.0 * logsumexp(logs, axis=0), modes.eta)


def _factorised(
    problem: Problem, values: Values, nodes: int, typical: Array, precision: Array, centre: Array, half: Array
) -> Array:
    """Return the log of the sum over the product grid of all random effects, (subjects,), one occasion at a time.

    Given the etas, the kappas of different occasions are independent: with the kappas before the etas the
    Cholesky factor of the curvature has no fill-in, so the kappas of an occasion depend on the nodes of the
    etas and on their own only, and the sum over the grid is one over the etas of a product over occasions.
    All occasions are evaluated at the same nodes; one that a subject does not have contributes a factor of one.
    """
    occasions, q, n = problem.occasions, problem.occasions.between, problem.n_subjects
    w, most = occasions.within, occasions.most
    order = np.concatenate([np.arange(q, q + w * most), np.arange(q)])
    chol = _cholesky(half[:, order[:, None], order])
    own = np.linalg.inv(chol[:, -q:, -q:] if q else np.zeros((n, 0, 0))).transpose(0, 2, 1)
    x, outer = product_grid(nodes, q)
    y, inner = product_grid(nodes, w)
    occasion = occasions.number[problem.data.observed]
    out = np.empty((x.shape[1], n))
    size = max(1, CHUNK // max(problem.n_obs * y.shape[1], 1))
    for lo in range(0, x.shape[1], size):
        part = x[:, lo : lo + size]
        k = part.shape[1]
        eta = np.empty((problem.n_eta, k, y.shape[1], n))
        z = np.einsum("nab,bk->akn", own, part)
        eta[:q] = (centre[:q, None] + z)[:, :, None]
        for o in range(most):
            rows = slice(o * w, (o + 1) * w)
            factor = np.linalg.inv(chol[:, rows, rows]).transpose(0, 2, 1)
            shift = np.einsum("nab,nbc,ckn->akn", factor, chol[:, w * most :, rows].transpose(0, 2, 1), z)
            own_part = np.einsum("nab,bj->ajn", factor, y)
            eta[q + o * w : q + (o + 1) * w] = (
                centre[q + o * w : q + (o + 1) * w, None, None] - shift[:, :, None] + own_part[:, None]
            )
        f = problem.predict(problem.slots(typical, eta))
        each = problem.minus2ll_each(np.broadcast_to(f, (*eta.shape[1:3], problem.n_obs)), values.sigma)
        each = np.where(np.isnan(each), np.inf, each)
        total = outer[lo : lo + k, None] - 0.5 * _square(precision[:q, :q], eta[:q, :, 0])
        for o in range(most):
            rows = slice(q + o * w, q + (o + 1) * w)
            joint = problem.subjects(np.where(occasion == o, each, 0.0)) + _square(precision[rows, rows], eta[rows])
            total = total + logsumexp(inner[:, None] - 0.5 * joint, axis=1)
        out[lo : lo + size] = total
    return np.asarray(logsumexp(out, axis=0))


def _square(precision: Array, eta: Array) -> Array:
    """Return η'Pη, (...)."""
    return np.einsum("a...,a...->...", eta, np.tensordot(precision, eta, 1))


def _cholesky(matrices: Array) -> Array:
    try:
        return np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        # A mode that is not a minimum has no Gaussian around it: NaN there, named by the caller.
        bad = np.linalg.eigvalsh(matrices)[:, 0] <= 0
        out = np.linalg.cholesky(np.where(bad[:, None, None], np.eye(matrices.shape[-1]), matrices))
        out[bad] = np.nan
        return out


@dataclass(frozen=True)
class AGQ(Approximation):
    """Adaptive Gauss–Hermite quadrature, the yardstick of the other methods.

    Parameters
    ----------
    nodes : int
        Nodes per random effect; the cost is nodes^etas.
    """

    nodes: int = 9

    name: ClassVar[str] = "agq"
    title: ClassVar[str] = "adaptive quadrature"
    summary: ClassVar[str] = (
        "The integral itself on a grid around each mode; exact as nodes grow, for few random effects."
    )
    estimates: ClassVar[bool] = False

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the quadrature objective of every subject."""
        return evaluate_quadrature(problem, values, self.nodes, start)
