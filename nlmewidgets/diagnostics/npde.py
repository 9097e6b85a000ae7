r"""Residuals by simulation: expected predictions, prediction discrepancies and their decorrelated form.

With K data sets :math:`y^{(k)}` simulated from the model at etas drawn from the population, of predictions
:math:`f^{(k)}` and residual variances :math:`R^{(k)}`, means and covariances being those over k:

========  =======================================================================================================
EPRED     :math:`\operatorname{mean} f^{(k)}`
ERES      :math:`y - \mathrm{EPRED}`
EWRES     :math:`(\operatorname{cov} f^{(k)} + \operatorname{diag}\operatorname{mean} R^{(k)})^{-1/2}\,\mathrm{ERES}`,
          with the symmetric root
ECWRES    the same with :math:`\hat R`, the residual variance at the EBE, for its mean
PD        :math:`\operatorname{mean} F(y \mid f^{(k)})`: the distribution function of the datum, whatever the others are
NPD       :math:`\Phi^{-1}(\mathrm{PD})`
PDE       the share of the :math:`W(y^{(k)} - \bar y)` that are below :math:`W(y - \bar y)`, W being the inverse root
          of :math:`\operatorname{cov} y^{(k)}`, at least 1/(2K) and at most 1 − 1/(2K)
NPDE      :math:`\Phi^{-1}(\mathrm{PDE})`
========  =======================================================================================================

Under the true model NPD and NPDE are standard normal, and the NPDE of a subject uncorrelated (not independent).

**Data below (or above) a limit** have as PD a uniform number between 0 and the probability of being below; for PDE they
are the value of the simulated distribution at that probability.  Simulated data beyond the limit are replaced in the
same way, so that both have lost the same.  The limit of a measured datum is the median one of its output.

**Counts, classes and events** have a PD drawn between :math:`F(y^-)` and F(y) (exact times: at 1 − exp(−H), and
above it where the follow-up ended without one) and no PDE.  Where both sides are transformed, EWRES,
ECWRES and PDE are found on the transformed scale.

References
----------
Brendel, Comets, Laffont, Laveille & Mentré (2006), doi:10.1007/s11095-006-9067-5 (NPDE).
Comets, Brendel & Mentré (2008), doi:10.1016/j.cmpb.2007.12.002 (the npde package).
Nguyen, Comets & Mentré (2012), doi:10.1007/s10928-012-9264-2 (data below the limit).
Bauer (2015), NONMEM 7 users guide, "Some Improvements in Nonlinear Mixed-Effects Modeling Methods": EPRED to NPD.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model
from nlmewidgets.core.pairs import residual_matrices
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.diagnostics.cumulative import cumulative, normal_quantile
from nlmewidgets.diagnostics.replicates import Progress, Source, replicates, source_of
from nlmewidgets.diagnostics.residuals import residual_table, table_columns
from nlmewidgets.diagnostics.whiten import inverse_roots, of_equal_size, root_named
from nlmewidgets.fit import Fit

__all__ = ["fit_table", "limits", "npde"]

_CELLS = 2**22
"""Numbers of one block of subjects decorrelated at once."""


def npde(
    what: Fit | Model | Source,
    data: Data | None = None,
    *,
    n: int = 1000,
    seed: int | None = None,
    decorrelation: str = "cholesky",
    eta: Array | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return residuals by simulation, one row per observation; see the module for their equations.

    Parameters
    ----------
    what : Fit or Model
    data : Data, optional
        Of a model; of a fit, other data to judge it by (external evaluation).
    n : int
        Replicates; NONMEM takes 300. The standard error of a PD is below 0.5/√n.
    seed : int, optional
    decorrelation : {"cholesky", "symmetric"}
        The root of the covariance behind PDE; see `nlmewidgets.diagnostics.whiten`.
    eta : (etas, subjects) float, optional
        EBEs, for ECWRES; those of a fit without it.
    progress : callable, optional
        Called with the share done; returning False stops, and the table is that of the replicates so far.

    Returns
    -------
    DataFrame
        ID, TIME, DV, (OUTPUT,) EPRED, ERES, EWRES, ECWRES, PDE, NPDE, PD, NPD.

    Raises
    ------
    DataError
        If an option is not known, or n is below 2.
    """
    root_named(decorrelation)
    source = source_of(what, data)
    problem = source.problem
    if eta is None and source.fit is not None and problem is source.fit.problem:
        eta = source.fit.etas.T
    rng = np.random.default_rng(seed)
    uniform = np.random.default_rng(rng.integers(2**63)).random(problem.n_obs)
    sums = _Sums(problem, source)
    simulated = _drawable(problem)
    y = np.empty((n if simulated.any() else 0, problem.n_obs))
    done = 0
    for chunk in replicates(source, n, rng, draw=bool(simulated.any())):
        count = len(chunk.f)
        with np.errstate(all="ignore"):
            low, high = cumulative(problem, chunk.slots, chunk.f, chunk.sigma)
            sums.add(chunk.f, low, high)
        if simulated.any():
            y[chunk.first : chunk.first + count] = chunk.y
        done = chunk.first + count
        if progress is not None and progress(done / n) is False:
            break
    return pd.DataFrame(
        table_columns(problem) | _columns(source, sums, y[:done], simulated, uniform, eta, decorrelation)
    )


