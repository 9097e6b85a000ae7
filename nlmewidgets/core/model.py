"""The symbolic declaration: structure, parameter distributions, covariate effects, residual error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.declaration import Declaration, check_blq
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.observation import Observation
from nlmewidgets.core.pairing import correlation_parameters
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.priors import Prior, declared
from nlmewidgets.core.slots import PLACE, SlotForm, slot_form
from nlmewidgets.core.special import remove_equal_rate_singularities
from nlmewidgets.core.structure.closed_form import split_dose_terms
from nlmewidgets.core.system import Route, System
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.core.verbs import VERBS

if TYPE_CHECKING:
    from nlmewidgets.core.data import Data
    from nlmewidgets.core.problem import Problem

__all__ = ["Model"]


class Model:
    """A nonlinear mixed-effects model, declared in SymPy.

    y = f(t, φ) + ε,  φ = h(θ, z, η),  η ~ N(0, Ω).  A model is immutable; `with_values`, `fix` and
    `free` return new ones.

    Parameters
    ----------
    prediction : SymPy expression or str, or mapping of name to them
        f, in `nlmewidgets.time`, `nlmewidgets.dose`, parameters and covariates.  Terms that contain
        `dose` are summed over all past doses, with `time` counted from each.  Several outputs are a
        mapping; an observation's DVID is its output's name or number, from 1.
    parameters : mapping of symbol (or name) to distribution or expression
        How each individual parameter is distributed.
    residual : residual error model or {"sd": expression}, or mapping of output to them
        The standard deviation of ε.  With several outputs a library model's sigmas carry the output's
        name (``additive_cp``); a ``nw.sigma()`` used by several outputs is one parameter.
    residual_correlation : mapping of (output, output) to float, optional
        Initial correlations of the residuals of two outputs measured at the same time (NONMEM's L2), given the
        random effects; estimated as ``rho_cp_pca``.
    correlation : mapping of (symbol, symbol) to float, or 'full', optional
        Initial correlations of random effects; the connected etas form a full block of Omega.
    priors : mapping of name (or tuple of symbols) to `nlmewidgets.priors`, optional
        Densities of population parameters, or of a block of Omega; fits then go to the mode of
        likelihood times prior.
    same : list of tuple of symbol, optional
        Groups of parameters whose random effects have the same variance (NONMEM's SAME); a correlated
        block is the same as another as a whole.
    name : str, optional
        For tables and titles.
    odes : mapping of state to expression, optional
        Right-hand sides of differential equations, in states (see `states`), parameters, covariates
        and time; the k-th is CMT k of the data, the first takes doses without CMT.  The prediction is
        then an expression of the states.  Linear systems with constant coefficients are solved exactly.
    initial : mapping of state to expression, optional
        The states before the first record and after a reset; 0 without.
    doses : mapping of state to `Route`, optional
        Lag, bioavailability, modelled rate or duration of the doses into a state.
    tolerance : Tolerance, optional
        Of the numerical solution of differential equations that are not linear.

    Raises
    ------
    ModelError
        If a symbol is unknown, a parameter is never used, a number is impossible.

    Examples
    --------
    >>> import sympy as sp, nlmewidgets as nw
    >>> k, A = sp.symbols("k A", positive=True)
    >>> model = nw.Model(
    ...     prediction=A * sp.exp(-k * nw.time),
    ...     parameters={A: nw.LogNormal(10, sd=0.2), k: nw.LogNormal(0.5, sd=0.3)},
    ...     residual=nw.Additive(0.1),
    ... )
    >>> model.names
    ('A', 'k', 'omega_A', 'omega_k', 'additive')
    """

    space: ParameterSpace
    name: str | None
    system: System | None
    blq: str
    extra: tuple[sp.Symbol, ...]

    def __init__(
        self,
        prediction: Any,
        parameters: Mapping[Any, Any],
        *,
        residual: Any = None,
        residual_correlation: Mapping[tuple[str, str], float] | None = None,
        correlation: Mapping[tuple[Any, Any], float] | str | None = None,
        same: Sequence[tuple[Any, ...]] = (),
        priors: Mapping[Any, Prior] | None = None,
        name: str | None = None,
        odes: Mapping[Any, Any] | None = None,
        initial: Mapping[Any, Any] | None = None,
        doses: Mapping[Any, Any] | None = None,
        blq: str = "M3",
        tolerance: Tolerance | None = None,
    ) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            state = "empty" if isinstance(parameters, Mapping) else "not a mapping"
            raise ModelError(
                f"parameters= is {state}; give each symbol of the prediction a distribution or an expression."
            )
        build = Declaration(parameters, odes)
        outputs = build.outputs(prediction)
        system = build.system(odes, initial, doses, tolerance)
        observations, residuals = build.observations(residual, outputs)
        together = correlation_parameters(residual_correlation, observations, blq)
        build.sigmas |= {p.name: p for p in together.values()}
        space = build.space(correlation or {}, same)
        build.check_usage(tuple(outputs.values()), system)
        for expression in outputs.values():  # refuses what cannot be summed over doses
            split_dose_terms(remove_equal_rate_singularities(expression))
        check_blq(blq, observations)
        known = declared(space, priors or {})
        parts = self.from_parts(
            outputs,
            build.parameters,
            observations,
            residuals,
            space,
            name,
            system,
            blq,
            known,
            {pair: p.name for pair, p in together.items()},
        )
        self.__dict__.update(parts.__dict__)

    @classmethod
    def from_parts(
        cls,
        outputs: Mapping[str, sp.Expr],
        parameters: Mapping[sp.Symbol, Distribution | sp.Expr],
        observations: Mapping[str, Observation],
        residuals: Mapping[str, Any],
        space: ParameterSpace,
        name: str | None,
        system: System | None = None,
        blq: str = "M3",
        priors: Mapping[str | tuple[str, ...], Prior] | None = None,
        residual_correlation: Mapping[tuple[str, str], str] | None = None,
    ) -> Model:
        """Return a model from canonical expressions and a parameter space, as they are stored."""
        new = object.__new__(cls)
        expressions = (*outputs.values(), *(system.expressions() if system else ()))
        extra = tuple(sorted({s for e in expressions for s in e.atoms(role.Theta, role.Eta)}, key=lambda s: s.name))
        new.__dict__.update(
            outputs=dict(outputs),
            parameters=dict(parameters),
            observations=dict(observations),
            residuals=dict(residuals),
            space=space,
            name=name,
            system=system,
            blq=blq,
            extra=extra,
            priors=dict(priors or {}),
            residual_correlation=dict(residual_correlation or {}),
        )
        return new

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("A model is immutable; with_values(), fix() and free() return a changed copy.")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("A model is immutable; with_values(), fix() and free() return a changed copy.")

    @property
    def parameters(self) -> Mapping[sp.Symbol, Distribution | sp.Expr]:
        """How each individual parameter is distributed, by symbol (read-only)."""
        return MappingProxyType(self.__dict__["parameters"])

    @property
    def priors(self) -> Mapping[str | tuple[str, ...], Prior]:
        """The prior of each population parameter that has one, or of a block by its etas (read-only)."""
        return MappingProxyType(self.__dict__["priors"])

    @property
    def outputs(self) -> Mapping[str, sp.Expr]:
        """The prediction of each output, by name (read-only)."""
        return MappingProxyType(self.__dict__["outputs"])

    @property
    def observations(self) -> Mapping[str, Observation]:
        """How the data of each output are distributed, by name (read-only)."""
        return MappingProxyType(self.__dict__["observations"])

    @property
    def residuals(self) -> Mapping[str, Any]:
        """The residual error of each output as it was declared, by name (read-only)."""
        return MappingProxyType(self.__dict__["residuals"])

    @property
    def residual_correlation(self) -> Mapping[tuple[str, str], str]:
        """The name of the correlation of the residuals of two outputs, by their names (read-only)."""
        return MappingProxyType(self.__dict__["residual_correlation"])

    def _only(self, what: str, table: Mapping[str, Any]) -> Any:
        if len(table) > 1:
            raise ModelError(
                f"This model has the outputs {', '.join(table)}; ask for model.{what}[name] of one of them."
            )
        return next(iter(table.values()))

    @property
    def prediction(self) -> sp.Expr:
        """The prediction of a model with one output."""
        return self._only("outputs", self.outputs)

    @property
    def residual(self) -> Any:
        """The residual error of a model with one output, as it was declared."""
        return self._only("residuals", self.residuals)

    @property
    def sd(self) -> sp.Expr:
        """The residual standard deviation of a model with one output."""
        return self._only("observations", self.observations).sd

    def _copy(self, **changes: Any) -> Model:
        new = object.__new__(type(self))
        new.__dict__.update({k: v for k, v in self.__dict__.items() if not k.startswith("_")} | changes)
        return new

    # ------------------------------------------------------------------ numbers

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the population parameters: thetas, omegas (SD), correlations, sigmas (SD)."""
        return self.space.names

    @property
    def values(self) -> Values:
        """The initial values as theta, Omega, sigma."""
        return self.space.initial

    def table(self) -> pd.DataFrame:
        """Return one row per population parameter: kind, value, bounds, fixed."""
        return self.space.table()

    def with_values(self, values: Mapping[str, float] | Values) -> Model:
        """Return the model with other initial values, by name (omegas and sigmas as SDs)."""
        if not isinstance(values, Values):
            values = self.space.from_dict(values)
        return self._copy(space=self.space.starting_at(values))

    def fix(self, *names: str) -> Model:
        """Return the model with the named population parameters fixed."""
        return self._copy(space=self.space.with_fixed(names))

    def free(self, *names: str) -> Model:
        """Return the model with the named population parameters estimated."""
        return self._copy(space=self.space.with_fixed(names, fixed=False))

    # --------------------------------------------------------------- normal form

    @property
    def etas(self) -> tuple[role.Eta, ...]:
        """The random effects, in the order of Omega."""
        return tuple(role.plain_eta(name) for name in self.space.eta)

    @property
    def form(self) -> SlotForm:
        """The parameters as functions of slots s = m(θ, z) + B·η."""
        return self.form_where(())

    def form_where(self, varying: tuple[role.Covariate, ...]) -> SlotForm:
        """Return the form in which no slot depends on these covariates, which change within subjects."""
        declared: list[tuple[sp.Symbol, sp.Expr, sp.Expr | None]] = []
        hidden: list[sp.Symbol] = []
        for symbol, value in self.parameters.items():
            if isinstance(value, Distribution):
                theta = role.plain_theta(symbol.name, value.bounds[0])
                typical = value.link(theta) + value.effect
                effects = [role.plain_eta(f"eta_{symbol.name}")] if value.sd else []
                effects += [role.plain_eta(f"kappa_{symbol.name}")] if value.iov else []
                if value.shapes and effects:
                    # A slot for the typical value, one for the random effect, one for each shape.
                    parts = [sp.Symbol(f"{symbol.name} {word}", real=True) for word in ("typical", "random")]
                    shapes = [role.plain_theta(f"{s.prefix}_{symbol.name}", s.lower) for s in value.shapes]
                    declared += [(parts[0], typical, None), (parts[1], sp.Add(*effects), None)]
                    declared.append((symbol, value.inverse(parts[0] + value.shaped(parts[1], *shapes)), None))
                    hidden += parts
                else:
                    declared.append((symbol, sp.Add(typical, *effects), value.inverse(PLACE)))
            else:
                declared.append((symbol, value, None))
        form = slot_form(tuple(declared), self.etas, self.extra, varying)
        if not hidden:
            return form
        return replace(form, parameters={s: e for s, e in form.parameters.items() if s not in hidden})

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates the model uses."""
        return tuple(sorted({s.column for s in self.covariate_symbols}))

    @property
    def covariate_symbols(self) -> tuple[role.Covariate, ...]:
        """The covariates the model uses, and indicators of the levels of categorical ones."""
        parts = (
            *self.outputs.values(),
            *self.observations.values(),
            *(self.system.expressions() if self.system else ()),
        )
        found = {s for part in parts for s in part.atoms(role.Covariate)}
        for value in self.parameters.values():
            found |= sp.sympify(value.effect if isinstance(value, Distribution) else value).atoms(role.Covariate)
        return tuple(sorted(found, key=lambda symbol: (symbol.name, type(symbol).__name__)))

    @property
    def odes(self) -> Mapping[role.State, sp.Expr]:
        """Right-hand sides by state; empty for a closed form."""
        return dict(zip(self.system.states, self.system.rhs, strict=True)) if self.system else {}

    @property
    def initial(self) -> Mapping[role.State, sp.Expr]:
        """The state before the first record, where it is not 0."""
        pairs = zip(self.system.states, self.system.initial, strict=True) if self.system else ()
        return {s: e for s, e in pairs if e != 0}

    @property
    def routes(self) -> Mapping[role.State, Route]:
        """How doses reach a state, where not at once and whole."""
        pairs = zip(self.system.states, self.system.routes, strict=True) if self.system else ()
        return {s: r for s, r in pairs if not r.plain}

    @property
    def stable_outputs(self) -> dict[str, sp.Expr]:
        """The predictions with removable equal-rate singularities removed."""
        return {name: remove_equal_rate_singularities(expression) for name, expression in self.outputs.items()}

    # -------------------------------------------------------------------- verbs

    def problem(self, data: Data) -> Problem:
        """Return the model bound to data."""
        from nlmewidgets.core.data import Data
        from nlmewidgets.core.problem import Problem

        if not isinstance(data, Data):
            raise DataError(
                f"The data are a {type(data).__name__}; read them with Data.from_frame() or Data.read_csv()."
            )

        return Problem.bind(self, data)

    def predict(self, data: Data) -> pd.DataFrame:
        """Return PRED, the prediction at eta = 0 and the initial values.

        Returns
        -------
        DataFrame
            ID, TIME, DV, PRED; one row per observation.
        """
        problem = self.problem(data)
        pred = problem.predict(problem.typical(self.values.theta).slots)
        return pd.DataFrame({**problem.observation_columns(), "PRED": pred})

    def simulate(self, data: Data, n: int = 1, *, seed: int | None = None) -> pd.DataFrame:
        """Simulate observations at the initial values.

        Parameters
        ----------
        data : Data
            The design: subjects, times, doses, covariates.
        n : int
            Number of replicates.
        seed : int, optional

        Returns
        -------
        DataFrame
            REP, ID, TIME, IPRED, DV; n × observations rows.
        """
        problem = self.problem(data)
        ipred, dv = problem.simulate(self.values, n, np.random.default_rng(seed))
        columns = problem.observation_columns()
        out = pd.DataFrame({"REP": np.repeat(np.arange(1, n + 1), data.n_obs)})
        out["ID"] = np.tile(columns["ID"], n)
        out["TIME"] = np.tile(columns["TIME"], n)
        out["IPRED"], out["DV"] = ipred.ravel(), dv.ravel()
        return out

    def ofv(self, data: Data, method: str = "focei", **options: Any) -> float:
        """Return a method's objective at the initial values: −2 log L without n·log(2π).

        The etas are optimised where the method needs it; no population parameter moves.
        """
        return float(VERBS["ofv"](self, data, method, **options))

    def fit(self, data: Data, method: str = "focei", *, seed: int | None = None, **options: Any) -> Any:
        """Estimate the population parameters; see `nlmewidgets.methods` for the methods and options."""
        return VERBS["fit"](self, data, method, seed=seed, **options)

    def prior_predictive(self, data: Data, n: int = 100, *, seed: int | None = None) -> pd.DataFrame:
        """Simulate data with parameters drawn from the priors: what the model expects before it sees the data.

        Parameters
        ----------
        data : Data
            The design.
        n : int
            Draws from the priors, one data set each; parameters without a prior have the default of `method="bayes"`.
        seed : int, optional

        Returns
        -------
        DataFrame
            REP, ID, TIME, IPRED, DV; n × observations rows.

        Raises
        ------
        ModelError
            If a parameter has two priors, its own and that of its block, whose product cannot be drawn from.
        """
        return VERBS["prior_predictive"](self, data, n, seed=seed)  # type: ignore[no-any-return]

    def guess(self, data: Data, *, seconds: float = 20.0, **options: Any) -> Any:
        """Return starting values from the data: a `Guess` with `model` and `table()`; see `nlmewidgets.studies`."""
        return VERBS["guess"](self, data, seconds=seconds, **options)

    # ------------------------------------------------------------------ display

    def __repr__(self) -> str:
        title = self.name or "Model"
        single = len(self.outputs) == 1
        lines = [f"{'f' if single else name} = {expression}" for name, expression in self.outputs.items()]
        return f"{title}: {'; '.join(lines)}\n{self.table().to_string()}"

    def equations(self, *, derivatives: bool = False) -> str:
        """Return the model as LaTeX; with `derivatives`, ∂f/∂φ for every parameter too."""
        from nlmewidgets.core.display import equations

        return equations(self, derivatives=derivatives)

    def _repr_latex_(self) -> str:
        return f"$$\n{self.equations()}\n$$"

    def to_code(self, variable: str = "model") -> str:
        """Return Python source that declares this model."""
        from nlmewidgets.core.code import model_code

        return model_code(self, variable)
