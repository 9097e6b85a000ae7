"""The symbolic declaration: structure, parameter distributions, covariate effects, residual error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.expression import parse
from nlmewidgets.core.parameters import Parameter, ParameterSpace, Values
from nlmewidgets.core.slots import PLACE, SlotForm, slot_form
from nlmewidgets.core.special import remove_equal_rate_singularities
from nlmewidgets.core.structure.closed_form import split_dose_terms
from nlmewidgets.core.verbs import VERBS

if TYPE_CHECKING:
    from nlmewidgets.core.data import Data
    from nlmewidgets.core.problem import Problem

__all__ = ["Model"]

RESERVED = (role.time, role.dose)


class Model:
    """A nonlinear mixed-effects model, declared in SymPy.

    y = f(t, φ) + ε,  φ = h(θ, z, η),  η ~ N(0, Ω).  A model is immutable; `with_values`, `fix` and
    `free` return new ones.

    Parameters
    ----------
    prediction : SymPy expression or str
        f, in `nlmewidgets.time`, `nlmewidgets.dose`, parameters and covariates.  Terms that contain
        `dose` are summed over all past doses, with `time` counted from each.
    parameters : mapping of symbol (or name) to distribution or expression
        How each individual parameter is distributed.
    residual : residual error model or {"sd": expression}
        The standard deviation of ε.
    correlation : mapping of (symbol, symbol) to float, optional
        Initial correlations of random effects; the connected etas form a full block of Omega.
    name : str, optional
        For tables and titles.

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

    prediction: sp.Expr
    parameters: Mapping[sp.Symbol, Distribution | sp.Expr]
    sd: sp.Expr
    residual: Any
    space: ParameterSpace
    name: str | None
    extra: tuple[sp.Symbol, ...]

    def __init__(
        self,
        prediction: Any,
        parameters: Mapping[Any, Any],
        *,
        residual: Any,
        correlation: Mapping[tuple[Any, Any], float] | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(prediction, Mapping):
            raise ModelError("Several outputs are not available in this version; give one prediction expression.")
        if not parameters:
            raise ModelError(
                "parameters= is empty; give each symbol of the prediction a distribution or an expression."
            )
        build = _Build(parameters)
        expression = build.prediction(prediction)
        sd = build.residual(residual)
        space = build.space(correlation or {})
        build.check_usage(expression)
        split_dose_terms(remove_equal_rate_singularities(expression))  # refuses what cannot be summed over doses
        self.__dict__.update(self.from_parts(expression, build.parameters, sd, residual, space, name).__dict__)

    @classmethod
    def from_parts(
        cls,
        prediction: sp.Expr,
        parameters: Mapping[sp.Symbol, Distribution | sp.Expr],
        sd: sp.Expr,
        residual: Any,
        space: ParameterSpace,
        name: str | None,
    ) -> Model:
        """Return a model from canonical expressions and a parameter space, as they are stored."""
        new = object.__new__(cls)
        extra = tuple(sorted(prediction.atoms(role.Theta, role.Eta), key=lambda s: s.name))
        new.__dict__.update(
            prediction=prediction,
            parameters=dict(parameters),
            sd=sd,
            residual=residual,
            space=space,
            name=name,
            extra=extra,
        )
        return new

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("A model is immutable; with_values(), fix() and free() return a changed copy.")

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
        declared = []
        for symbol, value in self.parameters.items():
            if isinstance(value, Distribution):
                theta = role.plain_theta(symbol.name, value.bounds[0])
                expr = value.link(theta) + value.effect
                if value.sd:
                    expr = expr + role.plain_eta(f"eta_{symbol.name}")
                declared.append((symbol, expr, value.inverse(PLACE)))
            else:
                declared.append((symbol, value, None))
        return slot_form(tuple(declared), self.etas, self.extra)

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates the model uses."""
        found = self.prediction.atoms(role.Covariate) | self.sd.atoms(role.Covariate)
        for value in self.parameters.values():
            found |= sp.sympify(value.effect if isinstance(value, Distribution) else value).atoms(role.Covariate)
        return tuple(sorted(symbol.name for symbol in found))

    @property
    def stable_prediction(self) -> sp.Expr:
        """The prediction with removable equal-rate singularities removed."""
        return remove_equal_rate_singularities(self.prediction)

    # -------------------------------------------------------------------- verbs

    def problem(self, data: Data) -> Problem:
        """Return the model bound to data."""
        from nlmewidgets.core.problem import Problem

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

    # ------------------------------------------------------------------ display

    def __repr__(self) -> str:
        title = self.name or "Model"
        return f"{title}: f = {self.prediction}\n{self.table().to_string()}"

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


class _Build:
    """Turns what the user wrote into canonical expressions and a parameter space.

    The numbers carried by theta(), eta() and sigma() go into the space; the expressions keep bare
    symbols, so that models which differ in numbers only share their compiled code.
    """

    def __init__(self, parameters: Mapping[Any, Any]) -> None:
        self.thetas: dict[str, Parameter] = {}
        self.etas: dict[str, tuple[float, bool]] = {}
        self.sigmas: dict[str, Parameter] = {}
        self.names: dict[str, sp.Symbol] = {}
        for key in parameters:
            symbol = sp.Symbol(key, real=True) if isinstance(key, str) else key
            if not isinstance(symbol, sp.Symbol) or isinstance(symbol, role._Role):
                raise ModelError(f"parameters= has the key {key!r}; a key is a plain SymPy symbol or a name.")
            if symbol.name in self.names:
                raise ModelError(f"parameters= declares '{symbol.name}' twice; keep one.")
            self.names[symbol.name] = symbol
        self.parameters: dict[sp.Symbol, Distribution | sp.Expr] = {}
        for symbol, value in zip(self.names.values(), parameters.values(), strict=True):
            self.parameters[symbol] = self._parameter(symbol, value)

    # ------------------------------------------------------------- expressions

    def _expression(self, value: Any, what: str) -> sp.Expr:
        if isinstance(value, str):
            return parse(value, {**self.names, "t": role.time, "time": role.time, "dose": role.dose, "f": role.f})
        try:
            expr = sp.sympify(value, strict=True)
        except (sp.SympifyError, TypeError, ValueError):
            raise ModelError(f"{what} is {value!r}; give a SymPy expression, a number or a string.") from None
        if not isinstance(expr, sp.Expr):
            raise ModelError(f"{what} is {expr}, which is not a numerical expression.")
        return expr

    def _canonical(self, expr: sp.Expr, what: str, allowed: tuple[sp.Symbol, ...]) -> sp.Expr:
        changes: dict[sp.Symbol, sp.Symbol] = {}
        for symbol in sorted(expr.free_symbols, key=lambda s: s.name):
            if isinstance(symbol, role.Theta):
                changes[symbol] = self._take_theta(symbol)
            elif isinstance(symbol, role.Eta):
                changes[symbol] = self._take_eta(symbol)
            elif isinstance(symbol, role.Sigma):
                raise ModelError(f"sigma '{symbol.name}' is used in {what}; a sigma belongs in residual=.")
            elif isinstance(symbol, role.Covariate):
                continue
            elif isinstance(symbol, role.Reserved):
                if symbol not in allowed:
                    raise ModelError(f"'{symbol.name}' cannot be used in {what}.")
            elif symbol.name in self.names:
                changes[symbol] = self.names[symbol.name]
            else:
                raise ModelError(self._unknown(symbol, what))
        return expr.xreplace(changes)

    def _unknown(self, symbol: sp.Symbol, what: str) -> str:
        hint = {"t": "nw.time", "time": "nw.time", "dose": "nw.dose", "D": "nw.dose", "f": "nw.f"}.get(symbol.name)
        remedy = f"did you mean {hint}?" if hint else "declare it in parameters=, or as nw.covariate() or nw.theta()."
        return f"'{symbol.name}' in {what} is not a parameter; {remedy}"

    def _take_theta(self, symbol: role.Theta) -> role.Theta:
        value, lower, upper, fixed = symbol.details
        self._keep(self.thetas, Parameter(symbol.name, value, lower, upper, fixed))
        return role.plain_theta(symbol.name, lower)

    def _take_eta(self, symbol: role.Eta) -> role.Eta:
        if self.etas.setdefault(symbol.name, symbol.details) != symbol.details:
            raise ModelError(f"eta '{symbol.name}' is declared twice with different numbers; keep one.")
        return role.plain_eta(symbol.name)

    def _keep(self, table: dict[str, Parameter], p: Parameter) -> None:
        if table.setdefault(p.name, p) != p:
            raise ModelError(f"'{p.name}' is declared twice with different numbers; keep one.")

    # ------------------------------------------------------------------- parts

    def _parameter(self, symbol: sp.Symbol, value: Any) -> Distribution | sp.Expr:
        name = symbol.name
        if not isinstance(value, Distribution):
            expr = self._canonical(self._expression(value, f"the parameter '{name}'"), f"parameter '{name}'", ())
            if symbol in expr.free_symbols:
                raise ModelError(f"The parameter '{name}' is defined by itself; use theta() for its typical value.")
            return expr
        typical = role._finite("The parameter", name, value.typical)
        sd = role._finite("The sd of parameter", name, value.sd)
        if sd < 0:
            raise ModelError(f"The parameter '{name}' has sd={sd:g}; a standard deviation is positive (0: no eta).")
        lower, upper = value.bounds
        role.check_bounds(f"The parameter '{name}'", typical, lower, upper)
        self._keep(self.thetas, Parameter(name, typical, lower, upper, value.fixed))
        effect = self._canonical(
            self._expression(value.effect, f"the effect on '{name}'"), f"the effect on '{name}'", ()
        )
        if effect.atoms(role.Eta) or effect.free_symbols & set(self.names.values()):
            raise ModelError(
                f"The effect on '{name}' may contain thetas and covariates only; write it in full instead."
            )
        if sd:
            self.etas[f"eta_{name}"] = (sd, bool(value.fixed_sd))
        return type(value)(**{**value.__dict__, "typical": typical, "sd": sd, "effect": effect})

    def prediction(self, value: Any) -> sp.Expr:
        """Return the canonical prediction."""
        return self._canonical(self._expression(value, "prediction="), "prediction=", RESERVED)

    def residual(self, value: Any) -> sp.Expr:
        """Return the canonical standard deviation in f, sigmas, time and covariates."""
        if isinstance(value, Mapping):
            if set(value) != {"sd"}:
                raise ModelError('residual= as a mapping is {"sd": expression in nw.f}.')
            expr = self._expression(value["sd"], "the residual sd")
        elif hasattr(value, "sd_expression"):
            expr = value.sd_expression(role.f)
        else:
            raise ModelError(
                f"residual={value!r} is not a residual error model; use Additive(sd), Proportional(sd), "
                'Combined(additive, proportional), Combined1(additive, proportional) or {"sd": expression}.'
            )
        changes: dict[sp.Symbol, sp.Symbol] = {}
        for symbol in sorted(expr.free_symbols, key=lambda s: s.name):
            if isinstance(symbol, role.Sigma):
                number, fixed = symbol.details
                self._keep(self.sigmas, Parameter(symbol.name, number, 0.0, None, fixed))
                changes[symbol] = role.plain_sigma(symbol.name)
            elif isinstance(symbol, role.Theta):
                if symbol.name in self.thetas:
                    raise ModelError(f"theta '{symbol.name}' is used in the prediction and in residual=; use two.")
                number, lower, upper, fixed = symbol.details
                self._keep(self.sigmas, Parameter(symbol.name, number, lower, upper, fixed))
                changes[symbol] = role.plain_sigma(symbol.name, lower)
            elif symbol not in (role.f, role.time) and not isinstance(symbol, role.Covariate):
                raise ModelError(
                    f"'{symbol.name}' cannot be used in the residual sd; use nw.f, nw.sigma(), nw.time and covariates."
                )
        return expr.xreplace(changes)

    def space(self, correlation: Mapping[tuple[Any, Any], float]) -> ParameterSpace:
        """Return the parameter space."""
        etas = tuple(self.etas)
        sd = np.array([self.etas[name][0] for name in etas])
        omega = np.diag(sd**2)
        group = list(range(len(etas)))
        for pair, value in correlation.items():
            i, j = (self._eta_index(x, etas) for x in pair)
            if i == j or not -1 < value < 1:
                raise ModelError(f"correlation {pair}: {value} is not between two etas and inside (-1, 1).")
            omega[i, j] = omega[j, i] = value * sd[i] * sd[j]
            group = [group[i] if g == group[j] else g for g in group]
        blocks = tuple(tuple(k for k, g in enumerate(group) if g == label) for label in dict.fromkeys(group))
        flags = []
        for block in blocks:
            fixed = {self.etas[etas[k]][1] for k in block}
            if len(fixed) > 1:
                names = ", ".join(etas[k] for k in block)
                raise ModelError(f"{names} are correlated: fix all of their standard deviations or none.")
            flags.append(fixed.pop())
        return ParameterSpace(
            tuple(self.thetas.values()),
            tuple(self.sigmas.values()),
            etas,
            tuple(tuple(map(float, row)) for row in omega),
            blocks,
            tuple(flags),
        )

    def _eta_index(self, item: Any, etas: tuple[str, ...]) -> int:
        name = item if isinstance(item, str) else item.name
        for candidate in (name, f"eta_{name}"):
            if candidate in etas:
                return etas.index(candidate)
        raise ModelError(f"correlation names '{name}', which has no random effect (there are {', '.join(etas)}).")

    def check_usage(self, prediction: sp.Expr) -> None:
        """Refuse parameters that cannot influence any observation."""
        used = set(prediction.free_symbols)
        pending = list(used)
        while pending:
            value = self.parameters.get(pending.pop())
            if value is not None and not isinstance(value, Distribution):
                fresh = (value.free_symbols & set(self.parameters)) - used
                used |= fresh
                pending.extend(fresh)
        for symbol in self.parameters:
            if symbol not in used:
                raise ModelError(
                    f"The parameter '{symbol.name}' does not occur in the prediction; use it or remove it."
                )
