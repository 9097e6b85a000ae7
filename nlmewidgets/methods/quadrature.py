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

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, NamedTuple, Self

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.observation import First
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.floor import floored
from nlmewidgets.methods.laplace import CHUNK, Averages, evaluate_laplace, inverse_factor, score
from nlmewidgets.methods.marginal import Approximation, Evaluation, log_det, precision_of

__all__ = ["AGQ", "evaluate_quadrature", "nodes_within"]


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


def by_occasion(problem: Problem) -> bool:
    """Whether a subject's integral is one over its etas of a product of integrals over each occasion's kappas."""
    return problem.occasions.within > 0 and getattr(problem.structure, "memoryless", False)


def grid_dimension(problem: Problem) -> int:
    """Return the dimension of the product grid."""
    occasions = problem.occasions
    return occasions.between + occasions.within if by_occasion(problem) else problem.n_eta


def evaluate_quadrature(
    problem: Problem,
    values: Values,
    nodes: int,
    start: Array | None = None,
    *,
    gradient: bool = False,
    tolerance: float = 1e-13,
) -> Evaluation:
    """Return −2 log L of every subject by quadrature with `nodes` per random effect, with scores if asked.

    Raises
    ------
    MethodError
        If the grid would be larger than two million points.
    """
    q = grid_dimension(problem)
    if nodes < 1 or nodes**q > _MOST_POINTS:
        raise MethodError(
            f"{nodes} nodes in {q} dimensions make {nodes**q:.3g} points a subject; use at most "
            f"{nodes_within(q, _MOST_POINTS, 99)}."
        )
    if nodes == 1 or q == 0:
        return evaluate_laplace(problem, values, start, gradient=gradient, tolerance=tolerance)
    typical = problem.typical(values.theta, jacobian=gradient)
    precision, log_omega = precision_of(problem.occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical.slots, precision, values.sigma, start, tolerance=tolerance)
        grid = _Grid.of(problem, nodes)
        own_half = 0.5 * modes.hessian
        # A bounded curvature would couple the kappas of different occasions.
        bounded = None if by_occasion(problem) else floored(own_half, precision, problem.occasions.expand(values.omega))
        half = own_half if bounded is None else bounded.matrix
        # The kappas before the etas: then the factor of the curvature has no fill-in.
        factor = np.empty_like(half)
        factor[:, grid.order] = inverse_factor(half[:, grid.order[:, None], grid.order])
        base = log_omega + log_det(half)
        if not gradient or not np.isfinite(base + modes.value).all():
            logs, _ = _sum(problem, values, grid, typical.slots, precision, modes.eta, factor, gradient=False)
            return Evaluation(base - 2.0 * logs, modes.eta, joint=modes.value)
        logs, own = _sum(problem, values, grid, typical.slots, precision, modes.eta, factor, gradient=True)
        per_subject = base - 2.0 * logs
        if own is None or not np.isfinite(per_subject).all():
            return Evaluation(per_subject, modes.eta, joint=modes.value)
        if bounded is None or not len(bounded.rows):
            return score(problem, values, typical, precision, modes, per_subject, own)
        scored = score(problem, values, typical, precision, modes, per_subject, bounded.pulled_back(own))
        return replace(scored, bounded=bounded.rows)


@dataclass(frozen=True, eq=False)
class _Grid:
    """The nodes x of a subject's random effects: one product grid, or one of the etas and one per occasion's kappas.

    Given the etas, the kappas of different occasions are independent where an observation depends on its own
    parameter block only.  With the kappas before the etas the Cholesky factor of the curvature has no fill-in, so
    the kappas of an occasion depend on the nodes of the etas and on their own only, and the sum over the grid is
    one over the etas of a product over occasions.  All occasions are evaluated at the same nodes; one that a subject
    does not have contributes a factor of one.

    Attributes
    ----------
    order : (etas,) int
        The random effects in the order of the factorisation: kappas, then `outer`.
    outer : (d,) int
        Those on the outer grid.
    occasions : tuple of (w,) int
        The kappas of each occasion, on the inner grid; none where there is only the outer one.
    x, log_x : (d, points), (points,) float
        Outer nodes and their log weights + |x|²/2.
    y, log_y
        The inner ones.
    rows : (obs,) int
        The occasion of each observation.
    """

    order: Ints
    outer: Ints
    occasions: tuple[Ints, ...]
    x: Array
    log_x: Array
    y: Array
    log_y: Array
    rows: Ints

    @classmethod
    def of(cls, problem: Problem, nodes: int) -> _Grid:
        own, every = problem.occasions, np.arange(problem.n_eta)
        if not by_occasion(problem):
            return cls(
                every,
                every,
                (),
                *product_grid(nodes, problem.n_eta),
                *product_grid(nodes, 0),
                np.zeros(0, dtype=np.intp),
            )
        q, w = own.between, own.within
        kappas = tuple(every[q + o * w : q + (o + 1) * w] for o in range(own.most))
        rows = own.number[problem.data.observed]
        return cls(np.roll(every, -q), every[:q], kappas, *product_grid(nodes, q), *product_grid(nodes, w), rows)

    def place(self, i: Ints) -> Ints:
        """Return where random effects stand in the order of the factorisation."""
        return np.argsort(self.order)[i]


