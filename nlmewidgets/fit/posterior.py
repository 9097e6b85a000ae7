"""The draws of a Bayesian fit: a table of them, what they say, and their export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.convergence import ess_bulk, ess_tail, rhat
from nlmewidgets.core.default_priors import complete
from nlmewidgets.core.errors import MethodError

if TYPE_CHECKING:
    from nlmewidgets.fit.result import Fit

__all__ = ["Posterior"]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws from the joint posterior.

    Attributes
    ----------
    parameters : (chains, draws, parameters) float
        On the natural scale (SDs, correlations), in the order of `names`.
    eta : (chains, kept draws, etas, subjects) float
        Random effects; draws are left out evenly where all would be too many.
    statistics : mapping
        Of every draw, (chains, draws): deviance, divergent, depth, acceptance, log_density, energy.
    names, eta_names, ids : tuple
    observed : dict
        ID, TIME and DV of the observations.
    priors : mapping
        What each prior is, in words.
    """

    parameters: Array
    eta: Array
    statistics: Mapping[str, Array]
    names: tuple[str, ...]
    eta_names: tuple[str, ...]
    ids: tuple[Any, ...]
    observed: Mapping[str, Array]
    priors: Mapping[str, str]

    @classmethod
    def of(cls, fit: Fit) -> Posterior:
        """Return the posterior of a fit.

        Raises
        ------
        MethodError
            If the fit has no draws.
        """
        if "posterior" not in fit.arrays:
            why = "was stopped before its first draw" if fit.method == "bayes" else f"is by '{fit.method}'"
            raise MethodError(f"There is no posterior: the fit {why}; fit with method='bayes'.")
        problem = fit.problem
        words = ("deviance", "divergent", "depth", "acceptance", "log_density", "energy")
        arrays = {w: fit.arrays[("posterior_" if w == "deviance" else "nuts_") + w] for w in words}
        within = [f"{problem.space.eta[s]}{'' if c < 0 else f'[{c + 1}]'}" for s, c in _copies(problem)]
        return cls(
            fit.arrays["posterior"],
            fit.arrays["posterior_eta"],
            arrays,
            fit.start.names,
            tuple(within),
            tuple(problem.data.ids),
            {k: np.asarray(v) for k, v in problem.observation_columns().items()},
            complete(fit.start).words,
        )

    @property
    def draws(self) -> pd.DataFrame:
        """One row per draw, by chain and draw (from 1): the population parameters."""
        chains, n, _ = self.parameters.shape
        index = pd.MultiIndex.from_product([range(1, chains + 1), range(1, n + 1)], names=["chain", "draw"])
        return pd.DataFrame(self.parameters.reshape(chains * n, -1), index=index, columns=list(self.names))

    def summary(self) -> pd.DataFrame:
        """Return mean, sd, 2.5, 50 and 97.5 % quantiles, R-hat, bulk and tail ESS, and the prior, by parameter."""
        rows = []
        for k, name in enumerate(self.names):
            x = self.parameters[..., k]
            low, middle, high = np.quantile(x, [0.025, 0.5, 0.975])
            prior = self.priors.get(name) or next((w for key, w in self.priors.items() if _covers(key, name)), "fixed")
            numbers = (x.mean(), x.std(ddof=1), low, middle, high, rhat(x), ess_bulk(x), ess_tail(x))
            rows.append((*map(float, numbers), prior))
        columns = ["mean", "sd", "2.5%", "50%", "97.5%", "rhat", "ess_bulk", "ess_tail", "prior"]
        return pd.DataFrame(rows, index=pd.Index(self.names, name="parameter"), columns=columns)

    @cached_property
    def divergences(self) -> pd.DataFrame:
        """The draws whose trajectories diverged: where the posterior is hard to explore."""
        return self.draws[self.statistics["divergent"].ravel() > 0]

    def to_arviz(self) -> dict[str, dict[str, Array]]:
        """Return groups posterior, sample_stats and observed_data as plain dicts of (chains, draws, …) arrays.

        ``arviz.from_dict(**groups)`` of ArviZ 0.x and ``arviz.from_dict(groups)`` of 1.x take them.  Random effects
        are among them where no draw was left out.
        """
        posterior = {name: np.array(self.parameters[..., k]) for k, name in enumerate(self.names)}
        if self.eta.shape[:2] == self.parameters.shape[:2]:
            posterior |= {name: np.array(self.eta[:, :, k]) for k, name in enumerate(self.eta_names)}
        own = self.statistics
        statistics = {
            "diverging": own["divergent"] > 0,
            "tree_depth": own["depth"].astype(int),
            "acceptance_rate": np.array(own["acceptance"]),
            "lp": np.array(own["log_density"]),
            "energy": np.array(own["energy"]),
        }
        return {
            "posterior": posterior,
            "sample_stats": statistics,
            "observed_data": {"DV": np.array(self.observed["DV"], dtype=float)},
        }

    def __repr__(self) -> str:
        chains, n, _ = self.parameters.shape
        return f"{chains} chains of {n} draws\n{self.summary().to_string(float_format=lambda v: f'{v:.4g}')}"


def _covers(key: str, name: str) -> bool:
    """Whether the prior of a block ('eta_A, eta_k') is that of an SD or correlation."""
    members = [m.removeprefix("eta_").removeprefix("kappa_") for m in key.split(", ")]
    own = name.removeprefix("omega_").removeprefix("iov_")
    pairs = [f"{word}_{a}_{b}" for word in ("corr", "corr_iov") for a in members for b in members]
    return key.startswith(("eta_", "kappa_")) and (own in members or name in pairs)


def _copies(problem: Any) -> list[tuple[int, int]]:
    return list(zip(problem.occasions.source.tolist(), problem.occasions.copy.tolist(), strict=True))
