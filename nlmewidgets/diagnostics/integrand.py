r"""One subject's integral, and what each approximation puts in its place.

A subject contributes :math:`-2\log\int p(y_i, \eta)\, d\eta`.  Every approximation of the family replaces the
integrand by a Gaussian around a centre c with curvature H,

.. math:: -2\log p(y_i, \eta) \approx v + (\eta - c)' H (\eta - c), \qquad
          -2\log L_i = v + \log|H| - q \log 2\pi ,

quadrature by a sum over nodes placed by the last of them.

References
----------
Wang (2007), doi:10.1007/s10928-007-9060-6 (FO, FOCE and Laplace as one family).
Pinheiro & Bates (1995), doi:10.1080/10618600.1995.10474663 (quadrature).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.contours import contour_lines
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.conditional import conditional
from nlmewidgets.methods.marginal import log_det, precision_of
from nlmewidgets.methods.quadrature import evaluate_quadrature, grid_dimension, nodes_within, product_grid

__all__ = ["Integrand", "integrand"]

_POINTS, _MOST_POINTS = 20_000, 2_000_000
"""Of a quadrature's grid: as many as are drawn or computed in time, and at most."""


@dataclass(frozen=True, eq=False)
class Integrand:
    """The joint density of one subject's data and random effects, exact and as approximated.

    Attributes
    ----------
    subject
        ID.
    names : tuple of str
        The one or two etas shown; the others are held at the mode.
    axes : tuple of (points,) float
        Their values.
    exact : (points, ...) float
        −2 log p(y, η), without log 2π of each normal observation.
    approximations : mapping
        The same of 'fo', 'foce', 'focei' and 'laplace', by name; see the module.
    centres : mapping
        Where each is centred, (etas shown,) float.
    nodes, share : (k, etas shown), (k,) float
        Nodes of the quadrature and the share each has in its sum.
    contributions : DataFrame
        By method: minus2ll, and by how much it differs from the finest quadrature.
    draws : (draws, etas shown) float
        Of the random effects given the data.
    refused : mapping
        Approximations that do not treat the subject's data, with the reason.
    """

    subject: Any
    names: tuple[str, ...]
    axes: tuple[Array, ...]
    exact: Array
    approximations: Mapping[str, Array]
    centres: Mapping[str, Array]
    nodes: Array
    share: Array
    contributions: pd.DataFrame
    draws: Array
    refused: Mapping[str, str] = field(default_factory=dict)

    def lines(self, name: str, levels: Sequence[float] = (1.0, 4.0, 9.0)) -> tuple[Array, Array]:
        """Return what is drawn of the exact integrand ('exact') or an approximation, NaN between lines.

        Of two etas, contours where −2 log is by so much above its own lowest value: a Gaussian's ellipses at 1, 2 and 3
        standard deviations.  Of one, the curve itself, relative to the exact one's highest value.
        """
        height = self.exact if name == "exact" else self.approximations[name]
        if len(self.names) == 1:
            return self.axes[0], np.exp(-0.5 * (height - self.exact.min()))
        found = contour_lines(self.axes[0], self.axes[1], height - height.min(), levels)
        return _joined(found)