def _sum(
    problem: Problem,
    values: Values,
    grid: _Grid,
    typical: Array,
    precision: Array,
    centre: Array,
    factor: Array,
    *,
    gradient: bool,
) -> tuple[Array, Averages | None]:
    """Return the log of the sum over the grid, (subjects,), and the averages that its derivatives need.

    `factor` is C with rows as the random effects are and columns in the order of the factorisation.
    """
    q, n = centre.shape
    size = max(1, CHUNK // max(problem.n_obs * grid.y.shape[1] * (1 + gradient * len(typical)), 1))
    outer = grid.place(grid.outer)
    top = np.full(n, -np.inf)
    total = np.zeros(n)
    sums: _Sums | None = None
    for lo in range(0, grid.x.shape[1], size):
        x, y = grid.x[:, lo : lo + size], grid.y
        eta = np.empty((q, x.shape[1], y.shape[1], n))
        shift = centre[:, None] + np.einsum("nab,bk->akn", factor[:, :, outer], x)
        eta[grid.outer] = shift[grid.outer, :, None]
        for i in grid.occasions:
            own = np.einsum("nab,bj->ajn", factor[:, i[:, None], grid.place(i)], y)
            eta[i] = shift[i, :, None] + own[:, None]
        f, first, _ = problem.structure(problem.slots(typical, eta), int(gradient))
        f = np.broadcast_to(f, (*eta.shape[1:3], problem.n_obs))
        terms = problem.first_terms(f, values.sigma) if gradient else None
        each = problem.minus2ll_each(f, values.sigma) if terms is None else np.broadcast_to(terms.value, f.shape)
        # Points so far out that the prediction overflows carry no probability.
        each = np.where(np.isnan(each), np.inf, each)
        inner = [
            grid.log_y[:, None]
            - 0.5 * (problem.subjects(np.where(grid.rows == o, each, 0.0)) + _square(precision, eta, i))
            for o, i in enumerate(grid.occasions)
        ]
        logs = grid.log_x[lo : lo + size, None] - 0.5 * _square(precision, eta[:, :, 0], grid.outer)
        logs = logs + (sum(_logsum(part) for part in inner) if inner else -0.5 * problem.subjects(each[:, 0]))
        new = np.maximum(top, logs.max(axis=0))
        safe = np.where(np.isfinite(new), new, 0.0)
        fade, p = np.exp(top - safe), np.exp(logs - safe)
        total, top = total * fade + p.sum(axis=0), new
        if terms is not None:
            assert first is not None
            own_weights = [p[:, None] * np.exp(part - _logsum(part)[:, None]) for part in inner]
            part_sums = _Sums.of(problem, grid, terms, first, x, p, own_weights)
            sums = part_sums if sums is None else sums.plus(part_sums, fade, problem)
    logs = np.log(total) + top
    return logs, None if sums is None else sums.averages(problem, grid, precision, centre, factor, total)


def _logsum(x: Array) -> Array:
    """Return log Σ exp over the second axis, −∞ where every term is."""
    top = x.max(axis=1)
    top = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(np.log(np.exp(x - top[:, None]).sum(axis=1)) + top)


def _square(precision: Array, eta: Array, i: Ints) -> Array:
    """Return η'Pη over some random effects, (...)."""
    return np.einsum("a...,a...->...", eta[i], np.tensordot(precision[np.ix_(i, i)], eta[i], 1))


class _Sums(NamedTuple):
    """Weighted sums over nodes: of scores along slots and sigmas, of the data's slope along η, of nodes.

    `crossed` is the slope times the nodes, `nodes` and `square` are of x and xx', in the order of the factorisation.
    What pairs the kappas of two occasions, and the slope along the etas with the nodes of kappas, is not needed: the
    factor of the curvature is zero there, or above its diagonal.
    """

    slots: Array  # (slots, obs)
    sigma: Array | None  # (sigmas, obs)
    slope: Array  # (etas, subjects)
    crossed: Array  # (etas, etas, subjects)
    nodes: Array  # (etas, subjects)
    square: Array  # (etas, etas, subjects)

    @classmethod
    def of(
        cls, problem: Problem, grid: _Grid, terms: First, first: Array, x: Array, p: Array, own: list[Array]
    ) -> Self:
        """Return the sums over outer nodes x with weights p (points, subjects); `own` are those of inner nodes."""
        q, n, n_random = problem.n_eta, problem.n_subjects, len(problem.loadings)
        spread, outer, y = problem.subjects.spread, grid.place(grid.outer), grid.y
        if own:
            every = np.stack([spread(w) for w in own])
            weight = np.take_along_axis(every, grid.rows[None, None, None], 0)[0]
        else:
            weight = spread(p)[:, None]
        # Where a point has no weight its derivatives may be anything.
        on_f = np.where(weight > 0, terms.f * weight, 0.0)
        if not np.isfinite(first).all():
            first = np.where(on_f == 0, 0.0, first)
        sigma = None
        if terms.sigma is not None:
            sigma = np.where(weight > 0, terms.sigma * weight, 0.0).sum(axis=(1, 2))
        pulled = problem.subjects(on_f * first[:n_random]).reshape(n_random, -1)
        slope = (problem.loadings.T @ pulled).reshape(q, x.shape[1], -1, n)
        along = slope.sum(axis=2)
        crossed, square = np.zeros((q, q, n)), np.zeros((q, q, n))
        nodes = np.zeros((q, n))
        crossed[:, outer] = np.einsum("akn,bk->abn", along, x)
        nodes[outer] = x @ p
        square[np.ix_(outer, outer)] = np.einsum("ak,bk,kn->abn", x, x, p)
        for i, w in zip(grid.occasions, own, strict=True):
            at = grid.place(i)
            crossed[np.ix_(i, at)] = np.einsum("akjn,bj->abn", slope[i], y)
            mean = np.einsum("aj,kjn->akn", y, w)
            nodes[at] = mean.sum(axis=1)
            square[np.ix_(at, at)] = np.einsum("aj,bj,kjn->abn", y, y, w)
            square[np.ix_(at, outer)] = np.einsum("akn,bk->abn", mean, x)
            square[np.ix_(outer, at)] = square[np.ix_(at, outer)].transpose(1, 0, 2)
        return cls(np.einsum("kjo,skjo->so", on_f, first), sigma, along.sum(axis=1), crossed, nodes, square)

    def plus(self, other: _Sums, fade: Array, problem: Problem) -> _Sums:
        """Return the sums so far, faded (subjects,), and those of further nodes."""
        obs = problem.subjects.spread(fade)
        sigma = None if self.sigma is None or other.sigma is None else self.sigma * obs + other.sigma
        rest = (old * fade + new for old, new in zip(self[2:], other[2:], strict=True))  # type: ignore[operator]
        return _Sums(self.slots * obs + other.slots, sigma, *rest)

    def averages(
        self, problem: Problem, grid: _Grid, precision: Array, centre: Array, factor: Array, total: Array
    ) -> Averages:
        """Return what `score` needs.

        With x fixed, η = η̂ + Cx moves with the mode and with the factor: CC' = H⁻¹ gives dC = −CΦ(C'dHC)', where Φ
        keeps the lower triangle with half the diagonal.
        """
        obs = problem.subjects.spread(total)
        mean, square = (self.nodes / total).T, (self.square / total).transpose(2, 0, 1)
        centred = factor @ square
        shift = np.einsum("nab,nb->na", factor, mean)
        middle = centre.T
        outer = middle[:, :, None] * (middle + shift)[:, None, :] + shift[:, :, None] * middle[:, None, :]
        slope = (self.slope / total).T + 2.0 * (middle + shift) @ precision
        crossed = (self.crossed / total).transpose(2, 0, 1)
        crossed = crossed + 2.0 * precision @ (middle[:, :, None] * mean[:, None, :] + centred)
        turned = np.triu(factor.transpose(0, 2, 1) @ crossed)
        # The lower triangle of W' with half its diagonal, made symmetric, is half of W's upper one and its transpose.
        pull = 0.5 * turned
        k = np.arange(len(centre))
        pull[:, k, k] *= 0.5
        pull = pull + pull.transpose(0, 2, 1)
        for a, i in enumerate(grid.occasions):
            for j in grid.occasions[:a]:
                pull[:, grid.place(i)[:, None], grid.place(j)] = 0.0
                pull[:, grid.place(j)[:, None], grid.place(i)] = 0.0
        size, vectors = np.linalg.eigh(np.eye(len(k)) - pull)
        return Averages(
            slots=self.slots / obs,
            sigma=None if self.sigma is None else self.sigma / obs,
            outer=outer + centred @ factor.transpose(0, 2, 1),
            slope=slope.T,
            directions=factor @ vectors,
            weights=size,
        )


@dataclass(frozen=True)
class AGQ(Approximation):
    """Adaptive Gauss–Hermite quadrature, the yardstick of the other methods.

    Parameters
    ----------
    nodes : int
        Nodes per random effect; the cost is nodes^etas.
    inner_tolerance : float
        Largest half Newton decrement left in a subject's mode.
    """

    nodes: int = 9
    inner_tolerance: float = 1e-13

    informed: ClassVar[bool] = True
    name: ClassVar[str] = "agq"
    title: ClassVar[str] = "adaptive quadrature"
    summary: ClassVar[str] = (
        "The integral itself on a grid around each mode; exact as nodes grow, for few random effects."
    )

    def evaluate(
        self, problem: Problem, values: Values, start: Array | None = None, *, gradient: bool = False
    ) -> Evaluation:
        """Return the quadrature objective of every subject, with scores if asked."""
        return evaluate_quadrature(
            problem, values, self.nodes, start, gradient=gradient, tolerance=self.inner_tolerance
        )
