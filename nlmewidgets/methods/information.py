r"""Expected information of a model made linear in its random effects.

With :math:`y_i \sim N(\mu_i, V_i)`, an element of the information along coordinates a and b is

.. math:: \sum_i \frac{\partial\mu_i'}{\partial a} V_i^{-1} \frac{\partial\mu_i}{\partial b}
          + \tfrac12 \operatorname{tr}\Bigl(V_i^{-1} \frac{\partial V_i}{\partial a}
                                            V_i^{-1} \frac{\partial V_i}{\partial b}\Bigr) .

- `expected_information` linearises at η = 0 (FO): :math:`\mu = f`, :math:`V = G \Omega G' + R`, all of which move with
  every parameter ("full"), or the mean with the typical values and the variance with the variances only ("reduced",
  block-diagonal).  Observations enter by their times alone, so a design without data will do.
- `linearised_information` linearises at each subject's mode, where G and R stay as they are: Monolix's linearisation.

References
----------
Mentré, Mallet & Baccar (1997), doi:10.1093/biomet/84.2.429.
Nyberg et al. (2015), doi:10.1111/bcp.12352 (full and reduced matrices of optimal design software).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem, Typical

__all__ = ["Linear", "expected_information", "linearisable", "linearised_information"]

_AT_ONCE = 4_000_000
"""Numbers held in one array: subjects are taken in parts."""

_STEP = 1e-5


def expected_information(problem: Problem, values: Values, *, full: bool = True) -> Array:
    """Return the FO information matrix of the design of `problem`, along the unconstrained coordinates.

    Parameters
    ----------
    problem : Problem
        Of its data only the design enters: times, doses, covariates.
    values : Values
    full : bool
        Whether the variance moves with the typical values too.

    Returns
    -------
    (free, free) float

    Raises
    ------
    MethodError
        If observations are not normal around their prediction.
    """
    _require_normal(problem, values)
    moves = _Moves.of(problem, values)
    typical = problem.typical(values.theta, jacobian=True)
    assert typical.jacobian is not None
    with np.errstate(all="ignore"):
        slots = problem.slots(typical.slots, np.zeros((problem.n_eta, problem.n_subjects)))
        f, first, second = problem.structure(slots, 2)
        assert first is not None
        if second is None:
            second = np.zeros((len(problem.loadings), *first.shape))
        along, mixed = problem.along_eta(first, second)
        r = problem.variance(f, values.sigma)
        slopes = problem.blocks.spread(np.einsum("stb,tp->spb", typical.jacobian, moves.theta))
        plain = np.einsum("so,spo->po", first, slopes)
        on_variance = moves.residual(r.sigma, f)
        # Where the error is normal after a transform t, the mean is t(f).
        steep, bend = problem.center_slope(f, values.sigma), _bend(problem, f, values.sigma)
        mean = steep * plain
        turned = np.zeros((moves.n, *along.shape))
        if full:
            turned = steep * np.einsum("aso,spo->pao", mixed, slopes) + bend * plain[:, None] * along
            if r.f is not None:
                on_variance = on_variance + r.f * plain
    return _total(problem, moves, values, mean, steep * along, turned, np.broadcast_to(r.value, f.shape), on_variance)


def linearised_information(problem: Problem, values: Values, eta: Array) -> Array:
    """Return the information of the model linearised at the modes, along the unconstrained coordinates.

    Parameters
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
        Each subject's mode.

    Returns
    -------
    (free, free) float

    Raises
    ------
    MethodError
        If observations are not normal around their prediction, perhaps after a transform.
    """
    _require_normal(problem, values)
    typical = problem.typical(values.theta, jacobian=True)
    with np.errstate(all="ignore"):
        f, first, _ = problem.structure(problem.slots(typical.slots, eta), 1)
        assert first is not None
        return _information(problem, values, typical, f, first)


def linearisable(problem: Problem, values: Values) -> bool:
    """Whether observations are normal around their prediction, perhaps after a transform that is not estimated."""
    return _why_not(problem, values) is None


class Linear(NamedTuple):
    """What a model is linearised by at each subject's mode.

    Attributes
    ----------
    typical : Typical
        With its Jacobian.
    f, first : (obs,), (slots, obs) float
        The prediction there and its derivatives along the slots.
    """

    typical: Typical
    f: Array
    first: Array

    def information(self, problem: Problem, values: Values) -> Array:
        """Return the information along the unconstrained coordinates, (free, free)."""
        return _information(problem, values, *self)


def _information(problem: Problem, values: Values, typical: Typical, f: Array, first: Array) -> Array:
    r"""Return the information of a linearised model.

    With :math:`A = G'R^{-1}G` and :math:`K = (\Omega^{-1} + A)^{-1}`, :math:`V^{-1} = R^{-1} - R^{-1}GKG'R^{-1}` and
    :math:`V^{-1}G = R^{-1}GK\Omega^{-1}`, so that no matrix is larger than a subject's random effects are many.
    """
    space, occasions, q = problem.space, problem.occasions, problem.n_eta
    jacobian = typical.jacobian
    assert jacobian is not None
    if problem.not_normal(transformed=False) is not None:
        first = first * problem.center_slope(f, values.sigma)
    r = problem.variance(f, values.sigma)
    weight = 1.0 / np.broadcast_to(r.value, f.shape)
    loadings = np.zeros((len(first), q))
    loadings[: len(problem.loadings)] = problem.loadings
    square = problem.blocks(weight * first[:, None] * first)
    pulled = np.einsum("sub,utb->stb", square, jacobian)
    mean = np.tensordot(jacobian, pulled, axes=([0, 2], [0, 2]))
    cross = problem.block_subjects(np.tensordot(loadings.T, pulled, 1))
    own = problem.block_subjects(np.tensordot(loadings.T, np.tensordot(loadings.T, square, 1), axes=(1, 1))).transpose(
        2, 0, 1
    )
    precision = np.linalg.inv(occasions.expand(values.omega))
    k = np.linalg.inv(precision + own)
    mean = mean - np.einsum("atn,nab,bun->tu", cross, k, cross, optimize=True)
    inner = (own @ k @ precision).reshape(len(own), q * q)
    # tr(A E A E') for all directions E and E' of Omega at once, as a form in E_jk and E'_li.
    spread = (inner.T @ inner).reshape(q, q, q, q).transpose(1, 2, 3, 0)
    spread = occasions.collapse(0.25 * (spread + spread.transpose(0, 1, 3, 2))).transpose(2, 3, 0, 1)
    spread = occasions.collapse(spread)
    t, w, n_sigma = len(space.theta), len(space.eta), len(space.sigma)
    full = np.zeros((t + w * w + n_sigma,) * 2)
    full[:t, :t] = mean
    full[t : t + w * w, t : t + w * w] = spread.reshape(w * w, w * w)
    if r.sigma is not None and n_sigma:
        on_r = np.broadcast_to(r.sigma[:n_sigma], (n_sigma, *f.shape))
        along, share = problem.slope_along_eta(first), on_r * weight
        k_obs = problem.subjects.spread(k.transpose(1, 2, 0))
        turned = weight * np.einsum("abo,bo->ao", k_obs, along)
        leverage = np.einsum("ao,ao->o", turned, along)
        residual = (share * (1.0 - 2.0 * leverage)) @ share.T
        gathered = np.stack([problem.subjects(weight * row * along[:, None] * along) for row in share])
        half = np.einsum("nab,sbcn->sacn", k, gathered)
        residual = residual + np.einsum("sacn,ucan->su", half, half)
        turned = precision @ turned
        mixed = np.einsum("so,ao,bo->sab", on_r, turned, turned, optimize=True)
        mixed = occasions.collapse(mixed).reshape(n_sigma, w * w)
        full[t + w * w :, t + w * w :] = 0.5 * residual
        full[t + w * w :, t : t + w * w] = 0.5 * mixed
        full[t : t + w * w, t + w * w :] = 0.5 * mixed.T

    def along_free(rows: Array) -> Array:
        omega = rows[:, t : t + w * w].reshape(len(rows), w, w)
        return space.pull_back(values, rows[:, :t], omega, rows[:, t + w * w :])

    out = along_free(along_free(full).T)
    return 0.5 * (out + out.T)


def _why_not(problem: Problem, values: Values) -> str | None:
    why = problem.not_normal(correlated=False)
    if why is None and problem.not_normal(transformed=False) is not None:
        f = np.linspace(0.5, 2.0, problem.n_obs)
        if not np.array_equal(problem.center_slope(f, values.sigma), problem.center_slope(f, values.sigma * 1.1)):
            why = "a transform that is estimated"
    return why


def _require_normal(problem: Problem, values: Values) -> None:
    if (why := _why_not(problem, values)) is not None:
        raise MethodError(f"The expected information does not treat {why}; take the kind 'sandwich' or 'R'.")


def _bend(problem: Problem, f: Array, sigma: Array) -> Array:
    """Return the second derivative of the transform at each observation."""
    h = 1e-5 * np.maximum(np.abs(f), 1e-8)
    return (problem.center_slope(f + h, sigma) - problem.center_slope(f - h, sigma)) / (2.0 * h)


@dataclass(frozen=True, eq=False)
class _Moves:
    """How the natural values move along each unconstrained coordinate.

    Attributes
    ----------
    theta, omega, sigma : (thetas, free), (free, etas, etas), (sigmas, free) float
        Omega that of a subject's random effects, occasions included.
    """

    theta: Array
    omega: Array
    sigma: Array

    @property
    def n(self) -> int:
        return len(self.omega)

    @classmethod
    def of(cls, problem: Problem, values: Values) -> _Moves:
        space = problem.space
        x = space.pack(values)
        theta, omega, sigma = [], [], []
        for k in range(len(x)):
            step = np.zeros(len(x))
            step[k] = _STEP * max(1.0, abs(x[k]))
            up, down = (space.unpack(x + s * step, values) for s in (1, -1))
            theta.append((up.theta - down.theta) / (2 * step[k]))
            omega.append(problem.occasions.expand(up.omega - down.omega) / (2 * step[k]))
            sigma.append((up.sigma - down.sigma) / (2 * step[k]))
        q, n = problem.n_eta, len(x)
        return cls(
            np.array(theta).reshape(n, -1).T.reshape(len(space.theta), n),
            np.array(omega).reshape(n, q, q),
            np.array(sigma).reshape(n, -1).T.reshape(len(space.sigma), n),
        )

    def residual(self, r_sigma: Array | None, f: Array) -> Array:
        """Return the derivatives of the residual variance through sigma, (free, obs)."""
        if r_sigma is None:
            return np.zeros((self.n, *f.shape))
        return self.sigma.T @ np.broadcast_to(r_sigma, (len(self.sigma), *f.shape))


def _total(
    problem: Problem, moves: _Moves, values: Values, mean: Array, along: Array, turned: Array, r: Array, on_r: Array
) -> Array:
    """Return the information summed over subjects.

    Parameters
    ----------
    mean : (free, obs) float
        Derivatives of the mean.
    along, turned : (etas, obs), (free, etas, obs) float
        G, and its derivatives.
    r, on_r : (obs,), (free, obs) float
        The residual variance, and its derivatives.
    """
    subject = problem.data.subject
    counts = np.bincount(subject, minlength=problem.n_subjects)
    most, p, q = int(counts.max(initial=1)), moves.n, problem.n_eta
    place = np.arange(len(subject)) - np.concatenate([[0], np.cumsum(counts)[:-1]])[subject]
    omega = problem.occasions.expand(values.omega) if q else np.zeros((0, 0))
    out = np.zeros((p, p))
    size = max(1, _AT_ONCE // (most * most * max(p, 1)))
    for lo in range(0, problem.n_subjects, size):
        n = min(size, problem.n_subjects - lo)
        rows = np.flatnonzero((subject >= lo) & (subject < lo + n))
        i, j = subject[rows] - lo, place[rows]

        def padded(x: Array, i: Array = i, j: Array = j, n: int = n, rows: Array = rows) -> Array:
            """Return (..., obs) as (..., subjects, most), zero where a subject has fewer."""
            full = np.zeros((*x.shape[:-1], n, most))
            full[..., i, j] = x[..., rows]
            return full

        g, dg = padded(along), padded(turned)
        spread = np.einsum("ano,ab->bno", g, omega)
        diagonal = np.eye(most)
        v = np.einsum("bno,bnp->nop", spread, g) + diagonal * padded(r)[:, :, None]
        v = v + diagonal * (np.arange(most) >= counts[lo : lo + n, None])[:, :, None]  # absent observations
        half = np.einsum("kbno,bnp->knop", dg, spread)
        dv = half + half.transpose(0, 1, 3, 2) + diagonal * padded(on_r)[..., None]
        dv = dv + np.einsum("ano,kab,bnp->knop", g, moves.omega, g, optimize=True)
        inverse = np.linalg.inv(v)
        mu = padded(mean)
        out += np.einsum("kno,nop,lnp->kl", mu, inverse, mu, optimize=True)
        turned_v = inverse @ dv
        out += 0.5 * np.einsum("knop,lnpo->kl", turned_v, turned_v, optimize=True)
    return 0.5 * (out + out.T)