def _joined(lines: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Return lines as one, NaN between them."""
    x, y = (
        np.concatenate([part for line in lines if len(line[0]) for part in (line[k], [np.nan])] or [np.zeros(1)])[:-1]
        for k in (0, 1)
    )
    return x, y


@dataclass(frozen=True, eq=False)
class _Gaussian:
    """v + (η − c)'H(η − c), and the −2 log of its integral."""

    value: float
    centre: Array
    precision: Array

    def __call__(self, eta: Array) -> Array:
        away = eta - self.centre.reshape(-1, *(1,) * (eta.ndim - 1))
        return self.value + np.einsum("a...,ab,b...->...", away, self.precision, away)

    @property
    def minus2log(self) -> float:
        q = len(self.centre)
        return float(self.value + log_det(self.precision[None])[0] - q * math.log(2.0 * math.pi))


def integrand(
    problem: Problem,
    values: Values,
    subject: Any,
    etas: Sequence[str] | None = None,
    *,
    points: int = 81,
    nodes: int = 3,
    reach: float = 4.0,
    draws: int = 0,
) -> Integrand:
    """Return one subject's integrand on a grid, with its approximations.

    Parameters
    ----------
    problem : Problem
    values : Values
    subject
        ID.
    etas : sequence of str, optional
        One or two names; without, the first two.
    points : int
        Grid points along each.
    nodes : int
        Nodes per random effect of the quadrature shown (fewer where there would be more than 20,000); its
        contribution is also given for the finest grid that is affordable.
    reach : float
        Of the picture to both sides of every Gaussian in it, in its standard deviations.
    draws : int
        Of the random effects given the subject's data, by the Markov chains that SAEM uses.

    Raises
    ------
    ModelError
        If the model has no random effects, or a name is none of them.
    """
    own = problem.model.problem(problem.data.subset([subject]))
    q, names = own.n_eta, list(own.space.eta)
    if not q:
        raise ModelError("The model has no random effects, so there is no integral to look at.")
    shown = list(etas) if etas is not None else names[:2]
    for name in shown:
        if name not in names:
            raise ModelError(f"There is no random effect '{name}'; there are {', '.join(names)}.")
    if not 1 <= len(shown) <= 2:
        raise ModelError(f"{len(shown)} random effects cannot be drawn; name one or two of {', '.join(names)}.")
    place = [int(np.flatnonzero(own.occasions.source == names.index(name))[0]) for name in shown]

    precision, log_omega = precision_of(own.occasions.expand(values.omega))
    constant = log_omega + q * math.log(2.0 * math.pi)
    typical = own.typical(values.theta).slots

    def joint(eta: Array) -> Array:
        """Return −2 log p(y, η), (...), of etas (etas, ...)."""
        flat = eta.reshape(q, -1, 1)
        with np.errstate(all="ignore"):
            f = own.predict(own.slots(typical, flat))
            value = own.minus2ll(np.broadcast_to(f, (flat.shape[1], own.n_obs)), values.sigma)[:, 0]
            value = value + np.einsum("akn,ab,bkn->k", flat, precision, flat) + constant
        return np.where(np.isnan(value), np.inf, value).reshape(eta.shape[1:])

    with np.errstate(all="ignore"):
        modes = find_modes(own, typical, precision, values.sigma)
    mode, top = modes.eta[:, 0], float(modes.value[0]) + constant
    gaussians = {"laplace": _Gaussian(top, mode, 0.5 * modes.hessian[0])}
    refused: dict[str, str] = {}
    makers = {
        "focei": lambda: _Gaussian(top, mode, 0.5 * modes.information[0]),
        "foce": lambda: _without_interaction(own, values, typical, precision, constant),
        "fo": lambda: _first_order(own, values, typical, precision, constant),
    }
    for name, make in makers.items():
        if (why := METHODS[name]().refusal(own)) is None:
            gaussians[name] = make()
        else:
            refused[name] = why

    curved = gaussians["laplace"] if np.linalg.eigvalsh(0.5 * modes.hessian[0])[0] > 0 else gaussians.get("focei")
    placing = _Gaussian(top, mode, precision) if curved is None else curved
    axes = tuple(_axis(place[k], list(gaussians.values()), precision, points, reach) for k in range(len(shown)))
    grid = np.broadcast_to(mode.reshape(-1, *(1,) * len(shown)), (q, *map(len, axes))).copy()
    for k, mesh in zip(place, np.meshgrid(*axes, indexing="ij"), strict=True):
        grid[k] = mesh

    def quadrature(n: int) -> tuple[Array, Array]:
        """Return nodes (etas, k) and the logarithms of the terms of the sum."""
        x, log_weight = product_grid(n, q)
        factor = np.linalg.inv(np.linalg.cholesky(placing.precision)).T
        eta = placing.centre[:, None] + factor @ x
        volume = 0.5 * q * math.log(2.0 * math.pi) - 0.5 * float(log_det(placing.precision[None])[0])
        return eta, log_weight + volume - 0.5 * joint(eta)

    nodes = nodes if nodes**q <= _POINTS else nodes_within(q, _POINTS, nodes)
    at, terms = quadrature(nodes)
    rows: dict[str, float] = {
        name: gaussians[name].minus2log for name in ("fo", "foce", "focei", "laplace") if name in gaussians
    }
    rows[f"agq, {nodes} nodes"] = -2.0 * float(logsumexp(terms))
    finest = max(nodes_within(grid_dimension(own), _POINTS, 41), nodes)
    if grid_dimension(own) < q:  # a product over occasions; the grid of all kappas would have millions of points
        best = float(evaluate_quadrature(own, values, finest, mode[:, None]).per_subject[0])
    else:
        best = -2.0 * float(logsumexp(quadrature(finest)[1])) if finest**q <= _MOST_POINTS else np.nan
    rows[f"agq, {finest} nodes"] = best
    table = pd.DataFrame({"minus2ll": rows})
    table["difference"] = table["minus2ll"] - best
    table.index.name = "method"
    return Integrand(
        subject=subject,
        names=tuple(shown),
        axes=axes,
        exact=joint(grid),
        approximations={name: g(grid) for name, g in gaussians.items()},
        centres={name: g.centre[place] for name, g in gaussians.items()},
        nodes=at[place].T,
        draws=_given(own, values, mode, draws)[:, place],
        share=np.exp(terms - logsumexp(terms)),
        contributions=table,
        refused=refused,
    )


def _given(problem: Problem, values: Values, mode: Array, n: int) -> Array:
    """Return draws of the only subject's random effects given its data, (n, etas)."""
    if not n:
        return np.zeros((0, problem.n_eta))
    found = conditional(problem, values, draws=n, seed=0, start=mode[:, None], tolerance=0.1, longest=2000)
    return found.draws[:, :, 0]


def _without_interaction(
    problem: Problem, values: Values, typical: Array, precision: Array, constant: float
) -> _Gaussian:
    """Return FOCE's integrand: around the mode of the density whose residual variance is frozen at η = 0."""
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(typical, np.zeros((problem.n_eta, 1))))
        modes = find_modes(problem.frozen(f), typical, precision, values.sigma)
    return _Gaussian(float(modes.value[0]) + constant, modes.eta[:, 0], 0.5 * modes.information[0])


