r"""Covariance of the estimates: kinds, standard errors, correlations and intervals.

Every kind is a covariance along the unconstrained coordinates, carried to a natural scale by the delta method:

=============  ==================================================================================================
``sandwich``   :math:`R^{-1} S R^{-1}` (NONMEM's default): right also where the model is not quite the truth
``R``          :math:`R^{-1}`, the observed information
``S``          :math:`S^{-1}`, the cross-product of the scores
``louis``      observed information from draws of the random effects, see `nlmewidgets.methods.louis`
``linearised`` expected information of the model linearised at each subject's mode, as Monolix's linearisation
``expected``   expected information of the model linearised at η = 0 (FO), as in optimal design
``posterior``  covariance of the posterior draws of a Bayesian fit
=============  ==================================================================================================

References
----------
White (1982), doi:10.2307/1912526.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import MethodError
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.curvature import Curvature, curvature
from nlmewidgets.methods.identifiability import Identified, identified
from nlmewidgets.methods.information import expected_information, linearised_information
from nlmewidgets.methods.laplace import Laplace
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.methods.natural import Natural, natural
from nlmewidgets.methods.quadrature import AGQ, grid_dimension, nodes_within

if TYPE_CHECKING:
    from nlmewidgets.methods.base import Method

__all__ = ["KINDS", "Uncertainty", "approximation_of", "uncertainty"]

KINDS = ("sandwich", "R", "S", "louis", "linearised", "expected", "posterior")


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How well the estimates are known.

    Attributes
    ----------
    space, values
        The parameters and their estimates.
    kind : str
        One of `KINDS`.
    by : str
        How the likelihood was computed.
    matrix : (free, free) float
        Covariance along the unconstrained coordinates.
    known : Identified
        What the data identify.
    curvature : Curvature or None
        R and S, for the kinds made of them.
    draws : (draws, parameters) float or None
        Posterior draws on the natural scale.
    """

    space: ParameterSpace
    values: Values
    kind: str
    by: str
    matrix: Array
    known: Identified
    curvature: Curvature | None = None
    draws: Array | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether every estimated parameter has a standard error."""
        return self.known.usable and not self.message

    @property
    def message(self) -> str:
        """Why some standard errors are missing, in terms of the parameters; '' if none is."""
        return self.known.message

    @property
    def r(self) -> Array:
        """Observed information along the unconstrained coordinates, (free, free)."""
        return self._curvature.r

    @property
    def s(self) -> Array:
        """Cross-product of the scores along the unconstrained coordinates, (free, free)."""
        return self._curvature.s

    @property
    def _curvature(self) -> Curvature:
        if self.curvature is None:
            raise MethodError(f"The kind '{self.kind}' is not made of R and S; ask for 'sandwich', 'R' or 'S'.")
        return self.curvature

    # ---------------------------------------------------------------- natural scale

    def _natural(self, scale: str) -> tuple[Natural, Array]:
        """Return the parameters and their covariance; NaN for what is not identified."""
        here = natural(self.space, self.values, scale)
        if self.draws is not None:
            own = natural(self.space, self.values, "sd")
            # First order where the scale is not that of the draws.
            turn = here.jacobian @ np.linalg.pinv(own.jacobian)
            draws = np.cov(self.draws, rowvar=False).reshape(len(own.names), -1)
            return here, draws if scale == "sd" else turn @ draws @ turn.T
        covariance = here.jacobian @ self.matrix @ here.jacobian.T
        missing = here.moved & ~self.known.estimable(here.jacobian)
        covariance[missing, :] = np.nan
        covariance[:, missing] = np.nan
        covariance[~here.moved, :] = 0.0
        covariance[:, ~here.moved] = 0.0
        return here, covariance

    def covariance_on(self, scale: str = "sd") -> pd.DataFrame:
        """Return the covariance matrix on a natural scale, 'sd' or 'variance'; 0 for fixed parameters."""
        here, covariance = self._natural(scale)
        return pd.DataFrame(covariance, index=list(here.names), columns=list(here.names))

    def se_on(self, scale: str = "sd") -> pd.Series:
        """Return the standard errors on a natural scale; missing for fixed parameters."""
        here, covariance = self._natural(scale)
        with np.errstate(invalid="ignore"):
            se = np.where(here.moved, np.sqrt(np.diag(covariance)), np.nan)
        return pd.Series(se, index=list(here.names), name="se")

    @property
    def covariance(self) -> pd.DataFrame:
        """Covariance matrix, omegas and sigmas as standard deviations."""
        return self.covariance_on("sd")

    @property
    def se(self) -> pd.Series:
        """Standard errors, omegas and sigmas as standard deviations; missing for fixed parameters."""
        return self.se_on("sd")

    def correlation_on(self, scale: str = "sd") -> pd.DataFrame:
        """Return the correlation matrix of the estimated parameters."""
        here, covariance = self._natural(scale)
        kept = [n for n, m in zip(here.names, here.moved, strict=True) if m]
        part = covariance[np.ix_(here.moved, here.moved)]
        with np.errstate(invalid="ignore", divide="ignore"):
            sd = np.sqrt(np.diag(part))
            return pd.DataFrame(part / (sd[:, None] * sd), index=kept, columns=kept)

    @property
    def correlation(self) -> pd.DataFrame:
        """Correlation matrix of the estimated parameters."""
        return self.correlation_on("sd")

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue of the correlation matrix of the estimates, on NONMEM's scale."""
        matrix = self.correlation_on("variance").to_numpy()
        if not len(matrix) or not np.isfinite(matrix).all():
            return float("inf") if len(matrix) else 1.0
        roots = np.linalg.eigvalsh(matrix)
        return float(roots[-1] / roots[0]) if roots[0] > 0 else float("inf")

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return confidence intervals that stay where the parameters can be.

        Wald intervals made where a parameter is free, logarithm of a standard deviation or positive theta, logit
        between bounds, Fisher's z of a correlation, and carried back; of posterior draws, their quantiles.

        Parameters
        ----------
        level : float
            Coverage, between 0 and 1.

        Returns
        -------
        DataFrame
            estimate, lower, upper by parameter; missing for fixed parameters.

        Raises
        ------
        MethodError
            If the level is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise MethodError(f"level={level!r} is not between 0 and 1; 0.95 gives 95 % intervals.")
        tail = 0.5 * (1.0 - level)
        numbers = self.space.to_dict(self.values)
        rows = {}
        for k, (name, se) in enumerate(self.se.items()):
            if self.draws is not None:
                low, high = np.quantile(self.draws[:, k], [tail, 1.0 - tail])
                rows[name] = (numbers[name], low, high) if not np.isnan(se) else (numbers[name], np.nan, np.nan)
            else:
                rows[name] = (numbers[name], *_interval(self.space, name, numbers[name], se, -float(ndtri(tail))))
        return pd.DataFrame.from_dict(rows, orient="index", columns=["estimate", "lower", "upper"])