def fit_table(fit: Fit, n: int | None = None, seed: int | None = 0) -> pd.DataFrame:
    """Return the residuals of a fit that need no simulation, and those of `npde` where they are asked for or cheap.

    Parameters
    ----------
    fit : Fit
    n : int, optional
        Replicates behind EPRED to NPD; 0 leaves these columns out. Without it 300, as NONMEM, or 0 where
        predictions come from an integrator.
    seed : int, optional
        Of the replicates.
    """
    table = residual_table(fit.problem, fit.values, fit.etas.T)
    if n is None:
        n = 0 if isinstance(fit.problem.structure, Ode) else 300
    if n:
        simulated = npde(fit, n=n, seed=seed)
        new = [name for name in simulated if name not in table]
        table = pd.concat([table, simulated[new]], axis=1)
    return table


def _columns(
    source: Source,
    sums: _Sums,
    y: Array,
    simulated: NDArray[np.bool_],
    uniform: Array,
    eta: Array | None,
    decorrelation: str,
) -> dict[str, Array]:
    problem = source.problem
    known = problem.normal_rows
    with np.errstate(all="ignore"):
        pd_ = sums.low + uniform * (sums.high - sums.low)
        # Where the distribution function has no closed form, the share of the simulated data below.
        if len(y):
            share = np.clip((y < problem.y).mean(axis=0), 0.5 / len(y), 1 - 0.5 / len(y))
            pd_ = np.where(np.isfinite(pd_) | ~simulated, pd_, share)
        ewres = sums.weighted(sums.variance, known)
        ecwres = np.full(problem.n_obs, np.nan)
        if eta is not None:
            f = problem.predict(problem.slots(problem.typical(source.values.theta).slots, eta))
            ecwres = sums.weighted(np.broadcast_to(problem.variance(f, source.values.sigma).value, f.shape), known)
    measured = np.where(problem.pointwise_rows, np.nan, sums.f)
    pde = np.full(problem.n_obs, np.nan)
    if len(y):
        observed, y = _completed(problem, y, pd_, uniform)
        pde = _pde(source, observed, y, simulated, decorrelation)
    return {
        "EPRED": measured,
        "ERES": np.where(problem.normal_rows, problem.y - measured, np.nan),
        "EWRES": ewres,
        "ECWRES": ecwres,
        "PDE": pde,
        "NPDE": normal_quantile(pde),
        "PD": pd_,
        "NPD": normal_quantile(pd_),
    }


def _drawable(problem: Problem) -> NDArray[np.bool_]:
    """Return which observations are continuous and can be simulated; none where any output cannot be."""
    out = np.zeros(problem.n_obs, dtype=bool)
    for g in problem.groups:
        own = g.program.observation
        if own.draw is None and own.values is None:
            return np.zeros(problem.n_obs, dtype=bool)
        out[slice(None) if g.rows is None else g.rows] = own.draw is not None
    return out


