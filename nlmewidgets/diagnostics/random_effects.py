r"""Random effects given the data: modes with their errors, means, standard deviations, shrinkage, and draws.

A mode (EBE) hides how little the data may say; a draw of :math:`p(\eta_i \mid y_i)` does not.  Over all subjects one
draw each is a sample of the population, :math:`N(0, \Omega)` if the model is right, whatever the shrinkage.

References
----------
Lavielle & Ribba (2016), doi:10.1007/s11095-016-2020-3 (diagnostics by conditional draws).
Savic & Karlsson (2009), doi:10.1208/s12248-009-9133-0 (shrinkage).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nlmewidgets.core.errors import MethodError
from nlmewidgets.diagnostics.ebe import ebe_covariance
from nlmewidgets.fit import Fit
from nlmewidgets.methods.conditional import conditional

__all__ = ["effects", "eta_samples"]


def eta_samples(fit: Fit, draws: int = 1, *, seed: int = 0) -> pd.DataFrame:
    """Return draws of each subject's etas given its data, (ID, draw) × eta; each draw of a subject weighs 1/draws.

    Parameters
    ----------
    fit : Fit
        Of any method.  Draws of a Bayesian fit are those of its posterior, evenly spread, so that each has population
        parameters of its own; all others are made at the estimates, see `Fit.conditional`.
    draws : int
        Of each subject.  With one the draws of different subjects are independent; several show less chance but
        those of one subject go together.
    seed : int

    Raises
    ------
    MethodError
        If there are no random effects, or fewer than one draw is asked for.

    Examples
    --------
    >>> import pandas as pd
    >>> import nlmewidgets as nw
    >>> model = nw.Model("a", {"a": nw.Normal(1.0, sd=1.0)}, residual=nw.Additive(1.0))
    >>> data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2, 3], "TIME": 0.0, "DV": [0.3, 1.9, 1.0]}))
    >>> nw.diagnostics.eta_samples(model.fit(data, "fo"), 2).shape
    (6, 1)
    """
    if draws < 1:
        raise MethodError(f"draws={draws} shows nothing; take one or more.")
    names = list(fit.start.space.between)
    if "posterior_eta" in fit.arrays:
        arrays = fit.arrays["posterior_eta"]  # (chains, draws, etas, subjects)
        kept = arrays.reshape(-1, *arrays.shape[2:])
        kept = kept[np.linspace(0, len(kept) - 1, draws + 2).round().astype(int)[1:-1]]
    else:
        # A fifth of an SD of error in the means: a few draws need no long run.
        kept = conditional(
            fit.problem, fit.values, draws=draws, seed=seed, start=fit.etas.T, tolerance=max(0.05, 0.2 / draws**0.5)
        ).draws
    index = pd.MultiIndex.from_product([fit.problem.data.ids, range(1, draws + 1)], names=["ID", "draw"])
    own = kept[:, : len(names)].transpose(2, 0, 1).reshape(-1, len(names))
    return pd.DataFrame(own, index=index, columns=names)


def effects(fit: Fit, *, draws: int = 200, seed: int = 0) -> pd.DataFrame:
    r"""Return what is known of each subject's etas, one row per subject and eta.

    Parameters
    ----------
    fit : Fit
    draws : int
        Of each subject, where its conditional distribution is not known from the fit.
    seed : int

    Returns
    -------
    DataFrame
        By (ID, eta): ebe, se (:math:`\sqrt{C_{kk}}`, NONMEM's ETC, see `ebe_covariance`), mean and sd of
        :math:`p(\eta \mid y)`, and shrinkage, the share :math:`\mathrm{sd}^2/\omega^2` of the variance that the
        subject's data leave: 0 where they fix the eta, 1 where they say nothing.

    Raises
    ------
    MethodError
        If the model has no random effects.

    Notes
    -----
    Moments that the method left behind (SAEM's, importance sampling's, those of the posterior) are taken as they are.

    Examples
    --------
    >>> import pandas as pd
    >>> import nlmewidgets as nw
    >>> model = nw.Model("a", {"a": nw.Normal(1.0, sd=1.0)}, residual=nw.Additive(1.0))
    >>> data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2, 3], "TIME": 0.0, "DV": [0.3, 1.9, 1.0]}))
    >>> table = model.fix("omega_a", "additive").fit(data, "fo").effects()
    >>> float(table.loc[(1, "eta_a"), "se"].round(3))  # omega² σ² / (omega² + σ²) = 1/2
    0.707
    """
    names = list(fit.start.space.between)
    q, ids = len(names), fit.problem.data.ids
    if "conditional_mean" in fit.arrays and "conditional_sd" in fit.arrays:
        mean, sd = fit.arrays["conditional_mean"][:q], fit.arrays["conditional_sd"][:q]
    else:
        found = fit.conditional(draws, seed=seed).result
        mean, sd = found.mean[:q], found.sd[:q]
    by = fit.method if fit.method in ("fo", "foce", "focei", "laplace", "agq") else "focei"
    if fit.problem.not_normal() is not None:  # the expected information of these is not FOCEI's
        by = "laplace"
    covariance = ebe_covariance(fit.problem, fit.values, fit.etas.T, by)
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :q])
        left = sd.T**2 / np.diag(fit.values.omega)[:q]
    index = pd.MultiIndex.from_product([ids, names], names=["ID", "eta"])
    columns = {"ebe": fit.etas[:, :q], "se": se, "mean": mean.T, "sd": sd.T, "shrinkage": left}
    return pd.DataFrame({name: np.ascontiguousarray(x).ravel() for name, x in columns.items()}, index=index)
