r"""Where the variance of an observation comes from: Var(Y) = E[Var(Y|η)] + Var(E[Y|η]).

The *between* part, Var(E[Y|η]), is what subjects differ by; the *residual* part, E[Var(Y|η)], is what is left
within one.  Both are split further.  With A the draws of one random effect (of a kappa: of all occasions) and
g its columns of G = ∂f/∂η at η = 0:

==============  ======================================  ====================================
part            by simulation                           by linearisation
==============  ======================================  ====================================
an eta, kappa   :math:`\mathrm{Var}(E[f|A])`            :math:`\sum_{a\in A} g_a (\Omega g)_a`
interaction     what these leave of Var(f)              0
a sigma         :math:`E[\tfrac12\sigma_k R_{\sigma_k}]`  :math:`\tfrac12\sigma_k R_{\sigma_k}` at η = 0
==============  ======================================  ====================================

The sigma parts add up to R wherever all sigmas doubled double the SD (Euler's theorem); what they leave is
'other'.  Correlated effects share what they explain together: each Var(E[f|A]) holds all of it, and the
interaction may be negative; the linearised parts take half each.

References
----------
Saltelli et al. (2010), doi:10.1016/j.cpc.2009.09.018 (first-order indices by shared columns).
Janon et al. (2014), doi:10.1051/ps/2013040 (the estimator).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem

__all__ = ["variance_split"]

_CHUNK = 2_000_000
"""Predictions held at once."""


@dataclass
class _Moments:
    """Sums over draws of pairs (x, y) of one law that share something, about a reference."""

    n: int
    x: Array
    xx: Array
    xy: Array
    xyxy: Array

    @classmethod
    def empty(cls, m: int) -> _Moments:
        return cls(0, *(np.zeros(m) for _ in range(4)))

    def add(self, x: Array, y: Array) -> None:
        """Add draws (n, obs)."""
        self.n += len(x)
        product = x * y
        self.x += 0.5 * (x + y).sum(axis=0)
        self.xx += 0.5 * (x * x + y * y).sum(axis=0)
        self.xy += product.sum(axis=0)
        self.xyxy += (product * product).sum(axis=0)

    @property
    def variance(self) -> Array:
        return np.maximum(self.xx / self.n - (self.x / self.n) ** 2, 0.0)

    @property
    def covariance(self) -> Array:
        return self.xy / self.n - (self.x / self.n) ** 2

    @property
    def error(self) -> Array:
        """Standard error of the covariance."""
        return np.sqrt(np.maximum(self.xyxy / self.n - (self.xy / self.n) ** 2, 0.0) / self.n)


def variance_split(
    problem: Problem,
    values: Values,
    *,
    n: int = 1000,
    seed: int = 0,
    progress: Callable[[float], object] | None = None,
) -> pd.DataFrame:
    """Return the parts of the variance of every observation.

    Parameters
    ----------
    problem : Problem
        The model on its data, or on a grid of times (`Data.on_grid`).
    values : Values
    n : int
        Draws of the random effects.
    seed : int
    progress : callable, optional
        Called with the share of the work done; returning False ends it after the draws made so far.

    Returns
    -------
    DataFrame
        One row per observation and part: ID, TIME, DVID, part, kind ('eta', 'interaction', 'between', 'residual',
        'sigma', 'other', 'total'), simulation, error (its standard error, of the between parts), linearisation.

    Raises
    ------
    ModelError
        If an output's likelihood says nothing about how to draw from it.

    Notes
    -----
    Where an observation is normal around its prediction f stands for E[Y|η]; elsewhere it is a draw of Y, two of
    which share η.  There is no linearisation of those.
    """
    rng = np.random.default_rng(seed)
    q, m = problem.n_eta, problem.n_obs
    source, names = problem.occasions.source, list(problem.space.eta)
    omega = problem.occasions.expand(values.omega)
    typical = problem.typical(values.theta).slots
    plain = problem.plain_rows
    chol = np.linalg.cholesky(omega + 1e-300 * np.eye(q)) if q else omega
    with np.errstate(all="ignore"):
        f0, first, _ = problem.structure(problem.slots(typical, np.zeros((q, problem.n_subjects))), 1)
        assert first is not None
        at_zero = problem.variance(f0, values.sigma)
        g = np.einsum("sa,so->ao", problem.loadings, first[: len(problem.loadings)])
    f0 = np.broadcast_to(f0, (m,))
    centre = np.where(np.isfinite(f0) & plain, f0, 0.0)

    def draws(eta: Array) -> tuple[Array, Array, Array]:
        """Return E[Y|η] or a draw of Y, about the centre, and R and its parts summed over draws."""
        slots = problem.slots(typical, eta)
        f = np.broadcast_to(problem.predict(slots), (eta.shape[1], m))
        r = problem.variance(f, values.sigma)
        residual = np.broadcast_to(r.value, f.shape).sum(axis=0)
        parts = _by_sigma(r.sigma, values, f.shape).sum(axis=1)
        if not plain.all():
            noise = rng.standard_normal(f.shape)
            f = np.where(plain, f, problem.draw(slots, f, values.sigma, noise))
        return f - centre, residual, parts

    whole, own = _Moments.empty(m), [_Moments.empty(m) for _ in names]
    residual, parts = np.zeros(m), np.zeros((len(values.sigma), m))
    size = max(1, min(n, _CHUNK // max(m, 1)))
    done = 0
    while done < n:
        k = min(size, n - done)
        one, other = (np.tensordot(chol, rng.standard_normal((q, k, problem.n_subjects)), 1) for _ in range(2))
        with np.errstate(all="ignore"):
            x, r, p = draws(one)
            residual, parts = residual + r, parts + p
            whole.add(x, x if plain.all() else draws(one)[0])
            for effect, moments in enumerate(own):
                moments.add(x, draws(_sharing(one, other, omega, np.flatnonzero(source == effect)))[0])
        done += k
        if progress is not None and progress(done / n) is False:
            break

    between = whole.covariance if not plain.all() else whole.variance
    total = np.where(plain, between + residual / done, whole.variance)
    spread = np.einsum("ao,ab,bo->o", g, omega, g)
    averaged = at_zero.value + (0.0 if at_zero.ff is None else 0.5 * at_zero.ff * spread)
    linear_parts = _by_sigma(at_zero.sigma, values, (m,))
    share = g * (omega @ g)
    nothing = np.full(m, np.nan)
    of_eta = [moments.covariance for moments in own]
    rows: list[tuple[str, str, Array, Array, Array]] = [
        (name, "eta", value, moments.error, share[source == k].sum(axis=0))
        for k, (name, value, moments) in enumerate(zip(names, of_eta, own, strict=True))
    ]
    if len(names) > 1:
        rows.append(("interaction", "interaction", between - sum(of_eta), nothing, np.zeros(m)))
    rows.append(("between", "between", between, whole.error, spread))
    mean_parts = parts / done
    for k, parameter in enumerate(problem.space.sigma):
        rows.append((parameter.name, "sigma", np.where(plain, mean_parts[k], nothing), nothing, linear_parts[k]))
    left = np.where(plain, residual / done - mean_parts.sum(axis=0), nothing)
    if np.nanmax(np.abs(left), initial=0.0) > 1e-9 * np.nanmax(total, initial=0.0):
        rows.append(("other", "other", left, nothing, at_zero.value - linear_parts.sum(axis=0)))
    rows.append(("residual", "residual", total - between, nothing, averaged))
    rows.append(("total", "total", total, nothing, spread + averaged))
    ids = problem.observation_columns()
    frames = [
        pd.DataFrame(
            {"ID": ids["ID"], "TIME": ids["TIME"], "DVID": problem.data.dvid, "part": name, "kind": kind}
            | {"simulation": simulated, "error": error, "linearisation": np.where(plain, linear, np.nan)}
        )
        for name, kind, simulated, error, linear in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _by_sigma(slopes: Array | None, values: Values, shape: tuple[int, ...]) -> Array:
    """Return ½σ_k ∂R/∂σ_k, (sigmas, ..., obs); zero where R has none."""
    out = np.zeros((len(values.sigma), *shape))
    if slopes is None:
        return out
    scaled = np.nan_to_num(slopes) * values.sigma.reshape(-1, *(1,) * len(shape))
    return np.asarray(0.5 * np.broadcast_to(scaled, out.shape))


def _sharing(one: Array, other: Array, omega: Array, shared: Ints) -> Array:
    """Return draws with the shared effects of `one` and the rest drawn anew, given those."""
    block = omega[np.ix_(shared, shared)]
    weights = omega[:, shared] @ np.linalg.pinv(block, hermitian=True)
    return other + np.tensordot(weights, one[shared] - other[shared], 1)
