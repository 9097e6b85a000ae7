r"""−2 log likelihood by importance sampling, with its Monte Carlo error, at any population values.

For each subject the integral is the mean of weights of draws from a proposal that resembles the conditional
distribution of its random effects,

.. math:: L_i = \mathrm E_q\, w(\eta), \qquad
          w(\eta) = \frac{p(y_i \mid \eta)\, p(\eta; \Omega)}{q_i(\eta)} .

The proposal is a multivariate t around the mode with the curvature there, in a first pass, and with the
moments found so far in later ones; an eighth as many draws come from N(0, Ω), which bounds the weights.  The
draws are randomised quasi-random points in independent replicates: their spread is the error.

References
----------
Geweke (1989), doi:10.2307/1913710.
Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.001, §6.
Owen (1995), doi:10.1007/978-1-4612-2552-2_19.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.pieces import Pieces, finish, quietly
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.proposals import StudentT, weighted_draws
from nlmewidgets.core.sample import Target

__all__ = [
    "ImportanceEvaluation",
    "evaluate_importance",
    "first_proposal",
    "importance_pieces",
    "one_pass",
    "refined",
    "regular",
]

_MOST_PREDICTIONS = 60_000_000
_POOR_ESS = 30.0


@dataclass(frozen=True, eq=False)
class ImportanceEvaluation:
    """−2 log L with its Monte Carlo error, and the conditional moments that come with it.

    Attributes
    ----------
    per_subject : (subjects,) float
        −2 log L without n·log 2π.
    error : (subjects,) float
        Monte Carlo standard error of each.
    ess : (subjects,) float
        Effective sample size of the draws of the last pass, (Σw)²/Σw².
    draws : int
        Draws of each subject in the last pass.
    mean : (etas, subjects) float
        Conditional means E(η | y).
    covariance : (subjects, etas, etas) float
        Conditional covariances.
    eta : (etas, subjects) float
        Modes.
    message : str
        What to know before trusting the value, in sentences; '' if nothing.
    """

    per_subject: Array
    error: Array
    ess: Array
    draws: int
    mean: Array
    covariance: Array
    eta: Array
    message: str = ""

    @property
    def ofv(self) -> float:
        """−2 log L of all subjects."""
        return float(self.per_subject.sum())

    @property
    def ofv_error(self) -> float:
        """Monte Carlo standard error of `ofv`."""
        return float(np.sqrt((self.error**2).sum()))


def regular(omega: Array) -> Array:
    """Return Omega with variances of zero and correlations of one replaced by what is next to them.

    A standard deviation of zero becomes 10⁻⁸ (of the smallest other, if that is below 1), and correlations
    get eigenvalues of 10⁻¹² at least: too little to be seen in a likelihood, enough for an inverse.
    """
    sd = np.sqrt(np.diag(omega))
    least = 1e-8 * min(1.0, float(sd[sd > 0].min(initial=1.0)))
    sd = np.maximum(sd, least)
    correlation = omega / np.outer(sd, sd)
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    if values.min(initial=1.0) < 1e-12:
        correlation = (vectors * np.maximum(values, 1e-12)) @ vectors.T
    elif least < np.sqrt(np.diag(omega)).min(initial=1.0):
        return omega
    return correlation * np.outer(sd, sd)  # type: ignore[no-any-return]


def target_of(problem: Problem, values: Values) -> Target:
    """Return the conditional density of the random effects, also where Omega is singular."""
    omega = regular(problem.occasions.expand(values.omega))
    typical = problem.typical(values.theta).slots
    return Target(problem, typical, np.linalg.inv(omega), np.linalg.cholesky(omega), values.sigma)


def first_proposal(target: Target, df: int, start: Array | None = None) -> tuple[StudentT, Array]:
    """Return t distributions around the modes with the curvature there, and the modes.

    Where the curvature is not positive definite, the expected information takes its place; where there is
    no finite mode, the prior does.
    """
    with np.errstate(all="ignore"):
        modes = find_modes(target.problem, target.typical, target.precision, target.sigma, start, tolerance=1e-6)
        matrix = _positive_or(0.5 * modes.hessian, 0.5 * modes.information)
        matrix = _positive_or(matrix, target.precision)
    centre = np.where(np.isfinite(modes.eta), modes.eta, 0.0)
    covariance = np.linalg.inv(matrix)
    return StudentT.around(centre, _symmetric(covariance), df), centre


def _positive_or(matrices: Array, other: Array) -> Array:
    """Return the matrices, with `other` in the place of those that are not finite and positive definite."""
    good = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    if matrices.shape[-1]:
        spectrum = np.linalg.eigvalsh(np.where(good[:, None, None], matrices, np.eye(matrices.shape[-1])))
        good &= spectrum[:, 0] > 1e-14 * spectrum[:, -1]
    return np.where(good[:, None, None], matrices, other)


def _symmetric(matrices: Array) -> Array:
    return 0.5 * (matrices + matrices.transpose(0, 2, 1))  # type: ignore[no-any-return]


def refined(proposal: StudentT, mean: Array, covariance: Array, ess: Array) -> StudentT:
    """Return the proposal moved to conditional moments, as far as their effective sample size vouches for them."""
    q = len(mean)
    trust = (ess / (ess + 5.0 * (q + 1)))[:, None, None]
    old = np.einsum("abn,cbn->nac", proposal.factor, proposal.factor)
    moved = trust * covariance + (1.0 - trust) * old
    # A few draws may leave a direction without spread.
    new = _positive_or(_symmetric(moved + 1e-3 * old), old)
    centre = proposal.centre + trust[:, 0, 0] * (mean - proposal.centre)
    return StudentT.around(centre, new, proposal.df)


@dataclass(frozen=True, eq=False)
class _Pass:
    """Sums over one pass of draws, and what follows from them."""

    value: Array
    error: Array
    ess: Array
    mean: Array
    covariance: Array


def one_pass(
    target: Target, proposal: StudentT, log2_draws: int, replicates: int, rng: np.random.Generator
) -> Pieces[_Pass]:
    """Return, in pieces, what replicates of 2^log2_draws points, and an eighth as many of the prior, say."""
    q, n = proposal.centre.shape
    top = np.full(n, -np.inf)  # the largest log weight so far: sums are relative to it
    total, square = np.zeros((replicates, n)), np.zeros(n)
    first, second = np.zeros((q, n)), np.zeros((q, q, n))
    count = 0
    for r in range(replicates):
        for eta, logs, _ in weighted_draws(target, proposal, log2_draws, rng):
            count += len(logs)
            new = np.maximum(top, logs.max(axis=0))
            base = np.where(np.isfinite(new), new, 0.0)
            scale = np.exp(top - base)
            w = np.exp(logs - base)
            top = new
            total *= scale
            total[r] += w.sum(axis=0)
            square = square * scale**2 + (w * w).sum(axis=0)
            away = eta - proposal.centre[:, None]
            away_w = away * w
            first = first * scale + away_w.sum(axis=1)
            second = second * scale + np.einsum("akn,bkn->abn", away_w, away)
            yield
    whole = total.sum(axis=0)
    good = whole > 0
    whole = np.where(good, whole, 1.0)
    each = total * (replicates / whole)  # of mean 1
    relative = np.sqrt(((each - 1.0) ** 2).sum(axis=0) / (replicates * (replicates - 1)))
    mean = first / whole
    covariance = second / whole - mean[:, None] * mean[None]
    value = np.where(good, -2.0 * (np.log(whole / count) + top), np.inf)
    ess = np.where(good, whole**2 / np.where(good, square, 1.0), 0.0)
    return _Pass(
        value, np.where(good, 2.0 * relative, np.inf), ess, mean + proposal.centre, covariance.transpose(2, 0, 1)
    )


def evaluate_importance(
    problem: Problem,
    values: Values,
    *,
    draws: int = 2000,
    error: float = 0.05,
    most: int = 0,
    df: int = 4,
    replicates: int = 8,
    seed: int | np.random.Generator = 0,
    start: Array | None = None,
) -> ImportanceEvaluation:
    r"""Return −2 log L by importance sampling, with its Monte Carlo error.

    Parameters
    ----------
    problem : Problem
    values : Values
        theta, Omega (which may be singular) and sigma.
    draws : int
        Draws of each subject in the first pass around its moments; a pass at the modes with a quarter goes before.
    error : float
        Passes go on, with more draws, until the Monte Carlo standard error of the sum is this or less; 0: one pass.
    most : int
        Draws of each subject at most; 0: as many as make 60 million predictions.
    df : int
        Degrees of freedom of the t, an even number.
    replicates : int
        Independent randomisations of the quasi-random points, whose spread is the error.
    seed : int or Generator
    start : (etas, subjects) float, optional
        Where the search of the modes begins.

    Returns
    -------
    ImportanceEvaluation

    Raises
    ------
    MethodError
        If an option is out of its range.

    Notes
    -----
    With :math:`\bar w_{ir}` the mean weight of replicate r and :math:`\bar w_i` their mean, the contribution
    is :math:`-2\log\bar w_i` and its standard error :math:`2\,\mathrm{SD}_r(\bar w_{ir})/(\bar w_i\sqrt R)`.
    Subjects are independent, so the error of the sum is the root of the sum of squares.  The logarithm makes
    the sum too large by a quarter of its squared error, which is left in.
    """
    if df < 2 or df % 2:
        raise MethodError(f"df={df} is not an even number of degrees of freedom; use 4 or 6.")
    if draws < 1 or replicates < 2 or most < 0 or not error >= 0:
        raise MethodError("Importance sampling needs draws ≥ 1, replicates ≥ 2, most ≥ 0 and error ≥ 0.")
    rng = np.random.default_rng(seed)
    return finish(quietly(importance_pieces(problem, values, rng, start, draws, error, most, df, replicates)))


def importance_pieces(
    problem: Problem,
    values: Values,
    rng: np.random.Generator,
    start: Array | None = None,
    draws: int = 2000,
    error: float = 0.05,
    most: int = 0,
    df: int = 4,
    replicates: int = 8,
) -> Pieces[ImportanceEvaluation]:
    """Return what `evaluate_importance` does, in pieces of a fraction of a second each."""
    q, n = problem.n_eta, problem.n_subjects
    target = target_of(problem, values)
    if not q:
        value, _ = target.data_part(np.zeros((0, 1, n)))
        still = np.zeros((0, n))
        return ImportanceEvaluation(
            value[0], np.zeros(n), np.ones(n), 1, still, np.zeros((n, 0, 0)), still, _no_weight(problem, value[0])
        )
    ceiling = most or max(replicates, _MOST_PREDICTIONS // max(problem.n_obs, n))
    proposal, modes = first_proposal(target, df, start)
    size = min(math.ceil(math.log2(max(draws / replicates, 1.0))), _log2(ceiling / replicates))
    pilot = yield from one_pass(target, proposal, max(size - 2, 0), replicates, rng)
    while True:
        proposal = refined(proposal, pilot.mean, pilot.covariance, pilot.ess)
        result = yield from one_pass(target, proposal, size, replicates, rng)
        reached = float(np.sqrt((result.error**2).sum()))
        if not reached > error or error == 0 or not np.isfinite(reached):
            break
        # The error of evenly spread points falls about as the number to the power of −3/4.
        needed = size + min(max(1, math.ceil(math.log2(reached / error) * 4 / 3)), 4)
        larger = min(needed, _log2(ceiling / replicates))
        if larger <= size:
            break
        size, pilot = larger, result
    nothing = problem.subjects.counts == 0  # no observations: a likelihood of 1, known without draws
    found = ImportanceEvaluation(
        np.where(nothing, 0.0, result.value),
        np.where(nothing, 0.0, result.error),
        result.ess,
        replicates * (2**size + max(1, 2**size // 8)),
        result.mean,
        result.covariance,
        modes,
    )
    return replace(found, message=_judgement(problem, found, error))


def _log2(x: float) -> int:
    return max(0, math.floor(math.log2(max(x, 1.0)) + 1e-9))


def _no_weight(problem: Problem, value: Array) -> str:
    bad = np.flatnonzero(~np.isfinite(value))
    if not bad.size:
        return ""
    return f"No draw of the random effects of {_subjects(problem, bad)} makes the data possible."


def _judgement(problem: Problem, found: ImportanceEvaluation, error: float) -> str:
    """Return what to know before trusting the value, in sentences."""
    said = [_no_weight(problem, found.per_subject)]
    poor = np.flatnonzero((found.ess < _POOR_ESS) & np.isfinite(found.per_subject) & (found.error > 0))
    if poor.size:
        said.append(
            f"The draws of {_subjects(problem, poor)} are worth fewer than {_POOR_ESS:.0f} independent ones: "
            "their contribution and its error are uncertain; use more draws."
        )
    if error and np.isfinite(found.ofv_error) and found.ofv_error > error:
        said.append(
            f"The Monte Carlo error {found.ofv_error:.2g} is above the {error:g} asked for after {found.draws:,} draws "
            "a subject, the most allowed; raise most=."
        )
    return " ".join(s for s in said if s)


def _subjects(problem: Problem, which: Array) -> str:
    names = [str(problem.data.ids[i]) for i in which[:5]]
    rest = f" and {len(which) - 5} more" if len(which) > 5 else ""
    return f"subject{'s' * (len(which) > 1)} {', '.join(names)}{rest}"