def _interval(space: ParameterSpace, name: str, value: float, se: float, z: float) -> tuple[float, float]:
    if np.isnan(se):
        return np.nan, np.nan
    scalar = {p.name: p for p in (*space.theta, *space.sigma)}.get(name)
    if scalar is not None:
        centre, half = scalar.free(value), z * se / scalar.slope(value)
        ends = scalar.natural(centre - half), scalar.natural(centre + half)
        return min(ends), max(ends)
    if name in space.omega_names:
        factor = float(np.exp(min(z * se / value, 700.0)))
        return value / factor, value * factor
    centre, half = float(np.arctanh(value)), z * se / (1.0 - value * value)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


_POINTS, _NUMBERS = 700, 4_000_000


def approximation_of(problem: Problem, method: Method) -> Approximation:
    """Return what computes the likelihood of a fit: its own approximation, or the best that can be afforded.

    SAEM, importance sampling and Bayes treat the likelihood itself: quadrature stands for it where the random effects
    are few, Laplace elsewhere.
    """
    if isinstance(method, Approximation):
        return method
    points = min(_POINTS, _NUMBERS // max(problem.n_obs, 1))
    nodes = nodes_within(grid_dimension(problem), points, most=9)
    return AGQ(nodes=nodes) if nodes > 1 else Laplace()


def uncertainty(
    problem: Problem,
    values: Values,
    method: str | Method,
    start: Array,
    *,
    kind: str = "sandwich",
    seed: int | None = 0,
    arrays: Mapping[str, Array] | None = None,
    curved: Curvature | None = None,
) -> Uncertainty:
    """Return the uncertainty of estimates.

    Parameters
    ----------
    problem : Problem
    values : Values
        The estimates.
    method : str or Method
        Whose objective they minimise.
    start : (etas, subjects) float
        The subjects' modes, or near them.
    kind : str
        One of `KINDS`.
    seed : int, optional
        Of the draws of 'louis'.
    arrays : mapping, optional
        What the method left behind: 'conditional_draws', 'posterior'.
    curved : Curvature, optional
        R and S, where they are known already.

    Raises
    ------
    MethodError
        If there is no such kind, or it does not treat these data.
    """
    space, arrays = problem.space, arrays or {}
    if kind not in KINDS:
        raise MethodError(f"There is no covariance of kind '{kind}'; there are {', '.join(KINDS)}.")
    if kind == "posterior":
        if "posterior" not in arrays:
            raise MethodError("There are no posterior draws in this fit; fit with method='bayes', or take 'sandwich'.")
        draws = arrays["posterior"].reshape(-1, len(space.names))
        nothing = np.zeros((len(space.x_names),) * 2)
        known = Identified(nothing, nothing[0] > 0, nothing[:, :0], nothing[0] + 1.0, nothing[0] + 1.0, "", usable=True)
        return Uncertainty(space, values, kind, "posterior", nothing, known, draws=draws)
    if kind in ("sandwich", "R", "S"):
        approximation = approximation_of(problem, _method(method))
        found = curved or curvature(problem, values, approximation, start)
        known = identified(space, values, found.s) if kind == "S" else identified(space, values, found.r, found.noise)
        matrix = known.inverse @ found.s @ known.inverse if kind == "sandwich" else known.inverse
        return Uncertainty(space, values, kind, _words(approximation), matrix, known, found)
    if kind == "louis":
        from nlmewidgets.methods.louis import louis_information

        info = louis_information(problem, values, start, np.random.default_rng(seed), arrays.get("conditional_draws"))
        known = identified(space, values, info.matrix)
        if not known.usable and np.isfinite(info.matrix).all():
            # Not what a minimum says, but the difference of two large numbers, each with Monte Carlo error.
            words = "No standard errors: the Monte Carlo error of Louis' information hides it; take the kind 'R'."
            known = replace(known, message=words)
        return Uncertainty(space, values, kind, info.by, known.inverse, known)
    matrix = (
        expected_information(problem, values) if kind == "expected" else linearised_information(problem, values, start)
    )
    if problem.penalty is not None:
        matrix = matrix + 0.5 * problem.penalty.along(values).curvature
    known = identified(space, values, matrix)
    return Uncertainty(space, values, kind, kind, known.inverse, known)


def _method(method: str | Method) -> Method:
    from nlmewidgets.methods import METHODS

    return METHODS[method]() if isinstance(method, str) else method


def _words(approximation: Approximation) -> str:
    nodes = getattr(approximation, "nodes", None)
    return approximation.name if nodes is None else f"{approximation.name}, {nodes} nodes"