@dataclass(eq=False)
class _Sums:
    """Means over the replicates: of f, F(y⁻), F(y), R, and the covariance of f on the scale of the residuals.

    Attributes
    ----------
    problem : Problem
    source : Source
    groups : list of (rows, sums of products)
    """

    problem: Problem
    source: Source
    n: int = 0
    groups: list[tuple[Ints, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        obs = self.problem.n_obs
        self._f, self._low, self._high, self._r, self._error = (np.zeros(obs) for _ in range(5))
        self.groups = [
            (rows, np.zeros((len(rows), *(rows.shape[1],) * 2))) for rows in of_equal_size(self.problem.subjects)
        ]
        problem, theta = self.problem, self.source.values.theta
        # Sums of products are those of small numbers.
        with np.errstate(all="ignore"):
            typical = problem.slots(problem.typical(theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
            self._shift = self._errors(problem.predict(typical))[0]

    def _errors(self, f: Array) -> tuple[Array, Array]:
        """Return t(y) − t(f) and R, 0 and 1 where there are none."""
        problem, sigma = self.problem, self.source.values.sigma
        known = problem.normal_rows
        error = problem.center(problem.y, sigma) - problem.center(f, sigma)
        variance = np.broadcast_to(problem.variance(f, sigma).value, f.shape)
        return np.where(known, error, 0.0), np.where(known, variance, 1.0)

    def add(self, f: Array, low: Array, high: Array) -> None:
        error, r = self._errors(f)
        error = error - self._shift
        self.n += len(f)
        for total, part in ((self._f, f), (self._low, low), (self._high, high), (self._r, r), (self._error, error)):
            total += part.sum(axis=0)
        for rows, products in self.groups:
            e = error[:, rows].transpose(1, 2, 0)
            products += e @ e.transpose(0, 2, 1)

    f = property(lambda self: self._f / self.n)
    low = property(lambda self: self._low / self.n)
    high = property(lambda self: self._high / self.n)
    variance = property(lambda self: self._r / self.n)

    def weighted(self, r: Array, known: NDArray[np.bool_]) -> Array:
        """Return (cov f + R)^(-1/2) times the mean error."""
        mean = self._error / self.n
        error = mean + self._shift
        r = np.where(known, r, 1.0)
        out = np.full(len(r), np.nan)
        for rows, products in self.groups:
            matrix = products / self.n - mean[rows][:, :, None] * mean[rows][:, None, :]
            matrix = matrix * (self.n / (self.n - 1))
            matrix += residual_matrices(self.problem.pairs, r, self.source.values.sigma, rows)
            out[rows] = np.einsum("nij,nj->ni", inverse_roots(matrix), error[rows])
        return np.where(known, out, np.nan)


def limits(problem: Problem) -> tuple[Array, Array]:
    """Return the limits below and above which a datum of each observation would not be known, (obs,) each.

    Those of the censored data themselves; of a measured one the median limit of its output, unless it lies beyond it.
    """
    low, high = np.full(problem.n_obs, -np.inf), np.full(problem.n_obs, np.inf)
    y, cens = problem.y, problem.data.cens
    other = np.where(np.isfinite(problem.data.limit), problem.data.limit, y)
    for k in range(len(problem.model.outputs)):
        own = problem.output == k
        for at, sign in ((low, 1), (high, -1)):
            censored = own & (np.sign(cens) == sign)
            if censored.any():
                ends = (np.maximum if sign > 0 else np.minimum)(y, other)
                usual = float(np.median(ends[censored]))
                inside = own & (cens == 0) & (sign * (y - usual) >= 0)
                at[inside], at[censored] = usual, ends[censored]
    return low, high


def _completed(problem: Problem, y: Array, pd_: Array, uniform: Array) -> tuple[Array, Array]:
    """Return observed and simulated data with what is beyond a limit replaced from the simulated distribution."""
    low, high = limits(problem)
    bounded = np.flatnonzero(np.isfinite(low) | np.isfinite(high))
    observed = problem.y
    if not bounded.size:
        return observed, y
    observed, y = observed.copy(), y.copy()
    part = np.sort(y[:, bounded], axis=0)
    below = (part < low[bounded]).sum(axis=0)
    above = (part > high[bounded]).sum(axis=0)
    n = len(y)
    # Whatever is beyond a limit is any of the simulated values there, each as likely as the others.
    rng = np.random.default_rng(n)
    drawn = rng.random((n, len(bounded)))
    columns = np.arange(len(bounded))
    for count, start, mask in (
        (below, np.zeros_like(below), y[:, bounded] < low[bounded]),
        (above, n - above, y[:, bounded] > high[bounded]),
    ):
        picked = part[np.minimum(start + (drawn * count).astype(np.intp), n - 1), columns]
        y[:, bounded] = np.where(mask, picked, y[:, bounded])
    cens = problem.data.cens[bounded]
    position = np.where(np.isfinite(pd_[bounded]), pd_[bounded], uniform[bounded]) * n
    at = np.clip(position, 0, n - 1).astype(np.intp)
    observed[bounded] = np.where(cens != 0, part[at, columns], observed[bounded])
    return observed, y


def _pde(source: Source, observed: Array, y: Array, simulated: NDArray[np.bool_], decorrelation: str) -> Array:
    """Return the share of decorrelated simulated data below the decorrelated datum."""
    problem, n = source.problem, len(y)
    if not problem.plain_rows.all():
        observed, y = (problem.center(x, source.values.sigma) for x in (observed, y))
    out = np.full(problem.n_obs, np.nan)
    for all_rows in of_equal_size(problem.subjects):
        step = max(1, _CELLS // (n * all_rows.shape[1]))
        for first in range(0, len(all_rows), step):
            rows = all_rows[first : first + step]
            own = simulated[rows]
            x = np.where(own[:, :, None], y[:, rows].transpose(1, 2, 0), 0.0)
            mean = x.mean(axis=2)
            x -= mean[:, :, None]
            matrix = x @ x.transpose(0, 2, 1) / (n - 1)
            diagonal = np.arange(rows.shape[1])
            matrix[:, diagonal, diagonal] += ~own
            w = inverse_roots(matrix, decorrelation)
            e = np.einsum("nij,nj->ni", w, np.where(own, observed[rows] - mean, 0.0))
            share = ((w @ x) < e[:, :, None]).mean(axis=2)
            out[rows] = np.where(own & np.isfinite(e), np.clip(share, 0.5 / n, 1.0 - 0.5 / n), np.nan)
    return out
