"""The result of an estimation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.verbs import VERBS
from nlmewidgets.fit import display
from nlmewidgets.fit.posterior import Posterior
from nlmewidgets.methods import METHODS, Iteration, Method

if TYPE_CHECKING:
    from nlmewidgets.fit.conditional import ConditionalTables
    from nlmewidgets.methods.uncertainty import Uncertainty
    from nlmewidgets.methods.yardstick import Yardstick

__all__ = ["Fit"]

_OWN = "~"


@dataclass(frozen=True, eq=False)
class Fit:
    """Estimates, their history, and everything computed from them.

    A fit that was stopped is a Fit like any other, with `status` 'stopped'.

    Attributes
    ----------
    start : Model
        The model as it was fitted, with its initial values.
    data : Data
    method, options : str, dict
    values : Values
        theta, Omega, sigma as arrays.
    ofv : float
        −2 log L without n·log(2π), by `ofv_by`.
    etas : (subjects, etas) float
        EBEs of the subjects used: their etas, then the kappas of each occasion in turn.
    iterations : DataFrame
        One row per iteration, with '~' before the names that are no parameters'; see `history`.
    status : str
        'converged', 'stopped', 'limit' or 'failed'.
    message : str
        Why it stopped, in a sentence.
    excluded : dict
        Subjects left out, with the reason.
    arrays : dict
        What else the method left behind, by name; see the method.
    """

    start: Model
    data: Data
    method: str
    options: Mapping[str, Any]
    values: Values
    ofv: float
    ofv_by: str
    etas: Array
    iterations: pd.DataFrame
    status: str
    message: str
    seed: int | None
    elapsed: float = 0.0
    excluded: Mapping[Any, str] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        model: Model,
        data: Data,
        problem: Problem,
        method: Method,
        last: Iteration,
        history: list[Iteration],
        seed: int,
        elapsed: float,
        excluded: Mapping[Any, str],
        previous: Fit | None = None,
    ) -> Fit:
        """Return the fit that ends at iteration `last`, perhaps going on from a previous one."""
        rows = [
            {_OWN + "k": it.k, _OWN + "phase": it.phase, _OWN + "ofv": it.ofv}
            | it.to_dict()
            | {_OWN + name: number for name, number in it.details.items()}
            for it in history
        ]
        table = pd.DataFrame(rows)
        if previous is not None:
            earlier = previous.iterations[previous.iterations[_OWN + "k"] < history[0].k]
            table = pd.concat([earlier, table], ignore_index=True)
        new = cls(
            start=model,
            data=data,
            method=method.name,
            options=method.options,
            values=last.values,
            ofv=last.ofv,
            ofv_by=last.ofv_by,
            etas=np.array(last.eta.T),
            iterations=table,
            status=last.status,
            message=last.message,
            seed=seed,
            elapsed=elapsed + (0.0 if previous is None else previous.elapsed),
            excluded=dict(excluded),
            arrays=dict(last.arrays),
        )
        new.__dict__["problem"] = problem
        return new

    # ---------------------------------------------------------------- estimates

    @cached_property
    def problem(self) -> Problem:
        """The model bound to the subjects used."""
        kept = [i for i in self.data.ids if i not in self.excluded]
        return self.start.problem(self.data.subset(kept) if self.excluded else self.data)

    @property
    def theta(self) -> pd.Series:
        """Typical values by name."""
        return pd.Series(self.values.theta, index=[p.name for p in self.start.space.theta], name="theta", copy=True)

    @property
    def omega(self) -> pd.DataFrame:
        """Variance–covariance of the random effects."""
        names = list(self.start.space.eta)
        return pd.DataFrame(self.values.omega, index=names, columns=names, copy=True)

    @property
    def sigma(self) -> pd.Series:
        """Residual standard deviations by name."""
        return pd.Series(self.values.sigma, index=[p.name for p in self.start.space.sigma], name="sigma", copy=True)

    @property
    def estimates(self) -> pd.Series:
        """All population parameters by name; omegas and sigmas as standard deviations."""
        return pd.Series(self.start.space.to_dict(self.values), name="estimate")

    @property
    def eta(self) -> pd.DataFrame:
        """EBEs, ID × eta; missing for subjects left out."""
        kept = [i for i in self.data.ids if i not in self.excluded]
        names = list(self.start.space.between)
        frame = pd.DataFrame(self.etas[:, : len(names)], index=pd.Index(kept, name="ID"), columns=names)
        return frame.reindex(pd.Index(self.data.ids, name="ID")) if self.excluded else frame

    @property
    def kappa(self) -> pd.DataFrame:
        """EBEs of the inter-occasion effects, (ID, OCC) × kappa, of the subjects used."""
        occasions, space = self.problem.occasions, self.start.space
        drawn = {n: occasions.drawn(self.etas.T, len(space.between) + k) for k, n in enumerate(space.within)}
        ids = np.repeat(np.array(self.problem.data.ids, dtype=object), occasions.count)
        index = pd.MultiIndex.from_arrays([ids, list(occasions.labels)], names=["ID", "OCC"])
        return pd.DataFrame({name: values for name, (values, _) in drawn.items()}, index=index)

    @property
    def individual(self) -> pd.DataFrame:
        """Individual parameters at the EBEs, ID × parameter (those of the first record)."""
        problem = self.problem
        values = problem.individual_parameters(self.values.theta, self.etas.T)
        first = np.searchsorted(problem.block_subjects.label, np.arange(problem.n_subjects))
        frame = pd.DataFrame({k: v[first] for k, v in values.items()})
        return frame.set_index(pd.Index(problem.data.ids, name="ID"))

    @property
    def estimator(self) -> Method:
        """The method with the options of this fit."""
        known = METHODS.get(self.method, METHODS["focei"])
        names = {f.name for f in fields(known)}
        return known.with_options({k: v for k, v in self.options.items() if k in names})

    def conditional(self, draws: int = 200, *, seed: int | None = None, **options: Any) -> ConditionalTables:
        """Return conditional means, standard deviations and draws of etas and individual parameters.

        Parameters
        ----------
        draws : int
            Draws of each subject to keep.
        seed : int, optional
            The fit's own where omitted.
        **options
            chains, tolerance and longest of `nlmewidgets.methods.conditional.conditional`.

        Returns
        -------
        ConditionalTables
            With DataFrames `mean`, `sd`, `error` (ID × eta), `samples`, `parameters`, `parameters_sd`.
        """
        from nlmewidgets.fit.conditional import conditional_tables

        return conditional_tables(self, draws, seed=seed, **options)

    @property
    def model(self) -> Model:
        """The model at its estimates: simulate, explore or refit from there."""
        return self.start.with_values(self.values)

    @property
    def last_iteration(self) -> Iteration:
        """Where the fit ended, as a method goes on from it."""
        row = self.iterations.iloc[-1]
        return Iteration(
            k=int(row[_OWN + "k"]),
            phase=str(row[_OWN + "phase"]),
            values=self.values,
            ofv=self.ofv,
            eta=self.etas.T,
            space=self.start.space,
            ofv_by=self.ofv_by,
            arrays=self.arrays,
        )

    @property
    def trace(self) -> tuple[Iteration, ...]:
        """The history as iterations, also of a fit that was loaded; the last one holds its etas, no others are kept."""
        space, by = self.start.space, self.ofv_by
        own = [c for c in self.iterations if c.startswith(_OWN) and c[1:] not in ("k", "phase", "ofv")]
        made = [
            Iteration(
                k=int(row[_OWN + "k"]),
                phase=str(row[_OWN + "phase"]),
                values=space.from_dict({name: row[name] for name in space.names}),
                ofv=float(row[_OWN + "ofv"]),
                eta=self.etas.T,
                space=space,
                ofv_by=by,
                details={c[1:]: row[c] for c in own if row[c] is not None},
            )
            for row in self.iterations.to_dict("records")
        ]
        for iteration in made[:-1]:
            iteration.forget()
        return (*made[:-1], replace(made[-1], status=self.status, message=self.message, progress=1.0))

    def resume(self, **options: Any) -> Fit:
        """Return the fit gone on from where it ended, also one that was saved and loaded.

        A stopped fit goes on to its end; one that ended does more: SAEM smooths on, sampling methods draw more.  The
        history goes on, and the time is added up.

        Parameters
        ----------
        **options
            Options of the method to change, and `callback`, `stop`, `time_limit`, `progress` as for `fit`.

        Raises
        ------
        MethodError
            If the method has no such option.

        Examples
        --------
        >>> import nlmewidgets as nw
        >>> data = nw.datasets.load("theophylline")
        >>> model = nw.library.oral_1cpt(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3),
        ...                              V=nw.LogNormal(32.0, sd=0.2), residual=nw.Additive(0.7))
        >>> early = model.fit(data, "focei", max_iterations=2)
        >>> early.status, round(early.resume(max_iterations=500).ofv, 3)
        ('limit', 116.803)
        """
        return VERBS["resume"](self, **options)  # type: ignore[no-any-return]

    @property
    def history(self) -> pd.DataFrame:
        """One row per iteration: k, phase, ofv, the parameters, the method's own numbers.

        Where a parameter has the name of one of the others (an elimination rate k, say), the parameter
        keeps it and the other gets an underscore: ``k_``.
        """
        taken = set(self.start.names)

        def plain(column: str) -> str:
            name = column.removeprefix(_OWN)
            return name + "_" * (name in taken and column != name)

        return self.iterations.rename(columns=plain)

    # -------------------------------------------------------------------- status

    @property
    def converged(self) -> bool:
        """Whether the method reached its own end."""
        return self.status == "converged"

    # ---------------------------------------------------------------- likelihood

    @property
    def n_parameters(self) -> int:
        """Number of estimated population parameters."""
        return len(self.start.space.x_names)

    @property
    def n_obs(self) -> int:
        """Number of observations used."""
        return self.problem.n_obs

    @property
    def n_subjects(self) -> int:
        """Number of subjects used."""
        return self.problem.n_subjects

    @property
    def prior(self) -> float:
        """−2 log of the priors' density at the estimates, which `ofv` does not contain; 0 without priors."""
        return 0.0 if self.problem.penalty is None else self.problem.penalty.value(self.values)

    @property
    def loglik(self) -> float:
        """Complete log likelihood, −(ofv + n·log 2π)/2."""
        return -0.5 * (self.ofv + self.problem.n_normal * math.log(2.0 * math.pi))

    @property
    def aic(self) -> float:
        """Akaike's criterion, −2 log L + 2k."""
        return -2.0 * self.loglik + 2.0 * self.n_parameters

    @property
    def bic(self) -> float:
        """Schwarz's criterion with the number of subjects, −2 log L + k·ln(N)."""
        return -2.0 * self.loglik + self.n_parameters * math.log(self.n_subjects)

    def yardstick(self, by: str = "auto", *, error: float = 0.05, seed: int = 0) -> Yardstick:
        """Return −2 log L itself with its error, comparable between methods: see `nlmewidgets.methods.yardstick`."""
        from nlmewidgets.methods.yardstick import yardstick

        return yardstick(self.problem, self.values, by=by, eta=self.etas.T, error=error, seed=seed)

    # ----------------------------------------------------------------- posterior

    @cached_property
    def posterior(self) -> Posterior:
        """The draws of a Bayesian fit, with `summary()` and `to_arviz()`."""
        return Posterior.of(self)

    def to_arviz(self) -> dict[str, dict[str, Array]]:
        """Return the posterior as plain dicts for ``arviz.from_dict``; see `Posterior.to_arviz`."""
        return self.posterior.to_arviz()

    # --------------------------------------------------------------- uncertainty

    @cached_property
    def _uncertainties(self) -> dict[str, Uncertainty]:
        return {}

    def uncertainty_by(self, kind: str | None = None) -> Uncertainty:
        """Return the uncertainty of the estimates of a kind, see `nlmewidgets.methods.uncertainty`.

        Parameters
        ----------
        kind : str, optional
            'sandwich' (the default), 'R', 'S', 'louis', 'linearised', 'expected' or 'posterior' (the default of a
            Bayesian fit).

        Raises
        ------
        MethodError
            If there is no such kind, or it does not treat these data.
        """
        from nlmewidgets.methods.uncertainty import uncertainty

        name = kind or ("posterior" if "posterior" in self.arrays else "sandwich")
        if name not in self._uncertainties:
            curved = next((u.curvature for u in self._uncertainties.values() if u.curvature is not None), None)
            self._uncertainties[name] = uncertainty(
                self.problem,
                self.values,
                self.estimator,
                self.etas.T,
                kind=name,
                seed=self.seed,
                arrays=self.arrays,
                curved=curved,
            )
        return self._uncertainties[name]

    @property
    def uncertainty(self) -> Uncertainty:
        """Uncertainty of the estimates of the default kind; its `message` says why a standard error is missing."""
        return self.uncertainty_by()

    def covariance(self, kind: str | None = None, scale: str = "sd") -> pd.DataFrame:
        """Return the covariance matrix of the estimates.

        Parameters
        ----------
        kind : str, optional
            See `uncertainty_by`.
        scale : {"sd", "variance"}
            Omegas and sigmas as standard deviations with correlations, or as variances with covariances.
        """
        return self.uncertainty_by(kind).covariance_on(scale)

    def intervals(self, level: float = 0.95, kind: str | None = None) -> pd.DataFrame:
        """Return confidence intervals that respect bounds: estimate, lower, upper by parameter.

        Examples
        --------
        >>> import nlmewidgets as nw
        >>> data = nw.datasets.load("orange")
        >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", {"asym": nw.Normal(190, sd=30),
        ...                  "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}, residual=nw.Additive(8))
        >>> table = model.fit(data, "focei").intervals(0.9, kind="R")
        >>> bool((table["lower"] < table["estimate"]).all() and (table["lower"].drop("asym") > 0).all())
        True
        """
        return self.uncertainty_by(kind).intervals(level)

    @property
    def cov(self) -> pd.DataFrame:
        """Covariance matrix of the estimates (omegas and sigmas as standard deviations)."""
        return self.uncertainty.covariance

    @property
    def se(self) -> pd.Series:
        """Standard errors; missing for fixed parameters, and where `uncertainty.message` says why."""
        return self.uncertainty.se.reindex(list(self.start.space.names))

    @property
    def rse(self) -> pd.Series:
        """Relative standard errors, per cent."""
        return (100.0 * self.se / self.estimates.abs()).rename("rse")

    # --------------------------------------------------------------- diagnostics

    @property
    def shrinkage(self) -> pd.Series:
        """Shrinkage of each eta, 1 − SD(EBE)/omega, and of epsilon, 1 − RMS(IWRES)."""
        return VERBS["shrinkage"](self.problem, self.values, self.etas.T)  # type: ignore[no-any-return]

    def table(self, n: int | None = None, seed: int | None = 0) -> pd.DataFrame:
        """Return ID TIME DV PRED IPRED RES IRES WRES IWRES CWRES … NPDE NPD, one row per observation.

        See `nlmewidgets.diagnostics.residuals` and `nlmewidgets.diagnostics.npde` for all columns; n is the number of
        replicates behind those by simulation (0: none; 300 without it, but none where predictions are integrated).
        """
        return VERBS["fit_table"](self, n=n, seed=seed)  # type: ignore[no-any-return]

    def npde(self, **options: Any) -> pd.DataFrame:
        """Return EPRED ERES EWRES ECWRES PDE NPDE PD NPD by simulation; see `nlmewidgets.diagnostics.npde`."""
        return VERBS["npde"](self, **options)  # type: ignore[no-any-return]

    def npc(self, **options: Any) -> pd.DataFrame:
        """Return a numerical predictive check; see `nlmewidgets.diagnostics.npc`."""
        return VERBS["npc"](self, **options)  # type: ignore[no-any-return]

    def vpc(self, **options: Any) -> Any:
        """Return a visual predictive check, a `VPC` of tables; see `nlmewidgets.diagnostics.vpc`."""
        return VERBS["vpc"](self, **options)

    def iofv(self, by: str | None = None) -> pd.Series:
        """Return each subject's contribution to the objective; see `nlmewidgets.diagnostics.iofv`."""
        return VERBS["iofv"](self, by)  # type: ignore[no-any-return]

    def summary(self) -> pd.DataFrame:
        """Return one row per population parameter: initial, estimate, SE, RSE %, shrinkage %, fixed."""
        return display.summary(self)

    def effects(self, **options: Any) -> pd.DataFrame:
        """Return EBE, SE, conditional mean, SD, shrinkage by (ID, eta); see `nlmewidgets.diagnostics.effects`."""
        return VERBS["effects"](self, **options)  # type: ignore[no-any-return]

    def draw(self, picture: str, **options: Any) -> Any:
        """Return a static picture of the fit, one of `nlmewidgets.pictures.PICTURES`, e.g. 'residuals' or 'vpc'.

        Pictures of random effects take `samples`: False for EBEs, True for one draw of each subject's conditional
        distribution, a number for several.
        """
        return VERBS["draw"](self, picture, **options)

    def report(self, path: str | Path, **options: Any) -> Path:
        """Write everything about the fit as one HTML file that opens offline and prints; see `nlmewidgets.report`."""
        return VERBS["report"](self, path, **options)  # type: ignore[no-any-return]

    def to_csv(self, path: str | Path | None = None) -> str:
        """Return the estimates with their precision as CSV, and write them to `path` if given."""
        from nlmewidgets.fit.tables import estimates_csv, written

        return written(estimates_csv(self), path)

    def to_latex(self, path: str | Path | None = None) -> str:
        """Return the estimates with their precision as a LaTeX table (booktabs), and write it to `path` if given."""
        from nlmewidgets.fit.tables import estimates_latex, written

        return written(estimates_latex(self), path)

    def save_tables(self, folder: str | Path) -> list[Path]:
        """Write all tables of the fit into a folder, see `nlmewidgets.fit.tables`."""
        from nlmewidgets.fit.tables import save_tables

        return save_tables(self, folder)

    # ------------------------------------------------------------------- display

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    # --------------------------------------------------------------------- store

    def save(self, path: str | Path) -> Path:
        """Write the fit as readable JSON; `nlmewidgets.load_fit` reads it back."""
        from nlmewidgets.fit.store import save

        return save(self, path)