def _first_order(problem: Problem, values: Values, typical: Array, precision: Array, constant: float) -> _Gaussian:
    """Return FO's integrand: that of the model linearised at η = 0, which is Gaussian itself."""
    with np.errstate(all="ignore"):
        f, first, _ = problem.structure(problem.slots(typical, np.zeros((problem.n_eta, 1))), 1)
        assert first is not None
        g = np.einsum("sa,so->ao", problem.loadings, first[: len(problem.loadings)])
        r = np.broadcast_to(problem.variance(f, values.sigma).value, f.shape)
    h = precision + (g / r) @ g.T
    centre = np.linalg.solve(h, (g / r) @ (problem.y - f))
    left = problem.y - f - centre @ g
    value = float((np.log(r) + left**2 / r).sum() + centre @ precision @ centre) + constant
    return _Gaussian(value, centre, h)


def _axis(k: int, gaussians: list[_Gaussian], precision: Array, points: int, reach: float) -> Array:
    """Return values of an eta that show all Gaussians, or all of the prior where they are wider."""
    prior = math.sqrt(np.linalg.inv(precision)[k, k])
    ends = []
    for g in gaussians:
        variance = np.diag(np.linalg.pinv(g.precision, hermitian=True))[k]
        sd = min(math.sqrt(variance), prior) if variance > 0 else prior
        ends += [g.centre[k] - reach * sd, g.centre[k] + reach * sd]
    return np.linspace(min(ends), max(ends), points)
